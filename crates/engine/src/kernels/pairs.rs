//! Operands rounded to bf16, two neighbours along k joined in 32 bits.
//!
//! A matrix of pairs moves through packing like a matrix of f32 with half the k: only the
//! micro-kernel looks inside. Where k is odd the last pair has a zero in its upper half.

use super::matrix::Mat;
use super::scratch::Buffer;
use super::simd::{LANES, Simd, multiversion};
use rayon::prelude::*;

/// Elements below which a second thread does not pay.
const SERIAL: usize = 1 << 16;

/// Pairs along the columns of a left operand `[m, k]`: `[m, ⌈k/2⌉]`.
pub(super) fn left<'a>(a: Mat, buffer: &'a mut Buffer) -> Mat<'a> {
    let pairs = a.cols.div_ceil(2);
    let out = buffer.stale(a.rows * pairs);
    if a.row_stride == 1 && a.col_stride != 1 {
        // k runs across rows of memory: two of them are zipped.
        each_row(out, a.rows, |p, out| {
            let row = |k: usize| &a.data[k * a.col_stride..][..a.rows];
            if 2 * p + 1 < a.cols { zip(row(2 * p), row(2 * p + 1), out) } else { zip(row(2 * p), &[], out) }
        });
        return Mat { data: out, rows: a.rows, cols: pairs, row_stride: 1, col_stride: a.rows };
    }
    each_row(out, pairs, |i, out| {
        let out: &mut [u16] = bytemuck::cast_slice_mut(out);
        if a.col_stride == 1 {
            round(&a.data[i * a.row_stride..][..a.cols], out);
        } else {
            for (k, out) in out.iter_mut().enumerate() {
                let x = if k < a.cols { a.data[i * a.row_stride + k * a.col_stride] } else { 0.0 };
                *out = half::bf16::from_f32(x).to_bits();
            }
        }
    });
    Mat { data: out, rows: a.rows, cols: pairs, row_stride: pairs, col_stride: 1 }
}

/// Pairs along the rows of a right operand `[k, n]`: `[⌈k/2⌉, n]`.
pub(super) fn right<'a>(b: Mat, buffer: &'a mut Buffer) -> Mat<'a> {
    left(b.t(), buffer).t()
}

fn each_row(out: &mut [f32], width: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() < SERIAL {
        out.chunks_exact_mut(width.max(1)).enumerate().for_each(|(i, row)| fill(i, row));
    } else {
        let rows = out.par_chunks_exact_mut(width).enumerate();
        rows.with_min_len((SERIAL / 4).div_ceil(width)).for_each(|(i, row)| fill(i, row));
    }
}

multiversion! {
    /// Rounds a row to bf16; `out` may hold one element more, which becomes zero.
    fn round(x: &[f32], out: &mut [u16]) = round_body;
}

multiversion! {
    /// Pairs of the elements of two rows; an empty second row counts as zeros.
    fn zip(first: &[f32], second: &[f32], out: &mut [f32]) = zip_body;
}

#[inline(always)]
fn round_body<S: Simd>(s: S, x: &[f32], out: &mut [u16]) {
    let (full, rest) = x.as_chunks::<LANES>();
    let (out_full, _) = out.as_chunks_mut::<LANES>();
    for (x, out) in full.iter().zip(out_full.iter_mut()) {
        s.store_bf16(s.load(x), out);
    }
    let out = &mut out[full.len() * LANES..];
    let mut last = [0; LANES];
    s.store_bf16(s.load_part(rest, 0.0), &mut last);
    // Up to one element more than there are values, which is the zero that fills the last pair.
    out.iter_mut().zip(last).for_each(|(out, x)| *out = x);
}

#[inline(always)]
fn zip_body<S: Simd>(s: S, first: &[f32], second: &[f32], out: &mut [f32]) {
    for (i, out) in out.chunks_mut(LANES).enumerate() {
        let x = s.load_part(&first[i * LANES..][..out.len()], 0.0);
        let y = match second.get(i * LANES..) {
            Some(y) if !second.is_empty() => s.load_part(&y[..out.len()], 0.0),
            _ => s.splat(0.0),
        };
        s.store_part(s.zip_bf16(x, y), out);
    }
}
