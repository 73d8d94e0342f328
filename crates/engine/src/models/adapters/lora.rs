//! LoRA: `scaling · B A` added to the weight of a linear layer (Hu et al., arXiv 2106.09685), in PEFT's format.
//!
//! A is [r, in] and B [out, r]. With `fan_in_fan_out` the layer's file keeps the weight as [in, out].

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::folder::by_module;
use super::peft_config::{self, Pattern, ends_at_dot, lookup};
use super::{AdapterKind, AdapterTensors, check_positive, kaiming};
use crate::models::{Model, Spec};
use crate::params::{ParamId, Params};
use crate::tape::{Graph, LinearAdapter, Var};
use crate::{DType, Error, Result, Tensor, kernels};

const PARTS: [&str; 2] = ["lora_A", "lora_B"];

/// What a fresh LoRA adapter is made with.
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

/// LoRA, with the options of PEFT that are supported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lora {
    /// Rank of layers that no pattern names.
    pub r: usize,
    /// Numerator of the scaling.
    pub lora_alpha: f64,
    /// Names (or ends of names) of the adapted layers; may be empty, the tensors then say which.
    pub target_modules: Vec<String>,
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
}

/// The parameters of one adapted layer.
#[derive(Debug)]
struct LowRank {
    /// A: [r, in].
    a: ParamId,
    /// B: [out, r].
    b: ParamId,
    scaling: f32,
}

impl LinearAdapter for LowRank {
    /// `y + scaling·(x·Aᵀ)·Bᵀ`.
    fn apply(&self, g: &mut Graph<'_>, x: &Var, y: Var) -> Result<Var> {
        let down = g.project(x, self.a, None)?;
        let up = g.project(&down, self.b, None)?;
        g.add_scaled(&y, &up, self.scaling)
    }

    fn parameters(&self) -> Vec<ParamId> {
        vec![self.a, self.b]
    }

    /// `W + scaling·B·A`.
    fn merge(&self, params: &Params, weight: &mut Tensor) -> Result<()> {
        let [a, b] = [self.a, self.b].map(|id| &params.get(id).tensor);
        let mut delta = vec![0.0; b.rows() * a.columns()];
        kernels::gemm(
            kernels::Mat::new(b.f32(), b.rows(), b.columns()),
            kernels::Mat::new(a.f32(), a.rows(), a.columns()),
            kernels::MatMut::new(&mut delta, b.rows(), a.columns()),
            false,
        );
        kernels::axpy(self.scaling, &delta, weight.f32_mut());
        Ok(())
    }
}

/// The last parts of a path, as many as asked for.
fn last_parts(module: &str, count: usize) -> &str {
    let dot = module.rmatch_indices('.').nth(count - 1);
    dot.map_or(module, |(at, _)| &module[at + 1..])
}

pub(super) fn parse(path: &Path, config: &Map<String, Value>) -> Result<Arc<dyn AdapterKind>> {
    Ok(Arc::new(peft_config::parse(path, config)?))
}

impl Lora {
    /// As PEFT would have it on a decoder of this spec.
    pub(super) fn of(options: &LoraOptions, spec: &Spec) -> Self {
        Lora {
            r: options.r,
            lora_alpha: f64::from(options.alpha),
            target_modules: options.targets.clone(),
            task_type: Some("CAUSAL_LM".to_owned()),
            fan_in_fan_out: spec.names.block.transposed,
            ..Default::default()
        }
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

    fn targets(&self, module: &str) -> bool {
        self.target_modules.is_empty() || self.target_modules.iter().any(|name| ends_at_dot(module, name))
    }

    /// The layers of a model that it is for, by their paths, with their weights [out, in].
    ///
    /// Fails unless each of the targets names one.
    pub(super) fn layers_of<'m>(
        &self,
        model: &'m Model,
    ) -> Result<impl Iterator<Item = (String, &'m Tensor)> + use<'m, '_>> {
        self.check_targets(model)?;
        let adapted = model.linears().filter(|(module, _)| self.targets(module));
        Ok(adapted.map(|(module, linear)| (module, &model.params.get(linear.weight).tensor)))
    }

    /// How many weights it would have on a model: r·(in + out) for every adapted layer.
    pub(super) fn weights_on(&self, model: &Model) -> Result<usize> {
        Ok(self.layers_of(model)?.fold(0_usize, |sum, (module, weight)| {
            let pair = self.rank_of(&module).saturating_mul(weight.rows() + weight.columns());
            sum.saturating_add(pair)
        }))
    }

