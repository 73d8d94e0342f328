//! Log-probabilities of chosen columns: what classification and contrastive losses are made of.

use super::{Graph, Var};
use crate::{Error, Result, Tensor, kernels};

impl<'m> Graph<'m> {
    /// `ln softmax(x_i)[choice_i]` of every row: logits x [n, c] → `[n]`.
    ///
    /// For logits that are held anyway; over a vocabulary [`Graph::token_logprobs`] never holds them.
    pub fn chosen_logprobs(&mut self, x: &Var, choices: &[usize]) -> Result<Var> {
        let (rows, width) = (x.value.rows(), x.value.columns());
        if choices.len() != rows {
            return Err(Error::shape("choices", &[rows], &[choices.len()]));
        }
        if let Some(choice) = choices.iter().find(|&&c| c >= width) {
            return Err(Error::invalid(format!("choice {choice} among {width}; they are counted from 0")));
        }
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
}
