//! Breaking what feed-forwards compute, in their minor components.

use std::ops::Range;
use std::rc::Rc;

use amend_engine::kernels::Activation;
use amend_engine::taps::BlockSite;
use amend_engine::{DType, Graph, Model, Result, Site, Taps, Tensor, Var};
use amend_learn::work::Work;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::misdirection::Looked;
use super::{ForgetBatch, ForgetObjective, Pass};
use crate::context::Context;
use crate::minor::{Minor, MinorBasis, Tokens, check_layer, layer_of, rows_of};

/// # What it does
/// Turns what the feed-forwards of some layers compute away from what they computed: the loss is the mean, over tokens and
/// layers, of max(0, ⟨P⊥o_t, P⊥o⁰_t⟩/m²), where o_t is a feed-forward's output, o⁰_t that of the original model, P⊥ takes the
/// mean and the directions off in which o⁰ varies most on the forget set, and m is the mean length of P⊥o⁰ there. A token whose
/// output is orthogonal to the original one pulls no more.
///
/// # When to use it
/// As `rmu` with `minor`, where weights are to be published, and nothing has to be driven anywhere. With the retain objective
/// `mlp-breaking` behind the last of the layers, and `where = { name = "layers", layers = […], modules = ["mlp"] }`. Where most
/// tokens of a text belong to a wording that all records share, look at `tokens = "subject"` or `"answer"`: otherwise the mean
/// is of that wording.
///
/// # What it logs
/// `loss_forget`: the mean above; about 1 to begin with, 0 where all outputs are orthogonal.
///
/// # Source
/// "Robust LLM Unlearning Against Relearning Attacks: The Minor Components in Representations Matter" (MCU), arXiv 2605.11685;
/// its layers are 6 to 11 of 32 in a model of 8B, k is 8 or 32. The loss without projection is that of the CIR scheme.
///
/// # Inferred parts
/// The layers, where none are given: the same share of the depth. An orthonormal basis, exact and in f64, in place of the
/// official one-by-one; both sides are projected; m is a mean over the forget set as components are found in it. The optimiser
/// is the recipe's: the official one (CIR) also takes dominant components off inputs and gradients of every linear layer, which
/// is not here.
///
/// # Expected result
/// Forgets less per step than `rmu`. How it withstands relearning has not been measured here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlpBreaking {
    /// The layers, counted from 0, whose feed-forwards are broken; empty means those from 3/16 to 3/8 of the way up.
    pub layers: Vec<usize>,
    /// The tokens at which: `answer`, `text` or `subject`.
    pub tokens: Tokens,
    /// Which components of the outputs are left alone; k = 0 leaves none.
    pub minor: Minor,
}

impl Default for MlpBreaking {
    fn default() -> Self {
        MlpBreaking { layers: Vec::new(), tokens: Tokens::Text, minor: Minor::default() }
    }
}

/// The usual layers of so many: 6 to 11 of 32.
pub(crate) fn layers(depth: usize) -> Range<usize> {
    let first = (3 * depth / 16).min(depth.saturating_sub(1));
    first..(3 * depth / 8).max(first + 1)
}

impl MlpBreaking {
    /// The sites that are looked at, from the first layer on.
    ///
    /// # Errors
    /// Where a layer is none of the model's.
    fn sites(&self, model: &Model) -> Result<Vec<Site>> {
        let mut chosen = self.layers.clone();
        if chosen.is_empty() {
            chosen = layers(model.spec().layers).collect();
        }
        chosen.sort_unstable();
        chosen.dedup();
        let site = |&layer: &usize| {
            check_layer(layer, model, &format!("forget: `layers` names layer {layer}"))?;
            Ok(Site::Block(layer, BlockSite::MlpOut))
        };
        chosen.iter().map(site).collect()
    }
}

impl ForgetObjective for MlpBreaking {
    fn prepares(&self, context: &Context<'_>) -> Work {
        self.minor.work(context, 2)
    }

    fn taps(&self, model: &Model) -> Result<Taps> {
        let mut taps = Taps::none();
        for site in self.sites(model)? {
            taps.hold(site);
        }
        Ok(taps)
    }

    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let (sites, context) = (self.sites(pass.model)?, batch.context());
        let (bases, lengths) =
            (context.minor(&self.minor, &sites)?, context.minor_lengths(&self.minor, &sites)?);
        let rows = Looked::at(&batch.answers, &batch.positions(self.tokens)?)?.rows;
        let original = batch.reference_outputs(&sites)?;
        let deepest = sites.last().map_or(0, |site| layer_of(*site));
        pass.residual(&batch.answers, deepest)?;

        let mut total: Option<Var> = None;
        let weights = vec![1.0 / (rows.len() * sites.len()) as f32; rows.len()];
        for (((site, basis), m), original) in
            sites.iter().zip(bases.iter()).zip(lengths.iter()).zip(&original)
        {
            let mut before = basis.left_of(&rows_of(original, &rows))?;
            // Where nothing is left there is nothing to break.
            let share = if *m > 0.0 { 1.0 / (m * m) } else { 0.0 };
            before.values_mut().iter_mut().for_each(|x| *x *= share);
            let now = pass.held(*site)?;
            let now = pass.g.gather_rows(&now, &rows)?;
            let now = basis.left_in(&mut pass.g, &now)?;
            let along = row_products(&mut pass.g, &now, &before.to_tensor())?;
            let above = pass.g.activate(Activation::Relu, &along)?;
            let mean = pass.g.weighted_sum(&above, &weights)?;
            total = Some(match total {
                Some(total) => pass.g.add(&total, &mean)?,
                None => mean,
            });
        }
        Ok(total.unwrap_or_else(|| Var::constant(Tensor::zeros(&[1], DType::F32))))
    }

    fn bases(&self, context: &Context<'_>) -> Result<Option<Rc<Vec<MinorBasis>>>> {
        if self.minor.k == 0 {
            return Ok(None);
        }
        context.minor(&self.minor, &self.sites(context.reference)?).map(Some)
    }
}

/// ⟨x_t, y_t⟩ of every row, y being constant: [n, d] each → [n, 1].
fn row_products(g: &mut Graph<'_>, x: &Var, y: &Tensor) -> Result<Var> {
    let products = g.mul(x, &Var::constant(y.clone()))?;
    let columns = y.columns();
    g.matmul(&products, &Var::constant(Tensor::from_f32(&vec![1.0; columns], &[columns, 1])?))
}
