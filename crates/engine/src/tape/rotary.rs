//! Rotary position embedding.

use std::sync::Arc;

use super::{Edge, Graph, Var};
use crate::{Error, Result, kernels};

/// Cosines and sines of the rotation angles of every row of a batch.
#[derive(Debug, Clone)]
pub struct RotaryTable {
    /// [T, dimensions / 2].
    pub cos: Arc<Vec<f32>>,
    /// [T, dimensions / 2].
    pub sin: Arc<Vec<f32>>,
    /// Dimensions of each head that rotate.
    pub dimensions: usize,
}

impl<'m> Graph<'m> {
    /// Rotates every head of x: [T, heads·head_dim] by its row's angles (RoPE, arXiv 2104.09864; the
    /// half-split layout of Hugging Face checkpoints).
    pub fn rotate(&mut self, x: &Var, head_dim: usize, table: &RotaryTable) -> Result<Var> {
        let (rows, pairs) = (x.value.rows(), table.dimensions / 2);
        if table.cos.len() != rows * pairs {
            return Err(Error::shape(
                "rotation angles",
                &[rows, pairs],
                &[table.cos.len() / pairs.max(1), pairs],
            ));
        }
        let heads = x.value.columns() / head_dim;
        let turn = {
            let (table, own): (_, Vec<u32>) = (table.clone(), (0..rows as u32).collect());
            move |values: &mut [f32], inverse: bool| {
                let RotaryTable { cos, sin, dimensions } = &table;
                kernels::rope(values, heads, head_dim, *dimensions, &own, cos, sin, inverse);
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
