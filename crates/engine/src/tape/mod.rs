//! The tape: reverse-mode differentiation over coarse fused operations.
//!
//! A [`Var`] is a value and, where something upstream can learn, the number of the node that made
//! it. A node holds one closure, its hand-written backward, which owns just the activations it
//! needs: everything else is freed as the forward pass goes on. Outside a recording graph no node
//! is made at all, so inference is the same code at no extra cost.

mod attention;
mod backward;
mod checkpoint;
mod choice;
mod cross_entropy;
mod dispatch;
mod divergence;
mod elementwise;
mod embedding;
mod experts;
mod head;
mod layout;
mod linear;
mod matrix;
mod norm;
mod pooling;
mod region;
mod rotary;
mod routing;
mod saved;
mod var;

use std::sync::atomic::{AtomicU64, Ordering};

use backward::Backward;
use var::{Edge, Node};

use crate::gradients::{Gradients, LeafId};
use crate::params::{Param, ParamId, Params};
use crate::{Error, Result, Tensor};

pub use attention::AttentionKind;
pub use dispatch::{Dispatch, Group};
pub use experts::Expert;
pub use head::Head;
pub use layout::{Layout, Piece, Visibility};
pub use linear::{Linear, LinearAdapter};
pub use region::Region;
pub use rotary::RotaryTable;
pub use routing::Routing;
pub use var::Var;

type BackwardFn<'m> = Box<dyn FnOnce(&mut Backward<'_>, Tensor) -> Result<()> + 'm>;

/// A computation on the parameters of one model.
pub struct Graph<'m> {
    id: u64,
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
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let routings = (mode != Mode::Inference).then(Vec::new);
        Graph { id: NEXT.fetch_add(1, Ordering::Relaxed), params, mode, nodes: Vec::new(), routings }
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

    /// Fails where somebody asked to stop.
    pub(crate) fn check_interrupted(&self) -> Result<()> {
        self.params.check_interrupted()
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
            return Var { value, node: Some(Node { graph: self.id, index: 0 }), again: None };
        }
        self.nodes.push(Box::new(backward));
        Var { value, node: Some(Node { graph: self.id, index: self.nodes.len() - 1 }), again: None }
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
}
