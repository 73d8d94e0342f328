//! Writing a whole model folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::{Value, json};

use super::atomic::StagedFolder;
use super::gguf::{GgufFile, tokenizer_files};
use super::safetensors::check_finite;
use super::write::{Entry, check_names, write_file};
use crate::json::{kind, to_pretty_bytes};
use crate::{DType, Error, Result, Tensor};

/// Largest shard unless told otherwise, as in `save_pretrained`: 5 GB.
pub const DEFAULT_SHARD_BYTES: usize = 5_000_000_000;

/// Every file a tokenizer may consist of.
const TOKENIZER_FILES: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
];

/// What goes into a model folder.
#[derive(Debug, Clone)]
pub struct ModelFiles<'a> {
    /// Content of `config.json`; the number type is filled in.
    pub config: Value,
    /// Content of `generation_config.json`, where there is to be one.
    pub generation_config: Option<Value>,
    /// The weights under the names the checkpoint uses.
    pub tensors: Vec<(String, Tensor)>,
    /// Number type to write floats in; `None` keeps each tensor's own.
    pub dtype: Option<DType>,
    /// Number types of the tensors that are written in another one than that, by name.
    pub exceptions: HashMap<String, DType>,
    /// Folder or GGUF file to take the tokenizer's files and chat template from.
    pub tokenizer_from: Option<&'a Path>,
    /// Largest weights file; more than that is split into shards with an index.
    pub max_shard_bytes: usize,
}

impl ModelFiles<'_> {
    /// A folder of just configuration and weights, each tensor in its own number type.
    pub fn new(config: Value, tensors: Vec<(String, Tensor)>) -> Self {
        ModelFiles {
            config,
            generation_config: None,
            tensors,
            dtype: None,
            exceptions: HashMap::new(),
            tokenizer_from: None,
            max_shard_bytes: DEFAULT_SHARD_BYTES,
        }
    }
}

/// Writes a model folder that `from_pretrained` loads.
///
/// The folder is built beside `dir` and renamed when it is complete and on the disk; after any error
/// nothing is left behind. The same input gives the same bytes.
///
/// Fails where `dir` exists and is not empty, where a value is not finite (or leaves the range of
/// f16 when written as such), and on any I/O error, naming the file.
pub fn write_model(dir: impl AsRef<Path>, files: &ModelFiles<'_>) -> Result<()> {
    write_folder(dir.as_ref(), files)
}

fn write_folder(dir: &Path, files: &ModelFiles<'_>) -> Result<()> {
    let entries: Vec<_> = files
        .tensors
        .iter()
        .map(|(name, tensor)| {
            let wanted = files.exceptions.get(name).copied().or(files.dtype);
            Entry { name, tensor, dtype: written_type(tensor.dtype(), wanted) }
        })
        .collect();
    check_names(dir, &entries)?;
    let config = config_with_dtype(dir, &files.config, &entries)?;
    let folder = StagedFolder::new(dir)?;
    folder.write("config.json", &to_pretty_bytes(&config))?;
    if let Some(generation_config) = &files.generation_config {
        folder.write("generation_config.json", &to_pretty_bytes(generation_config))?;
    }
    write_weights(&folder, &entries, files.max_shard_bytes)?;
    if let Some(from) = files.tokenizer_from {
        write_tokenizer(&folder, from)?;
    }
    folder.commit()
}

/// Copies the tokenizer of a folder, or translates that of a GGUF file.
fn write_tokenizer(folder: &StagedFolder, from: &Path) -> Result<()> {
    if !GgufFile::recognises(from) {
        return TOKENIZER_FILES
            .iter()
            .try_for_each(|name| folder.copy_if_there(&from.join(name), name).map(drop));
    }
    let Some(files) = tokenizer_files(from)? else { return Ok(()) };
    folder.write("tokenizer.json", &to_pretty_bytes(&files.tokenizer))?;
    folder.write("tokenizer_config.json", &to_pretty_bytes(&Value::Object(files.config)))
}

fn written_type(own: DType, wanted: Option<DType>) -> DType {
    wanted.filter(|_| own.is_float()).unwrap_or(own)
}

