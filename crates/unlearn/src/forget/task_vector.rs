//! Task vectors.

use amend_engine::{Error, Result, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForgetBatch, ForgetObjective, Moved, Pass};
use crate::context::Context;
use crate::reinforcement::Reinforcement;
use amend_learn::work::Work;

/// # What it does
/// Goes straight away from knowing more: a copy of the reference is trained further on the forget set, to θ_ft, and the
/// unlearned model is θ = θ_ref − a·(θ_ft − θ_ref). Every step makes `a` larger by the increment, until the aim is reached or the
/// largest `a` is.
///
/// # When to use it
/// As a baseline without gradients of its own, and where the retain set is missing. There is nothing to retain, combine or guard:
/// it asks for `retain = "none"`, `combine = "sum"` and `guard = "none"`, and moves weights that the model has, so no adapter.
/// With `where = "layers"` the chosen ones alone.
///
/// # What it logs
/// `scale`: a, no unit.
///
/// # Source
/// Ilharco et al., "Editing Models with Task Arithmetic", arXiv 2212.04089.
///
/// # Inferred parts
/// The scale is found by the stopping rule on the way, where the source tries several. The copy is trained alike for all arms
/// that ask for the same; a run that is interrupted meanwhile trains it anew. Learning rates of `[optimizer]` do nothing.
///
/// # Expected result
/// Forgets where further training moved the weights far enough; what is to be kept suffers with it, for nothing holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaskVector {
    /// Largest scale `a`.
    #[schemars(range(min = 0.0))]
    pub scale: f32,
    /// What a step adds to `a`.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub increment: f32,
    /// How the copy is trained.
    pub reinforce: Reinforcement,
}

impl Default for TaskVector {
    fn default() -> Self {
        TaskVector { scale: 5.0, increment: 0.1, reinforce: Reinforcement::default() }
    }
}

impl ForgetObjective for TaskVector {
    fn prepares(&self, context: &Context<'_>) -> Work {
        self.reinforce.work(context)
    }

    fn gives_weights(&self) -> bool {
        true
    }

    fn weights(
        &self,
        model: &amend_engine::Model,
        context: &Context<'_>,
        step: u64,
    ) -> Result<Option<Moved>> {
        let further = context.reinforced(&self.reinforce)?;
        let scale = (self.increment * (step + 1) as f32).min(self.scale);
        let mut model = model.clone();
        for (_, param) in model.params.iter_mut().filter(|(_, param)| param.trainable) {
            let of = |params: &amend_engine::Params| {
                params.find(&param.name).map(|id| params.get(id).tensor.clone())
            };
            let (Some(before), Some(after)) = (of(&context.reference.params), of(&further.params)) else {
                return Err(Error::invalid(format!(
                    "forget = \"task-vector\" moves weights that the model has, and {} is none; set where = \"all\" or \"layers\"",
                    param.name
                )));
            };
            param.tensor = match scale > 0.0 {
                true => before.zip_map(&after, |before, after| scale.mul_add(before - after, before)),
                false => before,
            };
        }
        Ok(Some(Moved { model, scale, is_last: scale >= self.scale }))
    }

    /// What it lowers, by no gradient of its own.
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        pass.token_mean(&batch.answers, -1.0)
    }
}
