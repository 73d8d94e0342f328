//! Products: C ← C ± A·B, with one order of k and every product rounded before it is added.

use rayon::prelude::*;

use crate::simd::{Simd, multiversion};

/// Columns that the innermost loop computes side by side.
const WIDE: usize = 8;
/// Rows that it computes at a time.
const TALL: usize = 4;
/// Length of a block along k; blocks continue each other's sums, so it has no influence on results.
const DEEP: usize = 256;
/// Rows of one task.
const TASK: usize = 64;

/// A matrix to read, of any strides.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) values: &'a [f64],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> View<'a> {
    /// The transpose.
    pub(super) fn t(self) -> View<'a> {
        View {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The first rows and columns.
    pub(super) fn first(self, rows: usize, columns: usize) -> View<'a> {
        View { rows, columns, ..self }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.row_stride + j * self.column_stride]
    }
}

/// C ← C + sign · A·B, where `c` begins at C's first element and its rows lie `stride` apart.
///
/// An element of C is one chain over ascending k: c ← c + round(a·b).
pub(super) fn multiply_add(sign: f64, a: View<'_>, b: View<'_>, c: &mut [f64], stride: usize) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    debug_assert_eq!(k, b.rows);
    if m == 0 || n == 0 {
        return;
    }
    for k0 in (0..k).step_by(DEEP) {
        let deep = DEEP.min(k - k0);
        let mut right = vec![[0.0; WIDE]; n.div_ceil(WIDE) * deep];
        right.par_chunks_mut(deep).enumerate().for_each(|(panel, out)| {
            for (p, lanes) in out.iter_mut().enumerate() {
                for (lane, j) in lanes.iter_mut().zip(panel * WIDE..n) {
                    // The sign is ±1: exact.
                    *lane = sign * b.at(k0 + p, j);
                }
            }
        });
        c.par_chunks_mut(TASK * stride).take(m.div_ceil(TASK)).enumerate().for_each(|(task, c)| {
            let first = task * TASK;
            let rows = TASK.min(m - first);
            let mut left = vec![[0.0; TALL]; rows.div_ceil(TALL) * deep];
            for (group, out) in left.chunks_exact_mut(deep).enumerate() {
                for (p, lanes) in out.iter_mut().enumerate() {
                    for (lane, i) in lanes.iter_mut().zip(group * TALL..rows) {
                        *lane = a.at(first + i, k0 + p);
                    }
                }
            }
            block(&left, &right, deep, c, stride, [rows, n]);
        });
    }
}

multiversion! {
    /// C [rows, n] ← C + left·right for packed operands.
    fn block(
        left: &[[f64; TALL]],
        right: &[[f64; WIDE]],
        deep: usize,
        c: &mut [f64],
        stride: usize,
        extent: [usize; 2],
    ) = block_body;
}

#[inline(always)]
fn block_body<S: Simd>(
    _level: S,
    left: &[[f64; TALL]],
    right: &[[f64; WIDE]],
    deep: usize,
    c: &mut [f64],
    stride: usize,
    [rows, n]: [usize; 2],
) {
    for (panel, right) in right.chunks_exact(deep).enumerate() {
        let wide = WIDE.min(n - panel * WIDE);
        for (group, left) in left.chunks_exact(deep).enumerate() {
            let tall = TALL.min(rows - group * TALL);
            let at = |i: usize| (group * TALL + i) * stride + panel * WIDE;
            let mut sums = [[0.0; WIDE]; TALL];
            for (i, sums) in sums.iter_mut().enumerate().take(tall) {
                sums[..wide].copy_from_slice(&c[at(i)..at(i) + wide]);
            }
            for (a, b) in left.iter().zip(right) {
                for i in 0..TALL {
                    for j in 0..WIDE {
                        sums[i][j] += a[i] * b[j];
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate().take(tall) {
                c[at(i)..at(i) + wide].copy_from_slice(&sums[..wide]);
            }
        }
    }
}
