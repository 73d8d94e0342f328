//! Singular values and vectors.

use super::bidiagonal::{Bidiagonal, bidiagonal};
use super::matrix::Matrix;
use super::qr;
use super::rotations::RotatedRows;
use super::singular::diagonalise;
use super::vector::fix_sign;
use crate::Result;

/// A = Σᵢ σᵢ·uᵢ·vᵢᵀ, thin: k = min(m, n) terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Svd {
    /// Row i: the left singular vector uᵢ: [k, m].
    pub left: Matrix,
    /// Singular values, descending.
    pub values: Vec<f64>,
    /// Row i: the right singular vector vᵢ, its largest entry positive: [k, n].
    pub right: Matrix,
}

/// The thin singular value decomposition of any matrix.
///
/// A tall matrix is reduced to its triangular factor first; reflectors make that bidiagonal, implicit QR steps
/// diagonal.
///
/// # Errors
/// Where an element is no finite number.
pub fn svd(a: &Matrix) -> Result<Svd> {
    a.check_finite("SVD")?;
    let (m, n) = (a.rows(), a.columns());
    if m < n {
        let Svd { left: mut right, values, right: mut left } = svd_of_tall(&a.transposed())?;
        (0..m).for_each(|i| fix_sign(right.row_mut(i), Some(left.row_mut(i))));
        return Ok(Svd { left, values, right });
    }
    let mut svd = svd_of_tall(a)?;
    (0..n).for_each(|i| fix_sign(svd.right.row_mut(i), Some(svd.left.row_mut(i))));
    Ok(svd)
}

/// The same for m ≥ n, with signs as they come.
fn svd_of_tall(a: &Matrix) -> Result<Svd> {
    let (m, n) = (a.rows(), a.columns());
    let (scaled, unit) = a.scaled();
    let (outer, square) = match m > n {
        true => {
            let (reflectors, r) = qr::factor(&scaled);
            (Some(reflectors), r)
        }
        false => (None, scaled),
    };
    let Bidiagonal { mut diagonal, mut upper, left, right } = bidiagonal(square);
    let (mut left, mut right) = (RotatedRows::new(&left.basis(n)), RotatedRows::new(&right.basis(n)));
    diagonalise(&mut diagonal, &mut upper, &mut left, &mut right)?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| diagonal[j].abs().total_cmp(&diagonal[i].abs()));
    let (left, mut right) = (left.finish(&order), right.finish(&order));
    for (i, _) in order.iter().enumerate().filter(|&(_, &from)| diagonal[from].is_sign_negative()) {
        right.row_mut(i).iter_mut().for_each(|x| *x = -*x);
    }
    let left = match outer {
        Some(reflectors) => {
            let mut long = Matrix::zeros(n, m);
            (0..n).for_each(|i| long.row_mut(i)[..n].copy_from_slice(left.row(i)));
            reflectors.times_transposed(&mut long);
            long
        }
        None => left,
    };
    Ok(Svd { left, values: order.iter().map(|&i| diagonal[i].abs() * unit).collect(), right })
}
