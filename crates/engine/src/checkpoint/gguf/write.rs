//! Writing GGUF files.
//!
//! Keys, names, order of rows and padding are those of llama.cpp's converter. Tensors are read,
//! changed and written one at a time, so that a model is never in memory as a whole.

use std::path::Path;

use super::super::Checkpoint;
use super::super::atomic::{Sink, write_atomic_with};
use super::super::rounding::{self, Rounding};
use super::config::Outline;
use super::metadata::{Metadata, Value};
use super::names::{Architecture, Change, DERIVED};
use super::reader::{ALIGNMENT, MAGIC};
use super::types::GgufType;
use super::{config, quant, rope, vocabulary};
use crate::models::Config;
use crate::tokenizer::Tokenizer;
use crate::{DType, Error, Result, Tensor};

const VERSION: u32 = 3;

/// One tensor that has been written.
#[derive(Debug, Clone)]
pub struct WrittenTensor {
    /// Its name in the file that was written.
    pub name: String,
    /// Number type it was stored in before.
    pub from: String,
    /// Number type it was written in.
    pub to: String,
    /// What that did to its values.
    pub rounding: Rounding,
}

/// What the file will say about one tensor, and where its values come from.
struct Planned {
    name: String,
    /// Its name in the source; `None` for the divisors of rotary frequencies.
    source: Option<String>,
    shape: Vec<usize>,
    kind: GgufType,
    change: Change,
}

impl Planned {
    fn bytes(&self) -> usize {
        self.kind.bytes(self.shape.iter().product()).unwrap_or(usize::MAX)
    }
}

/// Writes the model `source`, with its tokenizer, as the GGUF file `path`, in one step.
///
/// Matrices become `kind`, or keep their type where that is `None`; vectors are always f32. Rows that
/// are no whole blocks become f16. `written` is told of every tensor. Returns what the format could
/// not say, in sentences.
///
/// Fails where the model's family or tokenizer cannot be expressed, where a value is not finite or
/// leaves the range of the type, and on any I/O error.
pub fn write_gguf(
    path: impl AsRef<Path>,
    source: &Checkpoint,
    kind: Option<GgufType>,
    mut written: impl FnMut(&WrittenTensor),
) -> Result<Vec<String>> {
    let path = path.as_ref();
    let refuse = |message: String| Error::format(source.path(), message);
    if let Some(kind) = kind.filter(|kind| !GgufType::WRITABLE.contains(kind)) {
        return Err(Error::invalid(format!(
            "{kind} can be read but not written; use f32, f16, bf16 or q8_0"
        )));
    }
    let model_type = source.config().get("model_type").and_then(|v| v.as_str()).unwrap_or_default();
    let architecture = Architecture::of_model_type(model_type).map_err(refuse)?;
    let reader = Config::new(source.config(), source.config_place());
    let Outline { layers, vocabulary, heads } = Outline::read(&reader)?;
    const HEAD: &str = "lm_head.weight";
    let promised = reader.flag("tie_word_embeddings", false)?;
    let tied = !source.contains(HEAD) || promised && source.same("model.embed_tokens.weight", HEAD)?;
    let mut plan = plan(source, architecture, kind, tied, layers)?;

    let mut metadata = Metadata::default();
    describe(source, architecture, &mut metadata, &plan).map_err(refuse)?;
    let divisors = config::write(architecture, &reader, &mut metadata)?;
    let notes = write_tokenizer(source, vocabulary, &mut metadata)?;
    if let Some(divisors) = &divisors {
        plan.push(Planned {
            name: rope::DIVISORS.into(),
            source: None,
            shape: vec![divisors.len()],
            kind: GgufType::F32,
            change: Change::None,
        });
    }

    write_atomic_with(path, |sink| {
        write_header(sink, &metadata, &plan)?;
        for planned in &plan {
            let (tensor, from) = match &planned.source {
                Some(name) => (source.tensor(name)?, source.stored_as(name).unwrap_or_default()),
                None => {
                    (Tensor::from_f32(divisors.as_deref().unwrap_or_default(), &planned.shape)?, "f32".into())
                }
            };
            let label = planned.source.as_deref().unwrap_or(&planned.name);
            let tensor =
                planned.change.to_gguf(tensor, heads).map_err(|e| refuse(format!("tensor {label}: {e}")))?;
            let label = format!("{}: tensor {label}", source.path().display());
            let rounding = write_tensor(sink, &label, &tensor, planned.kind)?;
            written(&WrittenTensor {
                name: planned.name.clone(),
                from,
                to: planned.kind.to_string(),
                rounding,
            });
        }
        Ok(())
    })?;
    Ok(notes)
}

