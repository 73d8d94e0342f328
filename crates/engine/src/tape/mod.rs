//! The tape: reverse-mode differentiation over coarse fused operations.
//!
//! A [`Var`] is a value and, where something upstream can learn, the number of the node that made
//! it. A node holds one closure, its hand-written backward, which owns just the activations it
//! needs: everything else is freed as the forward pass goes on. Outside a recording graph no node
//! is made at all, so inference is the same code at no extra cost.

mod attention;
mod checkpoint;
mod choice;
mod cross_entropy;
mod divergence;
mod elementwise;
mod embedding;
mod experts;
mod linear;
mod matrix;
mod norm;
mod pooling;
mod region;
mod rotary;
mod routing;
mod saved;

use std::sync::Arc;

use saved::Again;

use crate::gradients::{Gradients, LeafId};
use crate::kernels::{self, Compute, Mat, MatMut};
use crate::params::{Param, ParamId, Params};
use crate::{Error, Result, Tensor};

pub use attention::{AttentionKind, Layout, Piece, Visibility};
pub use cross_entropy::Head;
pub use experts::Expert;
pub use linear::{Linear, LowRank};
pub use region::Region;
pub use rotary::RotaryTable;
pub use routing::{Dispatch, Group, Routing};

/// A value in a graph. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Var {
    value: Tensor,
    node: Option<usize>,
    again: Option<Arc<Again>>,
}

/// Where a value's gradient goes: what a backward that does not need the value holds on to.
#[derive(Debug, Clone, Copy)]
struct Edge {
    node: Option<usize>,
    len: usize,
}

impl From<&Var> for Edge {
    fn from(var: &Var) -> Self {
        Edge { node: var.node, len: var.value.len() }
    }
}

impl Var {
    /// A constant: no gradient flows into it.
    pub fn constant(value: Tensor) -> Self {
        Var { value, node: None, again: None }
    }

    /// The value.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Extents of the value.
    pub fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    /// The single number a scalar holds.
    pub fn scalar(&self) -> f32 {
        self.value.f32()[0]
    }

    /// The same value with its history forgotten.
    pub fn detach(&self) -> Self {
        Self::constant(self.value.clone())
    }

    /// Whether the two are one value of one operation.
    pub(crate) fn is(&self, other: &Var) -> bool {
        self.node == other.node && self.value.shares_storage(&other.value)
    }

    /// Whether a gradient can reach anything trainable through this value.
    pub fn needs_gradient(&self) -> bool {
        self.node.is_some()
    }
}

type BackwardFn<'m> = Box<dyn FnOnce(&mut Backward<'_>, Tensor) -> Result<()> + 'm>;

/// A computation on the parameters of one model.
pub struct Graph<'m> {
    params: &'m Params,
    mode: Mode,
    nodes: Vec<BackwardFn<'m>>,
    routings: Option<Vec<Routing>>,
}

/// What a graph does beside computing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing.
    Inference,
    /// It remembers what a backward pass needs.
    Recording,
    /// The first run of a checkpointed block: values are those of training and know whether they need a
    /// gradient, but nothing is remembered.
    Passing,
    /// The second run of a checkpointed block, recorded. Taps have already read its values.
    Replaying,
}

impl<'m> Graph<'m> {
    /// A graph that remembers what `backward` needs, and what routers did.
    pub fn recording(params: &'m Params) -> Self {
        Self::new(params, Mode::Recording)
    }

    /// A graph that only computes.
    pub fn inference(params: &'m Params) -> Self {
        Self::new(params, Mode::Inference)
    }

    fn new(params: &'m Params, mode: Mode) -> Self {
        let routings = (mode != Mode::Inference).then(Vec::new);
        Graph { params, mode, nodes: Vec::new(), routings }
    }

    /// Makes a graph that only computes keep what routers do, too.
    pub fn keep_routings(&mut self) {
        self.routings.get_or_insert_default();
    }

    /// What every router of every forward pass of this graph did, in order.
    pub fn routings(&self) -> &[Routing] {
        self.routings.as_deref().unwrap_or_default()
    }

    /// Whether this is the second run of a checkpointed block: taps have already read its values.
    pub(crate) fn is_replaying(&self) -> bool {
        self.mode == Mode::Replaying
    }

    /// Whether a backward pass may follow, and values are computed as training computes them.
    pub fn is_recording(&self) -> bool {
        self.mode != Mode::Inference
    }

    /// Whether operations leave nodes behind.
    fn makes_nodes(&self) -> bool {
        matches!(self.mode, Mode::Recording | Mode::Replaying)
    }

