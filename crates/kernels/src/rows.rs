//! Softmax, log-sum-exp and arg-max of rows.
//!
//! A row is read in vectors of sixteen; an incomplete last vector is filled with −∞, whose
//! exponential is exactly zero. A row's result therefore depends neither on other rows nor on
//! how many masked (−∞) entries follow it.

use super::simd::{LANES, Simd, math, multiversion};
use rayon::prelude::*;

/// Elements below which a second thread does not pay.
const SERIAL: usize = 1 << 15;

/// Elements of a row that are searched at once.
const BLOCK: usize = 256;

/// Softmax of each row of `x` `[rows, cols]`, in place; see [`softmax_row`].
///
/// # Panics
/// When `x` is not a whole number of rows.
pub fn softmax_rows(x: &mut [f32], cols: usize) {
    if x.is_empty() {
        return;
    }
    assert!(cols > 0 && x.len().is_multiple_of(cols), "{} elements are not rows of {cols}", x.len());
    if x.len() < SERIAL {
        x.chunks_exact_mut(cols).for_each(softmax_row);
    } else {
        x.par_chunks_exact_mut(cols).with_min_len((SERIAL / 4).div_ceil(cols)).for_each(softmax_row);
    }
}

/// exp(x − max) / Σ exp(x − max), in place. A row of −∞ alone becomes zeros.
pub fn softmax_row(x: &mut [f32]) {
    softmax(x);
}

/// ln Σ exp(x); −∞ for an empty row or one of −∞ alone.
pub fn log_sum_exp(x: &[f32]) -> f32 {
    let (max, sum) = exp_sum(x);
    log_of(max, sum)
}

/// ln Σ exp(x) from max(x) and Σ exp(x − max).
pub(super) fn log_of(max: f32, sum: f32) -> f32 {
    if max.is_infinite() && !sum.is_nan() {
        return max;
    }
    (f64::from(max) + f64::from(sum).ln()) as f32
}

/// Index of the largest element, the first one of ties. NaN never wins; an empty row gives 0.
pub fn argmax(x: &[f32]) -> usize {
    let max = largest(x);
    // A block at a time is compared as vectors are.
    let has = |block: &[f32]| block.iter().fold(false, |any, &v| any | (v == max));
    let start = x.chunks(BLOCK).position(has).unwrap_or(0) * BLOCK;
    x[start..].iter().position(|&v| v == max).map_or(0, |i| start + i)
}

multiversion! {
    fn softmax(x: &mut [f32]) -> (f32, f32) = softmax_body;
}
multiversion! {
    fn exp_sum(x: &[f32]) -> (f32, f32) = exp_sum_body;
}
multiversion! {
    fn largest(x: &[f32]) -> f32 = largest_body;
}
multiversion! {
    /// x ← factor · exp(x − shift), element by element; the exponential within 2 ulp.
    pub fn scaled_exp(x: &mut [f32], shift: f32, factor: f32) = scaled_exp_body;
}

#[inline(always)]
fn scaled_exp_body<S: Simd>(s: S, x: &mut [f32], shift: f32, factor: f32) {
    let (shift, factor) = (s.splat(shift), s.splat(factor));
    super::simd::map(
        s,
        [],
        [x],
        #[inline(always)]
        |[], [x]| [s.mul(math::exp(s, s.sub(x, shift)), factor)],
    );
}

#[inline(always)]
fn largest_body<S: Simd>(s: S, x: &[f32]) -> f32 {
    let (full, rest) = x.as_chunks::<LANES>();
    let mut max = s.load_part(rest, f32::NEG_INFINITY);
    // A NaN among the first lanes would stay: `max` keeps its second operand then.
    max = s.max(max, s.splat(f32::NEG_INFINITY));
    // Four at a time, because each comparison waits for the one before.
    let (quads, full) = full.as_chunks::<4>();
    let mut others = [s.splat(f32::NEG_INFINITY); 3];
    for [a, b, c, d] in quads {
        max = s.max(s.load(a), max);
        others = [s.max(s.load(b), others[0]), s.max(s.load(c), others[1]), s.max(s.load(d), others[2])];
    }
    for x in full.iter() {
        max = s.max(s.load(x), max);
    }
    for other in others {
        max = s.max(other, max);
    }
    s.largest(max)
}

/// What stands in for Σ exp(x − max) when `max` is infinite: NaN if a NaN hides in the row.
fn degenerate_sum(x: &[f32]) -> f32 {
    if x.iter().any(|x| x.is_nan()) { f32::NAN } else { 0.0 }
}

#[inline(always)]
fn exp_sum_body<S: Simd>(s: S, x: &[f32]) -> (f32, f32) {
    let max = largest_body(s, x);
    if max.is_infinite() {
        return (max, degenerate_sum(x));
    }
    let shift = s.splat(max);
    let (full, rest) = x.as_chunks::<LANES>();
    let mut sum = s.splat(0.0);
    for x in full {
        sum = s.add(sum, math::exp(s, s.sub(s.load(x), shift)));
    }
    if !rest.is_empty() {
        sum = s.add(sum, math::exp(s, s.sub(s.load_part(rest, f32::NEG_INFINITY), shift)));
    }
    (max, s.sum(sum))
}

/// Softmax in place; returns max(x) and Σ exp(x − max).
#[inline(always)]
pub(super) fn softmax_body<S: Simd>(s: S, x: &mut [f32]) -> (f32, f32) {
    let max = largest_body(s, x);
    if max == f32::NEG_INFINITY {
        let sum = degenerate_sum(x);
        x.fill(sum);
        return (max, sum);
    }
    let shift = s.splat(max);
    let (full, rest) = x.as_chunks_mut::<LANES>();
    let mut sum = s.splat(0.0);
    for x in full.iter_mut() {
        let e = math::exp(s, s.sub(s.load(x), shift));
        sum = s.add(sum, e);
        s.store(e, x);
    }
    if !rest.is_empty() {
        let e = math::exp(s, s.sub(s.load_part(rest, f32::NEG_INFINITY), shift));
        sum = s.add(sum, e);
        s.store_part(e, rest);
    }
    let sum = s.sum(sum);
    let inverse = s.splat(1.0 / sum);
    for x in full.iter_mut() {
        s.store(s.mul(s.load(x), inverse), x);
    }
    if !rest.is_empty() {
        s.store_part(s.mul(s.load_part(rest, 0.0), inverse), rest);
    }
    (max, sum)
}
