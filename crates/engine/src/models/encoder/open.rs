//! Opening an encoder's folder, making one of random numbers, and writing one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value};

use super::pooling::Pooling;
use super::read::architecture;
use super::sentence::{Modules, Pipeline};
use super::source::{DrawnClass, Stored};
use super::{Encoder, FAMILIES, Family, Parts, encoder_families};
use crate::checkpoint::{Checkpoint, ModelFiles, StoredType, write_atomic, write_model, write_tensors};
use crate::json::{read_object_if_there, to_pretty_bytes};
use crate::models::builder::Builder;
use crate::models::config::Config;
use crate::models::source::{Drawn, Source};
use crate::params::Params;
use crate::{DType, Error, Result, Tensor};

/// Files that say how images and texts are prepared, copied when a model is written.
const SIDE_FILES: [&str; 5] = [
    "modules.json",
    "processor_config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "preprocessor_config.json",
];

impl Encoder {
    /// Opens a Hugging Face folder, or one of sentence-transformers. Values become f32 in memory; the stored
    /// type is kept for writing.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_folder(dir.as_ref())
    }

    fn open_folder(dir: &Path) -> Result<Self> {
        if dir.is_file() {
            return Err(Error::format(dir, "is a file; encoders are read from folders, not from GGUF files"));
        }
        let modules = Modules::read(dir)?;
        let folder = modules.as_ref().map_or(Ok(dir), Modules::transformer)?;
        let checkpoint = Checkpoint::open(folder)?;
        let config = checkpoint.config().clone();
        let place = folder.join("config.json").display().to_string();
        let mut source = Stored { checkpoint: &checkpoint, used: HashSet::new() };
        let mut encoder = Self::build(config, place, &mut source)?;
        encoder.folder = Some(folder.to_owned());
        // Positions counted from 0, and a second copy of a tied matrix or bias, are no loss.
        let known = |name: &String| name.ends_with("position_ids") || name.contains(".decoder.");
        for name in checkpoint.unused(&source.used).iter().filter(|name| !known(name)) {
            tracing::warn!("{}: tensor {name} is not used", folder.display());
        }
        let tokenizer = read_object_if_there(&folder.join("tokenizer_config.json"))?;
        let longest = tokenizer.and_then(|config| config.get("model_max_length")?.as_u64());
        encoder.pipeline.max_tokens = longest.filter(|&n| n > 0).map(|n| n as usize);
        if let Some((_, param)) = encoder.params.iter().next()
            && let Some(StoredType::Native(dtype)) = checkpoint.dtype(&param.name)
        {
            encoder.dtype = dtype;
        }
        if let Some(modules) = modules {
            encoder.pipeline = modules.pipeline(&mut encoder.params, encoder.pipeline)?;
        }
        tracing::info!(
            "{}: encoder of {} parameters, stored as {}",
            checkpoint.path().display(),
            encoder.params.count().0,
            encoder.dtype
        );
        Ok(encoder)
    }

    /// An encoder with random weights: matrices normal with the config's `initializer_range` (default 0.02),
    /// norms one, biases zero. The class named under `architectures` says which heads it has.
    pub fn random(config: Map<String, Value>, seed: u64) -> Result<Self> {
        let reader = Config::new(&config, "config");
        let deviation = reader.float("initializer_range")?.unwrap_or(0.02);
        let architecture = architecture(&reader)?.to_owned();
        Self::build(
            config,
            "config".into(),
            &mut DrawnClass { architecture, drawn: Drawn { deviation, seed } },
        )
    }

    fn build(config: Map<String, Value>, place: String, source: &mut dyn Source) -> Result<Self> {
        let reader = Config::new(&config, place);
        let family = family_of(&reader)?;
        reader.refuse_quantized()?;
        let mut params = Params::default();
        let mut builder = Builder::new(&mut params, source);
        let parts = (family.build)(&reader, &mut builder)?;
        let stored_shapes = builder.stored_shapes;
        let pipeline = default_pipeline(&parts);
        Ok(Encoder {
            params,
            pipeline,
            parts,
            config,
            dtype: DType::F32,
            folder: None,
            stored_shapes,
            recompute: false,
        })
    }

    /// Writes a folder in `dtype` (default: every tensor in the type it was read in). From `source`, the folder the encoder
    /// was opened from, come tokenizer and the files of sentence-transformers and of image preparation.
    pub fn save(&self, dir: &Path, source: Option<&Path>, dtype: Option<DType>) -> Result<()> {
        let modules = source.map(Modules::read).transpose()?.flatten();
        let transformer = match (&modules, source) {
            (Some(modules), _) => Some(modules.transformer()?),
            (None, source) => source,
        };
        let exceptions = if dtype.is_none() { self.params.stored_types() } else { HashMap::new() };
        let dtype = dtype.unwrap_or(self.dtype);
        let type_of = |name: &str| exceptions.get(name).copied().unwrap_or(dtype);
        let folder_of = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let folders: Vec<_> = modules.iter().flat_map(Modules::others).collect();
        let own = |folder: &Path| folder.file_name().map(|n| n.to_string_lossy().into_owned());
        let apart: HashSet<_> = folders.iter().filter_map(|f| own(f)).collect();
        let mut tensors = Vec::new();
        for (id, param) in self.params.iter().filter(|(_, p)| !apart.contains(&folder_of(&p.name))) {
            let shape = self.stored_shapes.get(&id).map_or(param.tensor.shape(), Vec::as_slice);
            tensors.push((param.name.clone(), param.tensor.clone().reshape(shape)?));
        }
        let files = ModelFiles::new(Value::Object(self.config.clone()), tensors);
        let exceptions = exceptions.clone();
        write_model(
            dir,
            &ModelFiles { dtype: Some(dtype), exceptions, tokenizer_from: transformer, ..files },
        )?;
        for name in SIDE_FILES {
            for from in [source, transformer].into_iter().flatten() {
                copy_if_there(&from.join(name), &dir.join(name))?;
            }
        }
        if modules.is_some() && transformer != source {
            flatten(&dir.join("modules.json"))?;
        }
        for folder in folders {
            let Some(name) = own(folder) else { continue };
            let into = dir.join(&name);
            std::fs::create_dir_all(&into).map_err(|e| Error::io(&into, "cannot create", e))?;
            copy_if_there(&folder.join("config.json"), &into.join("config.json"))?;
            let prefix = format!("{name}.");
            let tensors: Vec<(String, Tensor)> = (self.params.iter())
                .filter_map(|(_, p)| {
                    Some((p.name.strip_prefix(&prefix)?.to_owned(), p.tensor.to_dtype(type_of(&p.name))))
                })
                .collect();
            if !tensors.is_empty() {
                write_tensors(into.join("model.safetensors"), &tensors, &BTreeMap::new())?;
            }
        }
        Ok(())
    }
}

