//! A model folder as Hugging Face lays it out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use super::header::TensorInfo;
use super::safetensors::SafetensorsFile;
use crate::json::{kind, read_object, read_object_if_there};
use crate::{Error, Result, Tensor};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// An open model folder: its configuration and its weights, in one file or several shards.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    config: Map<String, Value>,
    generation_config: Option<Map<String, Value>>,
    files: Vec<SafetensorsFile>,
    /// Which file holds a tensor.
    places: HashMap<String, usize>,
    names: Vec<String>,
}

impl Folder {
    /// Opens the folder `dir`: `config.json`, `model.safetensors` or the shards its index names, and
    /// `generation_config.json` where there is one.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let config = read_config(dir)?;
        let generation_config = read_object_if_there(&dir.join("generation_config.json"))?;
        let mut folder = Folder {
            dir: dir.to_owned(),
            config,
            generation_config,
            files: Vec::new(),
            places: HashMap::new(),
            names: Vec::new(),
        };
        // The order transformers looks in: a single file wins over an index.
        if dir.join(SINGLE).exists() {
            folder.add_file(SafetensorsFile::open(dir.join(SINGLE))?);
        } else if dir.join(INDEX).exists() {
            folder.open_shards(&dir.join(INDEX))?;
        } else {
            return Err(no_weights(dir));
        }
        Ok(folder)
    }

    fn add_file(&mut self, file: SafetensorsFile) {
        for name in file.names() {
            self.places.insert(name.to_owned(), self.files.len());
            self.names.push(name.to_owned());
        }
        self.files.push(file);
    }

    fn open_shards(&mut self, index: &Path) -> Result<()> {
        for (shard, names) in read_index(index)? {
            let path = self.dir.join(&shard);
            if !path.exists() {
                return Err(Error::missing_file(
                    index,
                    format!("the shard {shard} it names is missing from the folder"),
                ));
            }
            let file = SafetensorsFile::open(&path)?;
            if let Some(absent) = names.iter().find(|name| file.info(name).is_none()) {
                return Err(Error::missing_tensor(
                    index,
                    format!("it places tensor {absent} in {shard}, but that shard does not hold it"),
                ));
            }
            let listed: HashSet<&str> = names.iter().map(String::as_str).collect();
            for stray in file.names().filter(|name| !listed.contains(name)) {
                tracing::warn!("{}: tensor {stray} is not in the index and is ignored", path.display());
            }
            for name in names {
                self.places.insert(name.clone(), self.files.len());
                self.names.push(name);
            }
            self.files.push(file);
        }
        Ok(())
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The content of `config.json`.
    pub(super) fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// The content of `generation_config.json`, where there is one.
    pub(super) fn generation_config(&self) -> Option<&Map<String, Value>> {
        self.generation_config.as_ref()
    }

    /// Names of all tensors.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Type and shape of the named tensor.
    pub(super) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.file_of(name).ok()?.info(name)
    }

    /// The named tensor in the number type it is stored in (or the nearest the engine has).
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor> {
        self.file_of(name)?.tensor(name)
    }

    /// The named tensor in f32. Fails unless it has exactly the expected shape and only finite values.
    pub(super) fn tensor_f32(&self, name: &str, expected_shape: &[usize]) -> Result<Tensor> {
        self.file_of(name)?.tensor_f32(name, expected_shape)
    }

    /// These rows of the named tensor in f32, rows being what all dimensions but the last count. Fails
    /// unless the whole has exactly the expected shape and the rows only finite values.
    pub(super) fn rows_f32(
        &self,
        name: &str,
        expected_shape: &[usize],
        rows: Range<usize>,
    ) -> Result<Tensor> {
        self.file_of(name)?.rows_f32(name, expected_shape, rows)
    }

    fn file_of(&self, name: &str) -> Result<&SafetensorsFile> {
        match self.places.get(name) {
            Some(&file) => Ok(&self.files[file]),
            None => Err(Error::missing_tensor(&self.dir, format!("there is no tensor {name}"))),
        }
    }
}

fn read_config(dir: &Path) -> Result<Map<String, Value>> {
    match fs::metadata(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::missing_file(
                dir,
                "there is no such folder or file; give a model's folder, or its GGUF file",
            ));
        }
        Err(e) => return Err(Error::io(dir, "cannot read", e)),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Error::format(
                dir,
                "is a file, and no GGUF file; give that, or the folder that holds config.json and the weights",
            ));
        }
        Ok(_) => {}
    }
    let path = dir.join("config.json");
    if path.exists() {
        return read_object(&path);
    }
    let reason = if dir.join("adapter_config.json").exists() {
        "this is an adapter, not a whole model; open its base model and give this folder as the adapter"
    } else {
        "there is no config.json in this folder, so it is not a Hugging Face model folder"
    };
    Err(Error::missing_file(dir, reason))
}

/// The index as shard → tensors, both sorted, so that opening does not depend on the file's order.
fn read_index(path: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let index = read_object(path)?;
    let Some(Value::Object(weight_map)) = index.get("weight_map") else {
        return Err(Error::format(path, "there is no object \"weight_map\" from tensors to files"));
    };
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, file) in weight_map {
        let Value::String(file) = file else {
            return Err(Error::format(
                path,
                format!("weight_map: {name} is mapped to {}, not to a file name", kind(file)),
            ));
        };
        if !is_plain_name(file) {
            return Err(Error::format(
                path,
                format!(
                    "weight_map: {name} is mapped to {file:?}; only a file name within the folder is allowed"
                ),
            ));
        }
        shards.entry(file.clone()).or_default().push(name.clone());
    }
    Ok(shards)
}

/// Whether `name` is one plain component, so that an index cannot point outside of its folder.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    !name.contains(['/', '\\', '\0'])
        && matches!(components.next(), Some(Component::Normal(_)))
        && components.next().is_none()
}

fn no_weights(dir: &Path) -> Error {
    let extension_of = |entry: &fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
        Some((name, extension))
    };
    let mut found: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|e| extension_of(&e)).collect();
    found.sort();
    let with = |wanted: &[&str]| found.iter().find(|(_, e)| wanted.contains(&e.as_str())).map(|(n, _)| n);
    let message = if let Some(name) = with(&["bin", "pt", "pth", "ckpt", "pkl"]) {
        format!(
            "{name} is a pickle file, which is never opened because reading one executes it; convert it in \
             Python: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    } else if let Some(name) = with(&["safetensors"]) {
        format!("neither {SINGLE} nor {INDEX} is there; rename {name} if it holds the whole model")
    } else if let Some(name) = with(&["gguf"]) {
        format!("there are no safetensors files; give the file itself: {}", dir.join(name).display())
    } else if let Some(name) = with(&["h5", "msgpack", "onnx"]) {
        format!("{name} is not a format that can be read; download the safetensors version of the model")
    } else {
        format!("neither {SINGLE} nor {INDEX} is there; the weights have not been downloaded")
    };
    Error::missing_file(dir, message)
}
