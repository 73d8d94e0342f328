//! The two objectives of a step, forgetting and retaining, whose gradients can be taken at any weights.

use amend_engine::{Gradients, Model, Result};

use crate::context::Context;
use crate::forget::{self, ForgetBatch};
use crate::recipe::Slots;
use crate::retain::RetainBatch;

/// Loss and gradients of one objective, over its whole batch.
#[derive(Debug, Clone)]
pub struct LossAndGradients {
    /// The loss, in nats.
    pub loss: f64,
    /// Its gradients with respect to every trainable weight.
    pub gradients: Gradients,
}

/// The two objectives of one step, with the items drawn for it.
pub struct Objectives<'a> {
    slots: &'a Slots,
    context: &'a Context<'a>,
    step: u64,
    forget: ForgetBatch<'a>,
    retain: RetainBatch<'a>,
}

impl<'a> Objectives<'a> {
    /// Draws the items of step `step`, counted from 0: forget items in their turn, as many retain items at random.
    pub fn draw(slots: &'a Slots, context: &'a Context<'a>, step: u64) -> Result<Self> {
        let forget = ForgetBatch::draw(context, slots.batch_size, step)?;
        let retain = RetainBatch::draw(context, forget.items.len(), step);
        Ok(Objectives { slots, context, step, forget, retain })
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.context.seed
    }

    /// What the objectives compare with.
    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// Which step it is, counted from 0.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Which items of the forget set the step is made of.
    pub fn items(&self) -> &[usize] {
        &self.forget.items
    }

    /// The forget objective at the weights of `model`.
    pub fn forget(&self, model: &Model) -> Result<LossAndGradients> {
        forget::gradients(self.slots.forget.filler(), model, &self.forget)
    }

    /// The retain objective at the weights of `model`; `None` where the slot is left empty.
    pub fn retain(&self, model: &Model) -> Result<Option<LossAndGradients>> {
        self.slots.retain.filler().gradients(model, &self.retain)
    }
}
