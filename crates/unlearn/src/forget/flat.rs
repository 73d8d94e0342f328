//! Forget data only, loss adjustment.

use amend_engine::{Result, Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Widens the distance between a refusal and the answer to be forgotten, measured by total variation: the loss is
/// ½·mean [tanh P̄(answer) − tanh P̄(refusal)], where P̄ is the mean probability of a sequence's scored tokens.
///
/// # When to use it
/// Where there is nothing but the forget set: it needs neither retain data nor a reference model.
///
/// # What it logs
/// `loss_forget`: the loss above, between −0.39 and 0.39; no unit.
///
/// # Source
/// Wang et al., "LLM Unlearning via Loss Adjustment with Only Forget Data", arXiv 2410.11143; of its divergences total
/// variation.
///
/// # Inferred parts
/// The mean over tokens is taken sequence by sequence, so that long answers count no more than short ones.
///
/// # Expected result
/// Refusals; the loss is bounded, so that the model is not destroyed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Flat {}

impl ForgetObjective for Flat {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let mut bounded = |batch: &'m amend_engine::Batch| {
            let logprobs = pass.token_logprobs(batch)?;
            let probabilities = pass.g.exp(&logprobs)?;
            let sums = pass.g.group_sums(&probabilities, &batch.sequence, batch.sequences())?;
            let inverse: Vec<f32> = batch.scored_lengths().iter().map(|&n| 1.0 / n.max(1) as f32).collect();
            let means = pass.g.mul(&sums, &Var::constant(Tensor::from_f32(&inverse, sums.shape())?))?;
            let tanh = pass.g.tanh(&means)?;
            pass.g.mean(&tanh)
        };
        let (answers, refusals) = (bounded(&batch.answers)?, bounded(batch.refusals()?)?);
        let difference = pass.g.sub(&answers, &refusals)?;
        pass.g.scale(&difference, 0.5)
    }
}
