//! Packed batches: sequences one after the other, and which of their tokens are scored.

use std::ops::Range;

use crate::tape::Layout;
use crate::{Error, Result};

/// A token sequence and which of its tokens count in a loss or score.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether each token is scored. The first never is: nothing predicts it.
    pub scored: Vec<bool>,
}

impl Example {
    /// Every token after the first is scored.
    pub fn text(ids: Vec<u32>) -> Self {
        let scored = (0..ids.len()).map(|i| i > 0).collect();
        Example { ids, scored }
    }

    /// The tokens of `answer` are scored, those of `prompt` are not.
    pub fn answer(prompt: &[u32], answer: &[u32]) -> Self {
        let ids: Vec<_> = prompt.iter().chain(answer).copied().collect();
        let scored = (0..ids.len()).map(|i| i > 0 && i >= prompt.len()).collect();
        Example { ids, scored }
    }

    /// Cuts the sequence to `limit` tokens; says whether anything was lost.
    pub fn truncate(&mut self, limit: usize) -> bool {
        let cut = self.ids.len() > limit;
        self.ids.truncate(limit);
        self.scored.truncate(limit);
        cut
    }

    /// Number of scored tokens.
    pub fn scored_len(&self) -> usize {
        self.scored.iter().skip(1).filter(|&&s| s).count()
    }
}

/// Several sequences packed without padding.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Tokens of all sequences.
    pub ids: Vec<u32>,
    /// Where each sequence lies.
    pub layout: Layout,
    /// For every scored token, the row that predicts it.
    pub rows: Vec<usize>,
    /// For every scored token, its id.
    pub targets: Vec<u32>,
    /// For every scored token, the sequence it belongs to.
    pub sequence: Vec<usize>,
}

impl Batch {
    /// Packs examples in the order given. An empty sequence has no place in a batch.
    pub fn new<'e>(examples: impl IntoIterator<Item = &'e Example>) -> Result<Self> {
        Self::within(usize::MAX, examples)
    }

    /// Packs examples for a model that reads `context` tokens. The last token of a sequence predicts nothing: of
    /// one that has a token more than the context, it is a target without being read.
    pub fn within<'e>(context: usize, examples: impl IntoIterator<Item = &'e Example>) -> Result<Self> {
        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        let (mut rows, mut targets, mut sequence) = (Vec::new(), Vec::new(), Vec::new());
        for (index, example) in examples.into_iter().enumerate() {
            if example.ids.is_empty() {
                return Err(Error::invalid(format!("sequence {index} of the batch has no tokens")));
            }
            let start = ids.len();
            for (i, (&id, &scored)) in example.ids.iter().zip(&example.scored).enumerate().skip(1) {
                if scored {
                    rows.push(start + i - 1);
                    targets.push(id);
                    sequence.push(index);
                }
            }
            let read = example.ids.len() - usize::from(example.ids.len() - 1 == context);
            ids.extend_from_slice(&example.ids[..read]);
            lengths.push(read);
        }
        Ok(Batch { ids, layout: Layout::packed(lengths), rows, targets, sequence })
    }

    /// The scored tokens as columns of logits: `[n]`.
    pub fn target_columns(&self) -> Vec<usize> {
        self.targets.iter().map(|&id| id as usize).collect()
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.layout.sequences.len()
    }

    /// Number of scored tokens per sequence.
    pub fn scored_lengths(&self) -> Vec<usize> {
        let mut lengths = vec![0; self.sequences()];
        self.sequence.iter().for_each(|&s| lengths[s] += 1);
        lengths
    }
}

/// Splits indices `0..lengths.len()` into runs of at most `tokens` tokens (at least one each).
///
/// Fails for a sequence without tokens, and says which: its place in a run would tell nobody.
pub fn split_by_tokens(lengths: &[usize], tokens: usize) -> Result<Vec<Range<usize>>> {
    if let Some(empty) = lengths.iter().position(|&length| length == 0) {
        return Err(Error::invalid(format!("sequence {empty} has no tokens")));
    }
    let (mut pieces, mut start, mut held) = (Vec::new(), 0, 0);
    for (i, &length) in lengths.iter().enumerate() {
        if i > start && held + length > tokens {
            pieces.push(start..i);
            (start, held) = (i, 0);
        }
        held += length;
    }
    if start < lengths.len() {
        pieces.push(start..lengths.len());
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scored_tokens_know_row_target_and_sequence() {
        let batch = Batch::new(&[Example::answer(&[5, 6], &[7, 8]), Example::text(vec![1, 2])]).unwrap();
        assert_eq!(batch.ids, [5, 6, 7, 8, 1, 2]);
        assert_eq!(batch.rows, [1, 2, 4]);
        assert_eq!(batch.targets, [7, 8, 2]);
        assert_eq!(batch.scored_lengths(), [2, 1]);
    }

    #[test]
    fn a_last_token_beyond_the_context_is_a_target_only() {
        let examples = [Example::text(vec![1, 2, 3, 4]), Example::text(vec![5, 6, 7])];
        let batch = Batch::within(3, &examples).unwrap();
        assert_eq!(
            (batch.ids, batch.rows, batch.targets),
            (vec![1, 2, 3, 5, 6, 7], vec![0, 1, 2, 3, 4], vec![2, 3, 4, 6, 7])
        );
        assert_eq!(
            Batch::within(2, &examples[..1]).unwrap().ids.len(),
            4,
            "more than that is the model's to refuse"
        );
    }

    #[test]
    fn pieces_cover_everything_in_order() {
        assert_eq!(split_by_tokens(&[3, 3, 3, 9, 1], 6).unwrap(), [0..2, 2..3, 3..4, 4..5]);
        assert!(split_by_tokens(&[], 6).unwrap().is_empty());
    }
}
