//! A model in whatever form, written as a Hugging Face folder.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::rounding;
use super::write_model::{ModelFiles, write_model};
use super::{Checkpoint, StoredType, WrittenTensor};
use crate::{DType, Result};

/// Writes the model `source`, with its tokenizer, as the folder `dir`, in one step.
///
/// Float tensors become `dtype`. Where that is `None`, those of a folder keep their own type, and
/// those of a GGUF file, which keeps vectors in f32 whatever the type of the matrices, become the
/// type that most of its values are read as. `written` is told of every tensor when it has been
/// converted.
///
/// The converted model is in memory as a whole. Fails as [`write_model`] does.
pub fn write_folder(
    dir: impl AsRef<Path>,
    source: &Checkpoint,
    dtype: Option<DType>,
    max_shard_bytes: usize,
    mut written: impl FnMut(&WrittenTensor),
) -> Result<()> {
    let dtype = dtype.or_else(|| commonest(source));
    let mut tensors = Vec::new();
    for name in source.names() {
        let tensor = source.tensor(name)?;
        let converted = match dtype.filter(|_| tensor.dtype().is_float()) {
            Some(dtype) => tensor.to_dtype(dtype),
            None => tensor.clone(),
        };
        let label = format!("{}: tensor {name}", source.path().display());
        let to = converted.dtype().to_string();
        let rounding = rounding::measure(&label, &to, &tensor.to_f32(), &converted.to_f32())?;
        let from = source.stored_as(name).unwrap_or_default();
        written(&WrittenTensor { name: name.to_owned(), from, to, rounding });
        tensors.push((name.to_owned(), converted));
    }
    let files = ModelFiles {
        generation_config: source.generation_config().cloned().map(Value::Object),
        tokenizer_from: Some(source.path()),
        max_shard_bytes,
        ..ModelFiles::new(Value::Object(source.config().clone()), tensors)
    };
    write_model(dir, &files)
}

/// The type that most values of a GGUF file are read as.
fn commonest(source: &Checkpoint) -> Option<DType> {
    source.gguf_metadata()?;
    let mut values: BTreeMap<&str, (usize, DType)> = BTreeMap::new();
    for name in source.names() {
        if let (Some(StoredType::Native(dtype)), Some(shape)) = (source.dtype(name), source.shape(name)) {
            values.entry(dtype.torch_name()).or_insert((0, dtype)).0 += shape.iter().product::<usize>();
        }
    }
    values.into_values().max_by_key(|(count, _)| *count).map(|(_, dtype)| dtype)
}
