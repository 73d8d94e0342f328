//! Where rows vary: their mean, their covariance, the directions in which they vary most; and what is left of rows away from
//! some directions.

use super::eigen::{Eigen, symmetric_eigen};
use super::matrix::Matrix;
use super::product::multiply_add;
use super::vector::{axpy, dot};
use crate::{Error, Result};

/// Mean and covariance of rows that come piece by piece. Only d + d² numbers are held, however many rows there are.
///
/// Products are summed about the mean of the first piece, so that a mean far from the origin costs no digits.
#[derive(Clone, Debug)]
pub struct Moments {
    count: usize,
    origin: Vec<f64>,
    /// Σ (x − origin).
    sum: Vec<f64>,
    /// Σ (x − origin)·(x − origin)ᵀ.
    products: Matrix,
}

/// The directions in which rows vary.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The mean row: `[d]`.
    pub mean: Vec<f64>,
    /// The variances along all d principal directions, descending.
    pub variances: Vec<f64>,
    /// The first of these directions, orthonormal: [k, d].
    pub directions: Matrix,
}

impl Moments {
    /// Of no rows yet, of so many columns.
    pub fn new(columns: usize) -> Self {
        let zeros = vec![0.0; columns];
        Moments { count: 0, origin: zeros.clone(), sum: zeros, products: Matrix::zeros(columns, columns) }
    }

    /// Takes rows [n, d] into account.
    ///
    /// # Errors
    /// Where they have another number of columns, or an element is no finite number.
    pub fn add(&mut self, rows: &Matrix) -> Result<()> {
        rows.check_finite("covariance")?;
        let d = self.sum.len();
        if rows.columns() != d {
            return Err(Error::shape(
                "rows of a covariance",
                &[rows.rows(), d],
                &[rows.rows(), rows.columns()],
            ));
        }
        if rows.rows() == 0 {
            return Ok(());
        }
        if self.count == 0 {
            let share = 1.0 / rows.rows() as f64;
            (0..rows.rows()).for_each(|i| axpy(share, rows.row(i), &mut self.origin));
        }
        let mut centred = rows.clone();
        for i in 0..rows.rows() {
            axpy(-1.0, &self.origin, centred.row_mut(i));
            axpy(1.0, centred.row(i), &mut self.sum);
        }
        multiply_add(1.0, centred.view().t(), centred.view(), self.products.values_mut(), d);
        self.count += rows.rows();
        Ok(())
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean row: `[d]`; zeros of no rows.
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = self.origin.clone();
        axpy(1.0 / self.count.max(1) as f64, &self.sum, &mut mean);
        mean
    }

    /// The covariance, divided by the number of rows: [d, d].
    pub fn covariance(&self) -> Matrix {
        let n = self.count.max(1) as f64;
        let mut covariance = self.products.clone();
        for i in 0..covariance.rows() {
            let off = self.sum[i] / n;
            for (c, s) in covariance.row_mut(i).iter_mut().zip(&self.sum) {
                *c = *c / n - off * (s / n);
            }
        }
        covariance
    }

    /// The mean, and the `k` principal directions in which rows vary most: fewer where they do not vary in as many.
    ///
    /// # Errors
    /// None that finite rows can cause.
    pub fn principal(&self, k: usize) -> Result<Principal> {
        let Eigen { mut values, vectors } = symmetric_eigen(&self.covariance())?;
        values.reverse();
        // What is smaller is rounding, and points anywhere.
        let least = values.first().map_or(0.0, |largest| largest * f64::EPSILON * values.len() as f64);
        let count = values.iter().take(k).take_while(|&&value| value > least).count();
        let mut directions = Matrix::zeros(count, vectors.columns());
        for i in 0..count {
            directions.row_mut(i).copy_from_slice(vectors.row(vectors.rows() - 1 - i));
        }
        values.iter_mut().for_each(|value| *value = value.max(0.0));
        Ok(Principal { mean: self.mean(), variances: values, directions })
    }
}

/// An orthonormal basis of what rows [n, d] span, in their order: row i of the rows lies in what the first i + 1 rows of the
/// basis span. A row that depends on those before it adds none. The same as QR where none does.
///
/// # Errors
/// Where an element is no finite number.
pub fn orthonormalised(rows: &Matrix) -> Result<Matrix> {
    rows.check_finite("orthonormal basis")?;
    let (mut basis, mut count) = (Vec::new(), 0);
    let d = rows.columns();
    for i in 0..rows.rows() {
        let (mut rest, length) = (rows.row(i).to_vec(), dot(rows.row(i), rows.row(i)).sqrt());
        // What one pass of Gram and Schmidt leaves by rounding, the second takes off.
        for _ in 0..2 {
            for known in basis.chunks_exact(d.max(1)) {
                let along = dot(known, &rest);
                axpy(-along, known, &mut rest);
            }
        }
        let left = dot(&rest, &rest).sqrt();
        if left > length * f64::EPSILON * d as f64 {
            basis.extend(rest.iter().map(|x| x / left));
            count += 1;
        }
    }
    Matrix::new(count, d, basis)
}

