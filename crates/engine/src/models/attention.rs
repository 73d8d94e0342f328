//! The attention part of a block.

use std::ops::Range;

use rayon::prelude::*;

use super::builder::BlockBuilder;
use super::cache::KvCache;
use super::norm::Norm;
use super::opened;
use super::spec::{QkNorm, QkvNames};
use super::within::Within;
use crate::params::ParamId;
use crate::tape::{AttentionKind, Graph, Linear, Var};
use crate::taps::BlockSite::{HeadResult, K, Pattern, Q, RotK, RotQ, Scores, V, Z};
use crate::{Result, Selection};

/// Sequences whose new keys are worth another thread.
const SEQUENCES: usize = 8;

/// The parameters of one attention layer.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    qkv: Qkv,
    output: Linear,
    norms: Option<[Norm; 2]>,
    kind: AttentionKind,
}

/// Query, key and value projections.
#[derive(Debug, Clone)]
enum Qkv {
    Separate([Linear; 3]),
    /// One product, and which of its columns are queries, keys and values.
    Fused(Linear, [Vec<Range<usize>>; 3]),
}

impl Attention {
    pub(super) fn build(builder: &mut BlockBuilder<'_, '_>) -> Result<Self> {
        let (spec, kind) = (builder.spec, builder.spec.attention);
        let (d, w) = (spec.hidden, kind.head_dim);
        let (q, kv) = (kind.heads * w, kind.kv_heads * w);
        let mut linear = |part: &str, out: usize| builder.linear(part, [out, d], spec.qkv_bias);
        let qkv = match spec.names.qkv {
            QkvNames::Separate(parts) => {
                let [q_name, k_name, v_name] = parts;
                Qkv::Separate([linear(q_name, q)?, linear(k_name, kv)?, linear(v_name, kv)?])
            }
            QkvNames::Fused(part) => {
                let columns = [0..q, q..q + kv, q + kv..q + 2 * kv].map(|range| vec![range]);
                Qkv::Fused(linear(part, q + 2 * kv)?, columns)
            }
            QkvNames::FusedPerHead(part) => {
                let third = |i| (0..kind.heads).map(|h| (3 * h + i) * w..(3 * h + i + 1) * w).collect();
                Qkv::Fused(linear(part, 3 * q)?, [0, 1, 2].map(third))
            }
        };
        let output = builder.linear(spec.names.output, [d, q], spec.output_bias)?;
        Ok(Attention { qkv, output, norms: None, kind })
    }

    /// Adds the norms of queries and keys, where the family has them.
    pub(super) fn build_norms(&mut self, builder: &mut BlockBuilder<'_, '_>) -> Result<()> {
        let Some(over) = builder.spec.qk_norm else { return Ok(()) };
        let [q, k] = builder.spec.names.qk_norm;
        let AttentionKind { heads, kv_heads, head_dim, .. } = self.kind;
        let width = |heads: usize| if over == QkNorm::Whole { heads * head_dim } else { head_dim };
        self.norms = Some([builder.norm(q, width(heads))?, builder.norm(k, width(kv_heads))?]);
        Ok(())
    }

    /// Every linear layer.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match &self.qkv {
            Qkv::Separate([q, k, v]) => vec![q, k, v, &self.output],
            Qkv::Fused(qkv, _) => vec![qkv, &self.output],
        }
    }

    /// Every linear layer, in the same order, for changing it.
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match &mut self.qkv {
            Qkv::Separate([q, k, v]) => vec![q, k, v, &mut self.output],
            Qkv::Fused(qkv, _) => vec![qkv, &mut self.output],
        }
    }

    /// The layer by which it writes to the residual stream.
    pub(super) fn output(&self) -> &Linear {
        &self.output
    }

    /// The weights that a query head has to itself: rows of the query projection, columns of the output
    /// projection; rows of keys and values where no other head shares them.
    pub(super) fn head(&self, head: usize) -> Vec<(ParamId, Selection)> {
        let (w, shared) = (self.kind.head_dim, self.kind.heads != self.kind.kv_heads);
        let mut own = Vec::new();
        for part in if shared { 0..1 } else { 0..3 } {
            let (linear, rows) = match &self.qkv {
                Qkv::Separate(each) => (&each[part], head * w..(head + 1) * w),
                Qkv::Fused(all, rows) => (all, piece(&rows[part], head * w, w)),
            };
            own.extend(linear.bias.map(|bias| (bias, Selection::columns(rows.clone()))));
            own.push((linear.weight, Selection::rows(rows)));
        }
        own.push((self.output.weight, Selection::columns(head * w..(head + 1) * w)));
        own
    }

    /// h [T, d] → [T, d]. With caches, one per sequence, keys and values are appended to them first.
    pub(super) fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        h: &Var,
        within: Within<'_>,
        caches: Option<&mut [KvCache]>,
    ) -> Result<Var> {
        let [q, k, v] = self.project(g, h)?;
        let (q, k) = match &self.norms {
            Some([q_norm, k_norm]) => (q_norm.forward(g, &q)?, k_norm.forward(g, &k)?),
            None => (q, k),
        };
        let q = within.tap(g, Q, q)?;
        let k = within.tap(g, K, k)?;
        let v = within.tap(g, V, v)?;
        let (q, k) = match within.rotary {
            Some(table) => {
                (g.rotate(&q, self.kind.head_dim, table)?, g.rotate(&k, self.kind.head_dim, table)?)
            }
            None => (q, k),
        };
        let q = within.tap(g, RotQ, q)?;
        let k = within.tap(g, RotK, k)?;
        let opened = within.touches(Scores) || within.touches(Pattern);
        let layout = within.layout;
        let z = match caches {
            Some(caches) => {
                let pairs = caches.par_iter_mut().zip(&layout.sequences).with_min_len(SEQUENCES);
                pairs
                    .for_each(|(cache, rows)| cache.append(within.layer, rows.clone(), k.value(), v.value()));
                let keys: Vec<_> = caches.iter().map(|c| c.layer(within.layer)).collect();
                match opened {
                    true => opened::cached_attention(g, &q, &keys, &self.kind, within)?,
                    false => g.cached_attention(&q, &keys, layout, &self.kind),
                }
            }
            None if opened => opened::attention(g, [&q, &k, &v], &self.kind, within)?,
            None => g.attention(&q, &k, &v, layout, &self.kind)?,
        };
        let z = within.tap(g, Z, z)?;
        let out = g.linear(&z, &self.output)?;
        match within.touches(HeadResult) {
            true => opened::per_head_result(g, &z, out, &self.output, &self.kind, within),
            false => Ok(out),
        }
    }

    fn project<'m>(&'m self, g: &mut Graph<'m>, h: &Var) -> Result<[Var; 3]> {
        match &self.qkv {
            Qkv::Separate([q, k, v]) => Ok([g.linear(h, q)?, g.linear(h, k)?, g.linear(h, v)?]),
            Qkv::Fused(qkv, [q, k, v]) => {
                let all = g.linear(h, qkv)?;
                Ok([g.gather_columns(&all, q)?, g.gather_columns(&all, k)?, g.gather_columns(&all, v)?])
            }
        }
    }
}

/// Where `length` elements lie of which `before` come earlier in the ranges; a head is never torn apart.
fn piece(ranges: &[Range<usize>], before: usize, length: usize) -> Range<usize> {
    let mut before = before;
    for range in ranges {
        if before < range.len() {
            return range.start + before..range.start + before + length;
        }
        before -= range.len();
    }
    0..0
}
