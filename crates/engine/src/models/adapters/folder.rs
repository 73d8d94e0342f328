//! Adapters apart from a model: the folder they are read from and written to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{AdapterKind, AdapterTensors, KINDS};
use crate::checkpoint::{adapter_config, adapter_weights, write_adapter};
use crate::{Error, Result, Tensor};

/// What PEFT puts before every tensor's name.
const PREFIX: &str = "base_model.model.";
const BASE_MODEL: &str = "base_model_name_or_path";
/// Under which the configs of several kinds are listed. PEFT then refuses the folder, of which it could read but
/// one kind.
const SEVERAL: &str = "adapters";

/// An adapter: of one kind, or of several that belong together.
#[derive(Debug, Clone, Default)]
pub struct Adapter {
    /// Its kinds, with their options.
    pub kinds: Vec<Arc<dyn AdapterKind>>,
    /// What the adapter was trained on.
    pub base_model: Option<String>,
    /// Its tensors by the names that files have for them, such as `model.layers.0.self_attn.q_proj.lora_A.weight`.
    pub tensors: AdapterTensors,
}

impl Adapter {
    /// Opens an adapter folder: `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// Tensors are converted to f32. Fails with the reason where the adapter uses an option that is
    /// not supported, or where its tensors do not fit its options.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_folder(dir.as_ref())
    }

    fn open_folder(dir: &Path) -> Result<Self> {
        let (path, config) = adapter_config(dir)?;
        let configs = listed(&path, &config)?;
        let kinds = configs.iter().map(|config| parse(&path, config)).collect::<Result<Vec<_>>>()?;
        let base_model = configs.iter().find_map(|config| Some(config.get(BASE_MODEL)?.as_str()?.to_owned()));
        let file = adapter_weights(dir)?;
        let mut tensors = AdapterTensors::new();
        for name in file.names() {
            let known = name.strip_prefix(PREFIX).filter(|inner| kinds.iter().any(|k| owns(&**k, inner)));
            let Some(inner) = known else {
                let parts = kinds.iter().flat_map(|kind| kind.parts());
                let names: Vec<_> = parts.map(|part| format!("{PREFIX}<module>.{part}.weight")).collect();
                return Err(Error::format(
                    file.path(),
                    format!("tensor {name} is not supported; expected {}", names.join(" or ")),
                ));
            };
            let shape = file.info(name).map_or(&[][..], |info| &info.shape);
            tensors.insert(inner.to_owned(), file.tensor_f32(name, shape)?);
        }
        let adapter = Adapter { kinds, base_model, tensors };
        adapter.check().map_err(|message| Error::format(file.path(), message))?;
        Ok(adapter)
    }

    /// Writes the adapter as a folder, in one step; one of LoRA alone is loaded by `PeftModel.from_pretrained`.
    ///
    /// Fails where `dir` is not empty or the tensors do not fit the options.
    pub fn write(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.write_folder(dir.as_ref())
    }

    fn write_folder(&self, dir: &Path) -> Result<()> {
        let config = || -> Result<Value, String> {
            self.check()?;
            let base_model = self.base_model.as_deref();
            let configs = self.kinds.iter().map(|kind| kind.config(base_model, &self.tensors));
            let mut configs = configs.collect::<Result<Vec<_>, String>>()?;
            Ok(if configs.len() == 1 { configs.remove(0) } else { json!({ SEVERAL: configs }) })
        };
        let config = config().map_err(|message| Error::format(dir, message))?;
        let tensors = self.tensors.iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor)).collect();
        write_adapter(dir, &config, &tensors)
    }

    /// Fails unless every kind has its tensors, in shapes that fit its options, and there are no others.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.kinds.is_empty() {
            return Err("the adapter is of no kind".into());
        }
        for (i, kind) in self.kinds.iter().enumerate() {
            if self.kinds[..i].iter().any(|other| other.parts() == kind.parts()) {
                return Err(format!("there are two adapters of the kind {}", kind.name()));
            }
            kind.check_options()?;
            kind.check(&self.tensors)?;
        }
        match self.tensors.keys().find(|name| !self.kinds.iter().any(|kind| owns(&**kind, name))) {
            Some(name) => Err(format!("tensor {name} belongs to none of the adapter's kinds")),
            None => Ok(()),
        }
    }
}

/// The configs of a folder: the one there is, or those that it lists.
fn listed<'c>(path: &Path, config: &'c Map<String, Value>) -> Result<Vec<&'c Map<String, Value>>> {
    let Some(several) = config.get(SEVERAL) else { return Ok(vec![config]) };
    let objects: Option<Vec<_>> =
        several.as_array().and_then(|list| list.iter().map(Value::as_object).collect());
    match objects {
        Some(configs) if !configs.is_empty() => Ok(configs),
        _ => Err(Error::format(path, format!("\"{SEVERAL}\" must be a list with the config of every kind"))),
    }
}

fn parse(path: &Path, config: &Map<String, Value>) -> Result<Arc<dyn AdapterKind>> {
    let wanted = config.get("type");
    let same = |kind: Option<&str>| match wanted {
        None => kind.is_none(),
        Some(wanted) => kind.is_some() && wanted.as_str() == kind,
    };
    match KINDS.iter().find(|(kind, _)| same(*kind)) {
        Some((_, parse)) => {
            let kind = parse(path, config)?;
            kind.check_options().map_err(|message| Error::format(path, message))?;
            Ok(kind)
        }
        None => {
            let known: Vec<_> = KINDS.iter().filter_map(|(kind, _)| *kind).collect();
            Err(Error::format(
                path,
                format!(
                    "type is {}; supported: {}, and PEFT's LoRA, which has a \"peft_type\" and no \"type\"",
                    wanted.unwrap_or(&Value::Null),
                    known.join(", ")
                ),
            ))
        }
    }
}

/// Whether a tensor of this name is one of the kind's.
fn owns(kind: &dyn AdapterKind, name: &str) -> bool {
    kind.parts().iter().any(|part| module_in(name, part).is_some())
}

/// MODULE of `MODULE.PART.weight`.
fn module_in<'n>(name: &'n str, part: &str) -> Option<&'n str> {
    name.strip_suffix(".weight")?.strip_suffix(part)?.strip_suffix('.')
}

/// The tensors called `MODULE.PART.weight`, by module, in the order of the parts. Fails where a module has some of
/// the parts and not the others.
pub(super) fn by_module<'t, const N: usize>(
    tensors: &'t AdapterTensors,
    parts: [&str; N],
) -> Result<BTreeMap<&'t str, [&'t Tensor; N]>, String> {
    let mut found: BTreeMap<&str, [Option<&Tensor>; N]> = BTreeMap::new();
    for (name, tensor) in tensors {
        for (i, part) in parts.iter().enumerate() {
            if let Some(module) = module_in(name, part) {
                found.entry(module).or_insert([None; N])[i] = Some(tensor);
            }
        }
    }
    let whole = |(module, all): (&'t str, [Option<&'t Tensor>; N])| {
        let there: Vec<&Tensor> = all.into_iter().flatten().collect();
        <[&Tensor; N]>::try_from(there).map(|all| (module, all)).map_err(|_| {
            let first = |is_there: bool| parts.iter().zip(all).find(|(_, t)| t.is_some() == is_there);
            let name = |is_there: bool| first(is_there).map_or("nothing", |(part, _)| *part);
            format!("{module} has {} but no {}", name(true), name(false))
        })
    };
    found.into_iter().map(whole).collect()
}