/// What is left of rows x [n, d] away from orthonormal directions Q [k, d]: x − (x·Qᵀ)·Q.
///
/// # Errors
/// Where the numbers of columns differ.
pub fn away_from(rows: &Matrix, directions: &Matrix) -> Result<Matrix> {
    let along = rows.times(&directions.transposed())?;
    let mut left = rows.clone();
    multiply_add(-1.0, along.view(), directions.view(), left.values_mut(), rows.columns());
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn drawn(rows: usize, columns: usize, stream: u64) -> Matrix {
        let mut rng = Rng::at(&[stream, rows as u64]);
        Matrix::new(rows, columns, (0..rows * columns).map(|_| rng.normal()).collect()).unwrap()
    }

    fn assert_close(a: &Matrix, b: &Matrix, tolerance: f64) {
        assert_eq!((a.rows(), a.columns()), (b.rows(), b.columns()));
        let worst = a.values().iter().zip(b.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= tolerance, "{worst}");
    }

    /// (±2, 0) and (0, ±1) about (10, 20): variances 2 and ½ along the axes.
    #[test]
    fn hand_case() {
        let rows = vec![12.0, 20.0, 8.0, 20.0, 10.0, 21.0, 10.0, 19.0];
        let mut moments = Moments::new(2);
        moments.add(&Matrix::new(4, 2, rows).unwrap()).unwrap();
        let principal = moments.principal(5).unwrap();
        assert_eq!(principal.mean, [10.0, 20.0]);
        assert_close(
            &Matrix::new(1, 2, principal.variances).unwrap(),
            &Matrix::new(1, 2, vec![2.0, 0.5]).unwrap(),
            1e-14,
        );
        assert_close(&principal.directions, &Matrix::identity(2, 2), 1e-14);
    }

    /// In pieces or at once, and as far from the origin as they may be.
    #[test]
    fn pieces_make_the_moments_of_the_whole() {
        let (d, far) = (7, 1e6);
        let mut rows = drawn(50, d, 1);
        rows.values_mut().iter_mut().for_each(|x| *x += far);
        let mut pieces = Moments::new(d);
        for piece in rows.values().chunks(9 * d) {
            pieces.add(&Matrix::new(piece.len() / d, d, piece.to_vec()).unwrap()).unwrap();
        }
        let mut wanted = Matrix::zeros(d, d);
        let mean: Vec<f64> =
            (0..d).map(|j| (0..50).map(|i| rows.at(i, j) - far).sum::<f64>() / 50.0).collect();
        for (i, j) in (0..d).flat_map(|i| (0..d).map(move |j| (i, j))) {
            let product = |row: usize| (rows.at(row, i) - far - mean[i]) * (rows.at(row, j) - far - mean[j]);
            wanted.row_mut(i)[j] = (0..50).map(product).sum::<f64>() / 50.0;
        }
        assert_eq!(pieces.count(), 50);
        assert_close(&pieces.covariance(), &wanted, 1e-8);
        let principal = pieces.principal(3).unwrap();
        assert!(principal.variances.is_sorted_by(|a, b| a >= b) && principal.variances.len() == d);
        let image = principal.directions.times(&pieces.covariance()).unwrap();
        let mut scaled = principal.directions.clone();
        (0..3).for_each(|i| scaled.row_mut(i).iter_mut().for_each(|x| *x *= principal.variances[i]));
        assert_close(&image, &scaled, 1e-9);
    }

    #[test]
    fn a_basis_is_orthonormal_and_a_projector_is_one() {
        let rows = drawn(5, 9, 2);
        let basis = orthonormalised(&rows).unwrap();
        let eye = |n| Matrix::identity(n, n);
        assert_close(&basis.times(&basis.transposed()).unwrap(), &eye(5), 1e-14);
        // P = I − QᵀQ: applied twice it is itself, and nothing of the rows is left.
        let projector = away_from(&eye(9), &basis).unwrap();
        assert_close(&projector.times(&projector).unwrap(), &projector, 1e-14);
        assert_close(&projector.transposed(), &projector, 1e-14);
        assert_close(&away_from(&rows, &basis).unwrap(), &Matrix::zeros(5, 9), 1e-13);
        // A direction that QR finds in the same order, but for its sign.
        let qr = super::super::qr(&rows.transposed()).unwrap().basis;
        (0..5).for_each(|i| assert!((dot(qr.row(i), basis.row(i)).abs() - 1.0).abs() < 1e-12));
    }

    #[test]
    fn what_depends_on_the_rows_before_adds_no_direction() {
        let (a, b) = (drawn(1, 6, 3), drawn(1, 6, 4));
        let both: Vec<f64> = a.values().iter().zip(b.values()).map(|(a, b)| a - 2.0 * b).collect();
        let rows = [a.values(), b.values(), &both, &[0.0; 6]].concat();
        let basis = orthonormalised(&Matrix::new(4, 6, rows).unwrap()).unwrap();
        assert_eq!(basis.rows(), 2);
        // Two points vary along one line alone.
        let mut moments = Moments::new(6);
        moments.add(&Matrix::new(2, 6, [a.values(), b.values()].concat()).unwrap()).unwrap();
        assert_eq!(moments.principal(4).unwrap().directions.rows(), 1);
        assert!(moments.add(&drawn(2, 5, 5)).is_err() && moments.add(&Matrix::zeros(0, 6)).is_ok());
    }
}
