//! Householder reflectors, and products of many of them applied in blocks.

use super::matrix::Matrix;
use super::product::multiply_add;
use super::vector::{axpy, dot};

/// Reflectors applied together. Part of the numerical contract, as is every size of a block here.
pub(super) const BLOCK: usize = 32;

/// Turns `x` into (β, 0, …, 0) by H = I − τ·v·vᵀ with v₀ = 1: leaves v in `x`, gives (β, τ). τ = 0 means H = I.
pub(super) fn reflect(x: &mut [f64]) -> (f64, f64) {
    let Some((first, rest)) = x.split_first_mut() else { return (0.0, 0.0) };
    let alpha = *first;
    let largest = rest.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
    *first = 1.0;
    if largest == 0.0 {
        return (alpha, 0.0);
    }
    // Scaled, because squares of what is left of a singular matrix would underflow.
    let scale = largest.max(alpha.abs());
    rest.iter_mut().for_each(|x| *x /= scale);
    let alpha = alpha / scale;
    let norm = (alpha * alpha + dot(rest, rest)).sqrt();
    let beta = if alpha > 0.0 { -norm } else { norm };
    let pivot = alpha - beta;
    rest.iter_mut().for_each(|x| *x /= pivot);
    (beta * scale, -pivot / beta)
}

/// Q = H₁·H₂⋯H_k, where reflector i is zero before coordinate `i + offset`.
pub(super) struct Reflectors {
    /// Row i: the vector of reflector i, with its zeros and its leading one: [k, m].
    vectors: Matrix,
    taus: Vec<f64>,
    offset: usize,
}

impl Reflectors {
    pub(super) fn new(count: usize, length: usize, offset: usize) -> Self {
        Reflectors { vectors: Matrix::zeros(count, length), taus: vec![0.0; count], offset }
    }

    /// Sets reflector i, whose vector begins at coordinate `i + offset`.
    pub(super) fn set(&mut self, i: usize, tail: &[f64], tau: f64) {
        let start = i + self.offset;
        self.vectors.row_mut(i)[start..start + tail.len()].copy_from_slice(tail);
        self.taus[i] = tau;
    }

    /// The vector of reflector i from its leading one on.
    fn tail(&self, i: usize) -> &[f64] {
        &self.vectors.row(i)[(i + self.offset).min(self.vectors.columns())..]
    }

    /// C ← C·Q, for rows of as many elements as the reflectors have.
    pub(super) fn times(&self, c: &mut Matrix) {
        for start in (0..self.taus.len()).step_by(BLOCK) {
            self.apply(start, false, c, 0);
        }
    }

    /// C ← C·Qᵀ.
    pub(super) fn times_transposed(&self, c: &mut Matrix) {
        for start in (0..self.taus.len()).step_by(BLOCK).rev() {
            self.apply(start, true, c, 0);
        }
    }

    /// The first `rows` rows of Qᵀ: the first columns of Q.
    pub(super) fn basis(&self, rows: usize) -> Matrix {
        let mut c = Matrix::identity(rows, self.vectors.columns());
        for start in (0..self.taus.len()).step_by(BLOCK).rev() {
            // A row of the identity before a block's first coordinate is orthogonal to its reflectors.
            self.apply(start, true, &mut c, (start + self.offset).min(rows));
        }
        c
    }

    /// Applies the block of reflectors that begins at `start` to the rows of `c` from `row` on:
    /// C ← C − (C·Vᵀ)·T·V with the reflectors as rows of V, or with Tᵀ (Schreiber and Van Loan, 1989).
    pub(super) fn apply(&self, start: usize, transposed: bool, c: &mut Matrix, row: usize) {
        let count = BLOCK.min(self.taus.len() - start);
        let (width, first) = (c.columns(), start + self.offset);
        if first >= width || row >= c.rows() {
            return;
        }
        let t = self.triangle(start, count);
        let v = self.vectors.block(start, first).first(count, width - first);
        let rows = c.rows() - row;
        let mut w = Matrix::zeros(rows, count);
        multiply_add(1.0, c.block(row, first), v.t(), w.values_mut(), count);
        let mut wt = Matrix::zeros(rows, count);
        let t = if transposed { t.view().t() } else { t.view() };
        multiply_add(1.0, w.view(), t, wt.values_mut(), count);
        let at = row * width + first;
        multiply_add(-1.0, wt.view(), v, &mut c.values_mut()[at..], width);
    }

    /// T of H_s⋯H_{s+count−1} = I − Vᵀ·T·V: upper triangular.
    fn triangle(&self, start: usize, count: usize) -> Matrix {
        let mut t = Matrix::zeros(count, count);
        for i in 0..count {
            let tau = self.taus[start + i];
            let own = self.tail(start + i);
            // Column i above the diagonal: −τ·T·(V·v).
            let mut column = vec![0.0; count];
            for j in 0..i {
                let skip = i - j;
                let other = &self.tail(start + j)[skip.min(self.tail(start + j).len())..];
                let overlap = -tau * dot(other, own);
                for (p, sum) in column.iter_mut().enumerate().take(j + 1) {
                    *sum += t.at(p, j) * overlap;
                }
            }
            column[i] = tau;
            column.iter().enumerate().take(i + 1).for_each(|(p, &x)| t.row_mut(p)[i] = x);
        }
        t
    }
}

/// x ← H·x for one reflector: x − τ·(v·x)·v.
pub(super) fn reflect_one(v: &[f64], tau: f64, x: &mut [f64]) {
    let along = dot(v, x);
    axpy(-tau * along, v, x);
}
