//! Operands rearranged so that the micro-kernel reads them in a straight line.
//!
//! The right operand becomes panels of NR columns, each `[k][NR]`, the last one only as many
//! whole vectors wide as it needs and padded with zeros. The left operand becomes panels of MR
//! rows, each `[k][MR]`.

use super::matrix::Mat;
use super::simd::{LANES, Simd};
use super::tile::Tiles;

/// Elements of the packed form of a right operand.
pub(super) fn right_len(k: usize, n: usize) -> usize {
    k * n.next_multiple_of(LANES)
}

/// Packs `b` into panels of `S::NR` columns.
#[inline(always)]
pub(super) fn right<S: Tiles>(s: S, b: Mat, out: &mut [f32]) {
    for j in (0..b.cols).step_by(S::NR) {
        let panel = b.columns(j..b.cols.min(j + S::NR));
        let width = panel.cols.next_multiple_of(LANES);
        right_panel(s, panel, width, &mut out[j * b.rows..][..width * b.rows]);
    }
}

/// Packs one panel: `out[k * width + j]` is element (k, j), zero beyond the last column.
#[inline(always)]
pub(super) fn right_panel<S: Simd>(s: S, b: Mat, width: usize, out: &mut [f32]) {
    if b.col_stride == 1 {
        for (k, row) in out.chunks_exact_mut(width).enumerate() {
            let b = &b.data[k * b.row_stride..][..b.cols];
            let (full, rest) = b.as_chunks::<LANES>();
            let (out_full, _) = row.as_chunks_mut::<LANES>();
            for (x, out) in full.iter().zip(out_full.iter_mut()) {
                s.store(s.load(x), out);
            }
            if !rest.is_empty() {
                s.store(s.load_part(rest, 0.0), &mut out_full[full.len()]);
            }
        }
    } else if b.row_stride == 1 {
        for j in (0..b.cols).step_by(LANES) {
            transposed(s, LANES, b.columns(j..b.cols.min(j + LANES)), width, &mut out[j..]);
        }
    } else {
        for (k, row) in out.chunks_exact_mut(width).enumerate() {
            row.fill(0.0);
            for (j, x) in row[..b.cols].iter_mut().enumerate() {
                *x = b.data[k * b.row_stride + j * b.col_stride];
            }
        }
    }
}

/// Up to sixteen columns whose elements are contiguous along k, written sixteen to a row, zero
/// beyond the last column.
///
/// `usual` is the number of columns of all but the last call: known when the function is compiled,
/// it keeps a block of that many in registers.
#[inline(always)]
fn transposed<S: Simd>(s: S, usual: usize, b: Mat, width: usize, out: &mut [f32]) {
    let whole = if b.cols == usual { b.rows / LANES * LANES } else { 0 };
    for k in (0..whole).step_by(LANES) {
        let mut block = [s.splat(0.0); LANES];
        for (j, v) in block[..usual].iter_mut().enumerate() {
            let x = &b.data[j * b.col_stride + k..][..LANES];
            // SAFETY: the slice has sixteen elements.
            *v = unsafe { s.load_ptr(x.as_ptr()) };
        }
        s.transpose(&mut block);
        let out = &mut out[k * width..][..(LANES - 1) * width + LANES];
        for (i, &v) in block.iter().enumerate() {
            // SAFETY: the slice reaches sixteen elements beyond its last row's start.
            unsafe { s.store_ptr(v, out.as_mut_ptr().add(i * width)) };
        }
    }
    for k in (whole..b.rows).step_by(LANES) {
        let deep = LANES.min(b.rows - k);
        let mut block = [s.splat(0.0); LANES];
        for (j, v) in block[..b.cols].iter_mut().enumerate() {
            *v = s.load_part(&b.data[j * b.col_stride + k..][..deep], 0.0);
        }
        s.transpose(&mut block);
        for (i, &v) in block[..deep].iter().enumerate() {
            if let Some(row) = out[(k + i) * width..].first_chunk_mut() {
                s.store(v, row);
            }
        }
    }
}

/// Elements of the packed form of a left operand, with the slack that [`left`] writes into.
pub(super) fn left_len<S: Tiles>(m: usize, k: usize) -> usize {
    m.next_multiple_of(S::MR) * k + LANES
}

/// Packs `a` into panels of `S::MR` rows, zero beyond the last row.
#[inline(always)]
pub(super) fn left<S: Tiles>(s: S, a: Mat, out: &mut [f32]) {
    let k_len = a.cols;
    if a.row_stride == 1 && a.col_stride != 1 {
        for k in 0..k_len {
            let column = &a.data[k * a.col_stride..][..a.rows];
            let mut panels = column.chunks_exact(S::MR);
            let mut at = k * S::MR;
            for x in &mut panels {
                out[at..at + S::MR].copy_from_slice(x);
                at += k_len * S::MR;
            }
            let rest = panels.remainder();
            if !rest.is_empty() {
                out[at..at + rest.len()].copy_from_slice(rest);
                out[at + rest.len()..at + S::MR].fill(0.0);
            }
        }
        return;
    }
    for i in (0..a.rows).step_by(S::MR) {
        let panel = a.rows(i..a.rows.min(i + S::MR));
        let out = &mut out[i * k_len..];
        if a.col_stride == 1 {
            // Rows are stored whole, sixteen lanes at a stride of MR: what a store writes past
            // its MR is overwritten by the next one, or by the next panel.
            transposed(s, S::MR, panel.t(), S::MR, out);
        } else {
            for k in 0..k_len {
                for r in 0..S::MR {
                    out[k * S::MR + r] =
                        if r < panel.rows { panel.data[r * a.row_stride + k * a.col_stride] } else { 0.0 };
                }
            }
        }
    }
}
