//! Folders as sentence-transformers lays them out: how hidden states become an embedding.
//!
//! `modules.json` lists the steps: the transformer, pooling, dense layers, normalisation. Each has its own
//! folder with a `config.json`. `sentence_bert_config.json` says how many tokens are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::pooling::Pooling;
use super::tower::Dense;
use crate::checkpoint::SafetensorsFile;
use crate::json::read_object_if_there;
use crate::kernels::Activation;
use crate::params::Params;
use crate::tape::Linear;
use crate::{Error, Result};

/// From a text to tokens, and from hidden states to an embedding.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// How rows become one vector; the vectors of several ways stand side by side.
    pub pooling: Vec<Pooling>,
    /// What follows, in order.
    pub(super) steps: Vec<Step>,
    /// Tokens read of a text, special ones included; the model's context where the folder does not say.
    pub max_tokens: Option<usize>,
    /// Whether texts are lowercased first.
    pub lowercase: bool,
    /// Texts to put before a text, by the task they name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt that is used unless another is named.
    pub default_prompt: Option<String>,
    /// Whether a prompt's tokens are left out of the pooling, which is not supported.
    prompt_left_out: bool,
}

/// One step after pooling.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Dense(Dense),
    Normalize,
}

impl Pipeline {
    /// Just pooling, and vectors of length one where `normalize`.
    pub(super) fn new(pooling: Pooling, normalize: bool) -> Self {
        Pipeline {
            pooling: vec![pooling],
            steps: if normalize { vec![Step::Normalize] } else { Vec::new() },
            max_tokens: None,
            lowercase: false,
            prompts: BTreeMap::new(),
            default_prompt: None,
            prompt_left_out: false,
        }
    }

    /// Whether the last step gives vectors of length one.
    pub fn normalizes(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Normalize))
    }

    /// Adds a last step that gives vectors of length one, unless there is one.
    pub fn normalize(&mut self) {
        if !self.normalizes() {
            self.steps.push(Step::Normalize);
        }
    }

    /// The text as the tokenizer is to see it, after the prompt called `prompt` or the folder's default.
    pub fn prepare(&self, text: &str, prompt: Option<&str>) -> Result<String> {
        let prompt = match prompt.or(self.default_prompt.as_deref()) {
            Some(name) => self.prompts.get(name).map(String::as_str).ok_or_else(|| {
                let known = self.prompts.keys().cloned().collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "none at all".to_owned() } else { known };
                Error::invalid(format!("the folder has no prompt called {name:?}; it has {known}"))
            })?,
            None => "",
        };
        if !prompt.is_empty() && self.prompt_left_out {
            return Err(Error::invalid("a prompt that pooling leaves out (include_prompt) is not supported"));
        }
        let text = format!("{prompt}{text}");
        Ok(if self.lowercase { text.to_lowercase() } else { text })
    }
}

/// A folder's list of modules.
pub(super) struct Modules {
    dir: PathBuf,
    /// Kind and folder of each, in order.
    list: Vec<(String, PathBuf)>,
}

impl Modules {
    /// Reads `modules.json`; `None` where the folder has none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("modules.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(path, "cannot read", e)),
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::format(&path, format!("malformed JSON: {e}")))?;
        let module = |entry: &Value| {
            let kind = entry.get("type")?.as_str()?.rsplit('.').next()?.to_owned();
            let folder = Path::new(entry.get("path").and_then(Value::as_str).unwrap_or_default());
            let plain = folder.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            plain.then(|| (kind, dir.join(folder)))
        };
        let list = value.as_array().and_then(|list| list.iter().map(module).collect::<Option<Vec<_>>>());
        let Some(list) = list else {
            return Err(Error::format(
                path,
                "a list of modules with \"type\" and a folder as \"path\" is needed",
            ));
        };
        Ok(Some(Modules { dir: dir.to_owned(), list }))
    }

    /// The folder of the transformer, which is the first module.
    pub(super) fn transformer(&self) -> Result<&Path> {
        match self.list.first() {
            Some((kind, folder)) if kind == "Transformer" || kind == "CLIPModel" => Ok(folder),
            Some((kind, _)) => Err(self.error(format!("the first module is {kind}, not a Transformer"))),
            None => Err(self.error("there are no modules")),
        }
    }

    /// Folders of the modules after the transformer.
    pub(super) fn others(&self) -> impl Iterator<Item = &Path> {
        self.list.iter().skip(1).map(|(_, folder)| folder.as_path())
    }

    /// The pipeline of the folder. Dense layers go among the parameters under their folder's name.
    pub(super) fn pipeline(&self, params: &mut Params, default: Pipeline) -> Result<Pipeline> {
        let transformer = self.transformer()?;
        let mut pipeline = Pipeline { steps: Vec::new(), ..default };
        let config =
            read_object_if_there(&transformer.join("sentence_bert_config.json"))?.unwrap_or_default();
        if let Some(longest) = config.get("max_seq_length").and_then(Value::as_u64) {
            pipeline.max_tokens = Some(longest.max(1) as usize);
        }
        pipeline.lowercase = flag(&config, "do_lower_case").unwrap_or(false);
        let config = self.dir.join("config_sentence_transformers.json");
        let config = read_object_if_there(&config)?.unwrap_or_default();
        if let Some(prompts) = config.get("prompts").and_then(Value::as_object) {
            let text = |(name, text): (&String, &Value)| Some((name.clone(), text.as_str()?.to_owned()));
            pipeline.prompts = prompts.iter().filter_map(text).collect();
        }
        pipeline.default_prompt =
            config.get("default_prompt_name").and_then(Value::as_str).map(str::to_owned);
        for (kind, folder) in self.list.iter().skip(1) {
            let config = read_object_if_there(&folder.join("config.json"))?.unwrap_or_default();
            match kind.as_str() {
                "Pooling" => {
                    pipeline.pooling = poolings(&config, &folder.join("config.json"))?;
                    pipeline.prompt_left_out = flag(&config, "include_prompt") == Some(false);
                }
                "Normalize" => pipeline.steps.push(Step::Normalize),
                "Dense" => pipeline.steps.push(Step::Dense(dense(params, folder, &config)?)),
                "Dropout" => {}
                other => return Err(self.error(format!("modules of type {other} are not supported"))),
            }
        }
        Ok(pipeline)
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::format(self.dir.join("modules.json"), message)
    }
}

