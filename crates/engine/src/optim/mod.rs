//! Optimisation: AdamW, learning-rate schedules, norm clipping, accumulation.

mod adamw;
mod micro_batch;
mod schedule;

pub use adamw::{AdamW, AdamWOptions, DecayOn};
pub use micro_batch::{MeanOver, MicroBatch, micro_batches};
pub use schedule::{Schedule, ScheduleKind};

use crate::batch::Example;
use crate::models::Model;
use crate::tape::Graph;
use crate::taps::Taps;
use crate::{Gradients, Result};

/// The factor that brings a gradient of this norm down to `max_norm`, as PyTorch's
/// `clip_grad_norm_` computes it; 1 where none is needed or `max_norm` is 0.
pub fn clip_factor(norm: f64, max_norm: f64) -> f32 {
    if max_norm > 0.0 && norm > max_norm { (max_norm / (norm + 1e-6)) as f32 } else { 1.0 }
}

/// Mean negative log-likelihood over all scored tokens of the examples and its gradient, in
/// micro-batches of at most `tokens` tokens.
///
/// The mean is over the whole effective batch, so splitting it changes nothing but rounding; a mean
/// per micro-batch would weigh short sequences more. Router losses, where the model asks for them, are
/// taken per micro-batch and count by its share of the tokens.
pub fn nll_gradients(model: &Model, examples: &[&Example], tokens: usize) -> Result<(f32, Gradients)> {
    let mut gradients = Gradients::none(&model.params);
    let (mut loss, taps) = (0.0, Taps::none());
    for MicroBatch { batch, weights, share, .. } in micro_batches(examples, MeanOver::Tokens, tokens)? {
        let mut g = Graph::recording(&model.params);
        let part = model.weighted_nll(&mut g, &batch, &weights, &taps)?;
        let part = model.with_router_losses(&mut g, part, share)?;
        loss += part.scalar();
        g.backward_into(&part, &mut gradients)?;
    }
    Ok((loss, gradients))
}