    /// Fails unless each of the targets names a layer.
    fn check_targets(&self, model: &Model) -> Result<()> {
        let there: Vec<String> = model.linears().map(|(module, _)| module).collect();
        let names_none = |target: &&String| !there.iter().any(|module| ends_at_dot(module, target));
        let Some(wrong) = self.target_modules.iter().find(names_none) else { return Ok(()) };
        let ends = there.iter().map(|module| last_parts(module, wrong.split('.').count()));
        let nearest = ends.min_by_key(|end| strsim::osa_distance(end, wrong)).unwrap_or_default();
        let first = format!("{}.0.", model.spec().names.block.blocks);
        // One expert stands for all.
        let others = |name: &str| name.contains(".experts.") && !name.contains(".experts.0.");
        let in_block: Vec<_> =
            there.iter().filter_map(|name| name.strip_prefix(&first)).filter(|name| !others(name)).collect();
        Err(Error::invalid(format!(
            "no layer matches the adapter's target {wrong:?}; the nearest is {nearest}; a block has {}",
            in_block.join(", ")
        )))
    }
}

impl AdapterKind for Lora {
    fn name(&self) -> &'static str {
        "LoRA"
    }

    fn parts(&self) -> &'static [&'static str] {
        &PARTS
    }

    fn check_options(&self) -> Result<(), String> {
        check_positive("r", self.r as f64)?;
        check_positive("lora_alpha", self.lora_alpha)?;
        let of_rank =
            |(name, rank): &(String, usize)| check_positive(&format!("rank_pattern: {name}"), *rank as f64);
        self.rank_pattern.iter().try_for_each(of_rank)?;
        let of_alpha =
            |(name, alpha): &(String, f64)| check_positive(&format!("alpha_pattern: {name}"), *alpha);
        self.alpha_pattern.iter().try_for_each(of_alpha)
    }

    fn check(&self, tensors: &AdapterTensors) -> Result<(), String> {
        let pairs = by_module(tensors, PARTS)?;
        if pairs.is_empty() {
            return Err("the adapter holds no LoRA tensors".into());
        }
        for (module, [a, b]) in pairs {
            let rank = self.rank_of(module);
            let fits =
                a.shape().len() == 2 && b.shape().len() == 2 && a.shape()[0] == rank && b.shape()[1] == rank;
            if !fits {
                return Err(format!(
                    "{module}: lora_A has shape {:?} and lora_B {:?}, but rank {rank} needs [{rank}, in] and [out, {rank}]",
                    a.shape(),
                    b.shape()
                ));
            }
        }
        Ok(())
    }

    /// Where `target_modules` is empty, the full paths of the adapted layers are written.
    fn config(&self, base_model: Option<&str>, tensors: &AdapterTensors) -> Result<Value, String> {
        let modules: Vec<_> = by_module(tensors, PARTS)?.into_keys().map(str::to_owned).collect();
        if let Some(module) = modules.iter().find(|module| !self.targets(module)) {
            return Err(format!("target_modules does not name {module}, which has tensors"));
        }
        let targets = if self.target_modules.is_empty() { &modules } else { &self.target_modules };
        Ok(peft_config::to_json(self, base_model, targets))
    }

    fn draw(&self, model: &Model, seed: u64) -> Result<AdapterTensors> {
        let mut tensors = AdapterTensors::new();
        for (module, weight) in self.layers_of(model)? {
            let (rank, out, inner) = (self.rank_of(&module), weight.rows(), weight.columns());
            tensors.insert(format!("{module}.lora_A.weight"), kaiming(seed, &module, &[rank, inner], inner));
            tensors.insert(format!("{module}.lora_B.weight"), Tensor::zeros(&[out, rank], DType::F32));
        }
        Ok(tensors)
    }

    fn put_on(&self, model: &mut Model, tensors: &AdapterTensors) -> Result<()> {
        for (module, [a, b]) in by_module(tensors, PARTS).map_err(Error::invalid)? {
            let weight = model.linear_mut(module)?.weight;
            let weight = &model.params.get(weight).tensor;
            let (out, inner) = (weight.rows(), weight.columns());
            if a.columns() != inner || b.rows() != out {
                return Err(Error::shape(
                    format!("adapter of {module}"),
                    &[out, inner],
                    &[b.rows(), a.columns()],
                ));
            }
            let a = model.params.add(format!("{module}.lora_A.weight"), a.to_f32())?;
            let b = model.params.add(format!("{module}.lora_B.weight"), b.to_f32())?;
            let scaling = self.scaling_of(module) as f32;
            model.linear_mut(module)?.adapter = Some(Arc::new(LowRank { a, b, scaling }));
        }
        Ok(())
    }

    fn tensors_on(&self, model: &Model) -> Result<AdapterTensors> {
        let names =
            model.linears().flat_map(|(module, _)| PARTS.map(|part| format!("{module}.{part}.weight")));
        let there = names.filter(|name| model.params.find(name).is_some());
        there.map(|name| Ok((name.clone(), model.adapter_tensor(&name)?))).collect()
    }
}
