//! Directions of a layer's outputs, found among sequences instead of among outputs.
//!
//! A second moment C = HᵀH/n + ε·I of n sequences is ε·I outside the span of H's rows. So everything there is to find lies in
//! at most as many dimensions as there are sequences: with an orthonormal basis of the rows (QR), the matrix whose
//! eigenvectors are wanted is as small as that, whatever the width of the layer, and nothing is approximated.

use amend_engine::kernels::linalg::{Matrix, Qr, qr, symmetric_eigen};
use amend_engine::{Result, Rng};

/// What is added to a second moment along every direction.
pub(super) const RIDGE: f64 = 1e-4;

/// The r directions [r, d] with the largest eigenvalues of Δ = (1 − β)·C_F − β·C_R, from the largest on, of outputs
/// `forget` and `retain`, [sequences, d] each.
///
/// Outside of what both span, all directions have the same eigenvalue, (1 − 2β)·ε. Where those are among the largest, it is
/// `any` that draws them.
///
/// # Errors
/// Where an output is no finite number.
pub(super) fn contrasting(
    forget: &Matrix,
    retain: &Matrix,
    beta: f64,
    r: usize,
    any: &mut Rng,
) -> Result<Matrix> {
    let all = [forget.values(), retain.values()].concat();
    let all = Matrix::new(forget.rows() + retain.rows(), forget.columns(), all)?;
    let Qr { basis, r: coordinates } = qr(&all.transposed())?;
    let outside = (1.0 - 2.0 * beta) * RIDGE;
    let mut delta = Matrix::zeros(basis.rows(), basis.rows());
    let (of_forget, of_retain) = (0..forget.rows(), forget.rows()..all.rows());
    for (weight, own) in [(1.0 - beta, of_forget), (-beta, of_retain)] {
        let count = own.len().max(1) as f64;
        let own = columns(&coordinates, own);
        let moment = own.times(&own.transposed())?;
        delta.values_mut().iter_mut().zip(moment.values()).for_each(|(d, m)| *d += weight * m / count);
    }
    (0..basis.rows()).for_each(|i| delta.row_mut(i)[i] += outside);
    let eigen = symmetric_eigen(&delta)?;
    let above = eigen.values.iter().rev().take_while(|&&value| value >= outside).count().min(r);
    let free = (basis.columns() - basis.rows()).min(r - above);
    let beyond = complement(&basis, free, any)?;
    let inside = descending(&eigen.vectors, r - free).times(&basis)?;
    // Those outside stand between those that are above and those that are below.
    let (first, last) = inside.values().split_at(above * basis.columns());
    Ok(Matrix::new(r, basis.columns(), [first, beyond.values(), last].concat())?)
}

/// The directions in which outputs [sequences, d] are largest, from the largest on: at most k of them, orthonormal, and no more
/// than the outputs span.
///
/// # Errors
/// Where an output is no finite number.
pub(super) fn dominant(outputs: &Matrix, k: usize) -> Result<Matrix> {
    let Qr { basis, r } = qr(&outputs.transposed())?;
    let eigen = symmetric_eigen(&r.times(&r.transposed())?)?;
    // What is smaller is rounding, and points anywhere.
    let least = eigen.values.last().map_or(0.0, |largest| largest * f64::EPSILON * basis.rows() as f64);
    let count = eigen.values.iter().rev().take(k).take_while(|&&value| value > least).count();
    Ok(descending(&eigen.vectors, count).times(&basis)?)
}

/// Orthonormal directions [count, d] that `any` draws.
///
/// # Errors
/// None that these inputs can cause.
pub(super) fn random(count: usize, d: usize, any: &mut Rng) -> Result<Matrix> {
    complement(&Matrix::zeros(0, d), count, any)
}

/// Orthonormal directions [count, d] without a part in an orthonormal basis [k, d], drawn by `any`.
fn complement(basis: &Matrix, count: usize, any: &mut Rng) -> Result<Matrix> {
    let (k, d) = (basis.rows(), basis.columns());
    let mut all = basis.values().to_vec();
    all.extend((0..count * d).map(|_| any.normal()));
    let both = qr(&Matrix::new(k + count, d, all)?.transposed())?.basis;
    Ok(Matrix::new(count, d, both.values()[k * d..].to_vec())?)
}

/// The last `count` rows, the last of them first: eigenvectors come with ascending eigenvalues.
fn descending(vectors: &Matrix, count: usize) -> Matrix {
    let mut out = Matrix::zeros(count, vectors.columns());
    for i in 0..count {
        out.row_mut(i).copy_from_slice(vectors.row(vectors.rows() - 1 - i));
    }
    out
}

