//! In chosen layers.

use std::collections::BTreeSet;

use amend_engine::{Error, Model, Result};
use amend_run::nearest;
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
    /// Modules to train within them (`down_proj`, `self_attn`, …): any part of a parameter's dotted name, and each
    /// of at least one; empty means all.
    pub modules: Vec<String>,
}

impl Place for Layers {
    fn prepare(&self, model: &mut Model, _: &Context<'_>) -> Result<()> {
        self.choose(model)
    }

    fn size(&self, model: &Model) -> Result<usize> {
        // Clones share their tensors.
        let mut model = model.clone();
        self.choose(&mut model)?;
        Ok(model.params.count().1)
    }
}

impl Layers {
    /// Makes the chosen parameters trainable, and no others.
    fn choose(&self, model: &mut Model) -> Result<()> {
        let depth = model.spec().layers;
        if let Some(layer) = self.layers.iter().find(|&&l| l >= depth) {
            return Err(Error::invalid(format!(
                "where: layer {layer} of a model whose layers are 0 to {}",
                depth - 1
            )));
        }
        let blocks = model.spec().names.block.blocks;
        let chosen: Vec<&str> =
            model.params.iter().filter_map(|(_, param)| self.within(&param.name, blocks)).collect();
        let parts = || chosen.iter().flat_map(|name| name.split('.'));
        if let Some(wrong) = self.modules.iter().find(|module| !parts().any(|part| part == *module)) {
            return Err(unknown(wrong, parts()));
        }
        model.params.set_trainable(|name| {
            self.within(name, blocks).is_some_and(|inner| {
                self.modules.is_empty() || inner.split('.').any(|part| self.modules.iter().any(|m| m == part))
            })
        });
        Ok(())
    }

    /// The name within its block of a parameter of the chosen blocks.
    fn within<'n>(&self, name: &'n str, blocks: &str) -> Option<&'n str> {
        let (layer, inner) = name.strip_prefix(blocks)?.strip_prefix('.')?.split_once('.')?;
        let layer: usize = layer.parse().ok()?;
        (self.layers.is_empty() || self.layers.contains(&layer)).then_some(inner)
    }
}

/// What is said of a module that the chosen blocks have not.
fn unknown<'n>(module: &str, there: impl Iterator<Item = &'n str>) -> Error {
    let there: BTreeSet<&str> = there.filter(|part| part.parse::<usize>().is_err()).collect();
    let near = nearest(module, there.iter().copied()).map(|near| format!("; the nearest is {near}"));
    let all = there.into_iter().collect::<Vec<_>>().join(", ");
    Error::invalid(format!(
        "where: no parameter of the chosen blocks is in a module {module:?}{}; there are: {all}",
        near.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use amend_engine::Model;
    use serde_json::json;

    use super::*;

    fn model() -> Model {
        let config = json!({
            "model_type": "qwen3_moe", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 12, "moe_intermediate_size": 4, "num_experts": 3, "num_experts_per_tok": 1,
            "mlp_only_layers": [0], "vocab_size": 20, "max_position_embeddings": 16,
        });
        Model::random(config.as_object().unwrap().clone(), 1).unwrap()
    }

    fn chosen(layers: &[usize], modules: &[&str]) -> Result<Vec<String>> {
        let mut model = model();
        let modules = modules.iter().map(|&name| name.to_owned()).collect();
        Layers { layers: layers.to_vec(), modules }.choose(&mut model)?;
        Ok(model.params.iter().filter(|(_, p)| p.trainable).map(|(_, p)| p.name.clone()).collect())
    }

    #[test]
    fn every_named_module_learns_in_the_chosen_blocks() {
        let names = ["model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"];
        assert_eq!(chosen(&[0], &["down_proj", "up_proj"]).unwrap(), names);
        let all = chosen(&[], &[]).unwrap();
        assert!(!all.is_empty() && all.iter().all(|name| name.starts_with("model.layers.")));
    }

    /// The others of the list would learn, and half of what was asked for would not.
    #[test]
    fn one_misspelt_module_among_several_is_refused() {
        let error = |layers: &[usize], modules: &[&str]| chosen(layers, modules).unwrap_err().to_string();
        let said = error(&[], &["down_proj", "upproj"]);
        assert!(said.contains("\"upproj\"; the nearest is up_proj; there are: "), "{said}");
        // Only a block that is not chosen has routers.
        let said = error(&[0], &["down_proj", "gate"]);
        assert!(said.contains("\"gate\"") && said.contains("gate_proj"), "{said}");
        assert!(chosen(&[1], &["down_proj", "gate"]).is_ok());
    }
}