/// Names the widest float type among the weights in the configuration, so that loading with
/// `dtype="auto"` loses nothing.
fn config_with_dtype(dir: &Path, config: &Value, entries: &[Entry<'_>]) -> Result<Value> {
    let Value::Object(map) = config else {
        return Err(Error::format(
            dir.join("config.json"),
            format!("the configuration to be written is {}, not an object", kind(config)),
        ));
    };
    let mut map = map.clone();
    let types: Vec<DType> = entries.iter().map(|e| e.dtype).filter(|d| d.is_float()).collect();
    let widest = match types.as_slice() {
        [] => return Ok(Value::Object(map)),
        [first, rest @ ..] if rest.iter().all(|d| d == first) => *first,
        // Neither half type holds the other.
        _ => DType::F32,
    };
    // Newer configurations say "dtype"; every reader still understands "torch_dtype".
    let key = if map.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    map.insert(key.into(), widest.torch_name().into());
    Ok(Value::Object(map))
}

fn write_weights(folder: &StagedFolder, entries: &[Entry<'_>], max_shard_bytes: usize) -> Result<()> {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let shards = split(entries, max_shard_bytes);
    if let [whole] = shards.as_slice() {
        return folder.write_with("model.safetensors", |sink| write_file(sink, whole, &metadata, convert));
    }
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        folder.write_with(&file, |sink| write_file(sink, shard, &metadata, convert))?;
        weight_map.extend(shard.iter().map(|e| (e.name, file.clone())));
    }
    let total_parameters: usize = entries.iter().map(|e| e.tensor.len()).sum();
    let total_size: usize = entries.iter().map(Entry::bytes).sum();
    let index = json!({
        "metadata": { "total_parameters": total_parameters, "total_size": total_size },
        "weight_map": weight_map,
    });
    folder.write("model.safetensors.index.json", &to_pretty_bytes(&index))
}

/// Fills shards in the given order; a tensor larger than the limit gets one to itself.
fn split<'a>(entries: &[Entry<'a>], max_bytes: usize) -> Vec<Vec<Entry<'a>>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0;
    for entry in entries {
        if filled + entry.bytes() > max_bytes && filled > 0 {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += entry.bytes();
        if let Some(last) = shards.last_mut() {
            last.push(*entry);
        }
    }
    shards
}

fn convert(path: &Path, entry: &Entry<'_>) -> Result<Tensor> {
    let label = format!("{}: tensor {}", path.display(), entry.name);
    if entry.tensor.dtype().is_float() {
        check_finite(&label, &entry.tensor.to_f32())?;
    }
    let converted = entry.tensor.to_dtype(entry.dtype);
    if entry.dtype == DType::F16 && entry.tensor.dtype() != DType::F16 {
        check_finite(&format!("{label} in f16 (write bf16 or f32 instead)"), &converted.to_f32())?;
    }
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_keep_the_order_and_the_limit() {
        let tensors: Vec<_> = [3, 2, 9, 1, 1].map(|n| Tensor::zeros(&[n], DType::F32)).into();
        let entries: Vec<_> =
            tensors.iter().map(|tensor| Entry { name: "w", tensor, dtype: DType::F32 }).collect();
        let sizes = |max| {
            split(&entries, max)
                .iter()
                .map(|s| s.iter().map(|e| e.tensor.len()).collect())
                .collect::<Vec<Vec<_>>>()
        };
        assert_eq!(sizes(20), [vec![3, 2], vec![9], vec![1, 1]]);
        assert_eq!(sizes(0), [vec![3], vec![2], vec![9], vec![1], vec![1]]);
        assert_eq!(sizes(usize::MAX), [vec![3, 2, 9, 1, 1]]);
        assert_eq!(split(&[], 10).len(), 1);
    }

    #[test]
    fn mixed_half_types_are_declared_as_f32() {
        let a = Tensor::zeros(&[1], DType::F16);
        let b = Tensor::zeros(&[1], DType::BF16);
        let entries = [
            Entry { name: "a", tensor: &a, dtype: DType::F16 },
            Entry { name: "b", tensor: &b, dtype: DType::BF16 },
        ];
        let declared =
            |entries: &[Entry<'_>], config| config_with_dtype(Path::new("m"), &config, entries).unwrap();
        assert_eq!(declared(&entries, json!({}))["torch_dtype"], "float32");
        assert_eq!(declared(&entries[1..], json!({"dtype": "float32"})), json!({"dtype": "bfloat16"}));
    }
}
