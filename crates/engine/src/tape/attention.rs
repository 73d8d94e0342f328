//! Attention over packed sequences.

use std::ops::Range;
use std::sync::Arc;

use super::{Graph, Var};
use crate::kernels::{self, AttentionShape, KeyValues, Keys, Segment, Sequence};
use crate::{Error, Result, Tensor, profile};

/// Which rows of its sequence a row sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// Itself and those before it.
    #[default]
    Causal,
    /// All.
    BothWays,
    /// The first n see each other both ways; those after them see themselves and what is before.
    Prefix(usize),
}

impl Visibility {
    /// How many of the first positions see each other both ways.
    pub(crate) fn prefix(self) -> usize {
        match self {
            Visibility::Causal => 0,
            Visibility::BothWays => usize::MAX,
            Visibility::Prefix(n) => n,
        }
    }

    /// Whether the row at `position` sees the one at `key`.
    pub(crate) fn sees(self, position: usize, key: usize) -> bool {
        key <= position || key < self.prefix()
    }
}

/// Where each sequence of a packed batch lies, whose it is, and its tokens' positions. No padding, ever.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Rows of every sequence.
    pub sequences: Vec<Range<usize>>,
    /// Key of every sequence: what it goes by in every pass, wherever in the batch it lies.
    pub keys: Vec<u64>,
    /// Position of every row within its sequence (counting what a cache already holds).
    pub positions: Arc<Vec<u32>>,
    /// What the rows of every sequence see.
    pub visibility: Vec<Visibility>,
}

/// What one sequence brings to a packed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Key of the sequence.
    pub key: u64,
    /// Position of its first row here: the number of tokens that a cache already holds.
    pub first: usize,
    /// Number of rows.
    pub length: usize,
}

impl Layout {
    /// Sequences of the given lengths, one after the other, from position 0; causal. Their keys are 0, 1, 2, …
    pub fn packed(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::continued(lengths.into_iter().map(|length| (0, length)))
    }

    /// Pieces of `(first position, length)`: what cached sequences go on with; causal. Their keys are 0, 1, 2, …
    pub fn continued(pieces: impl IntoIterator<Item = (usize, usize)>) -> Self {
        Self::of((0..).zip(pieces).map(|(key, (first, length))| Piece { key, first, length }))
    }