fn flag(config: &Map<String, Value>, key: &str) -> Option<bool> {
    config.get(key).and_then(Value::as_bool)
}

/// Every way of pooling the config turns on, in the order their vectors are put together.
fn poolings(config: &Map<String, Value>, path: &Path) -> Result<Vec<Pooling>> {
    const KEYS: [(&str, Pooling); 6] = [
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_max_tokens", Pooling::Max),
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_mean_sqrt_len_tokens", Pooling::MeanSqrtLength),
        ("pooling_mode_weightedmean_tokens", Pooling::WeightedMean),
        ("pooling_mode_lasttoken", Pooling::Last),
    ];
    // Newer folders name their ways, one or several, instead of switching each.
    let names: Option<Vec<&str>> = match config.get("pooling_mode") {
        Some(Value::String(name)) => Some(vec![name]),
        Some(Value::Array(names)) => names.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let chosen: Vec<Pooling> = match names {
        Some(names) => names
            .into_iter()
            .map(str::parse)
            .collect::<Result<_>>()
            .map_err(|e: Error| Error::format(path, e.to_string()))?,
        // Only the mean is on where a config does not mention it.
        None => KEYS
            .into_iter()
            .filter(|&(key, pooling)| flag(config, key).unwrap_or(pooling == Pooling::Mean))
            .map(|(_, pooling)| pooling)
            .collect(),
    };
    if chosen.is_empty() {
        return Err(Error::format(path, "no way of pooling is turned on"));
    }
    Ok(chosen)
}

fn dense(params: &mut Params, folder: &Path, config: &Map<String, Value>) -> Result<Dense> {
    let place = folder.join("config.json");
    let size = |key: &str| {
        let size = config.get(key).and_then(Value::as_u64).filter(|n| (1..=1 << 24).contains(n));
        size.map(|n| n as usize).ok_or_else(|| Error::format(&place, format!("\"{key}\" must be a size")))
    };
    let (inner, out) = (size("in_features")?, size("out_features")?);
    let function = config.get("activation_function").and_then(Value::as_str).unwrap_or("Tanh");
    let activation = match function.rsplit('.').next().unwrap_or_default() {
        "Tanh" => Some(Activation::Tanh),
        "Identity" => None,
        "ReLU" => Some(Activation::Relu),
        "GELU" => Some(Activation::Gelu),
        "SiLU" => Some(Activation::Silu),
        _ => return Err(Error::format(place, format!("activation_function {function} is not supported"))),
    };
    let file = SafetensorsFile::open(folder.join("model.safetensors"))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut add = |part: &str, shape: &[usize]| {
        let id = params.add(format!("{name}.{part}"), file.tensor_f32(part, shape)?)?;
        params.get_mut(id).stored = file.info(part).and_then(|info| info.dtype.float());
        Ok::<_, Error>(id)
    };
    let weight = add("linear.weight", &[out, inner])?;
    let bias = flag(config, "bias").unwrap_or(true).then(|| add("linear.bias", &[out])).transpose()?;
    Ok(Dense { linear: Linear { weight, bias, adapter: None }, activation })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Pooling>, String> {
        poolings(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap(), Path::new("c.json"))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn poolings_of_old_and_new_configs() {
        assert_eq!(read("{}"), Ok(vec![Pooling::Mean]));
        let old = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
        assert_eq!(read(old), Ok(vec![Pooling::Cls]));
        let both = r#"{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}"#;
        assert_eq!(read(both), Ok(vec![Pooling::Max, Pooling::Mean]));
        assert_eq!(read(r#"{"pooling_mode": "lasttoken"}"#), Ok(vec![Pooling::Last]));
        assert!(read(r#"{"pooling_mode_mean_tokens": false}"#).unwrap_err().contains("c.json"));
        assert!(read(r#"{"pooling_mode": "sum"}"#).unwrap_err().contains("sum"));
    }
}
