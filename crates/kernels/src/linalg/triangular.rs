//! Triangular systems with many right-hand sides, in blocks.

use super::matrix::Matrix;
use super::product::{View, multiply_add};
use super::vector::axpy;

const BLOCK: usize = 64;

/// X ← L⁻¹·X for lower triangular L; with `unit`, its diagonal is taken for ones.
pub(super) fn solve_lower(l: View<'_>, x: &mut Matrix, unit: bool) {
    let (n, width) = (x.rows(), x.columns());
    for start in (0..n).step_by(BLOCK) {
        let end = n.min(start + BLOCK);
        for i in start..end {
            let (above, row) = x.values_mut().split_at_mut(i * width);
            let row = &mut row[..width];
            for j in start..i {
                axpy(-at(l, i, j), &above[j * width..(j + 1) * width], row);
            }
            if !unit {
                row.iter_mut().for_each(|x| *x /= at(l, i, i));
            }
        }
        let (done, rest) = x.values_mut().split_at_mut(end * width);
        multiply_add(
            -1.0,
            block(l, end, start, n - end, end - start),
            rows(&done[start * width..], end - start, width),
            rest,
            width,
        );
    }
}

/// X ← U⁻¹·X for upper triangular U.
pub(super) fn solve_upper(u: View<'_>, x: &mut Matrix) {
    let (n, width) = (x.rows(), x.columns());
    for start in (0..n).step_by(BLOCK).rev() {
        let end = n.min(start + BLOCK);
        for i in (start..end).rev() {
            let (head, below) = x.values_mut().split_at_mut((i + 1) * width);
            let row = &mut head[i * width..];
            for j in i + 1..end {
                axpy(-at(u, i, j), &below[(j - i - 1) * width..(j - i) * width], row);
            }
            row.iter_mut().for_each(|x| *x /= at(u, i, i));
        }
        let (rest, done) = x.values_mut().split_at_mut(start * width);
        multiply_add(
            -1.0,
            block(u, 0, start, start, end - start),
            rows(done, end - start, width),
            rest,
            width,
        );
    }
}

fn at(a: View<'_>, i: usize, j: usize) -> f64 {
    a.values[i * a.row_stride + j * a.column_stride]
}

fn block(a: View<'_>, i: usize, j: usize, rows: usize, columns: usize) -> View<'_> {
    let start = (i * a.row_stride + j * a.column_stride).min(a.values.len());
    View { values: &a.values[start..], rows, columns, ..a }
}

fn rows(values: &[f64], rows: usize, columns: usize) -> View<'_> {
    View { values, rows, columns, row_stride: columns, column_stride: 1 }
}
