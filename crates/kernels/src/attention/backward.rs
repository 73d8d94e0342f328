//! The backward pass: probabilities are recomputed from the scores and their log-sum-exp.

use super::{AttentionShape, PackedSequence, QUERY_BLOCK, SERIAL, score_stride};
use crate::gemm::{Right, serial};
use crate::matrix::{Mat, Out};
use crate::packed::{Panels, panels};
use crate::scratch::{self, Use};
use crate::simd::{LANES, Simd, map, math, multiversion};
use rayon::prelude::*;
use std::ops::Range;

/// Gradients of self-attention over packed sequences.
///
/// `q`, `out`, `dout`, `dq` `[T, heads * head_dim]`; `k`, `v`, `dk`, `dv` `[T, kv_heads *
/// head_dim]`; `lse` `[T, heads]` and `out` as [`attention`] gave them. `dq`, `dk`, `dv` are
/// overwritten, and rows of no sequence become zero.
///
/// # Panics
/// When lengths disagree or sequences overlap.
///
/// [`attention`]: super::attention
#[expect(clippy::too_many_arguments, reason = "six operands and three gradients")]
pub fn attention_backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    sequences: &[PackedSequence],
    shape: &AttentionShape,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    shape.check();
    let rows = lse.len().checked_div(shape.heads).unwrap_or(0);
    let (width, kv_width) = (shape.width(), shape.kv_width());
    assert!(
        [q.len(), out.len(), dout.len(), dq.len()].iter().all(|&len| len == rows * width)
            && [k.len(), v.len(), dk.len(), dv.len()].iter().all(|&len| len == rows * kv_width),
        "attention_backward: operands do not all have the {rows} rows of lse"
    );
    let mut sorted: Vec<_> = sequences.iter().filter(|s| !s.rows.is_empty()).collect();
    sorted.sort_by_key(|s| s.rows.start);
    assert!(
        sorted.windows(2).all(|w| w[0].rows.end <= w[1].rows.start)
            && sorted.last().is_none_or(|s| s.rows.end <= rows),
        "attention_backward: sequences overlap or reach beyond {rows} rows"
    );
    dq.fill(0.0);
    dk.fill(0.0);
    dv.fill(0.0);
    let pass = AttentionBackward {
        q,
        k,
        v,
        out,
        lse,
        dout,
        shape,
        dq: Out { ptr: dq.as_mut_ptr(), rows, cols: width, row_stride: width },
        dk: Out { ptr: dk.as_mut_ptr(), rows, cols: kv_width, row_stride: kv_width },
        dv: Out { ptr: dv.as_mut_ptr(), rows, cols: kv_width, row_stride: kv_width },
    };
    let tasks: Vec<_> = sorted
        .iter()
        .flat_map(|&sequence| (0..shape.kv_heads).map(move |kv_head| (sequence, kv_head)))
        .collect();
    let work: usize = sequences.iter().map(|s| 2 * s.rows.len() * s.rows.len() * width).sum();
    if work < SERIAL {
        tasks.into_iter().for_each(|(sequence, kv_head)| pass.run(sequence, kv_head));
    } else {
        tasks.into_par_iter().with_max_len(1).for_each(|(sequence, kv_head)| pass.run(sequence, kv_head));
    }
}

struct AttentionBackward<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
    shape: &'a AttentionShape,
    dq: Out,
    dk: Out,
    dv: Out,
}