    fn param(&self, id: ParamId) -> &'m Param {
        self.params.get(id)
    }

    fn learns(&self, id: ParamId) -> bool {
        self.is_recording() && self.params.get(id).trainable
    }

    /// Adds the value of an operation whose backward is `backward`, called with the gradient of `value`.
    fn push(
        &mut self,
        value: Tensor,
        needs_gradient: bool,
        backward: impl FnOnce(&mut Backward<'_>, Tensor) -> Result<()> + 'm,
    ) -> Var {
        if !(self.is_recording() && needs_gradient) {
            return Var::constant(value);
        }
        if !self.makes_nodes() {
            // The number of a node that is not there: all that is asked is whether there would be one.
            return Var { value, node: Some(0), again: None };
        }
        self.nodes.push(Box::new(backward));
        Var { value, node: Some(self.nodes.len() - 1), again: None }
    }

    /// A value whose gradient is returned under `id`, whether or not anything upstream learns.
    pub fn leaf(&mut self, x: &Var, id: LeafId) -> Var {
        let input = Edge::from(x);
        let value = x.value.clone();
        self.push(value, true, move |back, gradient| {
            back.gradients.add_leaf(id, gradient.clone());
            back.add(input, gradient)
        })
    }

    /// A value from elsewhere, another graph's output for one. Its gradient is returned under the id, for
    /// that graph's [`Graph::backward_from`].
    pub fn input(&mut self, value: Tensor) -> (Var, LeafId) {
        let id = LeafId::fresh();
        (self.leaf(&Var::constant(value), id), id)
    }

    /// Gradients of the scalar `loss`, consuming the graph.
    ///
    /// Fails where the loss is not a finite number: its gradient would destroy the model.
    pub fn backward(self, loss: &Var) -> Result<Gradients> {
        let mut gradients = Gradients::none(self.params);
        self.backward_into(loss, &mut gradients)?;
        Ok(gradients)
    }

    /// As [`Graph::backward`], adding to gradients there already are (accumulation over micro-batches).
    pub fn backward_into(self, loss: &Var, gradients: &mut Gradients) -> Result<()> {
        if loss.value.len() != 1 {
            return Err(Error::shape("loss", &[], loss.shape()));
        }
        if !loss.scalar().is_finite() {
            return Err(Error::NotFinite {
                what: "loss".into(),
                value: f64::from(loss.scalar()),
                hint: "; lower the learning rate or look for broken values in this batch".into(),
            });
        }
        let one = Tensor::from_f32(&[1.0], loss.shape())?;
        self.backward_from([(loss, one)], gradients)
    }

    /// The same from outputs whose gradients are known, because they are the inputs of other graphs:
    /// `(output, gradient)` each. What flows into the graph's parameters and leaves is added to `gradients`.
    ///
    /// Fails where a gradient has not the shape of its output.
    pub fn backward_from<'v>(
        self,
        outputs: impl IntoIterator<Item = (&'v Var, Tensor)>,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let params = self.params;
        let outputs: Vec<_> = outputs.into_iter().collect();
        if let Some((output, gradient)) = outputs.iter().find(|(output, g)| g.shape() != output.shape()) {
            return Err(Error::shape("gradient of an output", output.shape(), gradient.shape()));
        }
        gradients.in_forward_order(|gradients| self.run_backward(outputs, gradients))?;
        gradients.apply_selection(params);
        Ok(())
    }

    /// Walks the nodes backwards from outputs whose gradients are given.
    fn run_backward<'v>(
        self,
        outputs: impl IntoIterator<Item = (&'v Var, Tensor)>,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let mut back =
            Backward { params: self.params, gradients, nodes: (0..self.nodes.len()).map(|_| None).collect() };
        for (output, gradient) in outputs {
            back.add(output, gradient)?;
        }
        for (index, node) in self.nodes.into_iter().enumerate().rev() {
            if let Some(gradient) = back.nodes[index].take() {
                node(&mut back, gradient)?;
            }
        }
        Ok(())
    }
}

/// The state of a backward pass: gradients of nodes not yet visited, and of parameters.
struct Backward<'a> {
    params: &'a Params,
    gradients: &'a mut Gradients,
    nodes: Vec<Option<Tensor>>,
}

impl Backward<'_> {
    /// Adds to the gradient of a value; nothing happens where none is needed.
    fn add(&mut self, to: impl Into<Edge>, gradient: Tensor) -> Result<()> {
        let Edge { node, len } = to.into();
        let Some(node) = node else { return Ok(()) };
        if gradient.len() != len {
            return Err(Error::shape("gradient", &[len], gradient.shape()));
        }
        match &mut self.nodes[node] {
            Some(sum) => kernels::axpy(1.0, gradient.f32(), sum.f32_mut()),
            empty => *empty = Some(gradient),
        }
        Ok(())
    }

    /// Lets `write` add to the gradient of `var`, handing it a buffer of zeros where there was none.
    fn add_with(&mut self, var: &Var, write: impl FnOnce(&mut [f32])) {
        self.add_within(var, var.shape(), write);
    }

    /// The same where only the way to the value is held, and its shape.
    fn add_within(&mut self, to: impl Into<Edge>, shape: &[usize], write: impl FnOnce(&mut [f32])) {
        let Some(node) = to.into().node else { return };
        write(self.nodes[node].get_or_insert_with(|| Tensor::zeros(shape, crate::DType::F32)).f32_mut());
    }

    /// Adds `gradient = a · b` to a value's gradient straight from the matrix product, without a temporary.
    fn add_product(&mut self, compute: Compute, to: impl Into<Edge>, a: Mat<'_>, b: Mat<'_>) {
        let Some(node) = to.into().node else { return };
        let slot = &mut self.nodes[node];
        let accumulate = slot.is_some();
        let buffer = slot.get_or_insert_with(|| Tensor::stale(&[a.rows, b.cols]));
        compute.product(a, b, MatMut::new(buffer.f32_mut(), a.rows, b.cols), accumulate);
    }

    /// Adds `a · b` to the gradient of a parameter.
    fn add_param_product(&mut self, compute: Compute, id: ParamId, a: Mat<'_>, b: Mat<'_>) {
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
    fn take_param_gradient(&mut self, id: ParamId) -> Option<Tensor> {
        self.gradients.take(id)
    }

    /// The buffer that a parameter's gradient is added to.
    fn param(&mut self, id: ParamId) -> &mut [f32] {
        let shape = self.params.get(id).tensor.shape();
        self.gradients.buffer(id, shape)
    }
}
