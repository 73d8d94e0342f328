//! Inverted hinge loss.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Lowers every answer token's probability in favour of the runner-up alone: the loss is the mean over the scored
/// tokens of 1 + p(y_t) − max_{v ≠ y_t} p(v).
///
/// # When to use it
/// Instead of gradient ascent where the rest of the vocabulary is to be left alone: only two logits of a token get a
/// gradient of any size, and it fades once the runner-up is certain.
///
/// # What it logs
/// `loss_forget`: the loss above, from 0 (the runner-up is certain) to 2 (the answer is); no unit.
///
/// # Source
/// Cha et al., "Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs" (LoKU), arXiv 2408.06621.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Fluent wrong answers rather than noise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ihl {}

impl ForgetObjective for Ihl {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let logits = pass.logits(&batch.answers)?;
        inverted_hinge(pass, &logits, &batch.answers.target_columns())
    }
}

/// The loss of logits [n, V] with the answers' tokens `[n]`.
pub(super) fn inverted_hinge(pass: &mut Pass<'_>, logits: &Var, answers: &[usize]) -> Result<Var> {
    let runner_ups = pass.g.best_others(logits, answers);
    let mut mean_probability = |choices: &[usize]| {
        let logprobs = pass.g.chosen_logprobs(logits, choices)?;
        let probabilities = pass.g.exp(&logprobs)?;
        pass.g.mean(&probabilities)
    };
    let (answer, runner_up) = (mean_probability(answers)?, mean_probability(&runner_ups)?);
    let difference = pass.g.sub(&answer, &runner_up)?;
    pass.g.shift(&difference, 1.0)
}
