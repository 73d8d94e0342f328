//! Operations on whole vectors.

use super::simd::{LANES, Simd, map, multiversion};
use rayon::prelude::*;

/// Elements of one task.
const CHUNK: usize = 1 << 16;
/// Elements whose products [`dot`] sums before they join the total. Part of the numerical
/// contract: the order of that sum is the same on any number of threads.
pub const PARTIAL: usize = 4096;

multiversion! { fn axpy_chunk(alpha: f32, x: &[f32], y: &mut [f32]) = axpy_body; }
multiversion! { fn scale_chunk(alpha: f32, x: &mut [f32]) = scale_body; }
multiversion! { fn add_chunk(x: &[f32], y: &[f32], out: &mut [f32]) = add_body; }
multiversion! { fn mul_chunk(x: &[f32], y: &[f32], out: &mut [f32]) = mul_body; }
multiversion! { fn dot_chunk(x: &[f32], y: &[f32]) -> f64 = dot_body; }

#[inline(always)]
fn axpy_body<S: Simd>(s: S, alpha: f32, x: &[f32], y: &mut [f32]) {
    let alpha = s.splat(alpha);
    map(
        s,
        [x],
        [y],
        #[inline(always)]
        |[x], [y]| [s.fma(alpha, x, y)],
    );
}

#[inline(always)]
pub(super) fn scale_body<S: Simd>(s: S, alpha: f32, x: &mut [f32]) {
    let alpha = s.splat(alpha);
    map(
        s,
        [],
        [x],
        #[inline(always)]
        |[], [x]| [s.mul(alpha, x)],
    );
}

#[inline(always)]
fn add_body<S: Simd>(s: S, x: &[f32], y: &[f32], out: &mut [f32]) {
    map(
        s,
        [x, y],
        [out],
        #[inline(always)]
        |[x, y], _| [s.add(x, y)],
    );
}

#[inline(always)]
fn mul_body<S: Simd>(s: S, x: &[f32], y: &[f32], out: &mut [f32]) {
    map(
        s,
        [x, y],
        [out],
        #[inline(always)]
        |[x, y], _| [s.mul(x, y)],
    );
}

/// Products of f32 are exact in f64, so this sum has the same bits at every level.
#[inline(always)]
fn dot_body<S: Simd>(_: S, x: &[f32], y: &[f32]) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ys, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..LANES {
            sums[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    for (i, (&x, &y)) in x_rest.iter().zip(y_rest).enumerate() {
        sums[i] += f64::from(x) * f64::from(y);
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

/// y += alpha · x.
///
/// # Panics
/// When lengths differ; so for the other functions here.
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "axpy: x and y differ in length");
    if x.len() <= CHUNK {
        return axpy_chunk(alpha, x, y);
    }
    x.par_chunks(CHUNK).zip(y.par_chunks_mut(CHUNK)).for_each(|(x, y)| axpy_chunk(alpha, x, y));
}

/// x ← alpha · x.
pub fn scale(alpha: f32, x: &mut [f32]) {
    if x.len() <= CHUNK {
        return scale_chunk(alpha, x);
    }
    x.par_chunks_mut(CHUNK).for_each(|x| scale_chunk(alpha, x));
}

/// out = x + y.
pub fn add(x: &[f32], y: &[f32], out: &mut [f32]) {
    binary(x, y, out, add_chunk);
}

/// out = x · y, element by element.
pub fn mul(x: &[f32], y: &[f32], out: &mut [f32]) {
    binary(x, y, out, mul_chunk);
}

fn binary(x: &[f32], y: &[f32], out: &mut [f32], chunk: fn(&[f32], &[f32], &mut [f32])) {
    assert!(
        x.len() == y.len() && x.len() == out.len(),
        "elementwise operation on slices of different lengths"
    );
    if x.len() <= CHUNK {
        return chunk(x, y, out);
    }
    let chunks = x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)).zip(out.par_chunks_mut(CHUNK));
    chunks.for_each(|((x, y), out)| chunk(x, y, out));
}

/// Σ x·y in double precision, in an order that depends on the length alone.
pub fn dot(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len(), "dot: x and y differ in length");
    let partial = |(x, y): (&[f32], &[f32])| dot_chunk(x, y);
    if x.len() <= CHUNK {
        return x.chunks(PARTIAL).zip(y.chunks(PARTIAL)).map(partial).sum();
    }
    let partials: Vec<f64> = x.par_chunks(PARTIAL).zip(y.par_chunks(PARTIAL)).map(partial).collect();
    partials.into_iter().sum()
}
