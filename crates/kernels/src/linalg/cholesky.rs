//! Cholesky factors, and symmetric positive definite systems.

use super::matrix::Matrix;
use super::product::multiply_add;
use super::triangular::{solve_lower, solve_upper};
use super::vector::dot;
use crate::{Error, Result};
use rayon::prelude::*;

const BLOCK: usize = 64;

/// The lower triangular L with A = L·Lᵀ. Only the lower triangle of A is read.
///
/// # Errors
/// Where A is not square, holds a number that is not finite, or is not positive definite (the pivot is named).
pub fn cholesky(a: &Matrix) -> Result<Matrix> {
    a.check_square("Cholesky")?;
    a.check_finite("Cholesky")?;
    let n = a.rows();
    let mut l = a.clone();
    for start in (0..n).step_by(BLOCK) {
        let end = n.min(start + BLOCK);
        for i in start..end {
            for j in start..=i {
                let sum = l.at(i, j) - dot(&l.row(i)[start..j], &l.row(j)[start..j]);
                let value = if i > j { sum / l.at(j, j) } else { pivot(sum, i)? };
                l.row_mut(i)[j] = value;
            }
        }
        let (done, below) = l.values_mut().split_at_mut(end * n);
        below.par_chunks_mut(n).for_each(|row| {
            for j in start..end {
                let own = &done[j * n..(j + 1) * n];
                row[j] = (row[j] - dot(&row[start..j], &own[start..j])) / own[j];
            }
        });
        // A strip of rows at a time, each up to its own diagonal.
        for first in (end..n).step_by(BLOCK) {
            let last = n.min(first + BLOCK);
            let panel: Vec<f64> = (end..last).flat_map(|i| l.row(i)[start..end].iter().copied()).collect();
            let panel = Matrix::new(last - end, end - start, panel)?;
            let strip = panel.block(first - end, 0);
            multiply_add(-1.0, strip, panel.view().t(), &mut l.values_mut()[first * n + end..], n);
        }
    }
    for i in 0..n {
        l.row_mut(i)[i + 1..].fill(0.0);
    }
    Ok(l)
}

fn pivot(square: f64, i: usize) -> Result<f64> {
    match square > 0.0 && square.is_finite() {
        true => Ok(square.sqrt()),
        false => Err(Error::invalid(format!(
            "Cholesky: the matrix is not positive definite (pivot {i} is {square:e}); add a multiple of the identity"
        ))),
    }
}

/// The X with A·X = B for symmetric positive definite A [n, n] and B [n, p].
///
/// # Errors
/// As [`cholesky`], and where B has another number of rows.
pub fn solve_spd(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    if a.rows() != b.rows() {
        return Err(Error::shape("right-hand side", &[a.rows(), b.columns()], &[b.rows(), b.columns()]));
    }
    b.check_finite("right-hand side")?;
    solve_factored(&cholesky(a)?, b)
}

/// The X with L·Lᵀ·X = B for the factor L [n, n] that [`cholesky`] gave: whoever asks often factors once.
///
/// # Errors
/// Where B has another number of rows, or holds a number that is not finite.
pub fn solve_factored(l: &Matrix, b: &Matrix) -> Result<Matrix> {
    if l.rows() != b.rows() {
        return Err(Error::shape("right-hand side", &[l.rows(), b.columns()], &[b.rows(), b.columns()]));
    }
    b.check_finite("right-hand side")?;
    let mut x = b.clone();
    solve_lower(l.view(), &mut x, false);
    solve_upper(l.view().t(), &mut x);
    Ok(x)
}
