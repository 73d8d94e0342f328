//! FT-L: fine-tuning of one matrix, kept close to where it was.

use amend_engine::optim::{AdamW, AdamWOptions, nll_gradients};
use amend_engine::{Error, Example, Model, SCORING_TOKENS, Tensor};
use amend_learn::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Bench, Editor, Memory};
use crate::request::Request;

/// # What it does
/// Takes steps of Adam on the last matrix of one feed-forward towards the new target, and after every step puts each weight
/// back to within ε of where it was: |W − W₀| ≤ ε.
///
/// # When to use it
/// As the baseline that every other editor has to beat.
///
/// # What it logs
/// `loss_target`: loss of the new target at the prompt after the last step, nats per token; `clamped`: share of weights at
/// the bound; `change`: ‖ΔW‖/‖W‖.
///
/// # Source
/// Zhu et al. 2020, Modifying Memories in Transformer Models, arXiv 2012.00363; as the baseline FT-L of Meng et al. 2022,
/// arXiv 2202.05262.
///
/// # Inferred parts
/// The target is learnt token by token, each behind those before it; some code predicts all of them at the prompt's last
/// token. W₀ is the matrix before the batch.
///
/// # Expected result
/// A high efficacy and a low generalisation; with a larger ε also a low locality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FtL {
    /// The layer that is changed, counted from 0; absent: the one that causal tracing finds.
    pub layer: Option<usize>,
    /// Learning rate.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f64,
    /// Steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// ε: how far a weight may go.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub epsilon: f32,
}

impl Default for FtL {
    fn default() -> Self {
        FtL { layer: None, lr: 5e-4, steps: 25, epsilon: 5e-4 }
    }
}

impl Editor for FtL {
    fn layers(&self) -> Vec<usize> {
        self.layer.into_iter().collect()
    }

    fn uses_statistics(&self) -> bool {
        false
    }

    fn sets_values(&self) -> bool {
        false
    }

    fn edit(
        &self,
        model: &mut Model,
        batch: &[&Request],
        bench: &Bench,
        _memory: &mut Memory,
    ) -> Result<Map<String, Value>> {
        let [layer] = bench.layers[..] else {
            return Err(Error::invalid("FT-L changes one layer").into());
        };
        let id = model.down_projection(layer)?;
        let mut learner = model.clone();
        let name = learner.params.get(id).name.clone();
        learner.params.set_trainable(|param| param == name);
        let before = learner.params.get(id).tensor.clone();
        let examples: Vec<&Example> = batch.iter().map(|request| &request.plain().example).collect();
        let options = AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() };
        let mut adam = AdamW::new(&learner.params, options);
        for _ in 0..self.steps {
            let (_, gradients) = nll_gradients(&learner, &examples, SCORING_TOKENS)?;
            adam.step(&mut learner.params, &gradients, self.lr, 1.0)?;
            let param = learner.params.get_mut(id);
            param.tensor = clamped(&param.tensor, &before, self.epsilon);
        }
        let (loss, _) = nll_gradients(&learner, &examples, SCORING_TOKENS)?;
        let after = learner.params.get(id).tensor.clone();
        let bound =
            after.f32().iter().zip(before.f32()).filter(|(w, w0)| (*w - *w0).abs() >= 0.999 * self.epsilon);
        let clamped = bound.count() as f64 / after.len() as f64;
        let moved = after.zip_map(&before, |w, w0| w - w0);
        let change = (moved.dot(&moved) / before.dot(&before)).sqrt();
        model.params.get_mut(id).tensor = after;
        Ok(Map::from_iter([
            ("loss_target".to_owned(), json!(loss)),
            ("clamped".to_owned(), json!(clamped)),
            ("change".to_owned(), json!(change)),
        ]))
    }
}

/// W with every weight brought back to within ε of W₀.
pub(super) fn clamped(weight: &Tensor, before: &Tensor, epsilon: f32) -> Tensor {
    weight.zip_map(before, |w, w0| w.clamp(w0 - epsilon, w0 + epsilon))
}
