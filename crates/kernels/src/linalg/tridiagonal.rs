//! A symmetric matrix becomes tridiagonal: A = Q·T·Qᵀ by reflectors, a panel of rows at a time.

use rayon::prelude::*;

use super::matrix::Matrix;
use super::product::multiply_add;
use super::reflectors::{BLOCK, Reflectors, reflect};
use super::vector::{axpy, dot};

/// Diagonal and off-diagonal of T, and Q.
pub(super) struct Tridiagonal {
    pub(super) diagonal: Vec<f64>,
    pub(super) off: Vec<f64>,
    pub(super) q: Reflectors,
}

/// Reduces a symmetric matrix, of which both triangles are there.
///
/// Within a panel the matrix is not touched: what earlier reflectors did to it is A − Σ(v·wᵀ + w·vᵀ), and only the
/// row and the product that are needed are brought up to date (Dongarra, Sorensen and Hammarling, 1989).
pub(super) fn tridiagonal(mut a: Matrix) -> Tridiagonal {
    let n = a.rows();
    let (mut diagonal, mut off) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
    let mut q = Reflectors::new(n.saturating_sub(1), n, 1);
    for start in (0..n).step_by(BLOCK) {
        let end = n.min(start + BLOCK);
        let (mut vs, mut ws): (Vec<Vec<f64>>, Vec<Vec<f64>>) = Default::default();
        for j in start..end {
            let mut row = a.row(j)[j..].to_vec();
            for (v, w) in vs.iter().zip(&ws) {
                axpy(-v[j], &w[j..], &mut row);
                axpy(-w[j], &v[j..], &mut row);
            }
            diagonal[j] = row[0];
            if j + 1 == n {
                break;
            }
            let mut v = row.split_off(1);
            let (beta, tau) = reflect(&mut v);
            off[j] = beta;
            q.set(j, &v, tau);
            let mut w = vec![0.0; n - j - 1];
            w.par_iter_mut().enumerate().for_each(|(i, w)| *w = dot(&a.row(j + 1 + i)[j + 1..], &v));
            for (old_v, old_w) in vs.iter().zip(&ws) {
                let (along_v, along_w) = (dot(&old_v[j + 1..], &v), dot(&old_w[j + 1..], &v));
                axpy(-along_w, &old_v[j + 1..], &mut w);
                axpy(-along_v, &old_w[j + 1..], &mut w);
            }
            w.iter_mut().for_each(|w| *w *= tau);
            let half = -0.5 * tau * dot(&w, &v);
            axpy(half, &v, &mut w);
            // Zeros before, so that all have the matrix's coordinates.
            let padded = |x: Vec<f64>| [vec![0.0; j + 1], x].concat();
            vs.push(padded(v));
            ws.push(padded(w));
        }
        update(&mut a, &vs, &ws, end);
    }
    Tridiagonal { diagonal, off, q }
}

/// A ← A − Σ(v·wᵀ + w·vᵀ) from row and column `from` on.
fn update(a: &mut Matrix, vs: &[Vec<f64>], ws: &[Vec<f64>], from: usize) {
    let n = a.rows();
    if from == n {
        return;
    }
    let stack = |x: &[Vec<f64>], y: &[Vec<f64>]| {
        let mut out = Matrix::zeros(2 * x.len(), n - from);
        x.iter().chain(y).enumerate().for_each(|(i, row)| out.row_mut(i).copy_from_slice(&row[from..]));
        out
    };
    let (left, right) = (stack(vs, ws), stack(ws, vs));
    multiply_add(-1.0, left.view().t(), right.view(), &mut a.values_mut()[from * n + from..], n);
}
