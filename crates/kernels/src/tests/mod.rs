//! Each kernel against a scalar reference in double precision, at every instruction-set level and
//! on awkward shapes; and the promises about bits, with random shapes.

mod activation;
mod attention;
mod formats;
mod gemm;
mod layer_norm;
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

/// AVX-512 and AVX2 round alike and add in the same order; so does the portable level where the
/// target has fused multiply-add.
#[test]
fn levels_with_fused_multiply_add_agree_in_every_bit() {
    use super::{Activation, AttentionShape, Mat, MatMut, Segment};
    let everything = || {
        let (m, n, k) = (37, 75, 1100);
        let mut c = random(m * n, 1);
        let (a, b) = (random(m * k, 2), random(k * n, 3));
        super::gemm(Mat::new(&a, m, k), Mat::new(&b, k, n), MatMut::new(&mut c, m, n), true);
        let mut seen = bits(&c);
        let x: Vec<f32> = random(3 * 259, 4).iter().map(|x| 40.0 * x).collect();
        for act in [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::QuickGelu] {
            let mut y = vec![0.0; x.len()];
            super::activate(act, &x, &mut y);
            seen.extend(bits(&y));
            super::activate_backward(act, &x, &x, &mut y);
            seen.extend(bits(&y));
        }
        let mut y: Vec<f32> = x.iter().map(|x| 2.6 * x).collect();
        super::scaled_exp(&mut y, 0.0, 1.0);
        seen.extend(bits(&y));
        let (mut out, mut inv) = (vec![0.0; x.len()], [0.0; 3]);
        super::rms_norm(&x, &c[..259], 0.0, 1e-6, &mut out, &mut inv);
        seen.extend(bits(&out));
        let mut rows = x.clone();
        super::softmax_rows(&mut rows, 259);
        seen.extend(bits(&rows));
        seen.push(super::log_sum_exp(&x).to_bits());
        let shape = AttentionShape {
            heads: 2,
            kv_heads: 1,
            head_dim: 20,
            scale: 0.3,
            window: None,
            softcap: Some(5.0),
            compute: super::Compute::F32,
        };
        let (q, kv) = (random(70 * 40, 5), random(70 * 20, 6));
        let keys = super::Keys::Rows { k: &kv, v: &kv, count: 70 };
        let segment = Segment { q_rows: 0..70, keys, first_query: 0, prefix: 0 };
        let mut out = vec![0.0; q.len()];
        super::attention(&q, &[segment], &shape, &mut out, None);
        seen.extend(bits(&out));
        seen
    };
    let fused: Vec<_> = levels()
        .into_iter()
        .map(|level| on(level, 2, || (super::simd_level(), everything())))
        .filter(|(name, _)| *name != "portable" || cfg!(target_arch = "aarch64"))
        .collect();
    for (name, seen) in fused.iter().skip(1) {
        assert!(*seen == fused[0].1, "{name} differs from {}", fused[0].0);
    }
}
