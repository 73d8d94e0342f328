//! Slot `where`: which weights the update may touch.

mod all;
mod fila;
mod layers;
mod lora;
mod orthogonality;
mod reglu;
mod subspace;

use amend_engine::{Gradients, Model, Result};
use amend_run::slot;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use all::All;
pub use fila::Fila;
pub use layers::Layers;
pub use lora::Lora;
pub use reglu::{Reglu, Start};

use crate::context::Context;

/// A choice of weights.
pub trait Place {
    /// Makes exactly the chosen weights trainable, and adds those that are still to be made. What the choice rests
    /// on, the context has.
    fn prepare(&self, model: &mut Model, context: &Context<'_>) -> Result<()>;

    /// Whether what was learnt is an adapter, which can be taken off the model again.
    fn leaves_adapter(&self) -> bool {
        false
    }

    /// How many weights would be chosen, found out without making any: there may be more than fit into memory.
    fn size(&self, model: &Model) -> Result<usize>;

    /// What holds the chosen weights of `model`, once they are prepared, beside the two objectives.
    fn regulariser(&self, _model: &Model, _: &Context<'_>) -> Result<Option<Box<dyn Regulariser>>> {
        Ok(None)
    }
}

/// A loss of the weights themselves. It counts as a part of what is to be kept: the combination sees its gradient in the
/// retain gradient.
pub trait Regulariser {
    /// Adds its gradient at the weights of `model`, weighted, to the retain gradient. What it has to say about the step goes
    /// into `row` of the metrics.
    fn add_to(&self, model: &Model, retain: &mut Gradients, row: &mut Map<String, Value>) -> Result<()>;

    /// How much of each layer's output lies where the weights write.
    fn energies(&self, model: &Model) -> Result<Vec<LayerEnergy>>;
}

/// The shares of the second moment of a layer's outputs that lie where an adapter writes: above 1 where its factor
/// has grown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerEnergy {
    /// Path of the layer.
    pub layer: String,
    /// On the forget set.
    pub forget: f64,
    /// On the retain set.
    pub retain: f64,
}

slot! {
    /// Which weights the update may touch.
    pub slot Where("unlearn", "where"): dyn Place, default All {
        "all" => All,
        "lora" => Lora,
        "reglu" => Reglu,
        "fila" => Fila,
        "layers" => Layers,
    }
}

#[cfg(test)]
mod tests;
