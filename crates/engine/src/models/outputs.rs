//! What linear layers give, summed up sequence by sequence.
//!
//! Not every layer's output is a site: projections may be fused, normalised, or those of an expert. So a listener takes the
//! place of each layer's adapter and sees what leaves it, whatever the family.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::Model;
use crate::batch::{Batch, Example};
use crate::kernels::linalg::Matrix;
use crate::params::{ParamId, Params};
use crate::tape::{Graph, LinearAdapter, Var};
use crate::taps::Taps;
use crate::{Error, Result, Tensor};

/// Hears what leaves a layer.
#[derive(Debug)]
struct Listener {
    /// The layer's adapter, where it has one.
    adapter: Option<Arc<dyn LinearAdapter>>,
    /// The sum of the rows that have been heard: `[out]`.
    sum: Mutex<Vec<f64>>,
}

impl LinearAdapter for Listener {
    fn apply(&self, g: &mut Graph<'_>, x: &Var, y: Var) -> Result<Var> {
        let y = match &self.adapter {
            Some(adapter) => adapter.apply(g, x, y)?,
            None => y,
        };
        if let Ok(mut sum) = self.sum.lock() {
            for row in y.value().f32().chunks_exact(y.value().columns().max(1)) {
                sum.iter_mut().zip(row).for_each(|(sum, &y)| *sum += f64::from(y));
            }
        }
        Ok(y)
    }

    fn parameters(&self) -> Vec<ParamId> {
        self.adapter.as_ref().map(|adapter| adapter.parameters()).unwrap_or_default()
    }

    fn merge(&self, params: &Params, weight: &mut Tensor) -> Result<()> {
        self.adapter.as_ref().map_or(Ok(()), |adapter| adapter.merge(params, weight))
    }
}

impl Model {
    /// The outputs of linear layers (adapted, where they are), each summed over the tokens of a sequence: a row for every
    /// sequence, [sequences, out], by the paths of the layers. To an expert a token counts that reaches it.
    ///
    /// Fails where there is no linear layer of such a path.
    pub fn summed_outputs(
        &self,
        examples: &[&Example],
        layers: &[String],
    ) -> Result<BTreeMap<String, Matrix>> {
        let mut heard = self.clone();
        let mut listeners = Vec::new();
        for layer in layers {
            let linear = heard.linear_mut(layer)?;
            let sum = Mutex::default();
            let listener = Arc::new(Listener { adapter: linear.adapter.take(), sum });
            linear.adapter = Some(listener.clone());
            let out = self.params.get(linear.weight).tensor.rows();
            listeners.push((layer, listener, out, Vec::with_capacity(examples.len() * out)));
        }
        for &example in examples {
            for (_, listener, out, _) in &listeners {
                if let Ok(mut sum) = listener.sum.lock() {
                    *sum = vec![0.0; *out];
                }
            }
            // One sequence at a time: then every row that is heard is of it.
            let (batch, taps) = (Batch::new([example])?, Taps::none());
            heard.hidden(&mut Graph::inference(&heard.params), &batch, &taps)?;
            for (_, listener, _, rows) in &mut listeners {
                if let Ok(sum) = listener.sum.lock() {
                    rows.extend_from_slice(&sum);
                }
            }
        }
        let matrix = |(layer, _, out, rows): (&String, _, usize, Vec<f64>)| {
            Ok((layer.clone(), Matrix::new(examples.len(), out, rows).map_err(Error::from)?))
        };
        listeners.into_iter().map(matrix).collect()
    }
}
