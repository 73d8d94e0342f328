//! Operands rearranged so that the micro-kernel reads them in a straight line.
//!
//! The right operand becomes panels of NR columns, each `[k][NR]`, the last one only as many
//! whole vectors wide as it needs and padded with zeros. The left operand becomes panels of MR
//! rows, each `[k][MR]`. A step of k is one f32, or a pair of bf16 that two of them are rounded to
//! on the way: see [`Step`].

use super::element::{Bf16, Element, F16, Format, Int8};
use super::matrix::Mat;
use super::simd::{LANES, Simd};
use super::tile::Tiles;
use std::ops::Range;

/// How elements become the steps of a chain.
pub(super) trait Step {
    /// Elements along k that one step takes.
    const WIDTH: usize;

    /// Step `k` of the neighbours `at..at + out.len()` along the other dimension: `m` is
    /// `[k, neighbours]`, with contiguous rows.
    fn across<S: Simd>(s: S, m: Mat, k: usize, at: usize, out: &mut [f32]);

    /// Sixteen steps of `16 · WIDTH` elements that follow one another along k.
    fn along<S: Simd>(s: S, x: &[f32]) -> S::V;

    /// [`Step::along`] with fewer elements; what is missing counts as zero.
    fn along_part<S: Simd>(s: S, x: &[f32]) -> S::V;

    /// Number of steps of k elements.
    fn count(k: usize) -> usize {
        k.div_ceil(Self::WIDTH)
    }
}

/// A step is one element.
pub(super) struct Single;

impl Step for Single {
    const WIDTH: usize = 1;

    #[inline(always)]
    fn across<S: Simd>(_: S, m: Mat, k: usize, at: usize, out: &mut [f32]) {
        out.copy_from_slice(&m.data[k * m.row_stride + at..][..out.len()]);
    }

    #[inline(always)]
    fn along<S: Simd>(s: S, x: &[f32]) -> S::V {
        let x = &x[..LANES];
        // SAFETY: the slice has sixteen elements.
        unsafe { s.load_ptr(x.as_ptr()) }
    }

    #[inline(always)]
    fn along_part<S: Simd>(s: S, x: &[f32]) -> S::V {
        s.load_part(x, 0.0)
    }
}

/// Steps between what is packed and what is asked for: rows lie too far apart for the processor to foresee.
const AHEAD: usize = LANES;

/// Asks for element (i, j), which need not be there.
#[inline(always)]
fn ask_for<S: Simd>(s: S, m: Mat, i: usize, j: usize) {
    s.prefetch(m.data.as_ptr().wrapping_add(i * m.row_stride + j * m.col_stride));
}

/// Elements of the packed form of a right operand of k steps.
pub(super) fn right_len(steps: usize, n: usize) -> usize {
    steps * n.next_multiple_of(LANES)
}

/// Packs one panel: `out[k * width + j]` is step k of column j, zero beyond the last column.
#[inline(always)]
pub(super) fn right_panel<S: Simd, K: Step>(s: S, b: Mat, width: usize, out: &mut [f32]) {
    if b.col_stride == 1 {
        for (k, row) in out.chunks_exact_mut(width).enumerate() {
            // Vectors of known length stay in registers.
            let (full, _) = row.as_chunks_mut::<LANES>();
            for (v, out) in full.iter_mut().enumerate() {
                ask_for(s, b, (k + AHEAD) * K::WIDTH, v * LANES);
                let cols = b.cols - v * LANES;
                if cols >= LANES {
                    K::across(s, b, k, v * LANES, out);
                } else {
                    out[cols..].fill(0.0);
                    K::across(s, b, k, v * LANES, &mut out[..cols]);
                }
            }
        }
    } else if b.row_stride == 1 {
        for j in (0..b.cols).step_by(LANES) {
            transposed::<S, K>(s, LANES, b.columns(j..b.cols.min(j + LANES)), width, &mut out[j..]);
        }
    } else {
        for (k, row) in out.chunks_exact_mut(width).enumerate() {
            row.fill(0.0);
            for (j, x) in row[..b.cols].iter_mut().enumerate() {
                *x = scattered::<S, K>(s, b, k, j);
            }
        }
    }
}

/// Step `k` of column `j` of a matrix that is contiguous nowhere.
#[inline(always)]
fn scattered<S: Simd, K: Step>(s: S, b: Mat, k: usize, j: usize) -> f32 {
    let mut x = [0.0; LANES];
    for (i, x) in x.iter_mut().take(K::WIDTH.min(b.rows - k * K::WIDTH)).enumerate() {
        *x = b.data[(k * K::WIDTH + i) * b.row_stride + j * b.col_stride];
    }
    let mut steps = [0.0; LANES];
    s.store(K::along_part(s, &x[..K::WIDTH]), &mut steps);
    steps[0]
}

