//! Whole-vector operations.

use super::super::{add, axpy, dot, mul, scale};
use super::{close, each_level, levels, on, random};

const LENGTHS: [usize; 8] = [0, 1, 15, 16, 17, 4097, 65_537, 200_003];

#[test]
fn elementwise_operations_match_double_precision() {
    each_level(|| {
        for len in LENGTHS {
            let (x, y) = (random(len, 1), random(len, 2));
            let exact = |f: fn(f64, f64) -> f64| -> Vec<f64> {
                x.iter().zip(&y).map(|(&x, &y)| f(f64::from(x), f64::from(y))).collect()
            };
            let mut out = vec![f32::NAN; len];
            add(&x, &y, &mut out);
            close(&out, &exact(|x, y| x + y), 0.0, 1e-7);
            mul(&x, &y, &mut out);
            close(&out, &exact(|x, y| x * y), 0.0, 1e-7);
            out.copy_from_slice(&y);
            axpy(0.5, &x, &mut out);
            close(&out, &exact(|x, y| 0.5 * x + y), 0.0, 1e-7);
            scale(3.0, &mut out);
            close(&out, &exact(|x, y| 3.0 * (0.5 * x + y)), 0.0, 2e-7);
        }
    });
}

#[test]
fn dot_has_the_same_bits_on_any_threads_at_any_level() {
    for len in LENGTHS {
        let (x, y) = (random(len, 1), random(len, 2));
        let exact: f64 = x.iter().zip(&y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
        let mut seen = Vec::new();
        for level in levels() {
            for threads in [1, 2, 3] {
                seen.push(on(level, threads, || dot(&x, &y)).to_bits());
            }
        }
        assert!((f64::from_bits(seen[0]) - exact).abs() <= 1e-12 * (len as f64 + 1.0));
        assert!(seen.iter().all(|&s| s == seen[0]));
    }
}
