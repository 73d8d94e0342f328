//! exp, softmax, log-sum-exp, arg-max.

use super::super::{argmax, log_sum_exp, scaled_exp, softmax_row, softmax_rows};
use super::{bits, close, each_level, levels, on, random};
use proptest::prelude::*;

const LENGTHS: [usize; 14] = [0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 100, 257, 4099];

/// Distance in units of the last place of the correctly rounded result.
fn ulps(x: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    let next = f32::from_bits(nearest.to_bits() + 1);
    (f64::from(x) - exact).abs() / f64::from(next - nearest)
}

#[test]
fn exp_is_within_two_ulp() {
    each_level(|| {
        let x: Vec<f32> = (0..2_000_003).map(|i| -104.5 + 193.2 * (i as f32 / 2_000_003.0)).collect();
        let mut y = x.clone();
        scaled_exp(&mut y, 0.0, 1.0);
        let worst = x.iter().zip(&y).map(|(&x, &y)| ulps(y, f64::from(x).exp())).fold(0.0, f64::max);
        assert!(worst <= 2.0, "{worst} ulp on {}", super::super::simd_level());
    });
}

#[test]
fn exp_of_extremes() {
    each_level(|| {
        let mut x = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -104.1, -1e30, 88.8, 1e30, 88.72];
        scaled_exp(&mut x, 0.0, 1.0);
        assert_eq!(x[..4], [1.0, 1.0, f32::INFINITY, 0.0]);
        assert!(x[4].is_nan());
        assert_eq!(x[5..9], [0.0, 0.0, f32::INFINITY, f32::INFINITY]);
        assert!(x[9].is_finite());
    });
}

fn softmax_reference(x: &[f32]) -> Vec<f64> {
    let max = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
    let e: Vec<f64> = x.iter().map(|&x| (f64::from(x) - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|e| e / sum).collect()
}

#[test]
fn softmax_and_log_sum_exp_match_double_precision() {
    each_level(|| {
        for len in LENGTHS {
            let mut x: Vec<f32> = random(len, 3).iter().map(|x| x * 12.0).collect();
            if len > 20 {
                x[7] = f32::NEG_INFINITY;
            }
            let max = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
            let sum: f64 = x.iter().map(|&x| (f64::from(x) - max).exp()).sum();
            let exact = if len == 0 { f64::NEG_INFINITY } else { max + sum.ln() };
            assert!(len == 0 || (f64::from(log_sum_exp(&x)) - exact).abs() < 2e-6);
            let reference = softmax_reference(&x);
            softmax_row(&mut x);
            close(&x, &reference, 1e-12, 2e-6);
        }
        assert_eq!(log_sum_exp(&[]), f32::NEG_INFINITY);
    });
}

#[test]
fn degenerate_rows() {
    each_level(|| {
        let mut x = [f32::NEG_INFINITY; 21];
        assert_eq!(log_sum_exp(&x), f32::NEG_INFINITY);
        softmax_row(&mut x);
        assert_eq!(x, [0.0; 21]);
        let mut x = [1.0; 21];
        x[3] = f32::NAN;
        assert!(log_sum_exp(&x).is_nan());
        softmax_row(&mut x);
        assert!(x.iter().all(|x| x.is_nan()), "a NaN does not go unnoticed");
        let mut x = [f32::NEG_INFINITY; 21];
        x[20] = f32::NAN;
        assert!(log_sum_exp(&x).is_nan());
        softmax_row(&mut x);
        assert!(x.iter().all(|x| x.is_nan()));
        softmax_rows(&mut [], 5);
    });
}

#[test]
fn argmax_takes_the_first_and_never_nan() {
    each_level(|| {
        assert_eq!(argmax(&[]), 0);
        assert_eq!(argmax(&[f32::NAN; 20]), 0);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY]), 1);
        for len in LENGTHS {
            for at in [0, len / 2, len.saturating_sub(1)] {
                let mut x = random(len + 1, 9);
                x[at] = 2.0;
                x[len] = 2.0;
                assert_eq!(argmax(&x), at);
                x[at] = f32::NAN;
                assert_eq!(argmax(&x), len);
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_row_is_alone_among_others_and_blind_to_masked_padding(
        cols in 1usize..200, rows in 1usize..400, padding in 0usize..300, seed: u64,
    ) {
        let x: Vec<f32> = random(rows * cols, seed).iter().map(|x| x * 20.0).collect();
        for level in levels() {
            let batch = |threads| on(level, threads, || {
                let mut batch = x.clone();
                softmax_rows(&mut batch, cols);
                batch
            });
            let (one, two) = (batch(1), batch(2));
            prop_assert_eq!(bits(&one), bits(&two));
            let i = seed as usize % rows;
            let mut row = x[i * cols..(i + 1) * cols].to_vec();
            let expected = &one[i * cols..(i + 1) * cols];
            row.extend(std::iter::repeat_n(f32::NEG_INFINITY, padding));
            on(level, 1, || {
                prop_assert_eq!(log_sum_exp(&row).to_bits(), log_sum_exp(&row[..cols]).to_bits());
                softmax_row(&mut row);
                prop_assert_eq!(bits(&row[..cols]), bits(expected));
                prop_assert!(row[cols..].iter().all(|&x| x == 0.0));
                Ok(())
            })?;
        }
    }

    #[test]
    fn exp_has_the_same_bits_wherever_it_stands(x in -110f32..90.0, at in 0usize..40, len in 40usize..60) {
        for level in levels() {
            on(level, 1, || {
                let mut alone = [x];
                scaled_exp(&mut alone, 0.0, 1.0);
                let mut many = vec![0.5; len];
                many[at] = x;
                scaled_exp(&mut many, 0.0, 1.0);
                prop_assert_eq!(alone[0].to_bits(), many[at].to_bits());
                Ok(())
            })?;
        }
    }
}
