//! The edits of a run, batch by batch.

use amend_engine::{Model, Tensor};
use amend_eval::rewrite::figures;
use amend_eval::{Sample, Summary};
use amend_learn::{Error, Learner, Result, StateReader, StateWriter, Step};
use serde_json::{Value, json};

use crate::editor::{Bench, Editor, Memory};
use crate::measure::Asking;
use crate::recipe::{Evaluation, Slots};
use crate::request::Request;

/// A model at work: a step is a batch of edits.
pub(crate) struct Edits<'a> {
    pub(crate) slots: &'a Slots,
    pub(crate) evaluation: &'a Evaluation,
    pub(crate) requests: &'a [Request],
    pub(crate) bench: &'a Bench,
    pub(crate) asking: &'a Asking<'a>,
    /// What the unedited model says.
    pub(crate) before: &'a [Sample],
    pub(crate) base: &'a Model,
    /// The model as it has become.
    pub(crate) model: Model,
    pub(crate) memory: Memory,
    /// What was said after each batch alone, where weights are put back.
    pub(crate) alone: Vec<Sample>,
}

/// Of every look at the first edits the figures that are logged, and what they are called there.
pub(crate) const WATCHED: [(&str, &str); 5] = [
    ("efficacy", "first_efficacy"),
    ("generalisation", "first_generalisation"),
    ("locality", "first_locality"),
    ("forced_efficacy", "first_forced_efficacy"),
    ("forced_locality", "first_forced_locality"),
];

impl<'a> Edits<'a> {
    /// How many batches there are.
    pub(crate) fn steps(slots: &Slots, requests: usize) -> u64 {
        requests.div_ceil(slots.batch_size) as u64
    }

    /// The edits of a step.
    fn batch(&self, step: u64) -> std::ops::Range<usize> {
        let start = (step as usize * self.slots.batch_size).min(self.requests.len());
        start..(start + self.slots.batch_size).min(self.requests.len())
    }

    fn editor(&self) -> &'a dyn Editor {
        self.slots.editor.filler()
    }

    /// Figures of some edits, given what is said about them now.
    fn figures_of(&self, samples: &[Sample]) -> Summary {
        figures(&self.asking.task, samples, Some(self.before))
    }
}

impl Learner for Edits<'_> {
    fn step(&mut self, step: u64) -> Result<Step> {
        let batch: Vec<&Request> = self.requests[self.batch(step)].iter().collect();
        // What is interrupted leaves model and memory as they were.
        let (mut model, mut memory) = match self.slots.restore {
            true => (self.base.clone(), Memory::default()),
            false => (self.model.clone(), self.memory.clone()),
        };
        let mut row =
            self.editor().edit(&mut model, &batch, self.bench, &mut memory).map_err(|e| named(e, &batch))?;
        (self.model, self.memory) = (model, memory);
        row.insert("edits".to_owned(), json!(self.batch(step).end));
        let shown = row
            .get("loss_target")
            .and_then(Value::as_f64)
            .map_or_else(String::new, |x| format!("loss {x:.3}"));
        Ok(Step { row, shown, ..Step::default() })
    }

    fn look(&mut self, taken: u64, step: &mut Step) -> Result<()> {
        let batch = self.batch(taken - 1);
        if self.slots.restore {
            let samples = self.asking.asked(&self.model, &self.asking.items[batch.clone()])?;
            // Asked again after an interruption, it says the same.
            self.alone.truncate(batch.start);
            self.alone.extend(samples);
            return Ok(());
        }
        let last = batch.end == self.requests.len();
        if taken.is_multiple_of(self.evaluation.check_every) || taken == 1 || last {
            let first = self.evaluation.watched.min(batch.end);
            let samples = self.asking.asked(&self.model, &self.asking.items[..first])?;
            let summary = self.figures_of(&samples);
            for (name, logged) in WATCHED {
                if let Some(figure) = summary.figure(name) {
                    step.row.insert(logged.to_owned(), json!(figure.value));
                }
            }
            step.row.insert("watched".to_owned(), json!(first));
        }
        Ok(())
    }

    fn save(&self, to: &mut StateWriter) -> Result<()> {
        for &layer in &self.bench.layers {
            let id = self.model.down_projection(layer)?;
            to.tensor(&format!("weight.{layer}"), &self.model.params.get(id).tensor);
            if let Some(keys) = self.memory.keys.get(&layer).filter(|keys| !keys.is_empty()) {
                let width = keys[0].len();
                to.tensor(
                    &format!("keys.{layer}"),
                    &Tensor::from_f32(&keys.concat(), &[keys.len(), width])
                        .map_err(amend_engine::Error::from)?,
                );
            }
        }
        let remembered: Vec<(usize, usize)> =
            self.memory.keys.iter().map(|(layer, keys)| (*layer, keys.len())).collect();
        to.value("remembered", &remembered)?;
        to.value("alone", &self.alone)
    }

    fn load(&mut self, from: &StateReader) -> Result<()> {
        for &layer in &self.bench.layers {
            let id = self.model.down_projection(layer)?;
            let param = self.model.params.get_mut(id);
            param.tensor = from.tensor_f32(&format!("weight.{layer}"), param.tensor.shape())?;
        }
        self.memory = Memory::default();
        let remembered: Vec<(usize, usize)> = from.value("remembered")?;
        for (layer, count) in remembered.into_iter().filter(|(_, count)| *count > 0) {
            let keys = from.tensor(&format!("keys.{layer}"))?;
            let rows = keys.f32().chunks_exact(keys.columns()).take(count).map(<[f32]>::to_vec);
            self.memory.keys.insert(layer, rows.collect());
        }
        self.alone = from.value("alone")?;
        Ok(())
    }

    fn set(&mut self, option: &str, _value: &Value) -> Result<()> {
        Err(Error::conflict(format!("an edit has no option `{option}` that can be changed meanwhile")))
    }
}

/// An error with the edits that it is about.
fn named(error: Error, batch: &[&Request]) -> Error {
    match (error, batch) {
        (Error::Engine(e @ amend_engine::Error::Interrupted), _) => e.into(),
        (Error::Engine(e), [only]) => Error::invalid(format!("edit {}: {e}", only.name)),
        (Error::Engine(e), [first, .., last]) => {
            Error::invalid(format!("edits {} to {}: {e}", first.name, last.name))
        }
        (error, _) => error,
    }
}
