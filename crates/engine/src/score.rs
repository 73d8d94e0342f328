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
        self.in_batches(examples, tokens, |batch, taps| {
            let mut g = Graph::inference(&self.params);
            Ok(self.token_logprobs(&mut g, batch, taps)?.value().f32().to_vec())
        })
    }

    /// For every scored token of every example, whether it is the model's first choice there.
    pub fn top_choices(&self, examples: &[Example], tokens: usize) -> Result<Vec<Vec<bool>>> {
        self.in_batches(examples, tokens, |batch, taps| {
            let mut g = Graph::inference(&self.params);
            let hidden = self.hidden(&mut g, batch, taps)?;
            let mut hits = Vec::with_capacity(batch.rows.len());
            for (rows, targets) in batch.rows.chunks(256).zip(batch.targets.chunks(256)) {
                let logits = self.logits(&mut g, &hidden, &batch.layout, rows, taps)?;
                let rows = logits.value().f32().chunks_exact(self.spec().vocabulary);
                hits.extend(rows.zip(targets).map(|(row, &t)| crate::kernels::argmax(row) == t as usize));
            }
            Ok(hits)
        })
    }

    /// What `of_batch` says of every scored token, batch after batch, given back by example.
    fn in_batches<T: Clone>(
        &self,
        examples: &[Example],
        tokens: usize,
        of_batch: impl Fn(&Batch, &Taps) -> Result<Vec<T>>,
    ) -> Result<Vec<Vec<T>>> {
        let lengths: Vec<_> = examples.iter().map(|e| e.ids.len()).collect();
        let mut out = Vec::with_capacity(examples.len());
        let taps = Taps::none();
        for piece in split_by_tokens(&lengths, tokens) {
            let batch = Batch::new(&examples[piece])?;
            let all = of_batch(&batch, &taps)?;
            let mut rest = &all[..];
            for length in batch.scored_lengths() {
                let (own, others) = rest.split_at(length);
                out.push(own.to_vec());
                rest = others;
            }
        }
        Ok(out)
    }
}
