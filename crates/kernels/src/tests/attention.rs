//! Attention against a dense double-precision version, its gradients against differences of that,
//! and its bits against the composition it stands for.
#![expect(clippy::single_range_in_vec_init, reason = "one sequence is a list of one range of rows")]

use super::super::{
    AttentionShape, Compute, KeyValues, Keys, Mat, MatMut, PackedSequence, Segment, attention,
    attention_backward, gemm, scale, softcap, softmax_row,
};
use super::{bits, close, each_level, levels, on, random};
use proptest::prelude::*;
use std::ops::{Deref, Range};

const PLAIN: AttentionShape = AttentionShape {
    heads: 4,
    kv_heads: 2,
    head_dim: 5,
    scale: 0.4,
    window: None,
    softcap: None,
    compute: Compute::F32,
};

/// A shape, and how many of the first positions see each other both ways.
#[derive(Clone, Copy, Debug)]
struct Kind {
    shape: AttentionShape,
    prefix: usize,
}

impl Deref for Kind {
    type Target = AttentionShape;

    fn deref(&self) -> &AttentionShape {
        &self.shape
    }
}

fn kinds() -> Vec<Kind> {
    let kind = |prefix, shape| Kind { shape, prefix };
    vec![
        kind(0, PLAIN),
        kind(usize::MAX, PLAIN),
        kind(0, AttentionShape { kv_heads: 4, head_dim: 16, window: Some(3), ..PLAIN }),
        kind(0, AttentionShape { kv_heads: 1, head_dim: 33, softcap: Some(1.5), ..PLAIN }),
        kind(usize::MAX, AttentionShape { window: Some(70), softcap: Some(0.7), ..PLAIN }),
        kind(0, AttentionShape { heads: 2, kv_heads: 2, head_dim: 64, scale: 0.125, ..PLAIN }),
        kind(5, PLAIN),
        kind(66, AttentionShape { window: Some(9), softcap: Some(0.7), ..PLAIN }),
    ]
}

fn sees(shape: &Kind, position: usize, key: usize) -> bool {
    (key <= position || key < shape.prefix) && shape.window.is_none_or(|w| position < key + w)
}

