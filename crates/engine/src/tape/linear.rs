//! Linear layers, with bias and adapter.

use std::fmt;
use std::sync::Arc;

use super::{Edge, Graph, Var};
use crate::kernels::{self, Mat, MatMut};
use crate::params::{ParamId, Params};
use crate::{Error, Result, Tensor, profile};

/// What changes the output of a linear layer whose weight stays as it is.
pub trait LinearAdapter: fmt::Debug + Send + Sync {
    /// The adapted output, of the input x [T, in] and the layer's own output y [T, out]: [T, out]. What is added to y is
    /// linear in x, so that the shares of attention's heads in it add up.
    fn apply(&self, g: &mut Graph<'_>, x: &Var, y: Var) -> Result<Var>;

    /// Its parameters.
    fn parameters(&self) -> Vec<ParamId>;

    /// Changes the layer's weight [out, in] so that it does alone what it does with the adapter. Fails where no weight
    /// can.
    fn merge(&self, params: &Params, weight: &mut Tensor) -> Result<()>;
}

/// The parameters of one linear layer: `y = W·x + bias`, and what an adapter makes of it.
#[derive(Debug, Clone)]
pub struct Linear {
    /// W: [out, in].
    pub weight: ParamId,
    /// Bias: `[out]`.
    pub bias: Option<ParamId>,
    /// Adapter, where one is attached.
    pub adapter: Option<Arc<dyn LinearAdapter>>,
}

impl<'m> Graph<'m> {
    /// `y = x·Wᵀ + bias`, adapted; x: [T, in] → y: [T, out].
    pub fn linear(&mut self, x: &Var, layer: &Linear) -> Result<Var> {
        let y = self.project(x, layer.weight, layer.bias)?;
        match &layer.adapter {
            Some(adapter) => adapter.apply(self, x, y),
            None => Ok(y),
        }
    }

    /// `x·Wᵀ + bias`: x [T, in], W [out, in] → [T, out].
    pub(crate) fn project(&mut self, x: &Var, weight: ParamId, bias: Option<ParamId>) -> Result<Var> {
        let param = self.param(weight);
        let (out, inner) = (param.tensor.rows(), param.tensor.columns());
        if x.value.columns() != inner {
            return Err(Error::shape(&param.name, &[out, x.value.columns()], param.tensor.shape()));
        }
        let rows = x.value.rows();
        let _timed = profile::product("forward", &param.name, [rows, out, inner]);
        let w = param.tensor.f32();
        let bias_values = bias.map(|b| &self.param(b).tensor);
        let compute = self.params.precision().compute;
        let value = Tensor::build(&[rows, out], |y| {
            times_weight(self.params, weight, &x.value, y, self.is_recording());
            if let Some(bias) = bias_values {
                y.chunks_exact_mut(out).for_each(|row| kernels::axpy(1.0, bias.f32(), row));
            }
        });
        let learns = self.learns(weight);
        let bias = bias.filter(|&b| self.learns(b));
        let needs = x.needs_gradient() || learns || bias.is_some();
        // A frozen weight's gradient needs no operand, so none is kept for it.
        let (saved, x) = (learns.then(|| x.saved()), Edge::from(x));
        Ok(self.push(value, needs, move |back, dy| {
            let dy_matrix = Mat::new(dy.f32(), rows, out);
            if let Some(saved) = saved {
                let x = saved.value();
                let _timed = profile::product("weight gradient", &param.name, [rows, out, inner]);
                back.add_param_product(compute, weight, dy_matrix.t(), Mat::new(x.f32(), rows, inner));
            }
            if let Some(bias) = bias {
                let sum = back.param(bias);
                dy.f32().chunks_exact(out).for_each(|row| kernels::axpy(1.0, row, sum));
            }
            if x.node.is_some() {
                let _timed = profile::product("input gradient", &param.name, [rows, out, inner]);
                back.add_product(compute, x, dy_matrix, Mat::new(w, out, inner));
            }
            Ok(())
        }))
    }
}

/// `y = x·Wᵀ`: x [rows, in], W [out, in] → y [rows, out].
pub(super) fn times_weight(params: &Params, weight: ParamId, x: &Tensor, y: &mut [f32], training: bool) {
    let w = &params.get(weight).tensor;
    let (rows, out, inner) = (x.rows(), w.rows(), w.columns());
    let (x, y) = (Mat::new(x.f32(), rows, inner), MatMut::new(y, rows, out));
    match params.packed(weight, rows, training) {
        Some(packed) => kernels::gemm_packed(x, packed, y, false),
        None => params.precision().compute.product(x, Mat::new(w.f32(), out, inner).t(), y, false),
    }
}