/// Every tensor of the source with its name and type in the file, in the order of the forward pass.
fn plan(
    source: &Checkpoint,
    architecture: &Architecture,
    wanted: Option<GgufType>,
    tied: bool,
    layers: usize,
) -> Result<Vec<Planned>> {
    let refuse = |message: String| Error::format(source.path(), message);
    let mut plan = Vec::new();
    for name in source.names() {
        if DERIVED.iter().any(|derived| name.ends_with(derived)) || tied && name == "lm_head.weight" {
            continue;
        }
        let Some((gguf_name, change)) = architecture.gguf_name(name) else {
            return Err(refuse(format!(
                "tensor {name} has no name in GGUF models of the architecture {}, so the model cannot be written",
                architecture.name
            )));
        };
        let shape = source.shape(name).unwrap_or_default().to_vec();
        let kind = match (shape.len(), wanted) {
            (0 | 1, _) => GgufType::F32,
            (_, Some(wanted)) => wanted,
            (_, None) => own_kind(source, name)?,
        };
        let whole = shape.last().is_some_and(|row| row.is_multiple_of(kind.block()));
        let kind = if whole { kind } else { GgufType::F16 };
        plan.push(Planned { name: gguf_name, source: Some(name.to_owned()), shape, kind, change });
    }
    check_layers(&plan, layers).map_err(refuse)?;
    plan.sort_by_key(|planned| place(&planned.name));
    Ok(plan)
}

/// The type in which a matrix is stored, where it can be written.
fn own_kind(source: &Checkpoint, name: &str) -> Result<GgufType> {
    let stored = source.stored_as(name).unwrap_or_default();
    let native = || DType::parse(&stored).map(GgufType::from);
    match GgufType::WRITABLE.into_iter().find(|kind| kind.name() == stored).or_else(native) {
        Some(kind) => Ok(kind),
        None => Err(Error::format(
            source.path(),
            format!(
                "tensor {name} is stored as {stored}, which cannot be written; choose a type to write it in"
            ),
        )),
    }
}

/// The place of a tensor: embedding, blocks, last norm, output.
fn place(name: &str) -> (usize, String) {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
    let rank = match (layer, name) {
        (Some(layer), _) => layer + 1,
        (None, name) if name.starts_with("token_embd") => 0,
        (None, name) if name.starts_with("output_norm") => usize::MAX - 1,
        _ => usize::MAX,
    };
    (rank, name.to_owned())
}

/// Every layer must have what the first has, and there must be as many as the configuration says.
fn check_layers(plan: &[Planned], layers: usize) -> std::result::Result<(), String> {
    let names: std::collections::HashSet<&str> = plan.iter().map(|p| p.name.as_str()).collect();
    for part in names.iter().filter_map(|name| name.strip_prefix("blk.0.")) {
        if let Some(layer) = (0..layers).find(|l| !names.contains(format!("blk.{l}.{part}").as_str())) {
            return Err(format!(
                "layer {layer} of {layers} has no {part} (as GGUF calls it), but layer 0 has"
            ));
        }
    }
    for required in ["token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight"] {
        if !names.contains(required) {
            return Err(format!(
                "the tensor that GGUF calls {required} is missing, so this is not a whole model"
            ));
        }
    }
    match names.iter().find(|n| place(n).0 > layers && n.starts_with("blk.")) {
        Some(beyond) => {
            Err(format!("there is a tensor {beyond}, but the configuration has only {layers} layers"))
        }
        None => Ok(()),
    }
}

/// The entries about the file as a whole.
fn describe(
    source: &Checkpoint,
    architecture: &Architecture,
    metadata: &mut Metadata,
    plan: &[Planned],
) -> std::result::Result<(), String> {
    let name = source.path().file_stem().map(|name| name.to_string_lossy().into_owned());
    let matrix = plan.iter().filter(|p| p.shape.len() > 1).max_by_key(|p| p.bytes());
    let file_type = matrix.map_or(GgufType::F32, |p| p.kind).file_type();
    metadata.insert("general.architecture", Value::Text(architecture.name.into()))?;
    metadata.insert("general.type", Value::Text("model".into()))?;
    metadata.insert("general.name", Value::Text(name.unwrap_or_else(|| "model".into())))?;
    metadata.insert("general.file_type", Value::Int(file_type.into()))?;
    metadata.insert("general.quantization_version", Value::Int(2))
}

