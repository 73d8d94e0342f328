//! Optimisation: AdamW, learning-rate schedules, norm clipping, accumulation.

mod adamw;
mod schedule;

pub use adamw::{AdamW, AdamWOptions, DecayOn};
pub use schedule::{Schedule, ScheduleKind};

use crate::batch::{Batch, Example, split_by_tokens};
use crate::models::Model;
use crate::tape::Graph;
use crate::taps::Taps;
use crate::{Error, Gradients, Result};

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
    let scored: usize = examples.iter().map(|e| e.scored_len()).sum();
    if scored == 0 {
        return Err(Error::invalid("the batch has no token to learn from"));
    }
    let lengths: Vec<_> = examples.iter().map(|e| e.ids.len()).collect();
    let all: usize = lengths.iter().sum();
    let mut gradients = Gradients::none(&model.params);
    let mut loss = 0.0;
    let taps = Taps::none();
    for piece in split_by_tokens(&lengths, tokens) {
        let batch = Batch::new(examples[piece].iter().copied())?;
        let weights = vec![1.0 / scored as f32; batch.targets.len()];
        let mut g = Graph::recording(&model.params);
        let part = model.weighted_nll(&mut g, &batch, &weights, &taps)?;
        let part = model.with_router_losses(&mut g, part, batch.ids.len() as f32 / all as f32)?;
        loss += part.scalar();
        g.backward_into(&part, &mut gradients)?;
    }
    Ok((loss, gradients))
}
