//! Sums over vectors, in one order at every level.

use crate::simd::{Simd, multiversion};

/// Partial sums that run side by side.
const LANES: usize = 16;

multiversion! {
    /// The inner product of two vectors of one length: sixteen interleaved partial sums, added pairwise.
    pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 = dot_body;
}
multiversion! {
    /// y ← y + factor · x.
    pub(super) fn axpy(factor: f64, x: &[f64], y: &mut [f64]) = axpy_body;
}

#[inline(always)]
fn dot_body<S: Simd>(_level: S, x: &[f64], y: &[f64]) -> f64 {
    let (x_full, x_rest) = x.as_chunks::<LANES>();
    let (y_full, y_rest) = y[..x.len()].as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, y) in x_full.iter().zip(y_full) {
        for i in 0..LANES {
            sums[i] += x[i] * y[i];
        }
    }
    for (sum, (x, y)) in sums.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *sum += x * y;
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

#[inline(always)]
fn axpy_body<S: Simd>(_level: S, factor: f64, x: &[f64], y: &mut [f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// √(a² + b²) without overflow on the way. The library's own differs between systems.
pub(super) fn hypot(a: f64, b: f64) -> f64 {
    let (large, small) = (a.abs().max(b.abs()), a.abs().min(b.abs()));
    if large == 0.0 {
        return 0.0;
    }
    let ratio = small / large;
    large * (1.0 + ratio * ratio).sqrt()
}

/// Negates a vector, and its companions, whose largest entry (the first of equals) is negative.
pub(super) fn fix_sign(vector: &mut [f64], companion: Option<&mut [f64]>) {
    let mut largest = 0.0_f64;
    for &x in vector.iter() {
        if x.abs() > largest.abs() {
            largest = x;
        }
    }
    if largest < 0.0 {
        vector.iter_mut().chain(companion.into_iter().flatten()).for_each(|x| *x = -*x);
    }
}
