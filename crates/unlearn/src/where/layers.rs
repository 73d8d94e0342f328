//! In chosen layers.

use amend_engine::{Error, Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Place;
use crate::context::Context;

/// # What it does
/// Trains only the named blocks, and of those only the named modules; everything else is frozen and costs
/// no gradient.
///
/// # When to use it
/// When the knowledge is known to sit in certain layers, or as the setting RMU-style methods use
/// (`down_proj` of a few blocks).
///
/// # What it logs
/// Nothing of its own.
///
/// # Source
/// Li et al., "The WMDP Benchmark" (RMU), arXiv 2403.03218, trains three layers this way.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Less drift elsewhere; the model-difference table shows exact zeros outside the chosen blocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Layers {
    /// Blocks to train, counted from 0; empty means all blocks (embeddings and head stay frozen).
    pub layers: Vec<usize>,
    /// Modules to train within them (`down_proj`, `self_attn`, …): any part of a parameter's dotted name;
    /// empty means all.
    pub modules: Vec<String>,
}

impl Place for Layers {
    fn prepare(&self, model: &mut Model, _: &Context<'_>) -> Result<()> {
        let depth = model.spec().layers;
        if let Some(layer) = self.layers.iter().find(|&&l| l >= depth) {
            return Err(Error::invalid(format!(
                "where: layer {layer} of a model whose layers are 0 to {}",
                depth - 1
            )));
        }
        let blocks = model.spec().names.block.blocks;
        model.params.set_trainable(|name| self.selects(name, blocks));
        if model.params.count().1 == 0 {
            return Err(Error::invalid(format!(
                "where: no parameter matches the modules {:?}",
                self.modules
            )));
        }
        Ok(())
    }
}

impl Layers {
    fn selects(&self, name: &str, blocks: &str) -> bool {
        let inside = name.strip_prefix(blocks).and_then(|rest| rest.strip_prefix('.')?.split_once('.'));
        let Some((layer, rest)) = inside else { return false };
        let chosen = |layer: usize| self.layers.is_empty() || self.layers.contains(&layer);
        layer.parse().is_ok_and(chosen)
            && (self.modules.is_empty() || rest.split('.').any(|part| self.modules.iter().any(|m| m == part)))
    }
}
