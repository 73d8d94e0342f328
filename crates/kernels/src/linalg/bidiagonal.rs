//! A square matrix becomes bidiagonal: A = U·B·Vᵀ by reflectors from both sides, a panel at a time.

use rayon::prelude::*;

use super::matrix::Matrix;
use super::product::multiply_add;
use super::reflectors::{BLOCK, Reflectors, reflect};
use super::vector::{axpy, dot};

/// Columns of one task of a product with the transpose.
const TASK: usize = 256;

/// Diagonal and superdiagonal of B, U and V.
pub(super) struct Bidiagonal {
    pub(super) diagonal: Vec<f64>,
    pub(super) upper: Vec<f64>,
    pub(super) left: Reflectors,
    pub(super) right: Reflectors,
}

/// What the reflectors of a panel have done to the matrix: A − Σ(u·yᵀ + x·vᵀ). Every vector has the matrix's
/// coordinates.
#[derive(Default)]
struct Pending {
    u: Vec<Vec<f64>>,
    y: Vec<Vec<f64>>,
    x: Vec<Vec<f64>>,
    v: Vec<Vec<f64>>,
}

/// Reduces a square matrix (Golub and Kahan, 1965; panels as Dongarra, Sorensen and Hammarling, 1989).
pub(super) fn bidiagonal(mut a: Matrix) -> Bidiagonal {
    let n = a.rows();
    let (mut diagonal, mut upper) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
    let mut left = Reflectors::new(n, n, 0);
    let mut right = Reflectors::new(n.saturating_sub(1), n, 1);
    for start in (0..n).step_by(BLOCK) {
        let end = n.min(start + BLOCK);
        let mut pending = Pending::default();
        for i in start..end {
            let mut column: Vec<f64> = (i..n).map(|r| a.at(r, i)).collect();
            pending.u.iter().zip(&pending.y).for_each(|(u, y)| axpy(-y[i], &u[i..], &mut column));
            pending.x.iter().zip(&pending.v).for_each(|(x, v)| axpy(-v[i], &x[i..], &mut column));
            let (beta, tau) = reflect(&mut column);
            diagonal[i] = beta;
            left.set(i, &column, tau);
            if i + 1 == n {
                break;
            }
            let y = pending.times_left(&a, &column, tau, i);
            pending.u.push(padded(column, i));
            pending.y.push(y);

            let mut row = a.row(i)[i + 1..].to_vec();
            pending.u.iter().zip(&pending.y).for_each(|(u, y)| axpy(-u[i], &y[i + 1..], &mut row));
            pending.x.iter().zip(&pending.v).for_each(|(x, v)| axpy(-x[i], &v[i + 1..], &mut row));
            let (beta, tau) = reflect(&mut row);
            upper[i] = beta;
            right.set(i, &row, tau);
            let x = pending.times_right(&a, &row, tau, i + 1);
            pending.x.push(x);
            pending.v.push(padded(row, i + 1));
        }
        pending.settle(&mut a, end);
    }
    Bidiagonal { diagonal, upper, left, right }
}

fn padded(x: Vec<f64>, before: usize) -> Vec<f64> {
    [vec![0.0; before], x].concat()
}

impl Pending {
    /// τ·(uᵀ·A) of the matrix as it is now, for a u that begins at row i; columns after i.
    fn times_left(&self, a: &Matrix, u: &[f64], tau: f64, i: usize) -> Vec<f64> {
        let from = i + 1;
        let mut product = vec![0.0; a.columns() - from];
        product.par_chunks_mut(TASK).enumerate().for_each(|(task, out)| {
            let first = from + task * TASK;
            for (r, &factor) in u.iter().enumerate() {
                axpy(factor, &a.row(i + r)[first..first + out.len()], out);
            }
        });
        for (old_u, old_y) in self.u.iter().zip(&self.y) {
            axpy(-dot(&old_u[i..], u), &old_y[from..], &mut product);
        }
        for (old_x, old_v) in self.x.iter().zip(&self.v) {
            axpy(-dot(&old_x[i..], u), &old_v[from..], &mut product);
        }
        product.iter_mut().for_each(|x| *x *= tau);
        padded(product, from)
    }

    /// τ·(A·v) of the matrix as it is now, for a v that begins at column `from`; rows from there on.
    fn times_right(&self, a: &Matrix, v: &[f64], tau: f64, from: usize) -> Vec<f64> {
        let mut product = vec![0.0; a.rows() - from];
        product.par_iter_mut().enumerate().for_each(|(r, out)| *out = dot(&a.row(from + r)[from..], v));
        for (old_u, old_y) in self.u.iter().zip(&self.y) {
            axpy(-dot(&old_y[from..], v), &old_u[from..], &mut product);
        }
        for (old_x, old_v) in self.x.iter().zip(&self.v) {
            axpy(-dot(&old_v[from..], v), &old_x[from..], &mut product);
        }
        product.iter_mut().for_each(|x| *x *= tau);
        padded(product, from)
    }

    /// Does to the matrix, from row and column `from` on, what is pending.
    fn settle(&self, a: &mut Matrix, from: usize) {
        let n = a.rows();
        if from == n {
            return;
        }
        let stack = |x: &[Vec<f64>], y: &[Vec<f64>]| {
            let mut out = Matrix::zeros(x.len() + y.len(), n - from);
            x.iter().chain(y).enumerate().for_each(|(i, row)| out.row_mut(i).copy_from_slice(&row[from..]));
            out
        };
        let (left, right) = (stack(&self.u, &self.x), stack(&self.y, &self.v));
        multiply_add(-1.0, left.view().t(), right.view(), &mut a.values_mut()[from * n + from..], n);
    }
}
