//! Low-rank adapters: attach, read, write, merge (LoRA, arXiv 2106.09685; PEFT's file format).

use std::collections::BTreeMap;
use std::path::Path;

use super::Model;
use crate::checkpoint::{self, Adapter};
use crate::params::Params;
use crate::tape::{Linear, LowRank};
use crate::{Error, Result, Rng, Tensor, kernels};

/// How an adapter is made.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraOptions {
    /// Rank of the update.
    pub r: usize,
    /// The update is scaled by alpha / r.
    pub alpha: f32,
    /// Names of the projections to adapt, or ends of them at a dot (`q_proj`, `attn.c_proj`); empty means
    /// every linear layer of every block.
    pub targets: Vec<String>,
}

impl Model {
    /// Every linear layer of every block, under the path of its module.
    fn linears(&self) -> impl Iterator<Item = (String, &Linear)> {
        self.decoder.linears().map(|linear| (module_of(&self.params, linear).to_owned(), linear))
    }

    fn linear_mut(&mut self, module: &str) -> Result<&mut Linear> {
        let weight = self.params.find(&format!("{module}.weight"));
        self.decoder
            .linears_mut()
            .find(|linear| Some(linear.weight) == weight)
            .ok_or_else(|| Error::invalid(format!("the model has no linear layer called {module}")))
    }

    /// Module path and parameters of every adapted layer.
    pub fn adapter_layers(&self) -> impl Iterator<Item = (String, LowRank)> {
        self.linears().filter_map(|(name, linear)| Some((name, linear.low_rank?)))
    }

    /// Attaches a fresh adapter (A Kaiming-uniform as PEFT draws it, B zero, so nothing changes yet)
    /// and freezes everything else.
    pub fn attach_lora(&mut self, options: &LoraOptions, seed: u64) -> Result<()> {
        if options.r == 0 {
            return Err(Error::invalid("an adapter needs a rank of at least 1"));
        }
        let named = |module: &str, target: &String| {
            module.strip_suffix(target.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let wanted =
            |module: &str| options.targets.is_empty() || options.targets.iter().any(|t| named(module, t));
        let modules: Vec<_> = self.linears().map(|(name, _)| name).filter(|m| wanted(m)).collect();
        if modules.is_empty() {
            let first = format!("{}.0.", self.spec().names.block.blocks);
            // One expert stands for all.
            let others = |name: &str| name.contains(".experts.") && !name.contains(".experts.0.");
            let in_block = |name: String| name.strip_prefix(&first).map(str::to_owned);
            let there: Vec<_> =
                self.linears().filter_map(|(name, _)| in_block(name)).filter(|name| !others(name)).collect();
            return Err(Error::invalid(format!(
                "no layer matches the adapter's targets {:?}; a block has {}",
                options.targets,
                there.join(", ")
            )));
        }
        let mut tensors = BTreeMap::new();
        for module in modules {
            let weight = self.linear_mut(&module)?.weight;
            let shape = self.params.get(weight).tensor.shape().to_vec();
            let (out, inner) = (shape[0], shape[1]);
            let bound = 1.0 / (inner as f64).sqrt();
            let mut rng = Rng::named(seed, &module);
            let a = Tensor::build(&[options.r, inner], |a| {
                a.iter_mut().for_each(|v| *v = ((2.0 * rng.uniform() - 1.0) * bound) as f32);
            });
            let b = Tensor::zeros(&[out, options.r], crate::DType::F32);
            tensors.insert(module, (a, b));
        }
        let scaling = options.alpha / options.r as f32;
        self.attach(tensors, |_| scaling)
    }

    /// Attaches an adapter that was read from a PEFT folder, and freezes everything else.
    pub fn attach_adapter(&mut self, adapter: &Adapter) -> Result<()> {
        let tensors =
            adapter.tensors.iter().map(|(m, pair)| (m.clone(), (pair.a.to_f32(), pair.b.to_f32()))).collect();
        self.attach(tensors, |module| adapter.scaling_of(module) as f32)
    }

    fn attach(
        &mut self,
        tensors: BTreeMap<String, (Tensor, Tensor)>,
        scaling: impl Fn(&str) -> f32,
    ) -> Result<()> {
        self.params.set_trainable(|_| false);
        for (module, (a, b)) in tensors {
            let weight = self.linear_mut(&module)?.weight;
            let (out, inner) = {
                let tensor = &self.params.get(weight).tensor;
                (tensor.rows(), tensor.columns())
            };
            if a.columns() != inner || b.rows() != out || a.rows() != b.columns() {
                return Err(Error::shape(
                    format!("adapter of {module}"),
                    &[out, inner],
                    &[b.rows(), a.columns()],
                ));
            }
            let a = self.params.add(format!("{module}.lora_A.weight"), a)?;
            let b = self.params.add(format!("{module}.lora_B.weight"), b)?;
            let scaling = scaling(&module);
            self.linear_mut(&module)?.low_rank = Some(LowRank { a, b, scaling });
        }
        Ok(())
    }

    /// This model with its adapter switched off, sharing all weights: the reference distribution.
    pub fn without_adapter(&self) -> Model {
        let mut base = self.clone();
        for (module, _) in self.adapter_layers() {
            if let Ok(linear) = base.linear_mut(&module) {
                linear.low_rank = None;
            }
        }
        base
    }

    /// The attached adapter as PEFT would hold it.
    pub fn adapter(&self, options: &LoraOptions, base_model: &str) -> Adapter {
        let tensor = |id| self.params.get(id).tensor.clone();
        Adapter {
            r: options.r,
            lora_alpha: f64::from(options.alpha),
            target_modules: options.targets.clone(),
            base_model_name_or_path: Some(base_model.to_owned()),
            task_type: Some("CAUSAL_LM".to_owned()),
            fan_in_fan_out: self.spec().names.block.transposed,
            tensors: self
                .adapter_layers()
                .map(|(module, low)| (module, checkpoint::LowRank { a: tensor(low.a), b: tensor(low.b) }))
                .collect(),
            ..Default::default()
        }
    }

    /// Writes the attached adapter as a PEFT folder.
    pub fn save_adapter(&self, dir: &Path, options: &LoraOptions, base_model: &str) -> Result<()> {
        self.adapter(options, base_model).write(dir)
    }

    /// A model of the same shape as before adapters, with `W + scaling·B·A` in the weights.
    pub fn merged(&self) -> Result<Model> {
        let mut merged = self.without_adapter();
        for (module, low) in self.adapter_layers() {
            let (a, b) = (&self.params.get(low.a).tensor, &self.params.get(low.b).tensor);
            let weight = merged.linear_mut(&module)?.weight;
            let mut delta = vec![0.0; b.rows() * a.columns()];
            kernels::gemm(
                kernels::Mat::new(b.f32(), b.rows(), b.columns()),
                kernels::Mat::new(a.f32(), a.rows(), a.columns()),
                kernels::MatMut::new(&mut delta, b.rows(), a.columns()),
                false,
            );
            kernels::axpy(low.scaling, &delta, merged.params.get_mut(weight).tensor.f32_mut());
        }
        merged.params = merged.params.without(|name| name.contains(".lora_"));
        merged.params.set_trainable(|_| true);
        Ok(merged)
    }
}

/// Path of a linear layer's module: its weight's name without the ending.
fn module_of<'p>(params: &'p Params, linear: &Linear) -> &'p str {
    let name = &params.get(linear.weight).name;
    name.strip_suffix(".weight").unwrap_or(name)
}
