//! In a low-rank adapter that is guided by representations.

use std::rc::Rc;

use amend_engine::kernels::linalg::Matrix;
use amend_engine::models::LoraOptions;
use amend_engine::{Error, Model, Result, Rng};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::orthogonality::{HeldLayer, Orthogonality};
use super::subspace::{contrasting, dominant, random};
use super::{Place, Regulariser};
use crate::context::{Context, Side};
use crate::features::{LayerOutputs, Pooling, Sampled, of_layer};

/// Which directions of a layer's outputs the adapter begins in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// Where the forget set is strong and the retain set weak: the paper's.
    #[default]
    Rila,
    /// Any, orthonormal: what a start costs that looks at nothing.
    Random,
    /// Where the retain set is strongest: the worst there is, for comparison.
    Retain,
}

/// # What it does
/// Freezes the model and trains a low-rank adapter that writes where outputs on the forget set are strong and those on the
/// retain set weak. RILA: for every adapted layer with weight W₀ [out, in], the columns of B are the r strongest directions of
/// Δ = (1 − β)·C_F − β·C_R, where C = HᵀH/n + 1e-4·I is the second moment of its outputs, summed over the tokens of each of n
/// sequences under the original model; A = BᵀW₀; and the base is W₀ − s·B·A with s = alpha / r, so that nothing has changed
/// yet. ROL: while it learns, the loss λ·Σ‖BᵀP‖²_F keeps B away from P, the `k` strongest directions of C_R.
///
/// # When to use it
/// Instead of `lora`, when what is kept matters and steps are dear. The published objective beside it is `ihl`. It costs
/// a pass over `sequences` items of both sets before the first step, and their outputs in memory.
///
/// # What it logs
/// `loss_rol`: Σ‖BᵀP‖²_F before its weight; r per layer at most to begin with. Whenever the model is looked at,
/// `forget_energy` and `retain_energy`: the share tr(BᵀCB)/tr C of the second moments that lies in what B writes, a mean
/// over the layers (above 1 where B has grown). The report has them layer by layer.
///
/// # Source
/// "Representation-Guided Parameter-Efficient LLM Unlearning" (REGLU), arXiv 2604.17396. Published: r 32, alpha 64,
/// λ 0.5, β 0.7 for TOFU and 0.5 for WMDP, with AdamW at 1e-4.
///
/// # Inferred parts
/// λ·ROL belongs to the retain objective: its gradient is added to the retain gradient before the combination, which weighs and
/// protects both alike, and the logged geometry is that of the sum. Padding is no part of a sequence. Where the retain set's
/// outputs span fewer than k directions, P has only those. The trained pair is held, and written, as the adapter of rank 2r
/// for the original model that computes the same: B′ = [B, B₀], A′ = [A; −A₀].
///
/// # Expected result
/// The paper's order of directions, and not all of its margin. In miniature (`recipes/reglu.toml`: IHL, rank 8,
/// seeds 0, 1, 2), ROL begins at 21, 26, 19, against 51, 50, 50 in random directions and 336 in the retain
/// space itself. To the same forgetting it takes 100, 73, 76 steps; without ROL 85, 61, 57; from random
/// directions with ROL 114, 84, 81. So beginning with RILA saves a quarter of the steps, and with ROL a tenth,
/// where the paper's miniature should save three tenths. The retain loss grows 7-, 13-, 7-fold, without ROL 6-,
/// 7-, 10-fold, from random directions 10-, 10-, 15-fold: both are better than chance, and which of the two
/// keeps more is not settled by three seeds. With gradient ascent it has not been measured in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reglu {
    /// Rank of the update: no more than a layer has outputs.
    #[schemars(range(min = 1))]
    pub r: usize,
    /// The update is scaled by alpha / r.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub alpha: f32,
    /// Projections to adapt (`q_proj`, `down_proj`, …); empty means all linear layers of all blocks.
    pub targets: Vec<String>,
    /// Where the adapter begins: `rila`, `random` or `retain`.
    pub init: Start,
    /// β, how much the retain set counts against the forget set.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta: f64,
    /// λ, weight of ROL.
    #[schemars(range(min = 0.0))]
    pub rol: f32,
    /// How many directions of the retain set ROL protects.
    #[schemars(range(min = 1))]
    pub k: usize,
    /// Layers that ROL holds, by the last part of their names (`v_proj`); empty means all adapted ones.
    pub rol_on: Vec<String>,
    /// Most sequences of each set that are looked at.
    #[schemars(range(min = 1))]
    pub sequences: usize,
    /// How the tokens of a sequence count together: `sum` or `mean`.
    pub pooling: Pooling,
}

