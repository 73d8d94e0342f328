//! Keeping updates of feed-forwards in minor components.

use std::rc::Rc;

use amend_engine::taps::BlockSite;
use amend_engine::{Error, Model, ParamId, Result, Site, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{NoGuard, Pair, Safeguard};
use crate::context::Context;
use crate::memory::Memory;
use crate::minor::{Minor, MinorBasis};
use crate::objectives::Objectives;

/// Which states' components are left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// Those of the residual stream behind the block.
    #[default]
    Residual,
    /// Those of what the block's feed-forward adds to it.
    Mlp,
}

/// # What it does
/// Lets feed-forwards write their updates in minor components alone: QᵀΔW = 0 for every `down_proj`, with Q an orthonormal basis
/// of the mean and of the directions in which the states of the original model vary most on the forget set. Both gradients are
/// projected before they are combined, and ΔW = W − W₀ once more after the step, of which AdamW and weight decay make something
/// else. Whatever else `where` lets change is not held.
///
/// # When to use it
/// With any forget objective, where weights are to be published: it is `minor` of `rmu` for losses of answers (`npo`, `ga`, …).
/// With `where = { name = "layers", modules = ["down_proj"] }` all that changes is held. Models that have a norm between
/// feed-forward and residual stream (Gemma 2, OLMo 2) are refused, and so are `reglu` and `fila`: their adapters begin
/// elsewhere than at nothing, so that a projection of B says nothing of ΔW. Of a plain adapter (`lora`) it is B that is held.
///
/// # What it logs
/// `minor_share`: the share of the squared forget gradient of what is held that lies in minor components, before the
/// projection. Near 0, nearly all that the objective asks for is refused.
///
/// # Source
/// The generic form of "Robust LLM Unlearning Against Relearning Attacks: The Minor Components in Representations Matter" (MCU),
/// arXiv 2605.11685, which itself projects representations in two losses.
///
/// # Inferred parts
/// All of it is: the paper has no filter for other losses. Components are those of the residual stream behind each block, or with
/// `of = "mlp"` those of the feed-forward's own output; they stay those of the original model. `minor.projection` is
/// `orthonormal`: one-by-one is no projection, and would leave QᵀΔW ≠ 0.
///
/// # Expected result
/// Forgets in more steps. The weights' update lies where the report's components change least; whether that withstands relearning
/// depends on the objective, and has not been shown for losses of answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mcu {
    /// Which components are left alone.
    pub minor: Minor,
    /// Of which states: `residual` or `mlp`.
    pub of: Of,
}

impl Safeguard for Mcu {
    fn gradients(
        &self,
        model: &Model,
        objectives: &Objectives<'_>,
        row: &mut Map<String, Value>,
    ) -> Result<Pair> {
        let mut pair = NoGuard::default().gradients(model, objectives, row)?;
        let (held, bases) = self.held(model, objectives.context())?;
        let (mut all, mut minor) = (0.0, 0.0);
        for (layer, id) in held {
            let basis = &bases[layer];
            if let Some(gradient) = pair.forget.gradients.get_mut(id) {
                all += gradient.dot(gradient);
                basis.leave_in_columns(gradient)?;
                minor += gradient.dot(gradient);
            }
            if let Some(gradient) = pair.retain.as_mut().and_then(|retain| retain.gradients.get_mut(id)) {
                basis.leave_in_columns(gradient)?;
            }
        }
        row.insert("minor_share".into(), json!(if all > 0.0 { minor / all } else { 1.0 }));
        Ok(pair)
    }

    fn after_step(&self, model: &mut Model, context: &Context<'_>, _: u64, _: &mut Memory) -> Result<()> {
        let (held, bases) = self.held(model, context)?;
        for (layer, id) in held {
            let param = model.params.get_mut(id);
            // What an adapter adds begins at nothing.
            let before = context.reference.params.find(&param.name);
            let before = before.map(|id| context.reference.params.get(id).tensor.clone());
            let before = before.unwrap_or_else(|| Tensor::zeros(param.tensor.shape(), param.tensor.dtype()));
            let mut change = param.tensor.zip_map(&before, |now, before| now - before);
            bases[layer].leave_in_columns(&mut change)?;
            param.tensor = before.zip_map(&change, |before, change| before + change);
        }
        Ok(())
    }

    fn bases(&self, model: &Model, context: &Context<'_>) -> Result<Option<Rc<Vec<MinorBasis>>>> {
        if self.minor.k == 0 {
            return Ok(None);
        }
        self.held(model, context).map(|(_, bases)| Some(bases))
    }
}

/// What is held: a parameter, and the place of its layer's basis.
type Held = Vec<(usize, ParamId)>;

impl Mcu {
    /// What is held of a model, with a basis for every layer that has some.
    ///
    /// # Errors
    /// Where nothing is, and where a layer's feed-forward does not write to the residual stream.
    fn held(&self, model: &Model, context: &Context<'_>) -> Result<(Held, Rc<Vec<MinorBasis>>)> {
        let (mut held, mut sites) = (Vec::new(), Vec::new());
        for layer in 0..model.spec().layers {
            let mut trained = model.feed_forward_outputs(layer);
            trained.retain(|&id| model.params.get(id).trainable);
            if trained.is_empty() {
                continue;
            }
            if model.spec().has_norm_after_feed_forward() {
                return Err(Error::invalid(
                    "guard = \"mcu\" holds what feed-forwards write to the residual stream, and in this family a norm \
                     stands between the two; take the forget objective `rmu` with `minor`",
                ));
            }
            held.extend(trained.into_iter().map(|id| (sites.len(), id)));
            let of = match self.of {
                Of::Residual => BlockSite::ResidPost,
                Of::Mlp => BlockSite::MlpOut,
            };
            sites.push(Site::Block(layer, of));
        }
        if held.is_empty() {
            return Err(Error::invalid(
                "guard = \"mcu\" holds what feed-forwards write, and `where` lets no weight change that writes for one; \
                 choose `down_proj`, or leave the guard out",
            ));
        }
        Ok((held, context.minor(&self.minor, &sites)?))
    }
}
