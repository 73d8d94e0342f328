//! Scaled dot-product attention, grouped-query, causal, both ways or both, with an optional sliding window.
//!
//! Scores exist for one block of query rows at a time, never for a whole sequence. The result has
//! the bits of the plain composition (product, scale, softcap, mask, [`softmax_row`], product):
//! keys that no row of a block sees are skipped only where that leaves the chains of the matrix
//! products untouched, at the end and at multiples of the product's block of k at the start.
//!
//! [`softmax_row`]: super::softmax_row

mod backward;
mod cache;
mod forward;

pub use backward::attention_backward;
pub use cache::KeyValues;
pub use forward::attention;

use super::gemm::{Compute, KC};
use super::matrix::Mat;
use std::ops::Range;

/// Query rows whose scores exist at one time.
const QUERY_BLOCK: usize = 64;
/// Leading invisible keys are skipped in multiples of this: whole blocks of k, so that no chain
/// changes (of pairs, some do), and whole panels at every level.
const SKIP: usize = 3 * KC;
/// Multiply-adds below which a second thread does not pay.
const SERIAL: usize = 1 << 20;

/// What kind of attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; a divisor of `heads`, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Factor on the scores, usually 1 / √head_dim.
    pub scale: f32,
    /// Number of latest keys a query sees, its own position included; all when absent.
    pub window: Option<usize>,
    /// Bound c of the scores: s becomes c · tanh(s / c).
    pub softcap: Option<f32>,
    /// Number type of the products' operands; scores and probabilities are f32 in between.
    pub compute: Compute,
}

/// One sequence: some rows of the queries and the keys and values they look at.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// Rows of `q` and `out` that belong to the sequence.
    pub q_rows: Range<usize>,
    /// What they look at.
    pub keys: Keys<'a>,
    /// Position of the first query row among the keys.
    pub first_query: usize,
    /// As in [`PackedSequence::prefix`].
    pub prefix: usize,
}

/// One sequence that looks at itself.
#[derive(Clone, Debug)]
pub struct PackedSequence {
    /// Its rows.
    pub rows: Range<usize>,
    /// How many of its first positions see each other both ways. All others see what is at their own
    /// position and before: 0 is causal, `usize::MAX` both ways.
    pub prefix: usize,
}

/// Keys and values of one sequence.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'a> {
    /// As rows.
    Rows {
        /// Keys `[count, kv_heads * head_dim]`.
        k: &'a [f32],
        /// Values `[count, kv_heads * head_dim]`.
        v: &'a [f32],
        /// How many.
        count: usize,
    },
    /// As they are kept from token to token; products with them are f32.
    Kept(&'a KeyValues),
}

impl Keys<'_> {
    /// How many.
    pub(super) fn count(&self) -> usize {
        match self {
            Keys::Rows { count, .. } => *count,
            Keys::Kept(kept) => kept.len(),
        }
    }
}

impl AttentionShape {
    /// Elements of a row of queries.
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of a row of keys.
    fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn check(&self) {
        assert!(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            "attention: {} heads do not share {} key heads evenly",
            self.heads,
            self.kv_heads
        );
    }

    /// The query heads that share key head `kv_head`.
    fn group(&self, kv_head: usize) -> Range<usize> {
        let size = self.heads / self.kv_heads;
        kv_head * size..(kv_head + 1) * size
    }

    /// The keys, of `keys`, that a query at `position` sees behind the `prefix` that all of them see.
    fn visible(&self, position: usize, keys: usize, prefix: usize) -> Range<usize> {
        let end = keys.min(prefix.max(position + 1));
        let start = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        start.min(end)..end
    }

    /// The keys whose scores a block of queries computes: from the first visible one, rounded
    /// down to a multiple of [`SKIP`], to the last visible one.
    fn span(&self, positions: Range<usize>, keys: usize, prefix: usize) -> Range<usize> {
        let first = self.visible(positions.start, keys, prefix).start;
        let end = self.visible(positions.end - 1, keys, prefix).end;
        first / SKIP * SKIP..end
    }

    /// Head `head` of `rows` of a matrix of queries, `[rows, head_dim]`.
    fn head<'a>(&self, q: &'a [f32], rows: Range<usize>, head: usize) -> Mat<'a> {
        let data = &q[rows.start * self.width() + head * self.head_dim..];
        Mat { data, rows: rows.len(), cols: self.head_dim, row_stride: self.width(), col_stride: 1 }.checked()
    }

    /// Head `kv_head` of `rows` of a matrix of keys or values, `[rows, head_dim]`.
    fn kv_head<'a>(&self, k: &'a [f32], rows: Range<usize>, kv_head: usize) -> Mat<'a> {
        let data = &k[(rows.start * self.kv_width() + kv_head * self.head_dim).min(k.len())..];
        Mat { data, rows: rows.len(), cols: self.head_dim, row_stride: self.kv_width(), col_stride: 1 }
            .checked()
    }
}

/// Distance of two rows of scores in memory: never a power of two, whose multiples would compete
/// for the same few lines of the first-level cache.
fn score_stride(keys: usize) -> usize {
    keys.next_multiple_of(16) + 16
}
