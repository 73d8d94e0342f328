//! Attention over packed sequences.

use super::{Graph, Layout, Var};
use crate::kernels::{self, AttentionShape, KeyValues, Keys, PackedSequence, Segment};
use crate::{Result, Tensor, profile};

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
            .map(|PackedSequence { rows, prefix }| Segment {
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
            .map(|(PackedSequence { rows, prefix }, kept)| Segment {
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
