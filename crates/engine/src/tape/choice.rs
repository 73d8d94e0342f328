//! Chosen columns of logits, and whole rows against a teacher's: what classification, contrastive losses and distillation
//! are made of.

use super::{Graph, Var};
use crate::{DType, Error, Result, Tensor, kernels};

impl<'m> Graph<'m> {
    /// `ln softmax(x_i)[choice_i]` of every row: logits x [n, c] → `[n]`.
    ///
    /// For logits that are held anyway; over a vocabulary [`Graph::token_logprobs`] never holds them.
    pub fn chosen_logprobs(&mut self, x: &Var, choices: &[usize]) -> Result<Var> {
        check_choices(x, choices)?;
        let (rows, width) = (x.value.rows(), x.value.columns());
        let normalisers: Vec<f32> = x.value.f32().chunks_exact(width).map(kernels::log_sum_exp).collect();
        let value = Tensor::build(&[rows], |out| {
            let logits = x.value.f32().chunks_exact(width);
            for ((out, row), (&c, &z)) in out.iter_mut().zip(logits).zip(choices.iter().zip(&normalisers)) {
                *out = row[c] - z;
            }
        });
        let (x, choices) = (x.clone(), choices.to_vec());
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            back.add_with(&x, |dx| {
                let rows = dx.chunks_exact_mut(width).zip(x.value.f32().chunks_exact(width));
                for (i, (dx, x)) in rows.enumerate() {
                    let g = gradient.f32()[i];
                    dx.iter_mut().zip(x).for_each(|(dx, &x)| *dx -= g * (x - normalisers[i]).exp());
                    dx[choices[i]] += g;
                }
            });
            Ok(())
        }))
    }

    /// The largest of every row but for the column that is given, of equals the first: x [n, c] → `[n]`.
    pub fn best_others(&self, x: &Var, columns: &[usize]) -> Vec<usize> {
        let rows = x.value.f32().chunks_exact(x.value.columns());
        let best = |(row, &left_out): (&[f32], &usize)| {
            let others = row.iter().enumerate().filter(|(column, _)| *column != left_out);
            others
                .fold((left_out, f32::NEG_INFINITY), |best, (i, &x)| if x > best.1 { (i, x) } else { best })
                .0
        };
        rows.zip(columns).map(best).collect()
    }

    /// How far the largest of every row is above the row's mean: x [n, c] → `[n]`. The gradient goes to the first column that
    /// holds the largest.
    pub fn max_less_mean(&mut self, x: &Var) -> Result<Var> {
        let width = x.value.columns();
        let largest = |row: &[f32]| {
            (1..row.len()).fold(0, |best, column| if row[column] > row[best] { column } else { best })
        };
        let rows = || x.value.f32().chunks_exact(width.max(1));
        let best: Vec<usize> = rows().map(largest).collect();
        let mut value = Tensor::zeros(&[best.len()], DType::F32);
        for ((out, row), &column) in value.f32_mut().iter_mut().zip(rows()).zip(&best) {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
            *out = (f64::from(row[column]) - mean) as f32;
        }
        let x = x.clone();
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            back.add_with(&x, |dx| {
                let rows = dx.chunks_exact_mut(width.max(1)).zip(&best).zip(gradient.f32());
                for ((row, &column), &g) in rows {
                    row.iter_mut().for_each(|out| *out -= g / width as f32);
                    row[column] += g;
                }
            });
            Ok(())
        }))
    }

    /// A constant added to one column of every row: x [n, c], columns `[n]` → [n, c]. With −∞ those columns are never chosen.
    pub fn shift_chosen(&mut self, x: &Var, columns: &[usize], constant: f32) -> Result<Var> {
        check_choices(x, columns)?;
        let (mut value, width) = (x.value.clone(), x.value.columns());
        for (row, &column) in value.f32_mut().chunks_exact_mut(width).zip(columns) {
            row[column] += constant;
        }
        let x = x.clone();
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| back.add(&x, gradient.clone())))
    }

    /// `Σ weight_i · CE(softmax(teacher_i), softmax(x_i))` in nats → scalar: logits x and teacher [n, c], weights `[n]`. The
    /// teacher is a constant.
    pub fn soft_cross_entropy(&mut self, x: &Var, teacher: &Var, weights: &[f32]) -> Result<Var> {
        let (rows, width) = (x.value.rows(), x.value.columns());
        if teacher.shape() != x.shape() || weights.len() != rows {
            return Err(Error::shape("teacher's logits", x.shape(), teacher.shape()));
        }
        let mut wanted = teacher.value.clone();
        kernels::softmax_rows(wanted.f32_mut(), width);
        let mut total = 0.0;
        let each = x.value.f32().chunks_exact(width).zip(wanted.f32().chunks_exact(width)).zip(weights);
        for ((row, wanted), &weight) in each {
            let expected: f64 = row.iter().zip(wanted).map(|(&x, &q)| f64::from(x) * f64::from(q)).sum();
            total += f64::from(weight) * (f64::from(kernels::log_sum_exp(row)) - expected);
        }
        let value = Tensor::from_f32(&[total as f32], &[])?;
        let (x, weights) = (x.clone(), weights.to_vec());
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            let g = gradient.f32()[0];
            let mut dx = x.value.clone();
            kernels::softmax_rows(dx.f32_mut(), width);
            let rows = dx.f32_mut().chunks_exact_mut(width).zip(wanted.f32().chunks_exact(width));
            for ((row, wanted), &weight) in rows.zip(&weights) {
                row.iter_mut().zip(wanted).for_each(|(p, &q)| *p = g * weight * (*p - q));
            }
            back.add(&x, dx)
        }))
    }
}

/// Refuses choices that are not one column of every row.
fn check_choices(x: &Var, choices: &[usize]) -> Result<()> {
    let (rows, width) = (x.value.rows(), x.value.columns());
    if choices.len() != rows {
        return Err(Error::shape("choices", &[rows], &[choices.len()]));
    }
    match choices.iter().find(|&&c| c >= width) {
        Some(choice) => {
            Err(Error::invalid(format!("choice {choice} among {width}; they are counted from 0")))
        }
        None => Ok(()),
    }
}
