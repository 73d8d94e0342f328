//! In a low-rank adapter.

use amend_engine::models::LoraOptions;
use amend_engine::{Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Place;
use crate::context::Context;

/// # What it does
/// Freezes the model and trains a low-rank adapter on its linear layers. The reference distribution is the
/// model with the adapter switched off. The adapter is written in PEFT's format beside the merged model.
///
/// # When to use it
/// For models whose optimiser state would not fit, or when the change must be removable.
///
/// # What it logs
/// Nothing of its own.
///
/// # Source
/// Hu et al., "LoRA", arXiv 2106.09685.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Slower forgetting than `all` at the same learning rate; use a larger one (1e-4 to 1e-3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rank of the update.
    #[schemars(range(min = 1))]
    pub r: usize,
    /// The update is scaled by alpha / r.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub alpha: f32,
    /// Projections to adapt (`q_proj`, `down_proj`, …); empty means all linear layers of all blocks.
    pub targets: Vec<String>,
}

impl Default for Lora {
    fn default() -> Self {
        Lora { r: 16, alpha: 32.0, targets: Vec::new() }
    }
}

impl Place for Lora {
    fn prepare(&self, model: &mut Model, context: &Context<'_>) -> Result<()> {
        model.attach_lora(&self.options(), context.seed)
    }

    fn leaves_adapter(&self) -> bool {
        true
    }

    fn size(&self, model: &Model) -> Result<usize> {
        model.lora_weights(&self.options())
    }
}

impl Lora {
    fn options(&self) -> LoraOptions {
        LoraOptions { r: self.r, alpha: self.alpha, targets: self.targets.clone() }
    }
}
