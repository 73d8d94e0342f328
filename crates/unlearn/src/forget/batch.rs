//! The forget items of one step, with what objectives compare them to.

use std::cell::OnceCell;

use amend_engine::{Batch, Graph, Result, Taps, Tensor};
use amend_learn::epoch_batches;

use crate::context::{Context, once};

/// The forget items of one step. What an objective does not ask for is not computed.
pub struct ForgetBatch<'a> {
    context: &'a Context<'a>,
    /// Which items of the forget set these are.
    pub items: Vec<usize>,
    /// The questions with the answers to be forgotten.
    pub answers: Batch,
    refusals: OnceCell<Batch>,
}

impl<'a> ForgetBatch<'a> {
    /// Draws the items of step `step`, counted from 0: every item once per epoch.
    pub fn draw(context: &'a Context<'a>, size: usize, step: u64) -> Result<Self> {
        let items = epoch_batches(context.seed, "forget", context.forget.len(), size, step);
        let answers = Batch::new(items.iter().map(|&i| &context.forget[i]))?;
        Ok(ForgetBatch { context, items, answers, refusals: OnceCell::new() })
    }

    /// The same questions with a refusal as their answer.
    pub fn refusals(&self) -> Result<&Batch> {
        once(&self.refusals, || {
            let refusals = self.context.refusals()?;
            Batch::new(self.items.iter().map(|&i| &refusals[i]))
        })
    }

    /// Summed negative log-likelihood of each answer under the reference.
    pub fn answer_nll(&self) -> Result<Vec<f64>> {
        Ok(self.pick(self.context.answer_nll()?))
    }

    /// Log-probability of every scored token of the answers under the reference, in the batch's order, in nats.
    pub fn answer_logprobs(&self) -> Result<Vec<f64>> {
        let all = self.context.answer_logprobs()?;
        Ok(self.items.iter().flat_map(|&i| &all[i]).map(|&logprob| f64::from(logprob)).collect())
    }

    /// Logits of the reference that predict every scored token of the answers: [n, V].
    pub fn reference_logits(&self) -> Result<Tensor> {
        let (model, taps) = (self.context.reference, Taps::none());
        let mut g = Graph::inference(&model.params);
        let hidden = model.hidden(&mut g, &self.answers, &taps)?;
        let logits = model.logits(&mut g, &hidden, &self.answers.layout, &self.answers.rows, &taps)?;
        Ok(logits.value().clone())
    }

    /// Summed negative log-likelihood of each refusal under the reference.
    pub fn refusal_nll(&self) -> Result<Vec<f64>> {
        Ok(self.pick(self.context.refusal_nll()?))
    }

    fn pick(&self, values: &[f64]) -> Vec<f64> {
        self.items.iter().map(|&i| values[i]).collect()
    }
}
