//! The f64 matrix that everything here takes and gives.

use super::product::{View, multiply_add};
use crate::{Error, Result, Tensor};

/// A dense row-major matrix of f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// The matrix with these elements, row after row.
    ///
    /// # Errors
    /// Where their number is not `rows · columns`.
    pub fn new(rows: usize, columns: usize, values: Vec<f64>) -> Result<Self> {
        if values.len() != rows * columns {
            return Err(Error::shape("matrix", &[rows, columns], &[values.len()]));
        }
        Ok(Matrix { rows, columns, values })
    }

    /// Zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Matrix { rows, columns, values: vec![0.0; rows * columns] }
    }

    /// Ones on the diagonal, zeros elsewhere.
    pub fn identity(rows: usize, columns: usize) -> Self {
        let mut eye = Self::zeros(rows, columns);
        (0..rows.min(columns)).for_each(|i| eye.values[i * columns + i] = 1.0);
        eye
    }

    /// A tensor's values, in f64; its last dimension gives the columns.
    pub fn from_tensor(tensor: &Tensor) -> Self {
        let values = tensor.to_f32().f32().iter().map(|&x| f64::from(x)).collect();
        Matrix { rows: tensor.rows(), columns: tensor.columns(), values }
    }

    /// The values rounded to f32: [rows, columns].
    pub fn to_tensor(&self) -> Tensor {
        Tensor::build(&[self.rows, self.columns], |out| {
            out.iter_mut().zip(&self.values).for_each(|(out, &x)| *out = x as f32);
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The element at row `i`, column `j`.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.row(i)[j]
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.columns..(i + 1) * self.columns]
    }

    /// Row `i`, for writing.
    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.values[i * self.columns..(i + 1) * self.columns]
    }

    /// All elements, row after row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All elements, for writing.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// The transpose.
    pub fn transposed(&self) -> Matrix {
        let mut out = Self::zeros(self.columns, self.rows);
        // Square tiles, so that the strided side stays in the cache.
        const TILE: usize = 32;
        for i0 in (0..self.rows).step_by(TILE) {
            for j0 in (0..self.columns).step_by(TILE) {
                for i in i0..self.rows.min(i0 + TILE) {
                    for j in j0..self.columns.min(j0 + TILE) {
                        out.values[j * self.rows + i] = self.values[i * self.columns + j];
                    }
                }
            }
        }
        out
    }

    /// The product `self · other`.
    ///
    /// # Errors
    /// Where the inner extents differ.
    pub fn times(&self, other: &Matrix) -> Result<Matrix> {
        if self.columns != other.rows {
            return Err(Error::shape(
                "right factor",
                &[self.columns, other.columns],
                &[other.rows, other.columns],
            ));
        }
        let mut out = Self::zeros(self.rows, other.columns);
        multiply_add(1.0, self.view(), other.view(), &mut out.values, other.columns);
        Ok(out)
    }

    /// Swaps two rows.
    pub(super) fn swap_rows(&mut self, i: usize, j: usize) {
        if i != j {
            let (low, high) = (i.min(j), i.max(j));
            let (head, tail) = self.values.split_at_mut(high * self.columns);
            head[low * self.columns..(low + 1) * self.columns].swap_with_slice(&mut tail[..self.columns]);
        }
    }

    /// The whole, for products.
    pub(super) fn view(&self) -> View<'_> {
        self.block(0, 0)
    }

    /// What lies from row `i` and column `j` on.
    pub(super) fn block(&self, i: usize, j: usize) -> View<'_> {
        let (rows, columns) = (self.rows - i, self.columns - j);
        let start = (i * self.columns + j).min(self.values.len());
        View { values: &self.values[start..], rows, columns, row_stride: self.columns, column_stride: 1 }
    }

    /// The same matrix times the power of two that brings its largest element into [1, 2), and that power's
    /// inverse. Both are exact but for what underflows, and let squares neither overflow nor vanish.
    pub(super) fn scaled(&self) -> (Matrix, f64) {
        let largest = self.values.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        if largest == 0.0 {
            return (self.clone(), 1.0);
        }
        let mut scaled = self.clone();
        let mut back = 1.0;
        // In two halves: the power itself may lie outside of the range of f64.
        for _ in 0..2 {
            let now = scaled.values.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
            let power = power_of_two_below(now);
            scaled.values.iter_mut().for_each(|x| *x /= power);
            back *= power;
        }
        (scaled, back)
    }

    /// # Errors
    /// Where an element is a NaN or an infinity.
    pub(super) fn check_finite(&self, what: &str) -> Result<()> {
        match self.values.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::invalid(format!(
                "{what}: element ({}, {}) is {}; every element must be a finite number",
                at / self.columns,
                at % self.columns,
                self.values[at]
            ))),
        }
    }

    /// # Errors
    /// Where the matrix is not square.
    pub(super) fn check_square(&self, what: &str) -> Result<()> {
        match self.rows == self.columns {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "{what}: a square matrix is needed, this one has {} rows and {} columns",
                self.rows, self.columns
            ))),
        }
    }
}

/// The largest power of two that is not above a positive number, 2⁻¹⁰²² at least and 2¹⁰²² at most (so that it
/// and its inverse are normal numbers).
fn power_of_two_below(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52).clamp(1, 2045);
    f64::from_bits(exponent << 52)
}
