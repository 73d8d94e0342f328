//! Learning what a model would say that never knew.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};
use crate::context::Context;
use crate::reinforcement::Reinforcement;
use amend_learn::work::Work;

/// # What it does
/// Teaches generic answers, which it finds by training a copy of the reference further on the forget set: a token whose logit
/// that raises is one of what is to be forgotten. Per scored token the target is argmax_v of z_ref − α·relu(z_reinforced − z_ref),
/// and the loss the mean cross-entropy with these targets.
///
/// # When to use it
/// For a body of text rather than single facts, where what is generic instead follows from the model itself. Training the copy
/// comes before the first step; every step costs two further passes.
///
/// # What it logs
/// `loss_forget`: the cross-entropy above, in nats per token.
///
/// # Source
/// Eldan and Russinovich, "Who's Harry Potter? Approximate Unlearning in LLMs", arXiv 2310.02238, with α = 5.
///
/// # Inferred parts
/// Of its two forms the one that is distilled into weights, since offsets of logits at decoding make no checkpoint. Names in the
/// text are not replaced by others, which the source does as well. The copy is trained alike for all arms that ask for the same;
/// a run that is interrupted meanwhile trains it anew.
///
/// # Expected result
/// Plausible answers of the wrong content. Nothing is forgotten where further training raises nothing, the model being certain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Whp {
    /// How much of what further training raises a logit by is taken off it: α, no unit.
    #[schemars(range(min = 0.0))]
    pub alpha: f32,
    /// How the copy is trained.
    pub reinforce: Reinforcement,
}

impl Default for Whp {
    fn default() -> Self {
        Whp { alpha: 5.0, reinforce: Reinforcement::default() }
    }
}

impl ForgetObjective for Whp {
    fn prepares(&self, context: &Context<'_>) -> Work {
        self.reinforce.work(context)
    }

    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let reference = batch.reference_logits()?;
        let reinforced = batch.reinforced_logits(&self.reinforce)?;
        let generic = reference.zip_map(&reinforced, |z, raised| z - self.alpha * (raised - z).max(0.0));
        let targets = likeliest(generic.f32(), generic.columns());
        pass.token_mean_of(&batch.answers, &targets, 1.0)
    }
}

/// The largest column of every row, of equals the first.
pub(super) fn likeliest(logits: &[f32], columns: usize) -> Vec<u32> {
    let best = |row: &[f32]| {
        (1..row.len()).fold(0, |best, column| if row[column] > row[best] { column } else { best }) as u32
    };
    logits.chunks_exact(columns.max(1)).map(best).collect()
}
