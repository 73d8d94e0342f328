//! Each kernel against a scalar reference in double precision, at every instruction-set level and
//! on awkward shapes; and the promises about bits, with random shapes.

mod activation;
mod attention;
mod gemm;
mod norm;
mod optimizer;
mod rope;
mod rows;
mod speed;
mod vector;

use super::simd::forced::{each_level, levels, on};
use crate::Rng;

/// Values in −1..1 that depend on `seed` alone.
fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::at(&[seed, len as u64]);
    (0..len).map(|_| (rng.uniform() * 2.0 - 1.0) as f32).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Asserts |ours − reference| ≤ absolute + relative · |reference|.
#[track_caller]
fn close(ours: &[f32], reference: &[f64], absolute: f64, relative: f64) {
    assert_eq!(ours.len(), reference.len());
    for (i, (&x, &y)) in ours.iter().zip(reference).enumerate() {
        let error = (f64::from(x) - y).abs();
        assert!(
            error <= absolute + relative * y.abs(),
            "element {i} of {}: {x} instead of {y} on {}",
            ours.len(),
            super::simd_level()
        );
    }
}