/// Up to sixteen columns whose elements are contiguous along k, written sixteen to a row, zero
/// beyond the last column.
///
/// `usual` is the number of columns of all but the last call: known when the function is compiled,
/// it keeps a block of that many in registers.
#[inline(always)]
fn transposed<S: Simd, K: Step>(s: S, usual: usize, b: Mat, width: usize, out: &mut [f32]) {
    let block_k = LANES * K::WIDTH;
    let whole = if b.cols == usual { b.rows / block_k * LANES } else { 0 };
    for k in (0..whole).step_by(LANES) {
        let mut block = [s.splat(0.0); LANES];
        for (j, v) in block[..usual].iter_mut().enumerate() {
            ask_for(s, b, k * K::WIDTH, j + usual);
            *v = K::along(s, &b.data[j * b.col_stride + k * K::WIDTH..][..block_k]);
        }
        s.transpose(&mut block);
        let out = &mut out[k * width..][..(LANES - 1) * width + LANES];
        for (i, &v) in block.iter().enumerate() {
            // SAFETY: the slice reaches sixteen elements beyond its last row's start.
            unsafe { s.store_ptr(v, out.as_mut_ptr().add(i * width)) };
        }
    }
    let steps = K::count(b.rows);
    for k in (whole..steps).step_by(LANES) {
        let deep = block_k.min(b.rows - k * K::WIDTH);
        let mut block = [s.splat(0.0); LANES];
        for (j, v) in block[..b.cols].iter_mut().enumerate() {
            *v = K::along_part(s, &b.data[j * b.col_stride + k * K::WIDTH..][..deep]);
        }
        s.transpose(&mut block);
        for (i, &v) in block[..K::count(deep)].iter().enumerate() {
            if let Some(row) = out[(k + i) * width..].first_chunk_mut() {
                s.store(v, row);
            }
        }
    }
}

/// The elements of a panel in a narrow format as f32, as many as `out` has.
#[inline(always)]
pub(super) fn widen<S: Simd>(s: S, format: Format, panel: &[u8], out: &mut [f32]) {
    match format {
        Format::Bf16 => widen_elements::<S, Bf16>(s, panel, out),
        Format::F16 => widen_elements::<S, F16>(s, panel, out),
        Format::Int8 => widen_elements::<S, Int8>(s, panel, out),
        Format::F32 | Format::Pairs | Format::HardwarePairs => unreachable!("{format:?} is not narrow"),
    }
}

#[inline(always)]
fn widen_elements<S: Simd, E: Element<S>>(s: S, panel: &[u8], out: &mut [f32]) {
    let (out, _) = out.as_chunks_mut::<LANES>();
    for (x, out) in panel.chunks_exact(LANES * E::BYTES).zip(out) {
        // SAFETY: the chunk is sixteen elements.
        s.store(unsafe { E::load(s, x.as_ptr(), 0) }, out);
    }
}

/// Elements of the packed form of a left operand of k steps, with the slack that [`left`] writes into.
pub(super) fn left_len<S: Tiles>(m: usize, steps: usize) -> usize {
    m.next_multiple_of(S::MR) * steps + LANES
}

/// Packs `a` into panels of `S::MR` rows, zero beyond the last row.
#[inline(always)]
pub(super) fn left<S: Tiles, K: Step>(s: S, a: Mat, out: &mut [f32]) {
    let steps = K::count(a.cols);
    if a.row_stride == 1 && a.col_stride != 1 {
        // A few steps of all panels at a time: what is read stays near, and what is written to one
        // panel is whole cache lines.
        for k in (0..steps).step_by(LANES) {
            rows_contiguous::<S, K>(s, a.t(), k..steps.min(k + LANES), steps, out);
        }
        return;
    }
    for i in (0..a.rows).step_by(S::MR) {
        let panel = a.rows(i..a.rows.min(i + S::MR));
        let out = &mut out[i * steps..];
        if a.col_stride == 1 {
            // Rows are stored whole, sixteen lanes at a stride of MR: what a store writes past
            // its MR is overwritten by the next one, or by the next panel.
            transposed::<S, K>(s, S::MR, panel.t(), S::MR, out);
        } else {
            for k in 0..steps {
                for r in 0..S::MR {
                    out[k * S::MR + r] =
                        if r < panel.rows { scattered::<S, K>(s, panel.t(), k, r) } else { 0.0 };
                }
            }
        }
    }
}

/// Steps `k` of `steps` of a left operand whose rows are contiguous; `columns` is its transpose.
#[inline(always)]
fn rows_contiguous<S: Tiles, K: Step>(s: S, columns: Mat, k: Range<usize>, steps: usize, out: &mut [f32]) {
    let rows = columns.cols;
    let mut i = 0;
    // Rounding costs by the vector, however few of its lanes are used: two panels share one.
    while K::WIDTH > 1 && 2 * S::MR == LANES && i + LANES <= rows {
        let (first, second) = out[i * steps..(i + LANES) * steps].split_at_mut(S::MR * steps);
        for k in k.clone() {
            let mut both = [0.0; LANES];
            K::across(s, columns, k, i, &mut both);
            first[k * S::MR..(k + 1) * S::MR].copy_from_slice(&both[..S::MR]);
            second[k * S::MR..(k + 1) * S::MR].copy_from_slice(&both[S::MR..]);
        }
        i += LANES;
    }
    while i < rows {
        let panel = &mut out[i * steps..(i + S::MR) * steps];
        let width = S::MR.min(rows - i);
        for k in k.clone() {
            ask_for(s, columns, (k + AHEAD) * K::WIDTH, i);
            let out = &mut panel[k * S::MR..(k + 1) * S::MR];
            if width == S::MR {
                K::across(s, columns, k, i, out);
            } else {
                K::across(s, columns, k, i, &mut out[..width]);
                out[width..].fill(0.0);
            }
        }
        i += S::MR;
    }
}
