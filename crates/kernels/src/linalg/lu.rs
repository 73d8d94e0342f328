//! General linear systems, by LU factors with row exchanges.

use super::matrix::Matrix;
use super::product::multiply_add;
use super::triangular::{solve_lower, solve_upper};
use super::vector::axpy;
use crate::{Error, Result};
use rayon::prelude::*;

const BLOCK: usize = 32;

/// The X with A·X = B for a square A [n, n] and B [n, p].
///
/// # Errors
/// Where shapes do not fit, an element is no finite number, or A is singular (the column is named).
pub fn solve(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    a.check_square("solve")?;
    a.check_finite("solve")?;
    b.check_finite("right-hand side")?;
    let n = a.rows();
    if b.rows() != n {
        return Err(Error::shape("right-hand side", &[n, b.columns()], &[b.rows(), b.columns()]));
    }
    let (mut lu, mut x) = (a.clone(), b.clone());
    for start in (0..n).step_by(BLOCK) {
        let end = n.min(start + BLOCK);
        eliminate(&mut lu, &mut x, start, end)?;
        if end == n {
            break;
        }
        // The block row of U: L₁₁⁻¹·A₁₂.
        for i in start + 1..end {
            let (above, row) = lu.values_mut().split_at_mut(i * n);
            for j in start..i {
                axpy(-row[j], &above[j * n + end..(j + 1) * n], &mut row[end..n]);
            }
        }
        let (upper, rest) = lu.values_mut().split_at_mut(end * n);
        let mut left = Matrix::zeros(n - end, end - start);
        for i in 0..n - end {
            left.row_mut(i).copy_from_slice(&rest[i * n + start..i * n + end]);
        }
        let mut right = Matrix::zeros(end - start, n - end);
        for i in 0..end - start {
            right.row_mut(i).copy_from_slice(&upper[(start + i) * n + end..(start + i + 1) * n]);
        }
        multiply_add(-1.0, left.view(), right.view(), &mut rest[end..], n);
    }
    solve_lower(lu.view(), &mut x, true);
    solve_upper(lu.view(), &mut x);
    Ok(x)
}

/// Eliminates below the diagonal in columns `start..end`, with the largest element of a column as pivot.
fn eliminate(lu: &mut Matrix, x: &mut Matrix, start: usize, end: usize) -> Result<()> {
    let n = lu.rows();
    for k in start..end {
        let mut best = k;
        for i in k + 1..n {
            if lu.at(i, k).abs() > lu.at(best, k).abs() {
                best = i;
            }
        }
        if lu.at(best, k) == 0.0 {
            return Err(Error::invalid(format!("solve: the matrix is singular (no pivot in column {k})")));
        }
        lu.swap_rows(k, best);
        x.swap_rows(k, best);
        let (above, below) = lu.values_mut().split_at_mut((k + 1) * n);
        let pivot = &above[k * n..];
        below.par_chunks_mut(n).for_each(|row| {
            let factor = row[k] / pivot[k];
            row[k] = factor;
            axpy(-factor, &pivot[k + 1..end], &mut row[k + 1..end]);
        });
    }
    Ok(())
}
