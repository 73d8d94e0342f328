//! Scoring: what a model says of the tokens of given sequences.

use crate::Result;
use crate::batch::{Batch, Example, split_by_tokens};
use crate::models::Model;

/// Tokens per forward pass unless asked otherwise. Has no influence on results.
pub const SCORING_TOKENS: usize = 4096;

/// What a model says of one sequence's scored tokens, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scored {
    /// Log-probability of each, in nats.
    pub logprobs: Vec<f32>,
    /// Whether each is the model's first choice at its place.
    pub greedy: Vec<bool>,
}

impl Scored {
    /// Whether greedy decoding writes the whole: every token is the first choice.
    pub fn is_greedy(&self) -> bool {
        self.greedy.iter().all(|&first| first)
    }
}

impl Model {
    /// Log-probability of every scored token of every example: [`Model::scored`] without the choices.
    pub fn score(&self, examples: &[Example], tokens: usize) -> Result<Vec<Vec<f32>>> {
        Ok(self.scored(examples, tokens)?.into_iter().map(|scored| scored.logprobs).collect())
    }

    /// Log-probability and first choice of every scored token of every example, in one pass over batches of
    /// about `tokens` tokens. The same bits whatever that number is. A sequence may have one token more than the
    /// model's context: its last is predicted and not read.
    pub fn scored(&self, examples: &[Example], tokens: usize) -> Result<Vec<Scored>> {
        let lengths: Vec<_> = examples.iter().map(|e| e.ids.len()).collect();
        let mut out = Vec::with_capacity(examples.len());
        for piece in split_by_tokens(&lengths, tokens)? {
            let batch = Batch::within(self.spec().context, &examples[piece])?;
            let (logprobs, greedy) = self.scored_targets(&batch)?;
            let mut start = 0;
            for length in batch.scored_lengths() {
                let own = start..start + length;
                let logprobs = logprobs.f32()[own.clone()].to_vec();
                out.push(Scored { logprobs, greedy: greedy[own].to_vec() });
                start += length;
            }
        }
        Ok(out)
    }
}
