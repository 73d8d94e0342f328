//! Gradients as values: named, and with the algebra that gradient-geometry methods compute in.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::params::{ParamId, Params};
use crate::{Result, Tensor, kernels};

/// Elements per parallel piece of a coordinate-wise map; results do not depend on it.
const CHUNK: usize = 1 << 14;

/// Names a value within a computation whose gradient is asked for; no two are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeafId(u64);

impl LeafId {
    /// A name that nothing has yet.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        LeafId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Gradient of one scalar with respect to every trainable parameter it reached.
///
/// A parameter without an entry has gradient zero. Gradients of leaves travel along; they take no part in
/// the algebra.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    entries: Vec<Option<Tensor>>,
    leaves: Vec<(LeafId, Tensor)>,
}

impl Gradients {
    /// No gradient yet for any of the parameters.
    pub fn none(params: &Params) -> Self {
        Gradients { entries: vec![None; params.len()], leaves: Vec::new() }
    }

    /// The gradients of a leaf, one for every time it was passed, in the order of the forward passes.
    pub fn leaves(&self, id: LeafId) -> impl Iterator<Item = &Tensor> {
        self.leaves.iter().filter(move |(leaf, _)| *leaf == id).map(|(_, gradient)| gradient)
    }

    /// Takes the first gradient of a leaf out; `None` means zero, for nothing reached it.
    pub fn take_leaf(&mut self, id: LeafId) -> Option<Tensor> {
        let at = self.leaves.iter().position(|(leaf, _)| *leaf == id)?;
        Some(self.leaves.remove(at).1)
    }

    /// Notes the gradient of a leaf.
    pub(crate) fn add_leaf(&mut self, id: LeafId, gradient: Tensor) {
        self.leaves.push((id, gradient));
    }

    /// Notes what `backward` finds. It comes upon the last leaf first, and they are kept in the order of
    /// the forward passes.
    pub(crate) fn in_forward_order<T>(&mut self, backward: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.leaves.len();
        let result = backward(self);
        self.leaves[before..].reverse();
        result
    }

    /// The gradient of one parameter, in its shape; `None` means zero.
    pub fn get(&self, id: ParamId) -> Option<&Tensor> {
        self.entries.get(id.0)?.as_ref()
    }

    /// The gradient of one parameter, for changing it; `None` means zero.
    pub fn get_mut(&mut self, id: ParamId) -> Option<&mut Tensor> {
        self.entries.get_mut(id.0)?.as_mut()
    }

    /// Sets the gradient of one parameter.
    pub fn set(&mut self, id: ParamId, gradient: Tensor) {
        self.entries[id.0] = Some(gradient);
    }

    /// Takes the gradient of one parameter out, leaving none.
    pub(crate) fn take(&mut self, id: ParamId) -> Option<Tensor> {
        self.entries[id.0].take()
    }

    /// The buffer to add one parameter's gradient to; zeros where there was none.
    pub(crate) fn buffer(&mut self, id: ParamId, shape: &[usize]) -> &mut [f32] {
        let zeros = || {
            let mut gradient = Tensor::stale_gradient(shape);
            gradient.f32_mut().fill(0.0);
            gradient
        };
        self.entries[id.0].get_or_insert_with(zeros).f32_mut()
    }

    /// Whether a parameter has received a gradient.
    pub(crate) fn has(&self, id: ParamId) -> bool {
        self.entries[id.0].is_some()
    }

