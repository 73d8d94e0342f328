//! The two tasks of a step, forgetting and retaining, whose gradients can be taken at any weights.

use amend_engine::{Gradients, Model, Result};

use crate::context::Context;
use crate::forget::{self, ForgetBatch};
use crate::recipe::Slots;
use crate::retain::RetainBatch;

/// Loss and gradient of one task, over its whole batch.
#[derive(Debug, Clone)]
pub struct Task {
    /// The loss, in nats.
    pub loss: f64,
    /// Its gradient with respect to every trainable weight.
    pub gradients: Gradients,
}

/// The two tasks of one step: their objectives, and the items drawn for it.
pub struct Tasks<'a> {
    slots: &'a Slots,
    forget: ForgetBatch<'a>,
    retain: RetainBatch<'a>,
}

impl<'a> Tasks<'a> {
    /// Draws the items of step `step`, counted from 0: forget items in their turn, as many retain items at random.
    pub fn draw(slots: &'a Slots, context: &'a Context<'a>, step: u64) -> Result<Self> {
        Ok(Tasks {
            slots,
            forget: ForgetBatch::draw(context, slots.batch_size, step)?,
            retain: RetainBatch::draw(context, slots.batch_size, step),
        })
    }

    /// Which items of the forget set the step is made of.
    pub fn items(&self) -> &[usize] {
        &self.forget.items
    }

    /// The forget task at the weights of `model`.
    pub fn forget(&self, model: &Model) -> Result<Task> {
        forget::gradients(self.slots.forget.filler(), model, &self.forget)
    }

    /// The retain task at the weights of `model`; `None` where the slot is left empty.
    pub fn retain(&self, model: &Model) -> Result<Option<Task>> {
        self.slots.retain.filler().gradients(model, &self.retain)
    }
}
