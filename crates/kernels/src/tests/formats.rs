//! Products whose operands are rounded: pairs of bf16, and weights kept in bf16 or int8.

use super::super::{Compute, Mat, MatMut, Packed, Storage, gemm, gemm_bf16, gemm_packed};
use super::{bits, close, each_level, levels, on, random};
use proptest::prelude::*;

fn rounded(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect()
}

const SHAPES: [(usize, usize, usize); 9] = [
    (0, 5, 3),
    (5, 0, 3),
    (1, 1, 1),
    (1, 48, 513),
    (3, 49, 17),
    (9, 96, 1025),
    (17, 97, 33),
    (64, 131, 300),
    (193, 50, 40),
];

/// The product of the rounded operands, in double precision.
fn product(a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for l in 0..k {
            for j in 0..n {
                c[i * n + j] += f64::from(a[i * k + l]) * f64::from(b[l * n + j]);
            }
        }
    }
    c
}

fn transposed(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|j| (0..rows).map(move |i| x[i * cols + j])).collect()
}

#[test]
fn products_of_pairs_are_those_of_rounded_operands() {
    each_level(|| {
        for &(m, n, k) in &SHAPES {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let mut reference = product(&rounded(&a), &rounded(&b), (m, n, k));
            let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
            let start = random(m * n, 3);
            let tolerance = 1e-6 * (k as f64).sqrt() + 1e-6;
            for accumulate in [false, true] {
                if accumulate {
                    reference.iter_mut().zip(&start).for_each(|(r, &s)| *r += f64::from(s));
                }
                // Either operand with k along memory or across it.
                let lefts = [Mat::new(&a, m, k), Mat::new(&at, k, m).t()];
                let rights = [Mat::new(&b, k, n), Mat::new(&bt, n, k).t()];
                let mut seen: Option<Vec<u32>> = None;
                for (left, right) in lefts.iter().flat_map(|&l| rights.iter().map(move |&r| (l, r))) {
                    let mut c = start.clone();
                    gemm_bf16(left, right, MatMut::new(&mut c, m, n), accumulate);
                    close(&c, &reference, tolerance, 2e-6);
                    assert_eq!(*seen.get_or_insert_with(|| bits(&c)), bits(&c), "layouts differ");
                    let mut packed = start.clone();
                    gemm_packed(left, &Packed::pairs(right), MatMut::new(&mut packed, m, n), accumulate);
                    assert_eq!(bits(&packed), bits(&c), "packed differs");
                }
            }
        }
    });
}

#[test]
fn a_weight_of_sixteen_bits_loses_nothing_by_being_kept_as_such() {
    // The whole range of f16, numbers below its smallest normal one included.
    let f16 = |x: &f32| half::f16::from_f32(x * x * x * 6e4 + 1e-6 * x).to_f32();
    each_level(|| {
        for &(m, n, k) in &SHAPES {
            let a = random(m * k, 1);
            let b = random(k * n, 2);
            for b in [rounded(&b), b.iter().map(f16).collect()] {
                let (mut plain, mut kept) = (vec![0.0; m * n], vec![0.0; m * n]);
                let b = Mat::new(&b, k, n);
                gemm(Mat::new(&a, m, k), b, MatMut::new(&mut plain, m, n), false);
                let packed = Packed::lossless(b);
                gemm_packed(Mat::new(&a, m, k), &packed, MatMut::new(&mut kept, m, n), false);
                assert_eq!(bits(&plain), bits(&kept), "[{m}, {n}, {k}]");
                assert_eq!(packed.bytes(), Packed::stored(b, Storage::Bf16).bytes());
            }
        }
    });
}

#[test]
fn a_weight_that_half_the_bits_cannot_hold_stays_f32() {
    let (n, k) = (33, 20);
    let b: Vec<f32> = rounded(&random(n * k, 1));
    let f32_bytes = Packed::new(Mat::new(&b, k, n)).bytes();
    // Too fine for either; or one number for bf16 alone, among others for f16 alone.
    for odd in [&[1.0 + f32::EPSILON][..], &[1e30, 1.0 + 1.0 / 1024.0]] {
        let mut b = b.clone();
        b[n..n + odd.len()].copy_from_slice(odd);
        assert_eq!(Packed::lossless(Mat::new(&b, k, n)).bytes(), f32_bytes, "{odd:?}");
    }
}

#[test]
fn int8_weights_are_within_half_a_step() {
    each_level(|| {
        for &(m, n, k) in &SHAPES {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let mut steps = b.clone();
            for j in 0..n {
                let largest = (0..k).map(|l| b[l * n + j].abs()).fold(0.0, f32::max);
                let scale = largest / 127.0;
                for l in 0..k {
                    let x = &mut steps[l * n + j];
                    *x = (*x / scale).round_ties_even() * scale;
                    assert!((*x - b[l * n + j]).abs() <= 0.501 * scale);
                }
            }
            let reference = product(&a, &steps, (m, n, k));
            let mut c = vec![0.0; m * n];
            let packed = Packed::stored(Mat::new(&b, k, n), Storage::Int8);
            gemm_packed(Mat::new(&a, m, k), &packed, MatMut::new(&mut c, m, n), false);
            close(&c, &reference, 2e-6 * (k as f64).sqrt() + 1e-6, 4e-6);
        }
    });
}

#[test]
fn nan_and_infinity_survive_the_rounding() {
    each_level(|| {
        for bad in [f32::NAN, f32::from_bits(0x7fff_ffff), f32::from_bits(0xffff_ffff), f32::INFINITY, 3.4e38]
        {
            let mut a = vec![1.0; 40];
            a[7] = bad;
            let mut c = [0.0];
            gemm_bf16(Mat::new(&a, 1, 40), Mat::new(&[1.0; 40], 40, 1), MatMut::new(&mut c, 1, 1), false);
            assert!(!c[0].is_finite(), "{bad} became {}", c[0]);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn bits_do_not_depend_on_the_batch_or_the_threads(
        m in 1usize..90, n in 1usize..130, k in 1usize..1300, accumulate: bool, seed: u64,
    ) {
        let (a, b, start) = (random(m * k, seed), random(k * n, seed ^ 1), random(m * n, seed ^ 2));
        let b = Mat::new(&b, k, n);
        for level in levels() {
            let packed = on(level, 1, || {
                [Compute::Bf16.pack(b), Packed::stored(b, Storage::Bf16), Packed::stored(b, Storage::Int8)]
            });
            for packed in &packed {
                let run = |threads: usize, rows: usize| on(level, threads, || {
                    let mut c = start.clone();
                    for (a, c) in a.chunks(rows * k).zip(c.chunks_mut(rows * n)) {
                        let m = c.len() / n;
                        gemm_packed(Mat::new(a, m, k), packed, MatMut::new(c, m, n), accumulate);
                    }
                    bits(&c)
                });
                let whole = run(1, m);
                for (threads, rows) in [(2, m), (3, m), (1, 1), (2, 3), (1, 17)] {
                    prop_assert_eq!(&run(threads, rows), &whole, "{} rows on {} threads", rows, threads);
                }
            }
        }
    }
}