/// Some of the columns.
fn columns(matrix: &Matrix, chosen: std::ops::Range<usize>) -> Matrix {
    let mut out = Matrix::zeros(matrix.rows(), chosen.len());
    for i in 0..matrix.rows() {
        out.row_mut(i).copy_from_slice(&matrix.row(i)[chosen.clone()]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> Rng {
        Rng::named(1, "directions")
    }

    fn drawn(rows: usize, columns: usize, purpose: &str) -> Matrix {
        let mut rng = Rng::named(7, purpose);
        Matrix::new(rows, columns, (0..rows * columns).map(|_| rng.normal()).collect()).unwrap()
    }

    /// Rows whose second moment is this diagonal.
    fn with_moment(diagonal: [f64; 3]) -> Matrix {
        let mut rows = Matrix::zeros(3, 3);
        (0..3).for_each(|i| rows.row_mut(i)[i] = (3.0 * diagonal[i]).sqrt());
        rows
    }

    fn assert_orthonormal(rows: &Matrix) {
        let gram = rows.times(&rows.transposed()).unwrap();
        let eye = Matrix::identity(rows.rows(), rows.rows());
        for (g, e) in gram.values().iter().zip(eye.values()) {
            assert!((g - e).abs() < 1e-12, "{g} for {e}");
        }
    }

    /// C_F = diag(4, 1, 1), C_R = diag(1, 3, 1), β = ½: Δ = diag(1.5, −1, 0).
    #[test]
    fn hand_case() {
        let (forget, retain) = (with_moment([4.0, 1.0, 1.0]), with_moment([1.0, 3.0, 1.0]));
        let found = contrasting(&forget, &retain, 0.5, 3, &mut any()).unwrap();
        for (i, axis) in [0, 2, 1].into_iter().enumerate() {
            assert!((found.at(i, axis).abs() - 1.0).abs() < 1e-12, "{found:?}");
        }
        let strongest = dominant(&retain, 1).unwrap();
        assert!((strongest.at(0, 1).abs() - 1.0).abs() < 1e-12);
    }

    /// The whole Δ, written out, has the same directions: nothing is lost by looking at sequences only.
    #[test]
    fn among_sequences_are_the_eigenvectors_of_the_whole_matrix() {
        let (d, r) = (40, 6);
        for beta in [0.3, 0.5, 0.7] {
            let (forget, retain) = (drawn(7, d, "forget"), drawn(9, d, "retain"));
            let mut delta = Matrix::identity(d, d);
            delta.values_mut().iter_mut().for_each(|x| *x *= (1.0 - 2.0 * beta) * RIDGE);
            for (weight, own) in [(1.0 - beta, &forget), (-beta, &retain)] {
                let moment = own.transposed().times(own).unwrap();
                let count = own.rows() as f64;
                delta
                    .values_mut()
                    .iter_mut()
                    .zip(moment.values())
                    .for_each(|(d, m)| *d += weight * m / count);
            }
            let whole = symmetric_eigen(&delta).unwrap();
            let found = contrasting(&forget, &retain, beta, r, &mut any()).unwrap();
            assert_orthonormal(&found);
            for i in 0..r {
                let other = whole.vectors.row(d - 1 - i);
                let cosine: f64 = found.row(i).iter().zip(other).map(|(a, b)| a * b).sum();
                assert!((cosine.abs() - 1.0).abs() < 1e-9, "β {beta}, direction {i}: {cosine}");
            }
        }
    }

    /// With more directions than have a positive eigenvalue, those that neither set uses come before those that the retain
    /// set uses most.
    #[test]
    fn unused_directions_come_before_those_of_the_retain_set() {
        let (d, forget, retain) = (12, drawn(2, 12, "forget"), drawn(3, 12, "retain"));
        let found = contrasting(&forget, &retain, 0.5, d, &mut any()).unwrap();
        assert_orthonormal(&found);
        let on_retain: Vec<f64> = (0..d)
            .map(|i| {
                let own = Matrix::new(d, 1, found.row(i).to_vec()).unwrap();
                retain.times(&own).unwrap().values().iter().map(|x| x * x).sum()
            })
            .collect();
        assert!(on_retain[2..9].iter().all(|&energy| energy < 1e-20), "{on_retain:?}");
        assert!(on_retain[9..].iter().all(|&energy| energy > 0.1), "{on_retain:?}");
    }

    #[test]
    fn of_dependent_sequences_the_dominant_directions_are_as_many_as_they_span() {
        let few = drawn(2, 10, "few");
        let thrice = Matrix::new(6, 10, few.values().repeat(3)).unwrap();
        let found = dominant(&thrice, 5).unwrap();
        assert_eq!(found.rows(), 2);
        assert_orthonormal(&found);
        assert_eq!(dominant(&Matrix::zeros(3, 10), 5).unwrap().rows(), 0);
    }

    #[test]
    fn drawn_directions_are_orthonormal_and_those_of_their_stream() {
        let one = random(5, 9, &mut any()).unwrap();
        assert_orthonormal(&one);
        assert_eq!(one, random(5, 9, &mut any()).unwrap());
        assert_ne!(one, random(5, 9, &mut Rng::named(2, "directions")).unwrap());
    }
}