impl AttentionBackward<'_> {
    /// One sequence and one key head, alone in writing its part of dk and dv, whose sums run over
    /// heads of the group, then blocks of queries, in ascending order.
    fn run(&self, sequence: &PackedSequence, kv_head: usize) {
        let shape = self.shape;
        let len = sequence.rows.len();
        let uses = [
            Use::AttentionKeys,
            Use::AttentionKeysTransposed,
            Use::AttentionValues,
            Use::AttentionScores,
            Use::AttentionGradient,
        ];
        scratch::with(uses, |[keys, keys_t, values_t, scores, gradient]| {
            let k = shape.kv_head(self.k, sequence.rows.clone(), kv_head);
            let v = shape.kv_head(self.v, sequence.rows.clone(), kv_head);
            let packed = Operands {
                k: panels(k, shape.compute.format(), keys),
                k_t: panels(k.t(), shape.compute.format(), keys_t),
                v_t: panels(v.t(), shape.compute.format(), values_t),
            };
            for head in shape.group(kv_head) {
                for start in (0..len).step_by(QUERY_BLOCK) {
                    let rows = start..len.min(start + QUERY_BLOCK);
                    let seen = shape.span(rows.clone(), len, sequence.prefix);
                    let size = rows.len() * score_stride(seen.len());
                    let (p, ds) = (scores.stale(size), gradient.stale(size));
                    self.block(sequence, rows, seen, (head, kv_head), &packed, p, ds);
                }
            }
        });
    }

    /// One block of query rows, counted from the start of the sequence.
    #[expect(clippy::too_many_arguments, reason = "what a block is, where it is, and its working memory")]
    fn block(
        &self,
        sequence: &PackedSequence,
        rows: Range<usize>,
        seen: Range<usize>,
        (head, kv_head): (usize, usize),
        packed: &Operands,
        p: &mut [f32],
        ds: &mut [f32],
    ) {
        let shape = self.shape;
        let hd = shape.head_dim;
        let stride = score_stride(seen.len());
        let first = sequence.rows.start;
        let here = first + rows.start..first + rows.end;
        let (q, dout) = (shape.head(self.q, here.clone(), head), shape.head(self.dout, here.clone(), head));
        let out = shape.head(self.out, here.clone(), head);
        let own = |x: &mut [f32]| Out {
            ptr: x.as_mut_ptr(),
            rows: rows.len(),
            cols: seen.len(),
            row_stride: stride,
        };
        // SAFETY: both blocks are this thread's own.
        unsafe {
            serial(q, Right::Panels(packed.k_t).columns(seen.start..packed.k_t.n), own(p), false);
            serial(dout, Right::Panels(packed.v_t).columns(seen.start..packed.v_t.n), own(ds), false);
        }
        for (i, (p, ds)) in p.chunks_exact_mut(stride).zip(ds.chunks_exact_mut(stride)).enumerate() {
            let visible = shape.visible(rows.start + i, sequence.rows.len(), sequence.prefix);
            let visible = visible.start - seen.start..visible.end - seen.start;
            for x in [&mut *p, &mut *ds] {
                x[..visible.start].fill(0.0);
                x[visible.end..].fill(0.0);
            }
            let row = |m: Mat| i * m.row_stride..i * m.row_stride + hd;
            let lse = self.lse[(here.start + i) * shape.heads + head];
            let delta = row_dot(&dout.data[row(dout)], &out.data[row(out)]);
            gradient_row(&mut p[visible.clone()], &mut ds[visible], lse, delta, shape.scale, shape.softcap);
        }
        let view = |x| Mat { data: x, rows: rows.len(), cols: seen.len(), row_stride: stride, col_stride: 1 };
        let (p, ds) = (view(p), view(ds));
        let columns = kv_head * hd..(kv_head + 1) * hd;
        let keys = first + seen.start..first + seen.end;
        // SAFETY: this task alone writes the sequence's rows of dq, dk and dv in these heads.
        unsafe {
            let k = Right::Panels(Panels { skip: seen.start / packed.k.format.width(), ..packed.k });
            serial(ds, k, self.dq.part(here, head * hd..(head + 1) * hd), false);
            serial(ds.t(), shape.compute.right(q), self.dk.part(keys.clone(), columns.clone()), true);
            serial(p.t(), shape.compute.right(dout), self.dv.part(keys, columns), true);
        }
    }
}

/// The operands that every block of a sequence uses, packed once.
struct Operands<'a> {
    k: Panels<'a>,
    k_t: Panels<'a>,
    v_t: Panels<'a>,
}

multiversion! {
    fn row_dot(x: &[f32], y: &[f32]) -> f32 = row_dot_body;
}
multiversion! {
    fn gradient_row(p: &mut [f32], ds: &mut [f32], lse: f32, delta: f32, scale: f32, softcap: Option<f32>)
        = gradient_row_body;
}

#[inline(always)]
fn row_dot_body<S: Simd>(s: S, x: &[f32], y: &[f32]) -> f32 {
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sum = s.mul(s.load_part(x_rest, 0.0), s.load_part(y_rest, 0.0));
    for (x, y) in xs.iter().zip(ys) {
        sum = s.fma(s.load(x), s.load(y), sum);
    }
    s.sum(sum)
}

/// From raw scores and dP to P = exp(score − lse) and the gradient of the raw scores,
/// P · (dP − delta) · d(score)/d(raw), with delta = Σ dout · out.
#[inline(always)]
fn gradient_row_body<S: Simd>(
    s: S,
    p: &mut [f32],
    ds: &mut [f32],
    lse: f32,
    delta: f32,
    scale: f32,
    softcap: Option<f32>,
) {
    let (lse, delta, scale) = (s.splat(lse), s.splat(delta), s.splat(scale));
    match softcap {
        None => map(
            s,
            [],
            [p, ds],
            #[inline(always)]
            |[], [raw, dp]| {
                let p = math::exp(s, s.sub(s.mul(raw, scale), lse));
                [p, s.mul(s.mul(p, s.sub(dp, delta)), scale)]
            },
        ),
        Some(cap) => {
            let (cap, one) = (s.splat(cap), s.splat(1.0));
            map(
                s,
                [],
                [p, ds],
                #[inline(always)]
                |[], [raw, dp]| {
                    let t = math::tanh(s, s.div(s.mul(raw, scale), cap));
                    let p = math::exp(s, s.sub(s.mul(t, cap), lse));
                    let slope = s.mul(s.fma(s.neg(t), t, one), scale);
                    [p, s.mul(s.mul(p, s.sub(dp, delta)), slope)]
                },
            );
        }
    }
}