/// Self-attention of one sequence, dense and in double precision: the output.
fn dense(q: &[f64], k: &[f64], v: &[f64], shape: &Kind) -> Vec<f64> {
    let (hd, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let (width, kv_width) = (shape.heads * hd, shape.kv_heads * hd);
    let len = q.len() / width;
    let mut out = vec![0.0; q.len()];
    for i in 0..len {
        for h in 0..shape.heads {
            let q = &q[i * width + h * hd..][..hd];
            let score = |j: usize| {
                let k = &k[j * kv_width + h / group * hd..][..hd];
                let s = f64::from(shape.scale) * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
                shape.softcap.map_or(s, |c| f64::from(c) * (s / f64::from(c)).tanh())
            };
            let weights: Vec<(usize, f64)> =
                (0..len).filter(|&j| sees(shape, i, j)).map(|j| (j, score(j).exp())).collect();
            let sum: f64 = weights.iter().map(|w| w.1).sum();
            for (j, w) in weights {
                let v = &v[j * kv_width + h / group * hd..][..hd];
                let out = &mut out[i * width + h * hd..][..hd];
                out.iter_mut().zip(v).for_each(|(o, v)| *o += w / sum * v);
            }
        }
    }
    out
}

struct Case {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
}

impl Case {
    fn new(len: usize, shape: &Kind, seed: u64) -> Self {
        let (width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let wide = |seed| random(len * width, seed).iter().map(|x| 2.0 * x).collect::<Vec<f32>>();
        Case {
            q: wide(seed),
            k: random(len * kv_width, seed ^ 11),
            v: random(len * kv_width, seed ^ 12),
            dout: random(len * width, seed ^ 13),
        }
    }

    /// Self-attention of packed sequences: out and lse.
    fn forward(&self, segments: &[Range<usize>], shape: &Kind) -> (Vec<f32>, Vec<f32>) {
        let kv_width = shape.kv_heads * shape.head_dim;
        let part = |x: &[f32], r: &Range<usize>| x[r.start * kv_width..r.end * kv_width].to_vec();
        let owned: Vec<_> = segments.iter().map(|r| (r, part(&self.k, r), part(&self.v, r))).collect();
        let segments: Vec<_> = owned
            .iter()
            .map(|(r, k, v)| {
                let keys = Keys::Rows { k, v, count: r.len() };
                Segment { q_rows: (*r).clone(), keys, first_query: 0, prefix: shape.prefix }
            })
            .collect();
        let rows = self.q.len() / (shape.heads * shape.head_dim);
        let (mut out, mut lse) = (vec![0.0; self.q.len()], vec![0.0; rows * shape.heads]);
        attention(&self.q, &segments, shape, &mut out, Some(&mut lse));
        (out, lse)
    }

    fn backward(&self, segments: &[Range<usize>], shape: &Kind) -> [Vec<f32>; 3] {
        let (out, lse) = self.forward(segments, shape);
        let [mut dq, mut dk, mut dv] = [&self.q, &self.k, &self.v].map(|x| vec![f32::NAN; x.len()]);
        let sequences: Vec<_> =
            segments.iter().map(|rows| PackedSequence { rows: rows.clone(), prefix: shape.prefix }).collect();
        attention_backward(
            &self.q, &self.k, &self.v, &out, &lse, &self.dout, &sequences, shape, &mut dq, &mut dk, &mut dv,
        );
        [dq, dk, dv]
    }
}

fn double(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn forward_matches_double_precision() {
    each_level(|| {
        for shape in kinds() {
            for len in [1, 2, 7, 64, 65, 131] {
                let case = Case::new(len, &shape, 1);
                let exact = dense(&double(&case.q), &double(&case.k), &double(&case.v), &shape);
                close(&case.forward(&[0..len], &shape).0, &exact, 2e-6, 2e-6);
            }
        }
    });
}

/// The loss Σ dout · out moves along random directions as the gradients say.
#[test]
fn backward_matches_differences() {
    each_level(|| {
        for shape in kinds() {
            for len in [1, 6, 70] {
                let case = Case::new(len, &shape, 2);
                let gradients = case.backward(&[0..len], &shape);
                let start = [double(&case.q), double(&case.k), double(&case.v)];
                let loss = |x: &[Vec<f64>; 3]| -> f64 {
                    let out = dense(&x[0], &x[1], &x[2], &shape);
                    out.iter().zip(&case.dout).map(|(o, &d)| o * f64::from(d)).sum()
                };
                for (which, gradient) in gradients.iter().enumerate() {
                    for seed in 0..4 {
                        // One direction touches everything, the others a single element.
                        let direction: Vec<f64> = match seed {
                            0 => double(&random(gradient.len(), 77)),
                            _ => {
                                let mut unit = vec![0.0; gradient.len()];
                                unit[seed * 7919 % gradient.len()] = 1.0;
                                unit
                            }
                        };
                        let moved = |by: f64| {
                            let mut x = start.clone();
                            x[which].iter_mut().zip(&direction).for_each(|(x, d)| *x += by * d);
                            loss(&x)
                        };
                        let exact = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                        let ours: f64 = gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d).sum();
                        let error = (ours - exact).abs();
                        assert!(
                            error <= 2e-5 + 2e-5 * exact.abs(),
                            "{ours} instead of {exact} along {which}.{seed}, {shape:?}, {len} rows"
                        );
                    }
                }
            }
        }
    });
}

/// With operands in bf16: output and gradients are those of f32 up to the rounding of every operand.
#[test]
fn pairs_are_near_f32() {
    each_level(|| {
        for shape in kinds() {
            let pairs = Kind { shape: AttentionShape { compute: Compute::Bf16, ..*shape }, ..shape };
            for len in [1, 2, 7, 65, 131] {
                let case = Case::new(len, &shape, 1);
                let near = |ours: &[f32], exact: &[f32]| {
                    let largest = exact.iter().fold(1.0, |a: f32, x| a.max(x.abs()));
                    let gaps = ours.iter().zip(exact).map(|(a, b)| (a - b).abs());
                    let worst = gaps.fold(0.0, f32::max);
                    assert!(worst <= 0.03 * largest, "off by {worst} of {largest}, {shape:?}, {len} rows");
                };
                near(&case.forward(&[0..len], &pairs).0, &case.forward(&[0..len], &shape).0);
                let (ours, exact) = (case.backward(&[0..len], &pairs), case.backward(&[0..len], &shape));
                ours.iter().zip(&exact).for_each(|(ours, exact)| near(ours, exact));
                // A sequence's bits do not depend on what is packed beside it.
                let twice = Case {
                    q: case.q.repeat(2),
                    k: case.k.repeat(2),
                    v: case.v.repeat(2),
                    dout: case.dout.repeat(2),
                };
                let both = twice.backward(&[0..len, len..2 * len], &pairs);
                for (both, alone) in both.iter().zip(&ours) {
                    assert_eq!(bits(both), bits(&alone.repeat(2)));
                }
            }
        }
    });
}

/// What attention promises to equal bit for bit: whole products and whole rows.
fn composition(case: &Case, len: usize, shape: &Kind) -> Vec<f32> {
    let (hd, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let (width, kv_width) = (shape.heads * hd, shape.kv_heads * hd);
    let mut out = vec![0.0; len * width];
    for h in 0..shape.heads {
        let kv = h / group * hd;
        let q = Mat::strided(&case.q[h * hd..], len, hd, width);
        let (k, v) =
            (Mat::strided(&case.k[kv..], len, hd, kv_width), Mat::strided(&case.v[kv..], len, hd, kv_width));
        let mut s = vec![0.0; len * len];
        gemm(q, k.t(), MatMut::new(&mut s, len, len), false);
        scale(shape.scale, &mut s);
        if let Some(cap) = shape.softcap {
            softcap(&mut s, cap);
        }
        for (i, row) in s.chunks_exact_mut(len).enumerate() {
            (0..len).filter(|&j| !sees(shape, i, j)).for_each(|j| row[j] = f32::NEG_INFINITY);
            softmax_row(row);
        }
        let out = MatMut::strided(&mut out[h * hd..], len, hd, width);
        gemm(Mat::new(&s, len, len), v, out, false);
    }
    out
}

/// In pieces of `piece` rows with a growing cache: a prompt that comes in parts, or tokens one by one.
///
/// Every piece is first added with something in its place that is forgotten again.
fn in_pieces(case: &Case, len: usize, shape: &Kind, piece: usize) -> Vec<f32> {
    let (width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let mut out = vec![0.0; len * width];
    let mut kept = KeyValues::new(shape.kv_heads, shape.head_dim);
    for first in (0..len).step_by(piece) {
        let rows = first..len.min(first + piece);
        let new = rows.start * kv_width..rows.end * kv_width;
        kept.append(&case.v[new.clone()], &case.k[new.clone()]);
        kept.truncate(first);
        kept.append(&case.k[new.clone()], &case.v[new]);
        let range = rows.start * width..rows.end * width;
        let keys = Keys::Kept(&kept);
        let segment = Segment { q_rows: 0..rows.len(), keys, first_query: first, prefix: shape.prefix };
        attention(&case.q[range.clone()], &[segment], shape, &mut out[range], None);
    }
    assert_eq!(kept.rows(), [case.k.clone(), case.v.clone()]);
    out
}

/// The same with keys and values as rows.
fn in_pieces_of_rows(case: &Case, len: usize, shape: &Kind, piece: usize) -> Vec<f32> {
    let width = shape.heads * shape.head_dim;
    let mut out = vec![0.0; len * width];
    for first in (0..len).step_by(piece) {
        let rows = first..len.min(first + piece);
        let range = rows.start * width..rows.end * width;
        let keys = Keys::Rows { k: &case.k, v: &case.v, count: rows.end };
        let segment = Segment { q_rows: 0..rows.len(), keys, first_query: first, prefix: shape.prefix };
        attention(&case.q[range.clone()], &[segment], shape, &mut out[range], None);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn bits_equal_the_composition_and_decoding(
        len in 1usize..200, which in 0usize..8, piece in 1usize..150, seed: u64,
    ) {
        let shape = kinds()[which];
        let case = Case::new(len, &shape, seed);
        for level in levels() {
            let expected = bits(&on(level, 1, || composition(&case, len, &shape)));
            for threads in [1, 2, 3] {
                prop_assert_eq!(&bits(&on(level, threads, || case.forward(&[0..len], &shape).0)), &expected);
            }
            // What sees both ways has to come in one piece.
            for piece in [1, piece].map(|piece| shape.prefix.max(piece)) {
                prop_assert_eq!(&bits(&on(level, 2, || in_pieces(&case, len, &shape, piece))), &expected);
                let rows = || in_pieces_of_rows(&case, len, &shape, piece);
                prop_assert_eq!(&bits(&on(level, 2, rows)), &expected);
            }
        }
    }

    #[test]
    fn packed_sequences_have_the_bits_of_single_ones(
        first in 1usize..150, second in 1usize..150, which in 0usize..8, seed: u64,
    ) {
        let shape = kinds()[which];
        let len = first + second;
        let case = Case::new(len, &shape, seed);
        let (width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let cut = |x: &[f32], width: usize| x[first * width..].to_vec();
        let alone = Case {
            q: cut(&case.q, width),
            k: cut(&case.k, kv_width),
            v: cut(&case.v, kv_width),
            dout: cut(&case.dout, width),
        };
        for level in levels() {
            let packed = |threads| on(level, threads, || {
                let segments = [0..first, first..len];
                (case.forward(&segments, &shape), case.backward(&segments, &shape))
            });
            let ((out, lse), [dq, dk, dv]) = packed(1);
            let ((out2, lse2), [dq2, dk2, dv2]) = packed(2);
            for (one, two) in [(&out, &out2), (&lse, &lse2), (&dq, &dq2), (&dk, &dk2), (&dv, &dv2)] {
                prop_assert_eq!(bits(one), bits(two));
            }
            let one = 0..second;
            let alone = on(level, 2, || {
                let segments = std::slice::from_ref(&one);
                (alone.forward(segments, &shape), alone.backward(segments, &shape))
            });
            let ((out1, lse1), [dq1, dk1, dv1]) = alone;
            prop_assert_eq!(bits(&cut(&out, width)), bits(&out1));
            prop_assert_eq!(bits(&cut(&lse, shape.heads)), bits(&lse1));
            prop_assert_eq!(bits(&cut(&dq, width)), bits(&dq1));
            prop_assert_eq!(bits(&cut(&dk, kv_width)), bits(&dk1));
            prop_assert_eq!(bits(&cut(&dv, kv_width)), bits(&dv1));
        }
    }
}

/// A window far behind the start, where invisible leading keys are skipped in whole blocks.
#[test]
fn skipping_keys_before_a_window_keeps_the_bits() {
    let len = 3300;
    let shape =
        AttentionShape { heads: 1, kv_heads: 1, head_dim: 16, scale: 0.25, window: Some(100), ..PLAIN };
    let shape = Kind { shape, prefix: 0 };
    let case = Case::new(len, &shape, 5);
    for level in levels() {
        let expected = bits(&on(level, 2, || composition(&case, len, &shape)));
        assert_eq!(bits(&on(level, 2, || case.forward(&[0..len], &shape).0)), expected);
        assert_eq!(bits(&on(level, 2, || in_pieces(&case, len, &shape, 999))), expected);
        assert_eq!(bits(&on(level, 2, || in_pieces(&case, len, &shape, 1))), expected);
    }
}

/// The same for gradients: far rows of a windowed sequence against a sequence of those rows.
#[test]
fn gradients_with_skipped_keys_match_differences() {
    each_level(|| {
        let len = 1700;
        let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 4, window: Some(50), ..PLAIN };
        let shape = Kind { shape, prefix: 0 };
        let case = Case::new(len, &shape, 6);
        let gradients = case.backward(&[0..len], &shape);
        let start = [double(&case.q), double(&case.k), double(&case.v)];
        for (which, gradient) in gradients.iter().enumerate() {
            let direction = double(&random(gradient.len(), 78));
            let moved = |by: f64| -> f64 {
                let mut x = start.clone();
                x[which].iter_mut().zip(&direction).for_each(|(x, d)| *x += by * d);
                let out = dense(&x[0], &x[1], &x[2], &shape);
                out.iter().zip(&case.dout).map(|(o, &d)| o * f64::from(d)).sum()
            };
            let exact = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let ours: f64 = gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d).sum();
            assert!((ours - exact).abs() <= 1e-4 + 1e-4 * exact.abs(), "{ours} instead of {exact}");
        }
    });
}

#[test]
fn a_query_that_sees_nothing_gets_zeros() {
    each_level(|| {
        let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 3, ..PLAIN };
        for rows in [1, 2] {
            let (mut out, mut lse) = (vec![9.0; 3 * rows], vec![9.0; rows]);
            let kept = KeyValues::new(1, 3);
            for keys in [Keys::Rows { k: &[], v: &[], count: 0 }, Keys::Kept(&kept)] {
                let segment = Segment { q_rows: 0..rows, keys, first_query: 0, prefix: 0 };
                attention(&vec![1.0; 3 * rows], &[segment], &shape, &mut out, Some(&mut lse));
                assert!(out.iter().all(|&x| x == 0.0) && lse.iter().all(|&x| x == f32::NEG_INFINITY));
                out.fill(9.0);
                lse.fill(9.0);
            }
        }
    });
}
