//! Representation orthogonality loss: an adapter is held away from what the retain set uses.

use std::rc::Rc;

use amend_engine::kernels::linalg::Matrix;
use amend_engine::{Gradients, Model, ParamId, Result, Tensor};
use serde_json::{Map, Value, json};

use super::subspace::RIDGE;
use super::{LayerEnergy, Regulariser};
use crate::features::{LayerOutputs, of_layer};

/// L = Σ_j ‖B_jᵀP_j‖²_F over layers j: B_j [out, r] of the adapter, and P_j the dominant directions of the retain set's
/// outputs, in rows.
pub(super) struct Orthogonality {
    /// λ, weight of the loss.
    pub(super) weight: f32,
    /// The rank r of what learns: B's first columns.
    pub(super) r: usize,
    /// The layers.
    pub(super) layers: Vec<HeldLayer>,
    /// Outputs on the forget and on the retain set.
    pub(super) outputs: [Rc<LayerOutputs>; 2],
}

/// An adapted layer.
pub(super) struct HeldLayer {
    /// Its path.
    pub(super) layer: String,
    /// Its B: [out, r or more].
    pub(super) b: ParamId,
    /// P: [k, out]; `None` where the layer is left alone.
    pub(super) space: Option<Matrix>,
}

impl Orthogonality {
    /// The loss before its weight, and its gradients: ∇_B = 2·P·Pᵀ·B with P's directions as columns.
    fn loss(&self, model: &Model) -> Result<(f64, Gradients)> {
        let (mut loss, mut gradients) = (0.0, Gradients::none(&model.params));
        for HeldLayer { b: id, space, .. } in &self.layers {
            let Some(space) = space else { continue };
            let tensor = &model.params.get(*id).tensor;
            let overlap = space.times(&first_columns(tensor, self.r))?;
            loss += square(&overlap);
            let across = overlap.transposed().times(space)?;
            let columns = tensor.columns();
            let gradient = Tensor::build(tensor.shape(), |out| {
                for (i, out) in out.chunks_exact_mut(columns).enumerate() {
                    out.fill(0.0);
                    (0..self.r).for_each(|j| out[j] = (2.0 * across.at(j, i)) as f32);
                }
            });
            gradients.set(*id, gradient);
        }
        Ok((loss, gradients))
    }
}

impl Regulariser for Orthogonality {
    fn add_to(&self, model: &Model, retain: &mut Gradients, row: &mut Map<String, Value>) -> Result<()> {
        let (loss, gradients) = self.loss(model)?;
        row.insert("loss_rol".into(), json!(loss));
        if self.weight > 0.0 {
            retain.axpy(self.weight, &gradients);
        }
        Ok(())
    }

    fn energies(&self, model: &Model) -> Result<Vec<LayerEnergy>> {
        let energy = |held: &HeldLayer| {
            let b = first_columns(&model.params.get(held.b).tensor, self.r);
            let [forget, retain] = [&self.outputs[0], &self.outputs[1]]
                .map(|outputs| share(of_layer(outputs, &held.layer)?, &b));
            Ok(LayerEnergy { layer: held.layer.clone(), forget: forget?, retain: retain? })
        };
        self.layers.iter().map(energy).collect()
    }
}

/// tr(BᵀCB) / tr C with C the second moment of outputs [sequences, out].
fn share(outputs: &Matrix, b: &Matrix) -> Result<f64> {
    let count = outputs.rows() as f64;
    let through = square(&outputs.times(b)?) / count + RIDGE * square(b);
    Ok(through / (square(outputs) / count + RIDGE * outputs.columns() as f64))
}

/// ‖·‖²_F.
fn square(matrix: &Matrix) -> f64 {
    matrix.values().iter().map(|x| x * x).sum()
}

/// The first r columns, in f64.
fn first_columns(tensor: &Tensor, r: usize) -> Matrix {
    let mut out = Matrix::zeros(tensor.rows(), r);
    for (i, row) in tensor.f32().chunks_exact(tensor.columns()).enumerate() {
        out.row_mut(i).iter_mut().zip(row).for_each(|(out, &b)| *out = f64::from(b));
    }
    out
}
