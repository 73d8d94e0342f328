//! Normalisation by mean and standard deviation (LayerNorm, arXiv 1607.06450).

use super::{each_row, each_row_backward};
use crate::simd::{LANES, Simd, map, multiversion};

/// out = (x − mean(x)) / √(var(x) + eps) · weight + bias for each row; var divides by the width.
///
/// `x`, `out` `[rows, cols]`; `weight`, `bias` `[cols]`; `statistics` `[rows, 2]` receives mean and
/// 1 / √(var + eps) of each row for the backward pass.
///
/// # Panics
/// When lengths disagree.
pub fn layer_norm(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
    statistics: &mut [f32],
) {
    let cols = weight.len();
    let rows = statistics.len() / 2;
    assert!(x.len() == cols * rows && statistics.len() == 2 * rows, "layer_norm: x is not [{rows}, {cols}]");
    assert_eq!(x.len(), out.len(), "layer_norm: x and out differ in length");
    assert!(bias.is_none_or(|b| b.len() == cols), "layer_norm: weight and bias differ in length");
    if cols > 0 {
        each_row(cols, x, out, statistics, |x, out, statistics| {
            let (mean, inv) = forward(x, weight, eps, out);
            if let Some(bias) = bias {
                crate::axpy(1.0, bias, out);
            }
            statistics.copy_from_slice(&[mean, inv]);
        });
    }
}

/// Gradients of [`layer_norm`]: adds to `dx` `[rows, cols]` and, where it is given, to `dparams`
/// `[2, cols]`: the weight's gradient, then the bias's.
///
/// Both are summed over rows in a fixed order.
///
/// # Panics
/// When lengths disagree.
pub fn layer_norm_backward(
    x: &[f32],
    weight: &[f32],
    statistics: &[f32],
    dout: &[f32],
    dx: &mut [f32],
    dparams: Option<&mut [f32]>,
) {
    let cols = weight.len();
    let rows = statistics.len() / 2;
    assert!(
        x.len() == cols * rows && statistics.len() == 2 * rows,
        "layer_norm_backward: x is not [{rows}, {cols}]"
    );
    assert!(
        x.len() == dout.len() && x.len() == dx.len(),
        "layer_norm_backward: x, dout, dx differ in length"
    );
    let total = dparams.unwrap_or_default();
    assert!(total.is_empty() || total.len() == 2 * cols, "layer_norm_backward: dparams is not [2, {cols}]");
    if cols > 0 {
        each_row_backward(cols, [x, statistics, dout], dx, total, |x, statistics, dout, dx, sums| {
            let (mean, inv) = (statistics[0], statistics[1]);
            backward(x, weight, mean, inv, dout, dx);
            if !sums.is_empty() {
                let (dweight, dbias) = sums.split_at_mut(cols);
                weight_gradient(x, mean, inv, dout, dweight);
                crate::axpy(1.0, dout, dbias);
            }
        });
    }
}

multiversion! {
    fn forward(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) -> (f32, f32) = forward_body;
}
multiversion! {
    fn backward(x: &[f32], weight: &[f32], mean: f32, inv: f32, dout: &[f32], dx: &mut [f32]) = backward_body;
}
multiversion! {
    fn weight_gradient(x: &[f32], mean: f32, inv: f32, dout: &[f32], dweight: &mut [f32]) = weight_gradient_body;
}

/// Returns mean and 1 / √(var + eps).
///
/// The deviations' squares are summed in the order in which the RMS norm sums squares, so that a
/// row centred first and then divided by its root mean square gives the same bits.
#[inline(always)]
fn forward_body<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) -> (f32, f32) {
    let (full, rest) = x.as_chunks::<LANES>();
    let mut total = s.load_part(rest, 0.0);
    for x in full {
        total = s.add(total, s.load(x));
    }
    let mean = s.sum(total) / x.len() as f32;
    let centre = s.splat(mean);
    let mut squares = s.splat(0.0);
    for x in full {
        let x = s.sub(s.load(x), centre);
        squares = s.fma(x, x, squares);
    }
    let last = s.sub(s.load_part(rest, mean), centre);
    squares = s.fma(last, last, squares);
    let inv = 1.0 / (s.sum(squares) / x.len() as f32 + eps).sqrt();
    let scale = s.splat(inv);
    map(
        s,
        [x, weight],
        [out],
        #[inline(always)]
        |[x, w], _| [s.mul(s.mul(s.sub(x, centre), scale), w)],
    );
    (mean, inv)
}

/// dx += inv · (g − mean(g) − n · mean(g·n)) with g = dout · weight and n = (x − mean) · inv.
#[inline(always)]
fn backward_body<S: Simd>(
    s: S,
    x: &[f32],
    weight: &[f32],
    mean: f32,
    inv: f32,
    dout: &[f32],
    dx: &mut [f32],
) {
    let centre = s.splat(mean);
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ws, w_rest) = weight.as_chunks::<LANES>();
    let (ds, d_rest) = dout.as_chunks::<LANES>();
    let (mut plain, mut along) = (s.splat(0.0), s.splat(0.0));
    for ((x, w), d) in xs.iter().zip(ws).zip(ds) {
        let g = s.mul(s.load(d), s.load(w));
        plain = s.add(plain, g);
        along = s.fma(g, s.sub(s.load(x), centre), along);
    }
    let g = s.mul(s.load_part(d_rest, 0.0), s.load_part(w_rest, 0.0));
    plain = s.add(plain, g);
    along = s.fma(g, s.sub(s.load_part(x_rest, mean), centre), along);
    let plain = s.splat(s.sum(plain) / x.len() as f32);
    let along = s.splat(-(s.sum(along) / x.len() as f32) * inv * inv);
    let inv = s.splat(inv);
    map(
        s,
        [x, weight, dout],
        [dx],
        #[inline(always)]
        |[x, w, d], [dx]| {
            let g = s.sub(s.mul(d, w), plain);
            [s.fma(inv, s.fma(s.sub(x, centre), along, g), dx)]
        },
    );
}

/// dweight += dout · (x − mean) · inv.
#[inline(always)]
fn weight_gradient_body<S: Simd>(s: S, x: &[f32], mean: f32, inv: f32, dout: &[f32], dweight: &mut [f32]) {
    let (centre, inv) = (s.splat(mean), s.splat(inv));
    map(
        s,
        [x, dout],
        [dweight],
        #[inline(always)]
        |[x, d], [dw]| [s.fma(d, s.mul(s.sub(x, centre), inv), dw)],
    );
}
