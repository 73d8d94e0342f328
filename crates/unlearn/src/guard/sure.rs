//! Updating salient modules only.

use std::collections::BTreeMap;

use amend_engine::{Gradients, Model, Params, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Pair, Safeguard};
use crate::objectives::Objectives;

/// # What it does
/// Lets a step change only the modules that forgetting pulls on: those whose saliency, the norm of their forget gradient,
/// is at least mean + δ·std over all modules that may change. The others sit the step out, with what the retain gradient asks
/// of them. A module is what shares a name up to the last dot, a weight with its bias.
///
/// # When to use it
/// With a learning rate several times as large: unlearning at usual rates moves weights by less than a rounding to 4 bits
/// takes back, and larger steps everywhere would cost what is to be kept.
///
/// # What it logs
/// `salient`: share of the modules that take the step.
///
/// # Source
/// Zhang et al., "Catastrophic Failure of LLM Unlearning via Quantization", arXiv 2410.16454 (SURE).
///
/// # Inferred parts
/// The threshold from mean and standard deviation (the published code takes a percentile), per step. The most salient
/// module always takes part. The optimiser's running means of the others rest meanwhile.
///
/// # Expected result
/// Fewer tensors change, and those by more; zeros in the table of model differences for modules that never took part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sure {
    /// How many standard deviations δ above the mean a module has to be. A negative number lets more take part.
    #[schemars(range(min = -100.0))]
    pub delta: f32,
}

impl Default for Sure {
    fn default() -> Self {
        Sure { delta: 1.0 }
    }
}

impl Safeguard for Sure {
    fn gradients(
        &self,
        model: &Model,
        objectives: &Objectives<'_>,
        row: &mut Map<String, Value>,
    ) -> Result<Pair> {
        let (mut forget, mut retain) = (objectives.forget(model)?, objectives.retain(model)?);
        let salient = self.salient(&model.params, &forget.gradients);
        let share = salient.values().filter(|&&salient| salient).count() as f64 / salient.len().max(1) as f64;
        row.insert("salient".into(), json!(share));
        for gradients in [Some(&mut forget), retain.as_mut()].into_iter().flatten().map(|l| &mut l.gradients)
        {
            gradients.keep_only(|id| salient.get(module(&model.params.get(id).name)) == Some(&true));
        }
        Ok(Pair { forget, retain })
    }
}

impl Sure {
    /// Whether each module that may change is salient.
    pub(super) fn salient<'p>(&self, params: &'p Params, forget: &Gradients) -> BTreeMap<&'p str, bool> {
        let mut squares: BTreeMap<&str, f64> = BTreeMap::new();
        for (id, param) in params.iter().filter(|(_, param)| param.trainable) {
            *squares.entry(module(&param.name)).or_default() += forget.get(id).map_or(0.0, |g| g.dot(g));
        }
        let n = squares.len().max(1) as f64;
        let norms: BTreeMap<&str, f64> =
            squares.into_iter().map(|(name, square)| (name, square.sqrt())).collect();
        let mean = norms.values().sum::<f64>() / n;
        let deviation = (norms.values().map(|norm| (norm - mean).powi(2)).sum::<f64>() / n).sqrt();
        let largest = norms.values().copied().fold(0.0, f64::max);
        let threshold = (mean + f64::from(self.delta) * deviation).min(largest);
        norms.into_iter().map(|(name, norm)| (name, norm >= threshold)).collect()
    }
}

/// What a parameter is part of: `….mlp.down_proj` of `….mlp.down_proj.weight`.
fn module(param: &str) -> &str {
    param.rsplit_once('.').map_or(param, |(module, _)| module)
}