    /// Pieces of sequences that bring keys of their own.
    pub fn of(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let (mut sequences, mut keys, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for Piece { key, first, length } in pieces {
            sequences.push(positions.len()..positions.len() + length);
            keys.push(key);
            positions.extend((first..first + length).map(|p| p as u32));
        }
        let visibility = vec![Visibility::Causal; sequences.len()];
        Layout { sequences, keys, positions: Arc::new(positions), visibility }
    }

    /// The same sequences, seen in one way.
    pub fn seen(self, visibility: Visibility) -> Self {
        Layout { visibility: vec![visibility; self.sequences.len()], ..self }
    }

    /// Fails where a sequence cannot be continued from a cache after this piece of it: what sees both ways
    /// has to be read whole, because cached rows do not change any more.
    pub(crate) fn check_cached(&self) -> Result<()> {
        for (i, (rows, visibility)) in self.sequences.iter().zip(&self.visibility).enumerate() {
            let end = self.positions[rows.clone()].last().map_or(0, |&p| p as usize + 1);
            match *visibility {
                Visibility::BothWays => {
                    return Err(Error::invalid(format!(
                        "sequence {i} is read both ways, so it has no cache: what comes later would change it"
                    )));
                }
                Visibility::Prefix(n) if end < n => {
                    return Err(Error::invalid(format!(
                        "the first {n} positions of sequence {i} see each other both ways and have to be read \
                         in one pass; this one ends at {end}"
                    )));
                }
                Visibility::Prefix(_) | Visibility::Causal => {}
            }
        }
        Ok(())
    }

    /// Rows and visibility of every sequence.
    fn seen_sequences(&self) -> impl Iterator<Item = Sequence> {
        let pairs = self.sequences.iter().zip(&self.visibility);
        pairs.map(|(rows, visibility)| Sequence { rows: rows.clone(), prefix: visibility.prefix() })
    }

    /// The layout of a value that holds only these rows, each a piece of its sequence.
    pub fn of_rows(&self, rows: &[usize]) -> Self {
        let piece = |&row: &usize| {
            // Sequences lie one after the other, so the first that ends behind the row holds it.
            let sequence = self.sequences.partition_point(|s| s.end <= row);
            Piece { key: self.keys[sequence], first: self.positions[row] as usize, length: 1 }
        };
        Self::of(rows.iter().map(piece))
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }
}

/// Heads, scale and bounds of an attention layer.
pub type AttentionKind = AttentionShape;

impl<'m> Graph<'m> {
    /// Self-attention of every sequence with itself: q [T, heads·head_dim], k and v
    /// [T, kv_heads·head_dim] → [T, heads·head_dim]. Scores are never held whole.
    ///
    /// While recording, products are computed as those with weights are; in inference in f32, as
    /// with a cache.
    pub fn attention(
        &mut self,
        q: &Var,
        k: &Var,
        v: &Var,
        layout: &Layout,
        kind: &AttentionKind,
    ) -> Result<Var> {
        let _timed = profile::span("attention");
        let width = kind.kv_heads * kind.head_dim;
        let rows = layout.rows();
        let needs = self.is_recording() && (q.needs_gradient() || k.needs_gradient() || v.needs_gradient());
        let sequences: Vec<_> = layout.seen_sequences().collect();
        let segments: Vec<_> = sequences
            .iter()
            .map(|Sequence { rows, prefix }| Segment {
                q_rows: rows.clone(),
                keys: Keys::Rows {
                    k: &k.value.f32()[rows.start * width..rows.end * width],
                    v: &v.value.f32()[rows.start * width..rows.end * width],
                    count: rows.len(),
                },
                first_query: 0,
                prefix: *prefix,
            })
            .collect();
        let compute = if self.is_recording() { self.params.precision().compute } else { kind.compute };
        let kind = AttentionKind { compute, ..*kind };
        let mut lse = needs.then(|| Tensor::stale(&[rows, kind.heads]));
        let value = Tensor::build(q.shape(), |out| {
            kernels::attention(q.value.f32(), &segments, &kind, out, lse.as_mut().map(Tensor::f32_mut));
        });
        let (q, k, v) = (q.clone(), k.clone(), v.clone());
        let out = value.clone();
        Ok(self.push(value, needs, move |back, dout| {
            let _timed = profile::span("attention backward");
            let Some(lse) = lse else { return Ok(()) };
            let (mut dq, mut dk, mut dv) =
                (Tensor::stale(q.shape()), Tensor::stale(k.shape()), Tensor::stale(v.shape()));
            kernels::attention_backward(
                q.value.f32(),
                k.value.f32(),
                v.value.f32(),
                out.f32(),
                lse.f32(),
                dout.f32(),
                &sequences,
                &kind,
                dq.f32_mut(),
                dk.f32_mut(),
                dv.f32_mut(),
            );
            back.add(&q, dq)?;
            back.add(&k, dk)?;
            back.add(&v, dv)
        }))
    }

    /// Attention of new rows to cached keys. Inference only: nothing is remembered for a backward pass.
    pub fn cached_attention(
        &mut self,
        q: &Var,
        kept: &[&KeyValues],
        layout: &Layout,
        kind: &AttentionKind,
    ) -> Var {
        let _timed = profile::span("attention");
        let segments: Vec<_> = layout
            .seen_sequences()
            .zip(kept)
            .map(|(Sequence { rows, prefix }, kept)| Segment {
                first_query: layout.positions[rows.start] as usize,
                q_rows: rows,
                keys: Keys::Kept(kept),
                prefix,
            })
            .collect();
        Var::constant(Tensor::build(q.shape(), |out| {
            kernels::attention(q.value.f32(), &segments, kind, out, None)
        }))
    }
}
