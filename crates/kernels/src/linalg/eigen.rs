//! Eigenvalues and eigenvectors of symmetric matrices.

use super::matrix::Matrix;
use super::rotations::{RotatedRows, Rotation, Sweep};
use super::tridiagonal::{Tridiagonal, tridiagonal};
use super::vector::{fix_sign, hypot};
use crate::{Error, Result};

/// Steps per eigenvalue before the iteration is given up; about two are usual.
const PATIENCE: usize = 30;

/// A = Σᵢ λᵢ·vᵢ·vᵢᵀ.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen {
    /// Eigenvalues, ascending.
    pub values: Vec<f64>,
    /// Row i: the unit eigenvector of `values[i]`, its largest entry positive: [n, n].
    pub vectors: Matrix,
}

/// All eigenvalues and eigenvectors of a symmetric matrix, of which the lower triangle is read.
///
/// Reflectors make it tridiagonal, implicit QL or QR steps diagonal (Golub and Van Loan, 4th ed., §8.3).
///
/// # Errors
/// Where the matrix is not square or holds a number that is not finite.
pub fn symmetric_eigen(a: &Matrix) -> Result<Eigen> {
    a.check_square("eigenvectors")?;
    a.check_finite("eigenvectors")?;
    let n = a.rows();
    let (mut scaled, unit) = a.scaled();
    for i in 0..n {
        for j in 0..i {
            let x = scaled.at(i, j);
            scaled.row_mut(j)[i] = x;
        }
    }
    let Tridiagonal { mut diagonal, mut off, q } = tridiagonal(scaled);
    let mut rows = RotatedRows::new(&q.basis(n));
    diagonalise(&mut diagonal, &mut off, &mut rows)?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| diagonal[i].total_cmp(&diagonal[j]));
    let mut vectors = rows.finish(&order);
    (0..n).for_each(|i| fix_sign(vectors.row_mut(i), None));
    Ok(Eigen { values: order.iter().map(|&i| diagonal[i] * unit).collect(), vectors })
}

/// Makes a tridiagonal matrix diagonal, block by block, and takes the rows through the same rotations.
fn diagonalise(d: &mut [f64], e: &mut [f64], rows: &mut RotatedRows) -> Result<()> {
    let n = d.len();
    let mut start = 0;
    while start < n {
        let mut end = start;
        while end + 1 < n && !negligible(d, e, end) {
            end += 1;
        }
        if end + 1 < n {
            e[end] = 0.0;
        }
        // Steps deflate at the end with the smaller numbers.
        let flipped = d[end].abs() < d[start].abs();
        let (mut block_d, mut block_e) = (d[start..=end].to_vec(), e[start..end].to_vec());
        if flipped {
            block_d.reverse();
            block_e.reverse();
        }
        ql(&mut block_d, &mut block_e, |first, rotations| {
            rows.rotate(placed(first, rotations, start, end, flipped))
        })?;
        if flipped {
            block_d.reverse();
        }
        d[start..=end].copy_from_slice(&block_d);
        start = end + 1;
    }
    Ok(())
}

/// A sweep of a block as one of the whole matrix.
fn placed(first: usize, mut rotations: Vec<Rotation>, start: usize, end: usize, flipped: bool) -> Sweep {
    if !flipped {
        rotations.iter_mut().for_each(|r| r.s = -r.s);
        return Sweep { first: start + first, upwards: true, rotations };
    }
    let first = end - first - rotations.len();
    rotations.reverse();
    Sweep { first, upwards: false, rotations }
}

fn negligible(d: &[f64], e: &[f64], i: usize) -> bool {
    let small = f64::EPSILON * d[i].abs().sqrt() * d[i + 1].abs().sqrt();
    e[i].abs() <= small.max(f64::MIN_POSITIVE)
}

/// Implicit QL with Wilkinson's shift on one block; `sweep` is told the first row and the rotations, by row.
fn ql(d: &mut [f64], e: &mut [f64], mut sweep: impl FnMut(usize, Vec<Rotation>)) -> Result<()> {
    let n = d.len();
    let mut steps = 0;
    for l in 0..n {
        loop {
            let m = (l..n - 1).find(|&i| negligible(d, e, i)).unwrap_or(n - 1);
            if m < n - 1 {
                e[m] = 0.0;
            }
            if m == l {
                break;
            }
            steps += 1;
            if steps > PATIENCE * n {
                return Err(Error::invalid(format!("eigenvectors: no convergence in {steps} steps")));
            }
            let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let r = hypot(g, 1.0);
            g = d[m] - d[l] + e[l] / (g + if g >= 0.0 { r } else { -r });
            let (mut turn, mut p) = (Rotation { c: 1.0, s: 1.0 }, 0.0);
            let mut rotations = Vec::with_capacity(m - l);
            for i in (l..m).rev() {
                let (f, b) = (turn.s * e[i], turn.c * e[i]);
                let r;
                (turn, r) = Rotation::zeroing(g, f);
                if i + 1 != m {
                    e[i + 1] = r;
                }
                g = d[i + 1] - p;
                let r = (d[i] - g) * turn.s + 2.0 * turn.c * b;
                p = turn.s * r;
                d[i + 1] = g + p;
                g = turn.c * r - b;
                rotations.push(turn);
            }
            rotations.reverse();
            sweep(l, rotations);
            d[l] -= p;
            e[l] = g;
        }
    }
    Ok(())
}