impl Default for Reglu {
    fn default() -> Self {
        Reglu {
            r: 16,
            alpha: 32.0,
            targets: Vec::new(),
            init: Start::Rila,
            beta: 0.7,
            rol: 0.5,
            k: 128,
            rol_on: Vec::new(),
            sequences: 256,
            pooling: Pooling::Sum,
        }
    }
}

impl Place for Reglu {
    fn prepare(&self, model: &mut Model, context: &Context<'_>) -> Result<()> {
        let (layers, outputs) = (model.lora_layers(&self.options())?, self.outputs(model, context)?);
        let starts = context.starts(self, &layers, |layer, weight| {
            check_rank(self.r, layer, [weight.rows()])?;
            let directions = self.start(layer, &outputs, context.seed)?;
            let a = directions.times(&Matrix::from_tensor(weight))?;
            Ok([a.to_tensor(), directions.transposed().to_tensor()])
        })?;
        model.attach_started_lora(&self.options(), |layer, _| of_layer(&starts, layer).cloned())
    }

    fn size(&self, model: &Model) -> Result<usize> {
        model.lora_weights(&self.options())
    }

    fn regulariser(&self, model: &Model, context: &Context<'_>) -> Result<Option<Box<dyn Regulariser>>> {
        let layers = context.reference.lora_layers(&self.options())?;
        let named = |layer: &str, name: &String| layer.rsplit('.').next() == Some(name);
        if let Some(wrong) = self.rol_on.iter().find(|name| !layers.iter().any(|layer| named(layer, name))) {
            let mut there: Vec<_> = layers.iter().filter_map(|layer| layer.rsplit('.').next()).collect();
            there.sort_unstable();
            there.dedup();
            let there = there.join(", ");
            return Err(Error::invalid(format!(
                "rol_on: no adapted layer is called {wrong:?}; there are: {there}"
            )));
        }
        let outputs = self.outputs(model, context)?;
        let hold = |layer: String| {
            let is_held = self.rol_on.is_empty() || self.rol_on.iter().any(|name| named(&layer, name));
            let space = is_held.then(|| dominant(of_layer(&outputs[1], &layer)?, self.k)).transpose()?;
            let b = model.params.find(&format!("{layer}.lora_B.weight"));
            let b = b.ok_or_else(|| Error::invalid(format!("{layer} has no adapter to hold")))?;
            Ok(HeldLayer { layer, b, space })
        };
        let layers = layers.into_iter().map(hold).collect::<Result<_>>()?;
        Ok(Some(Box::new(Orthogonality { weight: self.rol, r: self.r, layers, outputs })))
    }
}

impl Reglu {
    pub(super) fn options(&self) -> LoraOptions {
        LoraOptions { r: self.r, alpha: self.alpha, targets: self.targets.clone() }
    }

    /// What the layers give on the forget and on the retain set.
    fn outputs(&self, model: &Model, context: &Context<'_>) -> Result<[Rc<LayerOutputs>; 2]> {
        let layers = model.lora_layers(&self.options())?;
        let of = |side| {
            let sampled = Sampled { side, sequences: self.sequences, layers: &layers };
            context.outputs(&sampled, self.pooling)
        };
        Ok([of(Side::Forget)?, of(Side::Retain)?])
    }

    /// The directions that a layer's adapter begins in: [r, out], orthonormal.
    pub(super) fn start(&self, layer: &str, outputs: &[Rc<LayerOutputs>; 2], seed: u64) -> Result<Matrix> {
        let [forget, retain] = [of_layer(&outputs[0], layer)?, of_layer(&outputs[1], layer)?];
        let any = &mut Rng::named(seed, &format!("start of {layer}"));
        match self.init {
            Start::Rila => contrasting(forget, retain, self.beta, self.r, any),
            // Against nothing, the retain set in the place of the forget set.
            Start::Retain => contrasting(retain, &Matrix::zeros(0, retain.columns()), 0.0, self.r, any),
            Start::Random => random(self.r, forget.columns(), any),
        }
    }
}

/// Refuses a rank that some extent of a layer is too small for.
pub(super) fn check_rank<const N: usize>(r: usize, layer: &str, extents: [usize; N]) -> Result<()> {
    match extents.into_iter().min() {
        Some(most) if r > most => Err(Error::invalid(format!(
            "r is {r}, but {layer} has directions for {most} at most; lower r, or leave the layer out by naming others \
             in `targets`"
        ))),
        _ => Ok(()),
    }
}
