//! A model that knows the forget set even better than the reference: what some objectives tell its traces by.

use amend_engine::{Error as EngineError, Model};
use amend_learn::{Descent, Error, FineTuning, Learner, Optimizer, Result};
use amend_run::RunError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use amend_learn::work::{Work, mean_tokens};

/// How a copy of the reference is trained further on the forget set: cross-entropy, AdamW, all weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reinforcement {
    /// Steps of fine-tuning.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Items per step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// The optimiser.
    pub optimizer: Optimizer,
}

impl Default for Reinforcement {
    fn default() -> Self {
        Reinforcement { steps: 50, batch_size: 16, optimizer: Optimizer::default() }
    }
}

impl Reinforcement {
    /// How much there is to compute.
    pub(crate) fn work(&self, context: &Context<'_>) -> Work {
        let drawn = self.batch_size.min(context.forget.len());
        let trained = (self.steps as usize).saturating_mul(drawn * mean_tokens(&context.forget));
        Work { trained, ..Work::default() }
    }

    /// The reinforced model. In a rehearsal one step has to do.
    pub(crate) fn of(&self, context: &Context<'_>) -> amend_engine::Result<Model> {
        self.trained(context).map_err(|error| match error {
            Error::Engine(error) => error,
            Error::Run(RunError::Interrupted) => EngineError::Interrupted,
            other => EngineError::invalid(other.to_string()),
        })
    }

    fn trained(&self, context: &Context<'_>) -> Result<Model> {
        let mut model = context.reference.clone();
        model.params.set_trainable(|_| true);
        let mut learner = FineTuning {
            descent: Descent::new(&model.params, &self.optimizer, self.steps)?,
            batch_size: self.batch_size,
            seed: context.seed,
            purpose: "reinforcement",
            ..FineTuning::new(model, &self.optimizer, self.steps, &context.forget)?
        };
        let steps = if context.is_rehearsal { self.steps.min(1) } else { self.steps };
        for step in 0..steps {
            learner.step(step)?;
        }
        // What it is compared with has nothing that learns.
        learner.model.params.set_trainable(|_| false);
        Ok(learner.model)
    }
}
