//! Attention over packed sequences.

use std::ops::Range;
use std::sync::Arc;

use super::{Graph, Var};
use crate::kernels::{self, AttentionShape, KeyValues, Keys, Segment};
use crate::{Result, Tensor, profile};

/// Where each sequence of a packed batch lies, and its tokens' positions. No padding, ever.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Rows of every sequence.
    pub sequences: Vec<Range<usize>>,
    /// Position of every row within its sequence (counting what a cache already holds).
    pub positions: Arc<Vec<u32>>,
}

impl Layout {
    /// Sequences of the given lengths, one after the other, from position 0.
    pub fn packed(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::continued(lengths.into_iter().map(|length| (0, length)))
    }

    /// Pieces of `(first position, length)`: what a cached sequence goes on with.
    pub fn continued(pieces: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let (mut sequences, mut positions) = (Vec::new(), Vec::new());
        for (first, length) in pieces {
            sequences.push(positions.len()..positions.len() + length);
            positions.extend((first..first + length).map(|p| p as u32));
        }
        Layout { sequences, positions: Arc::new(positions) }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }
}

/// Heads and visibility of an attention layer.
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
        let needs = self.recording && (q.needs_gradient() || k.needs_gradient() || v.needs_gradient());
        let segments: Vec<_> = layout
            .sequences
            .iter()
            .map(|s| Segment {
                q_rows: s.clone(),
                keys: Keys::Rows {
                    k: &k.value.f32()[s.start * width..s.end * width],
                    v: &v.value.f32()[s.start * width..s.end * width],
                    count: s.len(),
                },
                first_query: 0,
            })
            .collect();
        let compute = if self.recording { self.params.precision().compute } else { kind.compute };
        let kind = AttentionKind { compute, ..*kind };
        let mut lse = needs.then(|| Tensor::stale(&[rows, kind.heads]));
        let value = Tensor::build(q.shape(), |out| {
            kernels::attention(q.value.f32(), &segments, &kind, out, lse.as_mut().map(Tensor::f32_mut));
        });
        let (q, k, v) = (q.clone(), k.clone(), v.clone());
        let (sequences, out) = (layout.sequences.clone(), value.clone());
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
            .sequences
            .iter()
            .zip(kept)
            .map(|(rows, kept)| Segment {
                q_rows: rows.clone(),
                keys: Keys::Kept(kept),
                first_query: layout.positions[rows.start] as usize,
            })
            .collect();
        Var::constant(Tensor::build(q.shape(), |out| {
            kernels::attention(q.value.f32(), &segments, kind, out, None)
        }))
    }
}
