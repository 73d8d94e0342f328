//! The logistic loss that the preference-style objectives share.

use amend_engine::{Graph, Result, Tensor, Var};

/// `−(2/β) · mean log σ(β · margin)`.
///
/// Where the margin is 0 the loss is (2/β)·ln 2 and its slope with respect to each margin is −1/n,
/// so at the reference these objectives pull exactly as hard as gradient ascent.
pub(super) fn logistic<'m>(g: &mut Graph<'m>, margin: &Var, beta: f32) -> Result<Var> {
    let scaled = g.scale(margin, beta)?;
    let log_sigmoid = g.log_sigmoid(&scaled)?;
    let mean = g.mean(&log_sigmoid)?;
    g.scale(&mean, -2.0 / beta)
}

/// `values − constants`, element by element.
pub(super) fn minus<'m>(g: &mut Graph<'m>, values: &Var, constants: &[f64]) -> Result<Var> {
    let constants: Vec<f32> = constants.iter().map(|&c| c as f32).collect();
    let constants = Var::constant(Tensor::from_f32(&constants, values.shape())?);
    g.sub(values, &constants)
}
