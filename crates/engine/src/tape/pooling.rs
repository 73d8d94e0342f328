//! From the rows of a sequence to one vector: weighted sums, maxima, unit length.
//!
//! Every sequence is reduced in the order of its own rows, so that its vector has the same bits in
//! any batch.

use std::ops::Range;

use super::{Graph, Var};
use crate::{Error, Result, Tensor, kernels};

/// Length below which a vector counts as zero and is left as it is, as PyTorch's `normalize` has it.
const SHORTEST: f32 = 1e-12;

fn check(x: &Var, sequences: &[Range<usize>]) -> Result<()> {
    match sequences.iter().find(|s| s.is_empty() || s.end > x.value.rows()) {
        Some(s) => Err(Error::invalid(format!("rows {s:?} cannot be pooled from {} rows", x.value.rows()))),
        None => Ok(()),
    }
}

impl<'m> Graph<'m> {
    /// `Σ weight_t · x_t` over the rows t of every sequence: x [T, d], `weights` `[T]` → [sequences, d].
    ///
    /// Fails where a sequence has no rows.
    pub fn sum_rows(&mut self, x: &Var, sequences: &[Range<usize>], weights: &[f32]) -> Result<Var> {
        check(x, sequences)?;
        if weights.len() != x.value.rows() {
            return Err(Error::shape("weights of rows", &[x.value.rows()], &[weights.len()]));
        }
        let width = x.value.columns();
        let mut value = Tensor::zeros(&[sequences.len(), width], crate::DType::F32);
        for (out, rows) in value.f32_mut().chunks_exact_mut(width).zip(sequences) {
            for t in rows.clone() {
                kernels::axpy(weights[t], &x.value.f32()[t * width..(t + 1) * width], out);
            }
        }
        let (x, sequences, weights) = (x.clone(), sequences.to_vec(), weights.to_vec());
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            back.add_with(&x, |dx| {
                for (g, rows) in gradient.f32().chunks_exact(width).zip(&sequences) {
                    for t in rows.clone() {
                        kernels::axpy(weights[t], g, &mut dx[t * width..(t + 1) * width]);
                    }
                }
            });
            Ok(())
        }))
    }

    /// The largest element of every column over the rows of every sequence: x [T, d] → [sequences, d].
    /// The gradient goes to the first row that holds it.
    pub fn max_rows(&mut self, x: &Var, sequences: &[Range<usize>]) -> Result<Var> {
        check(x, sequences)?;
        let width = x.value.columns();
        let mut chosen: Vec<usize> = Vec::with_capacity(sequences.len() * width);
        for rows in sequences {
            chosen.extend((0..width).map(|column| {
                let at = |t: usize| x.value.f32()[t * width + column];
                rows.clone().fold(rows.start, |best, t| if at(t) > at(best) { t } else { best })
            }));
        }
        let value = Tensor::build(&[sequences.len(), width], |out| {
            for (i, (out, &t)) in out.iter_mut().zip(&chosen).enumerate() {
                *out = x.value.f32()[t * width + i % width];
            }
        });
        let x = x.clone();
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            back.add_with(&x, |dx| {
                for (i, (g, &t)) in gradient.f32().iter().zip(&chosen).enumerate() {
                    dx[t * width + i % width] += g;
                }
            });
            Ok(())
        }))
    }

    /// Every row divided by its Euclidean length: [n, d] → [n, d].
    pub fn unit_rows(&mut self, x: &Var) -> Result<Var> {
        let width = x.value.columns();
        let lengths: Vec<f32> = x
            .value
            .f32()
            .chunks_exact(width)
            .map(|row| (kernels::dot(row, row).sqrt() as f32).max(SHORTEST))
            .collect();
        let mut value = x.value.clone();
        for (row, &length) in value.f32_mut().chunks_exact_mut(width).zip(&lengths) {
            row.iter_mut().for_each(|v| *v /= length);
        }
        let (x, y) = (x.clone(), value.clone());
        Ok(self.push(value, x.needs_gradient(), move |back, mut gradient| {
            // dx = (g − y⟨g, y⟩) / ‖x‖
            let rows = gradient.f32_mut().chunks_exact_mut(width).zip(y.f32().chunks_exact(width));
            for ((g, y), &length) in rows.zip(&lengths) {
                let along = if length > SHORTEST { kernels::dot(g, y) as f32 } else { 0.0 };
                g.iter_mut().zip(y).for_each(|(g, &y)| *g = (*g - y * along) / length);
            }
            back.add(&x, gradient)
        }))
    }
}
