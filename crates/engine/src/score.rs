//! Scoring: log-probabilities of given sequences.

use crate::Result;
use crate::batch::{Batch, Example, split_by_tokens};
use crate::models::Model;
use crate::tape::Graph;
use crate::taps::Taps;

/// Tokens per forward pass unless asked otherwise. Has no influence on results.
pub const SCORING_TOKENS: usize = 4096;

impl Model {
    /// Log-probabilities of every scored token of every example, in batches of about `tokens` tokens.
    /// The same bits whatever that number is.
    pub fn score(&self, examples: &[Example], tokens: usize) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<_> = examples.iter().map(|e| e.ids.len()).collect();
        let mut out = Vec::with_capacity(examples.len());
        let taps = Taps::none();
        for piece in split_by_tokens(&lengths, tokens) {
            let batch = Batch::new(&examples[piece])?;
            let mut g = Graph::inference(&self.params);
            let logprobs = self.token_logprobs(&mut g, &batch, &taps)?;
            let mut rest = logprobs.value().f32();
            for length in batch.scored_lengths() {
                let (own, others) = rest.split_at(length);
                out.push(own.to_vec());
                rest = others;
            }
        }
        Ok(out)
    }

    /// For every scored token of every example, whether it is the model's first choice there.
    pub fn top_choices(&self, examples: &[Example], tokens: usize) -> Result<Vec<Vec<bool>>> {
        let lengths: Vec<_> = examples.iter().map(|e| e.ids.len()).collect();
        let mut out = Vec::with_capacity(examples.len());
        let taps = Taps::none();
        for piece in split_by_tokens(&lengths, tokens) {
            let batch = Batch::new(&examples[piece])?;
            let mut g = Graph::inference(&self.params);
            let hidden = self.hidden(&mut g, &batch, &taps)?;
            let mut hits = vec![Vec::new(); batch.sequences()];
            for (rows, (targets, sequence)) in
                batch.rows.chunks(256).zip(batch.targets.chunks(256).zip(batch.sequence.chunks(256)))
            {
                let logits = self.logits(&mut g, &hidden, rows, &taps)?;
                let rows = logits.value().f32().chunks_exact(self.spec().vocabulary);
                for ((row, &target), &s) in rows.zip(targets).zip(sequence) {
                    hits[s].push(crate::kernels::argmax(row) == target as usize);
                }
            }
            out.extend(hits);
        }
        Ok(out)
    }
}
