//! Plane rotations of neighbouring rows, by the thousand.
//!
//! Iterations on a few numbers say which rotations the vectors have to go through. They are collected and applied to
//! narrow strips of columns, each of which stays in the cache meanwhile; strips know nothing of each other.

use rayon::prelude::*;

use super::matrix::Matrix;
use crate::simd::{Simd, multiversion};

/// Columns of a strip.
const WIDE: usize = 8;

/// Rotations that are collected before they are applied. Has no influence on results.
const BATCH: usize = 1 << 21;

/// (x, y) ← (c·x + s·y, c·y − s·x).
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) c: f64,
    pub(super) s: f64,
}

impl Rotation {
    /// The rotation that turns (f, g) into (r, 0), and r.
    pub(super) fn zeroing(f: f64, g: f64) -> (Rotation, f64) {
        if g == 0.0 {
            return (Rotation { c: 1.0, s: 0.0 }, f);
        }
        let r = super::vector::hypot(f, g);
        (Rotation { c: f / r, s: g / r }, r)
    }
}

/// Rotations of rows (first, first + 1), (first + 1, first + 2), … in this order, or in the reverse one.
pub(super) struct Sweep {
    pub(super) first: usize,
    pub(super) upwards: bool,
    /// By ascending row, whatever the order in which they are applied.
    pub(super) rotations: Vec<Rotation>,
}

/// A matrix whose rows are being rotated.
pub(super) struct RotatedRows {
    rows: usize,
    columns: usize,
    strips: Vec<Vec<[f64; WIDE]>>,
    waiting: Vec<Sweep>,
    held: usize,
}

impl RotatedRows {
    pub(super) fn new(matrix: &Matrix) -> Self {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let strips = (0..columns.div_ceil(WIDE)).into_par_iter().map(|strip| {
            let start = strip * WIDE;
            let take = |i: usize| {
                let mut lanes = [0.0; WIDE];
                let row = &matrix.row(i)[start..columns.min(start + WIDE)];
                lanes[..row.len()].copy_from_slice(row);
                lanes
            };
            (0..rows).map(take).collect()
        });
        RotatedRows { rows, columns, strips: strips.collect(), waiting: Vec::new(), held: 0 }
    }

    pub(super) fn rotate(&mut self, sweep: Sweep) {
        self.held += sweep.rotations.len();
        self.waiting.push(sweep);
        if self.held >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let sweeps = std::mem::take(&mut self.waiting);
        self.held = 0;
        self.strips.par_iter_mut().for_each(|strip| apply(&sweeps, strip));
    }

    /// The rows in the given order.
    pub(super) fn finish(mut self, order: &[usize]) -> Matrix {
        self.flush();
        debug_assert_eq!(order.len(), self.rows);
        let mut out = Matrix::zeros(self.rows, self.columns);
        for (to, &from) in order.iter().enumerate() {
            for (lanes, strip) in out.row_mut(to).chunks_mut(WIDE).zip(&self.strips) {
                lanes.copy_from_slice(&strip[from][..lanes.len()]);
            }
        }
        out
    }
}

multiversion! {
    fn apply(sweeps: &[Sweep], strip: &mut [[f64; WIDE]]) = apply_body;
}

#[inline(always)]
fn apply_body<S: Simd>(_level: S, sweeps: &[Sweep], strip: &mut [[f64; WIDE]]) {
    for sweep in sweeps {
        let rows = &mut strip[sweep.first..=sweep.first + sweep.rotations.len()];
        // The row that two neighbours share stays in registers.
        if sweep.upwards {
            let mut y = rows[sweep.rotations.len()];
            for (i, r) in sweep.rotations.iter().enumerate().rev() {
                let x = rows[i];
                let (mut new_x, mut new_y) = ([0.0; WIDE], [0.0; WIDE]);
                for lane in 0..WIDE {
                    new_x[lane] = r.c * x[lane] + r.s * y[lane];
                    new_y[lane] = r.c * y[lane] - r.s * x[lane];
                }
                rows[i + 1] = new_y;
                y = new_x;
            }
            rows[0] = y;
        } else {
            let mut x = rows[0];
            for (i, r) in sweep.rotations.iter().enumerate() {
                let y = rows[i + 1];
                let (mut new_x, mut new_y) = ([0.0; WIDE], [0.0; WIDE]);
                for lane in 0..WIDE {
                    new_x[lane] = r.c * x[lane] + r.s * y[lane];
                    new_y[lane] = r.c * y[lane] - r.s * x[lane];
                }
                rows[i] = new_x;
                x = new_y;
            }
            rows[sweep.rotations.len()] = x;
        }
    }
}
