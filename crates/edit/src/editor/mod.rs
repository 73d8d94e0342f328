//! Slot `editor`: how weights are changed so that a model says something else.

mod alpha_edit;
mod ft_l;
mod memit;
mod rome;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use amend_engine::kernels::linalg::Matrix;
use amend_engine::{Model, Tensor};
use amend_learn::Result;
use amend_run::slot;
use serde_json::{Map, Value};

pub use alpha_edit::{AlphaEdit, projected};
pub use ft_l::FtL;
pub use memit::{Memit, ridge};
pub use rome::{Rome, rank_one};

use crate::request::Request;
use crate::statistics::Statistics;

/// Changes a model's weights so that it says what is asked for.
pub trait Editor: Sync {
    /// The layers that it is told to change, ascending; none where they are to be found by causal tracing.
    fn layers(&self) -> Vec<usize>;

    /// How many layers it changes where they are found by tracing: those up to the one that was found.
    fn span(&self) -> usize {
        1
    }

    /// Whether it asks for the statistics of keys.
    fn uses_statistics(&self) -> bool {
        true
    }

    /// Whether it needs what a feed-forward's last matrix gives to be what is added to the residual stream.
    fn sets_values(&self) -> bool {
        true
    }

    /// Makes the model say what a batch of requests asks for, all of them at once. Returns what it logs.
    ///
    /// # Errors
    /// Where the model cannot read a request, or a system of equations has no solution.
    fn edit(
        &self,
        model: &mut Model,
        batch: &[&Request],
        bench: &Bench,
        memory: &mut Memory,
    ) -> Result<Map<String, Value>>;
}

slot! {
    /// How facts are rewritten.
    pub slot Editing("edit", "editor"): dyn Editor, default Rome {
        "rome" => Rome,
        "memit" => Memit,
        "alpha-edit" => AlphaEdit,
        "ft-l" => FtL,
    }
}

/// What an editor works with: it is the same for all edits of a run.
#[derive(Debug, Default)]
pub struct Bench {
    /// The layers that are changed, ascending.
    pub layers: Vec<usize>,
    /// Statistics of their keys, where the editor asks for them.
    pub statistics: BTreeMap<usize, Statistics>,
}

/// What an editor remembers of earlier edits of the same weights; whoever restores the weights starts with an empty one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Keys of earlier edits, layer by layer: `[f]` each.
    pub keys: BTreeMap<usize, Vec<Vec<f32>>>,
}

impl Bench {
    /// The statistics of a layer.
    pub(crate) fn statistics(&self, layer: usize) -> amend_engine::Result<&Statistics> {
        self.statistics.get(&layer).ok_or_else(|| {
            amend_engine::Error::invalid(format!("there are no statistics of the keys of layer {layer}"))
        })
    }
}

/// Vectors [n] of d numbers each as the columns of a matrix [d, n].
pub(crate) fn columns(vectors: &[Vec<f32>]) -> amend_engine::Result<Matrix> {
    let width = vectors.first().map_or(0, Vec::len);
    let values = vectors.iter().flatten().map(|&x| f64::from(x)).collect();
    Ok(Matrix::new(vectors.len(), width, values)?.transposed())
}

/// Adds Δ [d, f] to the last matrix of a layer's feed-forward, and says how long Δ is beside what it was added to.
pub(crate) fn add(model: &mut Model, layer: usize, delta: &Matrix) -> amend_engine::Result<f64> {
    let id = model.down_projection(layer)?;
    let param = model.params.get_mut(id);
    let weight = Matrix::from_tensor(&param.tensor);
    let mut sum = weight.clone();
    sum.values_mut().iter_mut().zip(delta.values()).for_each(|(w, d)| *w += d);
    let shape = param.tensor.shape().to_vec();
    param.tensor = Tensor::reshape(sum.to_tensor(), &shape)?;
    Ok(length(delta) / length(&weight).max(f64::MIN_POSITIVE))
}

/// Frobenius norm, summed in order.
pub(crate) fn length(matrix: &Matrix) -> f64 {
    matrix.values().iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Layers in the order in which a model comes to them, each once.
pub(crate) fn ascending(layers: &[usize]) -> Vec<usize> {
    let mut layers = layers.to_vec();
    layers.sort_unstable();
    layers.dedup();
    layers
}

/// The mean of what a value came to over a batch.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), x| (sum + x, count + 1));
    sum / count.max(1) as f64
}