fn write_tokenizer(source: &Checkpoint, rows: usize, metadata: &mut Metadata) -> Result<Vec<String>> {
    if let Some(theirs) = source.gguf_metadata() {
        let mut copied = theirs.entries().iter().filter(|(key, _)| key.starts_with("tokenizer."));
        let copy = copied.try_for_each(|(key, value)| metadata.insert(key, value.clone()));
        return copy.map(|()| Vec::new()).map_err(|message| Error::format(source.path(), message));
    }
    match Tokenizer::open_optional(source.path())? {
        Some(tokenizer) => vocabulary::write(&tokenizer, rows, metadata)
            .map_err(|message| Error::format(tokenizer.path(), message)),
        None => {
            let none = metadata.insert("tokenizer.ggml.model", Value::Text("none".into()));
            none.map_err(|message| Error::format(source.path(), message))?;
            Ok(vec!["the model has no tokenizer.json, so the file has no tokenizer".into()])
        }
    }
}

fn write_header(sink: &mut Sink<'_>, metadata: &Metadata, plan: &[Planned]) -> Result<()> {
    let mut header = MAGIC.to_vec();
    header.extend(VERSION.to_le_bytes());
    header.extend((plan.len() as u64).to_le_bytes());
    header.extend((metadata.entries().len() as u64).to_le_bytes());
    for (key, value) in metadata.entries() {
        push_text(&mut header, key);
        push_value(&mut header, value);
    }
    let mut offset = 0;
    for planned in plan {
        push_text(&mut header, &planned.name);
        header.extend((planned.shape.len() as u32).to_le_bytes());
        for &n in planned.shape.iter().rev() {
            header.extend((n as u64).to_le_bytes());
        }
        header.extend(planned.kind.number().to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        offset = (offset + planned.bytes()).next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    sink.write(&header)
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Numbers of value types.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;
const I64: u32 = 11;

/// A value with its type before it. Integers are u32 wherever they fit, which is what readers of the
/// keys that are written here ask for.
fn push_value(bytes: &mut Vec<u8>, value: &Value) {
    let kind = |bytes: &mut Vec<u8>, kind: u32| bytes.extend(kind.to_le_bytes());
    let list = |bytes: &mut Vec<u8>, kind: u32, count: usize| {
        bytes.extend(LIST.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend((count as u64).to_le_bytes());
    };
    match value {
        Value::Int(n) => match u32::try_from(*n) {
            Ok(n) => {
                kind(bytes, U32);
                bytes.extend(n.to_le_bytes());
            }
            Err(_) => {
                kind(bytes, I64);
                bytes.extend((*n as i64).to_le_bytes());
            }
        },
        Value::F32(x) => {
            kind(bytes, F32);
            bytes.extend(x.to_le_bytes());
        }
        Value::Float(x) => {
            kind(bytes, F32);
            bytes.extend((*x as f32).to_le_bytes());
        }
        Value::Bool(flag) => {
            kind(bytes, BOOL);
            bytes.push((*flag).into());
        }
        Value::Text(text) => {
            kind(bytes, TEXT);
            push_text(bytes, text);
        }
        Value::Ints(all) => {
            list(bytes, I32, all.len());
            all.iter().for_each(|n| bytes.extend((*n as i32).to_le_bytes()));
        }
        Value::Floats(all) => {
            list(bytes, F32, all.len());
            all.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        }
        Value::Bools(all) => {
            list(bytes, BOOL, all.len());
            all.iter().for_each(|flag| bytes.push((*flag).into()));
        }
        Value::Texts(all) => {
            list(bytes, TEXT, all.len());
            all.iter().for_each(|text| push_text(bytes, text));
        }
        // Kept of no file, so there is nothing to write but that there was a list.
        Value::Nested => list(bytes, I32, 0),
    }
}

/// Writes one tensor, padded to the alignment, and says what its type does to its values.
fn write_tensor(sink: &mut Sink<'_>, label: &str, tensor: &Tensor, kind: GgufType) -> Result<Rounding> {
    let values = tensor.to_f32();
    let bytes = quant::quantise(kind, values.f32());
    let restored = Tensor::build(values.shape(), |out| quant::dequantise(kind, &bytes, out));
    let rounding = rounding::measure(label, kind.name(), &values, &restored)?;
    sink.write(&bytes)?;
    sink.write(&vec![0; bytes.len().next_multiple_of(ALIGNMENT) - bytes.len()])?;
    Ok(rounding)
}
