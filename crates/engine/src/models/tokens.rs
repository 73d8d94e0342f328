//! What a decoder reads: tokens, and rows of embeddings in the place of some of them.

use crate::tape::Var;
use crate::{Error, Result};

/// What a decoder reads, one row of the layout each.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// Ids: `[T]`. Those in the place of soft tokens are not looked at, and may be out of the vocabulary.
    pub ids: &'a [u32],
    /// What stands in the place of some of them.
    pub soft: Option<SoftTokens<'a>>,
}

/// Embeddings that belong to no id: an encoder's or a compressor's output, or a learned prompt. Gradients flow
/// back into them.
#[derive(Debug, Clone, Copy)]
pub struct SoftTokens<'a> {
    /// The rows of the batch they stand in, each once, in any order: `[n]`.
    pub rows: &'a [usize],
    /// What enters the first block there, as the site `hook_embed` holds it: [n, d]. A family that scales the
    /// embeddings of its tokens does not scale these; learned positions are added as to any row.
    pub embeddings: &'a Var,
}

impl<'a> From<&'a [u32]> for Tokens<'a> {
    fn from(ids: &'a [u32]) -> Self {
        Tokens { ids, soft: None }
    }
}

impl<'a> From<&'a Vec<u32>> for Tokens<'a> {
    fn from(ids: &'a Vec<u32>) -> Self {
        Tokens::from(&ids[..])
    }
}

impl SoftTokens<'_> {
    /// For every one of `total` rows, which of the soft tokens stands there.
    ///
    /// Fails where a row is beyond the batch or is taken twice, or where embeddings are not [n, `width`].
    pub(super) fn by_row(&self, total: usize, width: usize) -> Result<Vec<Option<usize>>> {
        let wanted = [self.rows.len(), width];
        if self.embeddings.shape() != wanted {
            return Err(Error::shape("soft tokens", &wanted, self.embeddings.shape()));
        }
        let mut by_row = vec![None; total];
        for (i, &row) in self.rows.iter().enumerate() {
            match by_row.get_mut(row) {
                None => {
                    return Err(Error::invalid(format!(
                        "soft token {i} is for row {row} of a batch that has {total}"
                    )));
                }
                Some(Some(other)) => {
                    return Err(Error::invalid(format!(
                        "soft tokens {other} and {i} are both for row {row}"
                    )));
                }
                Some(free) => *free = Some(i),
            }
        }
        Ok(by_row)
    }
}
