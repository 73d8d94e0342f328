//! Rotary position embedding.

use std::sync::Arc;

use super::{Edge, Graph, Var};
use crate::{Error, Result, kernels};

/// Cosines and sines of every position's rotation angles.
#[derive(Debug, Clone)]
pub struct RotaryTable {
    /// [positions, rotary_dim / 2].
    pub cos: Arc<Vec<f32>>,
    /// [positions, rotary_dim / 2].
    pub sin: Arc<Vec<f32>>,
    /// Positions the table covers.
    pub positions: usize,
    /// Dimensions of each head that rotate.
    pub dimensions: usize,
}

impl<'m> Graph<'m> {
    /// Rotates every head of x: [T, heads·head_dim] by its row's position (RoPE, arXiv 2104.09864;
    /// the half-split layout of Hugging Face checkpoints).
    pub fn rotate(
        &mut self,
        x: &Var,
        head_dim: usize,
        positions: &Arc<Vec<u32>>,
        table: &RotaryTable,
    ) -> Result<Var> {
        if let Some(&p) = positions.iter().find(|&&p| p as usize >= table.positions) {
            return Err(Error::invalid(format!(
                "position {p} is beyond the rotary table of {}",
                table.positions
            )));
        }
        let heads = x.value.columns() / head_dim;
        let turn = {
            let (positions, table) = (positions.clone(), table.clone());
            move |values: &mut [f32], inverse: bool| {
                let RotaryTable { cos, sin, dimensions, .. } = &table;
                kernels::rope(values, heads, head_dim, *dimensions, &positions, cos, sin, inverse);
            }
        };
        let mut value = x.value.clone();
        turn(value.f32_mut(), false);
        let (needs, x) = (x.needs_gradient(), Edge::from(x));
        Ok(self.push(value, needs, move |back, mut gradient| {
            turn(gradient.f32_mut(), true);
            back.add(x, gradient)
        }))
    }
}
