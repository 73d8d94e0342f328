//! QR by Householder reflectors, and least squares with it.

use super::matrix::Matrix;
use super::reflectors::{BLOCK, Reflectors, reflect, reflect_one};
use super::triangular::solve_upper;
use super::vector::hypot;
use crate::{Error, Result};

/// A = Q·R, thin: k = min(m, n).
#[derive(Clone, Debug, PartialEq)]
pub struct Qr {
    /// Row i is column i of Q: [k, m], orthonormal.
    pub basis: Matrix,
    /// Upper triangular: [k, n]. Its diagonal may have any sign.
    pub r: Matrix,
}

/// Factors a matrix of m rows and n columns.
///
/// # Errors
/// Where an element is no finite number.
pub fn qr(a: &Matrix) -> Result<Qr> {
    a.check_finite("QR")?;
    let (reflectors, r) = factor(a);
    Ok(Qr { basis: reflectors.basis(r.rows()), r })
}

/// The reflectors whose product is Q, and R: [min(m, n), n].
pub(super) fn factor(a: &Matrix) -> (Reflectors, Matrix) {
    let (m, n) = (a.rows(), a.columns());
    let k = m.min(n);
    // Columns as rows, so that a reflector is one run of memory.
    let mut columns = a.transposed();
    let mut reflectors = Reflectors::new(k, m, 0);
    for start in (0..k).step_by(BLOCK) {
        let end = k.min(start + BLOCK);
        for i in start..end {
            let (beta, tau) = reflect(&mut columns.row_mut(i)[i..]);
            reflectors.set(i, &columns.row(i)[i..], tau);
            let v = columns.row(i)[i..].to_vec();
            columns.row_mut(i)[i] = beta;
            for j in i + 1..end {
                reflect_one(&v, tau, &mut columns.row_mut(j)[i..]);
            }
        }
        // Aᵀ·H₁·H₂⋯: the rows of the columns not yet factored.
        reflectors.apply(start, false, &mut columns, end);
    }
    let mut r = Matrix::zeros(k, n);
    for i in 0..k {
        for j in i..n {
            r.row_mut(i)[j] = columns.at(j, i);
        }
    }
    (reflectors, r)
}

/// The X that minimises ‖A·X − B‖ column by column: A [m, n] with m ≥ n, B [m, p] → X [n, p].
///
/// A column of A depends on those before it where what they leave of it, |rᵢᵢ|, is at most m·ε of its own length
/// (ε = 2⁻⁵²). So the units in which columns are measured decide nothing: a column times a power of two has its row of
/// X divided by that power, to the bit, as long as nothing underflows or overflows.
///
/// # Errors
/// Where shapes do not fit, an element is no finite number, or a column of A depends on those before it; names it.
pub fn least_squares(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    a.check_finite("least squares")?;
    b.check_finite("least squares, right-hand side")?;
    let n = a.columns();
    if a.rows() < n || b.rows() != a.rows() {
        return Err(Error::shape(
            "least squares, right-hand side",
            &[a.rows().max(n), b.columns()],
            &[b.rows(), b.columns()],
        ));
    }
    let (reflectors, r) = factor(a);
    let rounding = f64::EPSILON * a.rows() as f64;
    // Reflections keep lengths, so the column of R is as long as that of A.
    let length = |i: usize| (0..=i).fold(0.0, |length, k| hypot(length, r.at(k, i)));
    if let Some(i) = (0..n).find(|&i| r.at(i, i).abs() <= length(i) * rounding) {
        return Err(Error::invalid(format!(
            "least squares: column {i} depends on those before it; leave it out or take the SVD"
        )));
    }
    let mut rows = b.transposed();
    reflectors.times(&mut rows);
    let projected = rows.transposed();
    let mut x = Matrix::new(n, b.columns(), projected.values()[..n * b.columns()].to_vec())?;
    solve_upper(r.view(), &mut x);
    Ok(x)
}
