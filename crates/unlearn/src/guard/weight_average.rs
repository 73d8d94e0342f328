//! Averaging weights along the way.

use amend_engine::{Gradients, Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{NoGuard, Pair, Safeguard};
use crate::context::Context;
use crate::memory::Memory;
use crate::objectives::Objectives;

/// Under these names the memory has how many models were averaged, and their mean.
const COUNT: &str = "wa.count";
const MEAN: &str = "wa.mean";

/// # What it does
/// Averages the weights after every step, and makes the average the unlearned model. The steps themselves are taken as
/// without a guard; what is looked at, stopped by and saved is the average.
///
/// # When to use it
/// As `sam`, at no further pass: the mean of a trajectory lies in flatter surroundings than its points. Costs a copy of the
/// weights that may change.
///
/// # What it logs
/// Nothing of its own: `forget_watched`, `forget_accuracy` and `retain_accuracy` are the average's, losses and gradients those
/// of the model that takes the steps.
///
/// # Source
/// Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", arXiv 1803.05407; for unlearning: Fan
/// et al., "Towards LLM Unlearning Resilient to Relearning Attacks", arXiv 2502.05374 (WA).
///
/// # Inferred parts
/// Every step counts alike from `start` on; before it, the model is the one that takes the steps. Of an adapter its factors
/// are averaged, not their product.
///
/// # Expected result
/// The average lags behind the model that takes the steps, so that the aim is reached later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WeightAverage {
    /// Steps taken before the first one that counts.
    pub start: u64,
}

impl Safeguard for WeightAverage {
    fn gradients(
        &self,
        model: &Model,
        objectives: &Objectives<'_>,
        row: &mut Map<String, Value>,
    ) -> Result<Pair> {
        NoGuard::default().gradients(model, objectives, row)
    }

    fn after_step(&self, model: &mut Model, _: &Context<'_>, step: u64, memory: &mut Memory) -> Result<()> {
        if step < self.start {
            return Ok(());
        }
        let count = memory.number(COUNT).unwrap_or(0.0) + 1.0;
        let share = (1.0 / count) as f32;
        let mean = memory.gradients(MEAN);
        let mut next = Gradients::none(&model.params);
        for (id, param) in model.params.iter().filter(|(_, param)| param.trainable) {
            // The first model is its own mean, to the bit.
            let so_far = mean.and_then(|mean| mean.get(id)).unwrap_or(&param.tensor);
            next.set(id, so_far.zip_map(&param.tensor, |mean, weight| share.mul_add(weight - mean, mean)));
        }
        memory.keep_number(COUNT, count);
        memory.keep_gradients(MEAN, next);
        Ok(())
    }

    fn outcome(&self, model: &Model, memory: &Memory) -> Result<Model> {
        let mut average = model.clone();
        for (id, mean) in memory.gradients(MEAN).into_iter().flat_map(Gradients::iter) {
            average.params.get_mut(id).tensor = mean.clone();
        }
        Ok(average)
    }

    fn remembers(&self) -> u64 {
        1
    }
}
