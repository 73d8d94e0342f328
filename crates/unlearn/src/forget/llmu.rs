//! Gradient ascent with mismatched answers.

use amend_engine::{Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Pass};

/// # What it does
/// Climbs the loss of the answers and descends that of random ones: −CE(answer) + δ·CE(random answer), where every question
/// gets the answer to some question of the retain set, another one in every step.
///
/// # When to use it
/// With the retain objective `kl`, which makes it the published method. Random answers keep the ascent from ending in noise.
///
/// # What it logs
/// `loss_forget`: the sum above, in nats per token.
///
/// # Source
/// Yao et al., "Large Language Model Unlearning" (LLMU), arXiv 2310.10683.
///
/// # Inferred parts
/// Random answers come from the retain set, where the source takes those of another data set. One that is word for word the
/// right answer is drawn again.
///
/// # Expected result
/// Fluent answers that have nothing to do with the question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Llmu {
    /// Weight δ of the random answers' loss.
    #[schemars(range(min = 0.0))]
    pub delta: f32,
}

impl Default for Llmu {
    fn default() -> Self {
        Llmu { delta: 1.0 }
    }
}

impl ForgetObjective for Llmu {
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let ascent = pass.token_mean(&batch.answers, -1.0)?;
        let descent = pass.token_mean(batch.random_answers()?, self.delta)?;
        pass.g.add(&ascent, &descent)
    }
}