fn copy_if_there(from: &Path, to: &Path) -> Result<()> {
    match std::fs::read(from) {
        Ok(bytes) => write_atomic(to, &bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(from, "cannot read", e)),
    }
}

/// Says that the transformer lies in the folder itself, where it is written, and not in one of its own.
fn flatten(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "cannot read", e))?;
    let mut modules: Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::format(path, format!("malformed JSON: {e}")))?;
    if let Some(first) = modules.get_mut(0).and_then(Value::as_object_mut) {
        first.insert("path".into(), "".into());
    }
    write_atomic(path, &to_pretty_bytes(&modules))
}

fn family_of(config: &Config<'_>) -> Result<&'static Family> {
    let known = || encoder_families().collect::<Vec<_>>().join(", ");
    let Some(name) = config.text("model_type")? else {
        return Err(config.error(format!("\"model_type\" is missing; supported encoders: {}", known())));
    };
    FAMILIES.iter().find(|f| f.model_type == name).ok_or_else(|| {
        config.unsupported(format!(
            "model_type \"{name}\" is no encoder that is supported; there are: {}",
            known()
        ))
    })
}

/// What an embedding is where no file says: the mean for texts, as sentence-transformers takes it; the class
/// token for images; for a model of both its features as directions.
fn default_pipeline(parts: &Parts) -> Pipeline {
    match parts {
        Parts { shared_space: true, .. } => Pipeline::new(Pooling::Pooler, true),
        Parts { text: Some(_), vision: None, .. } => Pipeline::new(Pooling::Mean, false),
        _ => Pipeline::new(Pooling::Cls, false),
    }
}
