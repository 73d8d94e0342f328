//! Root-mean-square normalisation.

use super::{each_row, each_row_backward};
use crate::simd::{LANES, Simd, map, multiversion};

/// out = x / rms(x) · (weight + offset) for each row, rms(x) = √(mean(x²) + eps).
///
/// `x`, `out` `[rows, cols]`; `weight` `[cols]`; `inv_rms` `[rows]` receives 1 / rms for the
/// backward pass. `offset` is 1 for Gemma, whose checkpoints store weight − 1, and 0 elsewhere.
///
/// # Panics
/// When lengths disagree.
pub fn rms_norm(x: &[f32], weight: &[f32], offset: f32, eps: f32, out: &mut [f32], inv_rms: &mut [f32]) {
    let cols = weight.len();
    assert_eq!(x.len(), cols * inv_rms.len(), "rms_norm: x is not [{}, {cols}]", inv_rms.len());
    assert_eq!(x.len(), out.len(), "rms_norm: x and out differ in length");
    if cols > 0 {
        each_row(cols, x, out, inv_rms, |x, out, inv| inv[0] = forward(x, weight, offset, eps, out));
    }
}

/// Gradients of [`rms_norm`]: adds to `dx` `[rows, cols]` and to `dweight` `[cols]`.
///
/// The weight's gradient is summed over rows in a fixed order.
///
/// # Panics
/// When lengths disagree.
pub fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    offset: f32,
    inv_rms: &[f32],
    dout: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let cols = weight.len();
    assert_eq!(x.len(), cols * inv_rms.len(), "rms_norm_backward: x is not [{}, {cols}]", inv_rms.len());
    assert!(x.len() == dout.len() && x.len() == dx.len(), "rms_norm_backward: x, dout, dx differ in length");
    let total = dweight.unwrap_or_default();
    assert!(
        total.is_empty() || total.len() == cols,
        "rms_norm_backward: dweight and weight differ in length"
    );
    if cols > 0 {
        each_row_backward(cols, [x, inv_rms, dout], dx, total, |x, inv, dout, dx, sums| {
            backward(x, weight, offset, inv[0], dout, dx);
            if !sums.is_empty() {
                weight_gradient(x, inv[0], dout, sums);
            }
        });
    }
}

multiversion! {
    fn forward(x: &[f32], weight: &[f32], offset: f32, eps: f32, out: &mut [f32]) -> f32 = forward_body;
}
multiversion! {
    fn backward(x: &[f32], weight: &[f32], offset: f32, inv: f32, dout: &[f32], dx: &mut [f32]) = backward_body;
}
multiversion! {
    fn weight_gradient(x: &[f32], inv: f32, dout: &[f32], dweight: &mut [f32]) = weight_gradient_body;
}

#[inline(always)]
fn forward_body<S: Simd>(s: S, x: &[f32], weight: &[f32], offset: f32, eps: f32, out: &mut [f32]) -> f32 {
    let (full, rest) = x.as_chunks::<LANES>();
    let mut squares = s.splat(0.0);
    for x in full {
        let x = s.load(x);
        squares = s.fma(x, x, squares);
    }
    let last = s.load_part(rest, 0.0);
    squares = s.fma(last, last, squares);
    let inv = 1.0 / (s.sum(squares) / x.len() as f32 + eps).sqrt();
    let (scale, offset) = (s.splat(inv), s.splat(offset));
    map(
        s,
        [x, weight],
        [out],
        #[inline(always)]
        |[x, w], _| [s.mul(s.mul(x, scale), s.add(w, offset))],
    );
    inv
}

/// dx += inv · (g − x · inv² · mean(g·x)) with g = dout · (weight + offset).
#[inline(always)]
fn backward_body<S: Simd>(
    s: S,
    x: &[f32],
    weight: &[f32],
    offset: f32,
    inv: f32,
    dout: &[f32],
    dx: &mut [f32],
) {
    let offset = s.splat(offset);
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ws, w_rest) = weight.as_chunks::<LANES>();
    let (ds, d_rest) = dout.as_chunks::<LANES>();
    let mut sum = s.splat(0.0);
    for ((x, w), d) in xs.iter().zip(ws).zip(ds) {
        sum = s.fma(s.mul(s.load(d), s.add(s.load(w), offset)), s.load(x), sum);
    }
    let g = s.mul(s.load_part(d_rest, 0.0), s.add(s.load_part(w_rest, 0.0), offset));
    sum = s.fma(g, s.load_part(x_rest, 0.0), sum);
    let along = s.splat(-(s.sum(sum) / x.len() as f32) * inv * inv);
    let inv = s.splat(inv);
    map(
        s,
        [x, weight, dout],
        [dx],
        #[inline(always)]
        |[x, w, d], [dx]| {
            let g = s.mul(d, s.add(w, offset));
            [s.fma(inv, s.fma(x, along, g), dx)]
        },
    );
}

/// dweight += dout · x · inv.
#[inline(always)]
fn weight_gradient_body<S: Simd>(s: S, x: &[f32], inv: f32, dout: &[f32], dweight: &mut [f32]) {
    let inv = s.splat(inv);
    map(
        s,
        [x, dout],
        [dweight],
        #[inline(always)]
        |[x, d], [dw]| [s.fma(d, s.mul(x, inv), dw)],
    );
}
