//! Slot `where`: which weights the update may touch.

mod all;
mod layers;
mod lora;

use amend_engine::{Model, Result};
use amend_run::slot;

pub use all::All;
pub use layers::Layers;
pub use lora::Lora;

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
}

slot! {
    /// Which weights the update may touch.
    pub slot Where("unlearn", "where"): dyn Place, default All {
        "all" => All,
        "lora" => Lora,
        "layers" => Layers,
    }
}
