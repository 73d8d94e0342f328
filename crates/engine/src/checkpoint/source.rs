//! A model as it lies on the disk: a Hugging Face folder or a GGUF file.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value};

use super::folder::Folder;
use super::gguf::{GgufFile, Metadata};
use super::stored::StoredType;
use crate::{DType, Error, Result, Tensor};

/// An open model: its configuration and its weights. A GGUF file looks like the folder it was made
/// from: its configuration and the names of its weights are those of Hugging Face.
#[derive(Debug)]
pub struct Checkpoint(Form);

#[derive(Debug)]
enum Form {
    Folder(Box<Folder>),
    Gguf(Box<GgufFile>),
}

impl Checkpoint {
    /// Opens `path`: a folder with `config.json` and `model.safetensors` (or the shards its index
    /// names) and perhaps `generation_config.json`, or a GGUF file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_at(path.as_ref())
    }

    fn open_at(path: &Path) -> Result<Self> {
        let form = if GgufFile::recognises(path) {
            Form::Gguf(Box::new(GgufFile::open(path)?))
        } else {
            Form::Folder(Box::new(Folder::open(path)?))
        };
        let checkpoint = Checkpoint(form);
        tracing::debug!("{}: {} tensors", path.display(), checkpoint.name_list().len());
        Ok(checkpoint)
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Form::Folder(folder) => folder.dir(),
            Form::Gguf(file) => file.path(),
        }
    }

    /// Where the configuration was found, for messages.
    pub(crate) fn config_place(&self) -> String {
        match &self.0 {
            Form::Folder(folder) => folder.dir().join("config.json").display().to_string(),
            Form::Gguf(file) => file.path().display().to_string(),
        }
    }

    /// The content of `config.json`, or what it would say.
    pub fn config(&self) -> &Map<String, Value> {
        match &self.0 {
            Form::Folder(folder) => folder.config(),
            Form::Gguf(file) => file.config(),
        }
    }

    /// The content of `generation_config.json`, where there is one, or what it would say.
    pub fn generation_config(&self) -> Option<&Map<String, Value>> {
        match &self.0 {
            Form::Folder(folder) => folder.generation_config(),
            Form::Gguf(file) => Some(file.generation_config()),
        }
    }

    /// The metadata of a GGUF file.
    pub(super) fn gguf_metadata(&self) -> Option<&Metadata> {
        match &self.0 {
            Form::Folder(_) => None,
            Form::Gguf(file) => Some(file.metadata()),
        }
    }

    fn name_list(&self) -> &[String] {
        match &self.0 {
            Form::Folder(folder) => folder.names(),
            Form::Gguf(file) => file.names(),
        }
    }

    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.name_list().iter().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Shape of the named tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        match &self.0 {
            Form::Folder(folder) => folder.info(name).map(|info| info.shape.as_slice()),
            Form::Gguf(file) => file.shape(name),
        }
    }

    /// Number type the named tensor is read as: the one it is stored in, or f32 for the block formats
    /// of GGUF.
    pub fn dtype(&self, name: &str) -> Option<StoredType> {
        match &self.0 {
            Form::Folder(folder) => folder.info(name).map(|info| info.dtype),
            Form::Gguf(file) => file.dtype(name),
        }
    }

    /// The number type in which the named tensor is written again, where that is its own: a folder's floats. GGUF keeps
    /// vectors in f32 whatever the type of the matrices, so its tensors have none.
    pub(crate) fn own_type(&self, name: &str) -> Option<DType> {
        match &self.0 {
            Form::Folder(folder) => folder.info(name)?.dtype.float(),
            Form::Gguf(_) => None,
        }
    }

    /// Name of the number type the named tensor is stored in, in lower case: "bf16", "q8_0".
    pub fn stored_as(&self, name: &str) -> Option<String> {
        match &self.0 {
            Form::Folder(folder) => folder.info(name).map(|info| info.dtype.name().to_ascii_lowercase()),
            Form::Gguf(file) => file.kind(name).map(|kind| kind.to_string()),
        }
    }

    /// The named tensor in the number type it is stored in (or the nearest the engine has).
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        match &self.0 {
            _ if !self.contains(name) => Err(self.missing(name)),
            Form::Folder(folder) => folder.tensor(name),
            Form::Gguf(file) => file.tensor(name),
        }
    }

    /// The named tensor in f32. Fails unless it has exactly the expected shape and only finite values.
    pub fn tensor_f32(&self, name: &str, expected_shape: &[usize]) -> Result<Tensor> {
        match &self.0 {
            _ if !self.contains(name) => Err(self.missing(name)),
            Form::Folder(folder) => folder.tensor_f32(name, expected_shape),
            Form::Gguf(file) => file.tensor_f32(name, expected_shape),
        }
    }

    /// These rows of the named tensor in f32, rows being what all dimensions but the last count. Fails
    /// unless the whole has exactly the expected shape and the rows only finite values.
    pub fn rows_f32(&self, name: &str, expected_shape: &[usize], rows: Range<usize>) -> Result<Tensor> {
        match &self.0 {
            _ if !self.contains(name) => Err(self.missing(name)),
            Form::Folder(folder) => folder.rows_f32(name, expected_shape, rows),
            Form::Gguf(file) => {
                let whole = file.tensor_f32(name, expected_shape)?;
                let width = whole.columns();
                let values = whole.f32().get(rows.start * width..rows.end * width);
                let values = values.ok_or_else(|| Error::shape(name, expected_shape, &[rows.end, width]))?;
                Ok(Tensor::from_f32(values, &[rows.len(), width])?)
            }
        }
    }

    /// Whether the two named tensors are one: of the same type, shape and values.
    pub(crate) fn same(&self, a: &str, b: &str) -> Result<bool> {
        if self.dtype(a) != self.dtype(b) || self.shape(a) != self.shape(b) {
            return Ok(false);
        }
        Ok(self.tensor(a)?.bytes() == self.tensor(b)?.bytes())
    }

    /// Names of the tensors that are not in `used`: weights a loader would silently drop.
    pub fn unused(&self, used: &HashSet<String>) -> Vec<String> {
        self.name_list().iter().filter(|name| !used.contains(*name)).cloned().collect()
    }

    /// Says that a tensor is missing, with one whose name ends the same where there is one: a
    /// different prefix is the usual reason.
    fn missing(&self, name: &str) -> Error {
        let names = self.name_list();
        let tail = |full: &str| full.rsplit('.').take(2).map(str::to_owned).collect::<Vec<_>>();
        let similar = names.iter().find(|other| tail(other) == tail(name)).or(names.first());
        let message = match similar {
            Some(other) => {
                format!("there is no tensor {name} among its {}, such as {other}", names.len())
            }
            None => format!("there is no tensor {name}; the weights file holds no tensors at all"),
        };
        Error::missing_tensor(self.path(), message)
    }
}
