//! LoRA adapters in the PEFT format.
//!
//! An adapter adds `scaling · B A` to the weight of each targeted linear layer, with A of shape
//! [r, in] and B of shape [out, r] (Hu et al. 2021). With `fan_in_fan_out` the layer keeps its
//! weight as [in, out], so the product is added transposed.

use std::collections::BTreeMap;
use std::path::Path;

use super::atomic::StagedFolder;
use super::peft_config::{self, Pattern, ends_at_dot, lookup};
use super::safetensors::SafetensorsFile;
use super::write::{Entry, write_file};
use crate::json::{read_object, to_pretty_bytes};
use crate::{Error, Result, Tensor};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// The two matrices of one adapted layer.
#[derive(Debug, Clone)]
pub struct LowRank {
    /// A: [rank, in].
    pub a: Tensor,
    /// B: [out, rank].
    pub b: Tensor,
}

/// A LoRA adapter.
#[derive(Debug, Clone, Default)]
pub struct Adapter {
    /// Rank of layers that no pattern names.
    pub r: usize,
    /// Numerator of the scaling.
    pub lora_alpha: f64,
    /// Names (or ends of names) of the adapted layers; may be empty, the tensors then say which.
    pub target_modules: Vec<String>,
    /// What the adapter was trained on.
    pub base_model_name_or_path: Option<String>,
    /// What PEFT is to wrap the model as, such as "CAUSAL_LM".
    pub task_type: Option<String>,
    /// Scale by alpha/√r (Kalajdzievski 2023) instead of alpha/r.
    pub use_rslora: bool,
    /// Whether the adapted layers store their weight as [in, out].
    pub fan_in_fan_out: bool,
    /// Ranks that differ, by layer name or its end.
    pub rank_pattern: Pattern<usize>,
    /// Alphas that differ, by layer name or its end.
    pub alpha_pattern: Pattern<f64>,
    /// The matrices by module path, such as `model.layers.0.self_attn.q_proj`.
    pub tensors: BTreeMap<String, LowRank>,
}

impl Adapter {
    /// Opens an adapter folder: `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// Tensors are converted to f32. Fails with the reason where the adapter uses an option that is
    /// not supported, or where its tensors do not fit its options.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let config_path = dir.join(CONFIG);
        if !config_path.exists() {
            return Err(Error::format(
                dir,
                format!("there is no {CONFIG}, so this is not an adapter folder"),
            ));
        }
        let mut adapter = peft_config::parse(&config_path, &read_object(&config_path)?)?;
        if !dir.join(WEIGHTS).exists() {
            return Err(Error::format(dir, missing_weights(dir)));
        }
        let file = SafetensorsFile::open(dir.join(WEIGHTS))?;
        adapter.tensors = read_pairs(&file)?;
        adapter.check(file.path())?;
        Ok(adapter)
    }

    /// Scaling of layers that no pattern names: alpha/r, or alpha/√r with `use_rslora`.
    pub fn scaling(&self) -> f64 {
        self.scale(self.lora_alpha, self.r)
    }

    /// Scaling of the given layer, patterns considered.
    pub fn scaling_of(&self, module: &str) -> f64 {
        self.scale(lookup(&self.alpha_pattern, module).unwrap_or(self.lora_alpha), self.rank_of(module))
    }

    /// Rank of the given layer, patterns considered.
    pub fn rank_of(&self, module: &str) -> usize {
        lookup(&self.rank_pattern, module).unwrap_or(self.r)
    }

    fn scale(&self, alpha: f64, rank: usize) -> f64 {
        let rank = rank as f64;
        alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Writes the adapter as a folder that `PeftModel.from_pretrained` loads, in one step.
    ///
    /// Where `target_modules` is empty, the full paths of the adapted layers are written. Fails where
    /// `dir` is not empty or the tensors do not fit the options.
    pub fn write(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        self.check(dir)?;
        let targets = match self.target_modules.as_slice() {
            [] => self.tensors.keys().cloned().collect(),
            given => given.to_vec(),
        };
        if let Some(module) = self.tensors.keys().find(|m| !targets.iter().any(|t| ends_at_dot(m, t))) {
            return Err(Error::format(
                dir,
                format!("target_modules does not name {module}, which has tensors"),
            ));
        }
        let folder = StagedFolder::new(dir)?;
        folder.write(CONFIG, &to_pretty_bytes(&peft_config::to_json(self, &targets)))?;
        let named: Vec<(String, &Tensor)> = self
            .tensors
            .iter()
            .flat_map(|(module, pair)| {
                [("lora_A", &pair.a), ("lora_B", &pair.b)]
                    .map(|(which, tensor)| (format!("{PREFIX}{module}.{which}.weight"), tensor))
            })
            .collect();
        let entries: Vec<_> =
            named.iter().map(|(name, tensor)| Entry { name, tensor, dtype: tensor.dtype() }).collect();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        folder
            .write_with(WEIGHTS, |sink| write_file(sink, &entries, &metadata, |_, e| Ok(e.tensor.clone())))?;
        folder.commit()
    }

    fn check(&self, path: &Path) -> Result<()> {
        if self.tensors.is_empty() {
            return Err(Error::format(path, "the adapter holds no LoRA tensors"));
        }
        for (module, LowRank { a, b }) in &self.tensors {
            let rank = self.rank_of(module);
            let fits =
                a.shape().len() == 2 && b.shape().len() == 2 && a.shape()[0] == rank && b.shape()[1] == rank;
            if rank == 0 || !fits {
                return Err(Error::format(
                    path,
                    format!(
                        "{module}: lora_A has shape {:?} and lora_B {:?}, but rank {rank} needs [{rank}, in] and [out, {rank}]",
                        a.shape(),
                        b.shape()
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn missing_weights(dir: &Path) -> String {
    if dir.join("adapter_model.bin").exists() {
        "adapter_model.bin is a pickle file, which is never opened because reading one executes it; \
         load it in Python and save it again with safe_serialization=True"
            .into()
    } else {
        format!("there is no {WEIGHTS}")
    }
}

fn read_pairs(file: &SafetensorsFile) -> Result<BTreeMap<String, LowRank>> {
    let refuse = |message| Err(Error::format(file.path(), message));
    let mut halves: BTreeMap<&str, (Option<Tensor>, Option<Tensor>)> = BTreeMap::new();
    for name in file.names() {
        let inner = name.strip_prefix(PREFIX);
        let half = |suffix| inner.and_then(|n| n.strip_suffix(suffix));
        let shape = file.info(name).map_or(&[][..], |info| &info.shape);
        if let Some(module) = half(".lora_A.weight") {
            halves.entry(module).or_default().0 = Some(file.tensor_f32(name, shape)?);
        } else if let Some(module) = half(".lora_B.weight") {
            halves.entry(module).or_default().1 = Some(file.tensor_f32(name, shape)?);
        } else {
            return refuse(format!(
                "tensor {name} is not supported; expected {PREFIX}<module>.lora_A.weight or .lora_B.weight"
            ));
        }
    }
    let mut pairs = BTreeMap::new();
    for (module, pair) in halves {
        match pair {
            (Some(a), Some(b)) => drop(pairs.insert(module.to_owned(), LowRank { a, b })),
            (Some(_), None) => return refuse(format!("{module} has lora_A but no lora_B")),
            _ => return refuse(format!("{module} has lora_B but no lora_A")),
        }
    }
    Ok(pairs)
}