    /// All gradients there are.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &Tensor)> {
        self.entries.iter().enumerate().filter_map(|(i, t)| Some((ParamId(i), t.as_ref()?)))
    }

    /// All gradients there are, for changing them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ParamId, &mut Tensor)> {
        self.entries.iter_mut().enumerate().filter_map(|(i, t)| Some((ParamId(i), t.as_mut()?)))
    }

    /// Inner product over all coordinates, in f64 with a fixed order.
    pub fn dot(&self, other: &Gradients) -> f64 {
        self.iter().filter_map(|(id, a)| Some(a.dot(other.get(id)?))).sum()
    }

    /// Euclidean norm over all coordinates.
    pub fn norm(&self) -> f64 {
        self.dot(self).sqrt()
    }

    /// Cosine of the angle between the two; 0 where either vanishes.
    pub fn cosine(&self, other: &Gradients) -> f64 {
        let norms = self.norm() * other.norm();
        if norms > 0.0 { self.dot(other) / norms } else { 0.0 }
    }

    /// Multiplies every coordinate.
    pub fn scale(&mut self, factor: f32) {
        for (_, tensor) in self.iter_mut() {
            kernels::scale(factor, tensor.f32_mut());
        }
    }

    /// Adds `factor · other`.
    pub fn axpy(&mut self, factor: f32, other: &Gradients) {
        for (id, theirs) in other.iter() {
            kernels::axpy(factor, theirs.f32(), self.buffer(id, theirs.shape()));
        }
    }

    /// A new gradient, coordinate by coordinate: `f(self_i, other_i)`. Absent entries count as zeros.
    pub fn zip_map(&self, other: &Gradients, f: impl Fn(f32, f32) -> f32 + Sync) -> Gradients {
        self.zip_tensors(other, |_, a, b| Ok(a.zip_map(b, &f))).unwrap_or_default()
    }

    /// A new gradient, tensor by tensor: `f(parameter, self_t, other_t)`. Absent entries count as zeros.
    pub fn zip_tensors(
        &self,
        other: &Gradients,
        f: impl Fn(ParamId, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Gradients> {
        let mut out = Gradients { entries: vec![None; self.entries.len()], leaves: Vec::new() };
        for (i, slot) in out.entries.iter_mut().enumerate() {
            let (a, b) = (self.get(ParamId(i)), other.get(ParamId(i)));
            let zeros = |like: &Tensor| Tensor::zeros(like.shape(), crate::DType::F32);
            *slot = match (a, b) {
                (Some(a), Some(b)) => Some(f(ParamId(i), a, b)?),
                (Some(a), None) => Some(f(ParamId(i), a, &zeros(a))?),
                (None, Some(b)) => Some(f(ParamId(i), &zeros(b), b)?),
                (None, None) => None,
            };
        }
        Ok(out)
    }

    /// What `work` makes of all coordinates, piece by piece, on all threads: the pieces of several gradients side by side,
    /// so that whatever is asked of them together reads them once. Absent entries count as zeros; a parameter that all
    /// lack has no coordinates.
    ///
    /// Results come per parameter and in the order of its coordinates. Sums of [`kernels::dot`] over them have
    /// the bits of [`Gradients::dot`].
    pub fn side_by_side<const N: usize, T: Send>(
        of: [&Gradients; N],
        work: impl Fn([&[f32]; N]) -> T + Sync,
    ) -> Vec<Vec<T>> {
        const PIECE: usize = kernels::PARTIAL;
        static ZEROS: [f32; PIECE] = [0.0; PIECE];
        let parameters = of.iter().map(|gradients| gradients.entries.len()).max().unwrap_or(0);
        let of_parameter = |id| {
            let entries = of.map(|gradients| gradients.get(id).map(Tensor::f32));
            let length = entries.iter().flatten().map(|entry| entry.len()).max().unwrap_or(0);
            let pieces = (0..length.div_ceil(PIECE)).into_par_iter().map(|piece| {
                let range = piece * PIECE..length.min((piece + 1) * PIECE);
                work(entries.map(|entry| match entry {
                    Some(entry) => &entry[range.clone()],
                    None => &ZEROS[..range.len()],
                }))
            });
            pieces.collect()
        };
        (0..parameters).map(|i| of_parameter(ParamId(i))).collect()
    }

    /// Leaves only the gradients of parameters for which `rule` holds. The others then sit a step of AdamW out, where
    /// zeros would still let them drift.
    pub fn keep_only(&mut self, rule: impl Fn(ParamId) -> bool) {
        for (i, entry) in self.entries.iter_mut().enumerate() {
            if !rule(ParamId(i)) {
                *entry = None;
            }
        }
    }

    /// Zeroes every coordinate that its parameter's selection excludes.
    pub fn apply_selection(&mut self, params: &Params) {
        for (id, tensor) in self.iter_mut() {
            if let Some(selection) = &params.get(id).selection {
                selection.keep_only(tensor);
            }
        }
    }

    /// The first parameter whose gradient holds a NaN or an infinity.
    pub fn first_not_finite<'p>(&self, params: &'p Params) -> Option<&'p str> {
        self.iter()
            .find(|(_, t)| t.f32().par_chunks(CHUNK).any(|c| c.iter().any(|x| !x.is_finite())))
            .map(|(id, _)| params.get(id).name.as_str())
    }
}
