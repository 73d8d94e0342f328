//! The way back: gradients from outputs to parameters and leaves.

use super::var::{Edge, Node};
use super::{Graph, Var};
use crate::gradients::Gradients;
use crate::kernels::{self, Compute, Mat, MatMut};
use crate::params::{ParamId, Params};
use crate::{Error, Result, Tensor};

impl Graph<'_> {
    /// Walks the nodes backwards from outputs whose gradients are given.
    pub(super) fn run_backward<'v>(
        self,
        outputs: impl IntoIterator<Item = (&'v Var, Tensor)>,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let mut back = Backward {
            params: self.params,
            gradients,
            graph: self.id,
            nodes: (0..self.nodes.len()).map(|_| None).collect(),
            strayed: false,
        };
        for (output, gradient) in outputs {
            back.add(output, gradient)?;
        }
        for (index, node) in self.nodes.into_iter().enumerate().rev() {
            if let Some(gradient) = back.nodes[index].take() {
                self.params.check_interrupted()?;
                node(&mut back, gradient)?;
            }
        }
        match back.strayed {
            true => Err(Error::invalid(
                "a value of another graph was used in this one, where its gradient is lost; bring it in with \
                 Graph::input",
            )),
            false => Ok(()),
        }
    }
}

/// The state of a backward pass: gradients of nodes not yet visited, and of parameters.
pub(super) struct Backward<'a> {
    pub(super) params: &'a Params,
    pub(super) gradients: &'a mut Gradients,
    graph: u64,
    nodes: Vec<Option<Tensor>>,
    /// Whether a gradient was meant for a value of another graph.
    strayed: bool,
}

impl Backward<'_> {
    /// Where the gradient of a value is gathered; nothing where none is needed.
    fn slot(&mut self, to: Edge) -> Option<&mut Option<Tensor>> {
        let Node { graph, index } = to.node?;
        if graph != self.graph {
            self.strayed = true;
            return None;
        }
        self.nodes.get_mut(index)
    }

    /// Adds to the gradient of a value; nothing happens where none is needed.
    pub(super) fn add(&mut self, to: impl Into<Edge>, gradient: Tensor) -> Result<()> {
        let edge = to.into();
        let Some(slot) = self.slot(edge) else { return Ok(()) };
        if gradient.len() != edge.len {
            return Err(Error::shape("gradient", &[edge.len], gradient.shape()));
        }
        match slot {
            Some(sum) => kernels::axpy(1.0, gradient.f32(), sum.f32_mut()),
            empty => *empty = Some(gradient),
        }
        Ok(())
    }

    /// Lets `write` add to the gradient of `var`, handing it a buffer of zeros where there was none.
    pub(super) fn add_with(&mut self, var: &Var, write: impl FnOnce(&mut [f32])) {
        self.add_within(var, var.shape(), write);
    }

    /// The same where only the way to the value is held, and its shape.
    pub(super) fn add_within(
        &mut self,
        to: impl Into<Edge>,
        shape: &[usize],
        write: impl FnOnce(&mut [f32]),
    ) {
        let Some(slot) = self.slot(to.into()) else { return };
        write(slot.get_or_insert_with(|| Tensor::zeros(shape, crate::DType::F32)).f32_mut());
    }

    /// Adds `gradient = a · b` to a value's gradient straight from the matrix product, without a temporary.
    pub(super) fn add_product(&mut self, compute: Compute, to: impl Into<Edge>, a: Mat<'_>, b: Mat<'_>) {
        let Some(slot) = self.slot(to.into()) else { return };
        let accumulate = slot.is_some();
        let buffer = slot.get_or_insert_with(|| Tensor::stale(&[a.rows, b.cols]));
        compute.product(a, b, MatMut::new(buffer.f32_mut(), a.rows, b.cols), accumulate);
    }

    /// Adds `a · b` to the gradient of a parameter.
    pub(super) fn add_param_product(&mut self, compute: Compute, id: ParamId, a: Mat<'_>, b: Mat<'_>) {
        let accumulate = self.gradients.has(id);
        if !accumulate {
            let shape = self.params.get(id).tensor.shape();
            self.gradients.set(id, Tensor::stale_gradient(shape));
        }
        let shape = self.params.get(id).tensor.shape();
        let buffer = self.gradients.buffer(id, shape);
        compute.product(a, b, MatMut::new(buffer, a.rows, b.cols), accumulate);
    }

    /// Takes a parameter's gradient out, to be added to elsewhere and set again.
    pub(super) fn take_param_gradient(&mut self, id: ParamId) -> Option<Tensor> {
        self.gradients.take(id)
    }

    /// The buffer that a parameter's gradient is added to.
    pub(super) fn param(&mut self, id: ParamId) -> &mut [f32] {
        let shape = self.params.get(id).tensor.shape();
        self.gradients.buffer(id, shape)
    }
}
