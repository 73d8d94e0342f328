//! Cross-entropy on examples: what pre-training, fine-tuning and a relearning attack have in common.

use amend_engine::optim::nll_gradients;
use amend_engine::{Example, Model, SCORING_TOKENS};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::optimizer::{Descent, Optimizer};
use crate::sampler::epoch_batches;
use crate::state::{StateReader, StateWriter};
use crate::trainer::{Learner, Step};

/// A model that learns examples, going through them epoch by epoch.
pub struct FineTuning<'a, L> {
    /// The model.
    pub model: Model,
    /// Its optimiser.
    pub descent: Descent,
    /// What it learns.
    pub examples: &'a [Example],
    /// Examples per step.
    pub batch_size: usize,
    /// The seed of the batches.
    pub seed: u64,
    /// What the batches are drawn for; other purposes draw others from the same seed.
    pub purpose: &'a str,
    /// Looks at the model after a step, counted from 1, and says what is to be logged with it.
    pub look: L,
}

impl<'a> FineTuning<'a, fn(&Model, u64) -> Result<Map<String, Value>>> {
    /// Fine-tuning of `model` for `total` steps, looking at nothing on the way.
    ///
    /// # Errors
    /// As [`Descent::new`].
    pub fn new(model: Model, optimizer: &Optimizer, total: u64, examples: &'a [Example]) -> Result<Self> {
        Ok(FineTuning {
            descent: Descent::new(&model.params, optimizer, total)?,
            model,
            examples,
            batch_size: 1,
            seed: 0,
            purpose: "fine-tuning",
            look: |_, _| Ok(Map::new()),
        })
    }
}

impl<L> Learner for FineTuning<'_, L>
where
    L: FnMut(&Model, u64) -> Result<Map<String, Value>>,
{
    fn step(&mut self, step: u64) -> Result<Step> {
        let items = epoch_batches(self.seed, self.purpose, self.examples.len(), self.batch_size, step);
        let batch: Vec<&Example> = items.iter().map(|&i| &self.examples[i]).collect();
        let (loss, mut gradients) = nll_gradients(&self.model, &batch, SCORING_TOKENS)?;
        let taken = self.descent.step(&mut self.model.params, &mut gradients, step, &items)?;
        let mut row = Map::new();
        row.insert("loss".into(), json!(loss));
        taken.log(&mut row);
        Ok(Step { row, shown: format!("loss {loss:.3}"), ..Step::default() })
    }

    fn look(&mut self, taken: u64, step: &mut Step) -> Result<()> {
        step.row.extend((self.look)(&self.model, taken)?);
        Ok(())
    }

    fn save(&self, to: &mut StateWriter) -> Result<()> {
        self.descent.save("model", &self.model.params, to)
    }

    fn load(&mut self, from: &StateReader) -> Result<()> {
        self.descent.load("model", &mut self.model.params, from)
    }

    fn set(&mut self, option: &str, value: &Value) -> Result<()> {
        self.descent.set(option, value)
    }
}
