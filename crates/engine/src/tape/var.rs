//! Values of a graph, and where their gradients go.

use std::sync::Arc;

use super::saved::Again;
use crate::Tensor;

/// A value in a graph. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Var {
    pub(super) value: Tensor,
    pub(super) node: Option<Node>,
    pub(super) again: Option<Arc<Again>>,
}

/// The operation that made a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    /// Number of the graph, which no other has.
    pub(super) graph: u64,
    /// Place among the graph's operations.
    pub(super) index: usize,
}

/// Where a value's gradient goes: what a backward that does not need the value holds on to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) node: Option<Node>,
    pub(super) len: usize,
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
