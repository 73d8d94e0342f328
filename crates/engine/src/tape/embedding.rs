//! Token embedding.

use super::{Graph, Var};
use crate::params::ParamId;
use crate::{Error, Result, Tensor, kernels, profile};

impl<'m> Graph<'m> {
    /// Rows of the embedding matrix [V, d] for `ids` → [T, d].
    ///
    /// Fails where an id is not below V.
    pub fn embed(&mut self, ids: &[u32], table: ParamId) -> Result<Var> {
        let _timed = profile::span("embedding");
        let param = self.param(table);
        let (vocabulary, width) = (param.tensor.rows(), param.tensor.columns());
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::invalid(format!(
                "token id {id} is outside the model's vocabulary of {vocabulary}"
            )));
        }
        let row = move |id: u32| id as usize * width..(id as usize + 1) * width;
        let value = Tensor::build(&[ids.len(), width], |out| {
            for (out, &id) in out.chunks_exact_mut(width).zip(ids) {
                out.copy_from_slice(&param.tensor.f32()[row(id)]);
            }
        });
        let ids = ids.to_vec();
        Ok(self.push(value, self.learns(table), move |back, gradient| {
            let _timed = profile::span("embedding backward");
            let sum = back.param(table);
            for (gradient, &id) in gradient.f32().chunks_exact(width).zip(&ids) {
                kernels::axpy(1.0, gradient, &mut sum[row(id)]);
            }
            Ok(())
        }))
    }
}
