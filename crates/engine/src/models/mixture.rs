//! What a mixture of experts is, as data, and where checkpoints hold it.

use std::ops::Range;

use super::config::Config;
use crate::Result;

/// The mixtures of a model: their size, and how tokens are routed.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertsSpec {
    /// Experts E of a layer.
    pub count: usize,
    /// Experts k that a token goes to.
    pub per_token: usize,
    /// Width f of an expert.
    pub width: usize,
    /// Whether the weights of the chosen experts are divided by their sum.
    pub renormalise: bool,
    /// Which layers are mixtures; the others have a dense feed-forward.
    pub layers: Vec<bool>,
    /// How the checkpoint names the parts.
    pub names: ExpertNames,
    /// Factor of the load-balancing loss in training; 0 leaves it out.
    pub balance_coefficient: f32,
    /// Factor of the router's z-loss in training; 0 leaves it out.
    pub z_coefficient: f32,
}

/// Names of a mixture's parts within a block: `module.gate` and `module.experts.N.part`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertNames {
    /// The mixture's module.
    pub module: &'static str,
    /// Gate, up and down projection of an expert.
    pub parts: [&'static str; 3],
}

impl ExpertsSpec {
    /// Reads what the families write alike; every layer is a mixture.
    pub(super) fn read(
        config: &Config<'_>,
        names: ExpertNames,
        layers: usize,
        [count, per_token]: [usize; 2],
        width: usize,
    ) -> Result<Self> {
        if per_token == 0 || per_token > count {
            return Err(config.error(format!(
                "\"num_experts_per_tok\" is {per_token}; a layer of {count} experts needs 1 to {count}"
            )));
        }
        // The reference adds the loss to training exactly where the config asks for the router's output.
        let balance = match config.flag("output_router_logits", false)? {
            true => config.float("router_aux_loss_coef")?.unwrap_or(0.001) as f32,
            false => 0.0,
        };
        Ok(ExpertsSpec {
            count,
            per_token,
            width,
            renormalise: true,
            layers: vec![true; layers],
            names,
            balance_coefficient: balance,
            z_coefficient: 0.0,
        })
    }

    /// How many experts a config promises: newer files call the number by one name in all families.
    pub(super) fn count_in(config: &Config<'_>, own: &str, default: usize) -> Result<usize> {
        let other = if own == "num_experts" { "num_local_experts" } else { "num_experts" };
        Ok(config.count(own)?.or(config.count(other)?).unwrap_or(default))
    }
}

/// Rows of a checkpoint's tensor that are one tensor of a mixture.
pub(super) struct FusedPart {
    /// Name in the checkpoint.
    pub(super) name: String,
    /// Shape there.
    pub(super) shape: Vec<usize>,
    /// The rows.
    pub(super) rows: Range<usize>,
}

impl ExpertsSpec {
    /// Where a checkpoint in the fused spelling holds the tensor of this name and shape; `find` gives the
    /// name under which it holds a tensor, if it does. `None` where the name is no part of a mixture, and
    /// where the checkpoint has it as it is.
    ///
    /// Fused: `mlp.experts.gate_up_proj` [E, 2f, d], each expert's gate above its up,
    /// `mlp.experts.down_proj` [E, d, f], and `mlp.gate` whatever the family calls the module.
    pub(super) fn fused_part(
        &self,
        name: &str,
        shape: &[usize],
        find: &dyn Fn(&str) -> Option<String>,
    ) -> Option<FusedPart> {
        let ExpertNames { module, parts } = self.names;
        let (block, inner) = name.split_once(&format!(".{module}."))?;
        if find(name).is_some() {
            return None;
        }
        let [rows, columns] = *shape else { return None };
        if inner == "gate.weight" {
            let name = find(&format!("{block}.mlp.{inner}"))?;
            return Some(FusedPart { name, shape: shape.to_vec(), rows: 0..rows });
        }
        let (expert, part) = inner.strip_prefix("experts.")?.strip_suffix(".weight")?.split_once('.')?;
        let expert: usize = expert.parse().ok()?;
        let (stored, pieces, piece) = match parts.iter().position(|p| *p == part)? {
            half @ (0 | 1) => ("gate_up_proj", 2, half),
            _ => ("down_proj", 1, 0),
        };
        let name = ["mlp", module].iter().find_map(|m| find(&format!("{block}.{m}.experts.{stored}")))?;
        let first = (expert * pieces + piece) * rows;
        Some(FusedPart { name, shape: vec![self.count, pieces * rows, columns], rows: first..first + rows })
    }
}
