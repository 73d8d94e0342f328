//! Slot `retain`: what holds on to everything else.

mod answer_preservation;
mod kl;
mod mlp_breaking;
mod nll;
mod none;
mod pdu;
mod rmu;

use amend_engine::{Example, Model, Result};
use amend_learn::partner;
use amend_run::slot;
use serde_json::{Map, Value};

pub use answer_preservation::AnswerPreservation;
pub use kl::Kl;
pub use mlp_breaking::MlpBreaking;
pub use nll::Nll;
pub use none::NoRetain;
pub use pdu::Pdu;
pub use rmu::Rmu;

use crate::context::{Context, Side};
use crate::memory::Memory;
use crate::minor::Tokens;
use crate::objectives::LossAndGradients;

/// The retain items of one step.
pub struct RetainBatch<'a> {
    /// What objectives compare with.
    pub context: &'a Context<'a>,
    /// Which items of the retain set these are.
    pub items: Vec<usize>,
    /// The questions with the answers to be kept.
    pub examples: Vec<&'a Example>,
}

impl<'a> RetainBatch<'a> {
    /// Draws `size` items for step `step`, counted from 0: each at random from the whole set.
    pub fn draw(context: &'a Context<'a>, size: usize, step: u64) -> Self {
        let items = partner(context.seed, "retain", context.retain.len(), size, step);
        let examples = items.iter().map(|&i| &context.retain[i]).collect();
        RetainBatch { context, items, examples }
    }

    /// The positions of these tokens in every item.
    ///
    /// # Errors
    /// As [`Context::positions`].
    pub fn positions(&self, tokens: Tokens) -> Result<Vec<Vec<usize>>> {
        self.items.iter().map(|&i| self.context.positions(Side::Retain, i, tokens)).collect()
    }

    /// The same questions with a refusal as their answer.
    pub fn refusals(&self) -> Result<Vec<&'a Example>> {
        let refusals = self.context.retain_refusals()?;
        Ok(self.items.iter().map(|&i| &refusals[i]).collect())
    }
}

/// A loss whose descent keeps the model what it was on the retain set.
pub trait RetainObjective {
    /// Loss of a retain batch and its gradient; `None` where the slot is left empty.
    fn gradients(&self, model: &Model, batch: &RetainBatch<'_>) -> Result<Option<LossAndGradients>>;

    /// What the retain weight α is multiplied by in the step that comes: a dual variable, where there is one.
    fn multiplier(&self, _memory: &Memory) -> f32 {
        1.0
    }

    /// What follows from the loss of a step for those that come; what is kept in `memory` is there at the next one.
    fn after_step(&self, _loss: f64, _memory: &mut Memory, _row: &mut Map<String, Value>) {}

    /// Whether there is a retain gradient at all.
    fn is_active(&self) -> bool {
        true
    }
}

slot! {
    /// What holds on to everything else.
    pub slot Retain("unlearn", "retain"): dyn RetainObjective, default Nll {
        "nll" => Nll,
        "kl" => Kl,
        "ap" => AnswerPreservation,
        "rmu" => Rmu,
        "mlp-breaking" => MlpBreaking,
        "pdu" => Pdu,
        "none" => NoRetain,
    }
}

#[cfg(test)]
mod tests;
