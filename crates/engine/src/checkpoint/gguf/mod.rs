//! GGUF: the single-file format of llama.cpp, read as if it were a Hugging Face folder.
//!
//! Configuration, tokenizer and names of weights are translated on opening, so that everything that
//! works on a folder works on a file. Weights in block formats become f32.

mod config;
mod metadata;
mod names;
mod quant;
mod reader;
mod rope;
mod splitting;
mod tokenizer;
mod types;
mod vocabulary;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::mmap::MappedFile;
use super::safetensors::check_finite;
use super::stored::StoredType;
use crate::{DType, Error, Result, Tensor};
use config::Described;
use names::Change;
use reader::{Header, TensorEntry};

pub(super) use metadata::Metadata;
pub(crate) use tokenizer::TokenizerFiles;
pub use types::GgufType;
pub use write::{WrittenTensor, write_gguf};

/// A GGUF file, mapped into memory, whose header has passed every check.
pub struct GgufFile {
    file: MappedFile,
    header: Header,
    described: Described,
    /// Position among the header's tensors, and how the values differ, by Hugging Face name.
    places: HashMap<String, (usize, Change)>,
    names: Vec<String>,
}

impl GgufFile {
    /// Whether `path` is a file that begins as GGUF files do, or is named like one.
    pub fn recognises(path: &Path) -> bool {
        let begins = || {
            let mut start = [0; 4];
            let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
            read.is_ok() && start == *reader::MAGIC
        };
        path.is_file() && (path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) || begins())
    }

    /// Opens `path`, checks that its header is well formed, and translates it.
    ///
    /// Fails where the file is damaged, or is of an architecture or number type that is not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_file(path.as_ref())
    }

    fn open_file(path: &Path) -> Result<Self> {
        let (file, header) = open_header(path)?;
        let tied = is_tied(&file, &header)?;
        let divisors = divisors(&file, &header)?;
        let described = config::read(&header, tied, divisors.as_deref())
            .map_err(|message| Error::format(path, message))?;
        let mut names = Vec::with_capacity(header.tensors.len());
        let mut places = HashMap::new();
        for (i, entry) in header.tensors.iter().enumerate() {
            if entry.name == rope::DIVISORS || tied && entry.name == "output.weight" {
                continue;
            }
            let known = described.architecture.folder_name(&entry.name);
            let (name, change) = known.unwrap_or_else(|| (entry.name.clone(), Change::None));
            places.insert(name.clone(), (i, change));
            names.push(name);
        }
        Ok(GgufFile { file, header, described, places, names })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// What `config.json` would say.
    pub fn config(&self) -> &Map<String, Json> {
        &self.described.config
    }

    /// What `generation_config.json` would say.
    pub fn generation_config(&self) -> &Map<String, Json> {
        &self.described.generation_config
    }

    /// Everything the file says about itself.
    pub(super) fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// Hugging Face names of all tensors, in the file's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn entry(&self, name: &str) -> Option<(&TensorEntry, Change)> {
        self.places.get(name).map(|&(i, change)| (&self.header.tensors[i], change))
    }

    /// Shape of the named tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entry(name).map(|(entry, _)| entry.shape.as_slice())
    }

    /// Number type of the named tensor as stored.
    pub fn kind(&self, name: &str) -> Option<GgufType> {
        self.entry(name).map(|(entry, _)| entry.kind)
    }

    /// Number type the named tensor is read as.
    pub(super) fn dtype(&self, name: &str) -> Option<StoredType> {
        self.kind(name).map(|kind| StoredType::Native(kind.native().unwrap_or(DType::F32)))
    }

    /// The named tensor with its values as a folder has them: in its own number type where that is a
    /// float, in f32 where it is a block format.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let Some((entry, change)) = self.entry(name) else {
            return Err(Error::missing_tensor(self.path(), format!("there is no tensor {name} in the file")));
        };
        let bytes = self.file.bytes(entry.range.clone())?;
        let tensor = match entry.kind.native() {
            Some(dtype) => Tensor::from_bytes(bytes, &entry.shape, dtype)?,
            None => Tensor::build(&entry.shape, |out| quant::dequantise(entry.kind, bytes, out)),
        };
        change
            .to_folder(tensor, self.described.heads)
            .map_err(|e| Error::format(self.path(), format!("tensor {name}: {e}")))
    }

    /// The named tensor in f32, of exactly the expected shape and with finite values only.
    pub fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Tensor> {
        let label = format!("{}: tensor {name}", self.path().display());
        if let Some(shape) = self.shape(name)
            && shape != expected
        {
            return Err(Error::shape(label, expected, shape));
        }
        let tensor = self.tensor(name)?.to_f32();
        check_finite(&label, &tensor)?;
        Ok(tensor)
    }
}

impl std::fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GgufFile({}, {} tensors)", self.path().display(), self.header.tensors.len())
    }
}

fn open_header(path: &Path) -> Result<(MappedFile, Header)> {
    let file = MappedFile::open(path)?;
    let header = reader::parse(file.bytes(0..file.len())?).map_err(|message| Error::format(path, message))?;
    Ok((file, header))
}

/// The tokenizer of a GGUF file as the files of a folder; `None` where it has none.
pub(crate) fn tokenizer_files(path: &Path) -> Result<Option<TokenizerFiles>> {
    let (_, header) = open_header(path)?;
    tokenizer::read(&header.metadata).map_err(|message| Error::format(path, message))
}

/// Whether the output matrix is the embedding: it is left out then, or is there once more.
fn is_tied(file: &MappedFile, header: &Header) -> Result<bool> {
    let entry = |name: &str| header.index.get(name).map(|&i| &header.tensors[i]);
    let (Some(embedding), Some(output)) = (entry("token_embd.weight"), entry("output.weight")) else {
        return Ok(true);
    };
    Ok(embedding.kind == output.kind
        && embedding.shape == output.shape
        && file.bytes(embedding.range.clone())? == file.bytes(output.range.clone())?)
}

/// The divisors of rotary frequencies, where the file has them.
fn divisors(file: &MappedFile, header: &Header) -> Result<Option<Vec<f32>>> {
    let Some(&i) = header.index.get(rope::DIVISORS) else { return Ok(None) };
    let entry = &header.tensors[i];
    let mut values = vec![0.0; entry.shape.iter().product()];
    quant::dequantise(entry.kind, file.bytes(entry.range.clone())?, &mut values);
    Ok(Some(values))
}
