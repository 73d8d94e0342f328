//! Retention as a constraint.

use amend_engine::{Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Nll, RetainBatch, RetainObjective};
use crate::memory::Memory;
use crate::objectives::LossAndGradients;

/// Under this name the memory has the dual variable.
const DUAL: &str = "pdu.dual";

/// # What it does
/// Keeps the cross-entropy of the retain set below a bound instead of weighing it: the gradient is that of `nll`, and its
/// weight α·λ with a dual variable that grows while the constraint is violated and falls while it holds,
/// λ ← max(0, λ + η·(CE_r − ε)).
///
/// # When to use it
/// Where it is known how much retention may suffer, and not how much weight that takes. With the forget objective `pdu` it is
/// the published method; it goes with any other.
///
/// # What it logs
/// `loss_retain`: cross-entropy in nats per token. `dual`: λ of the step; the report draws it.
///
/// # Source
/// Entesari et al., "Constrained Entropic Unlearning: A Primal-Dual Framework for Large Language Models", arXiv 2506.05314.
///
/// # Inferred parts
/// The default of ε: choose it above what the model has before. λ follows every step's batch.
///
/// # Expected result
/// λ rises until CE_r is back at ε, and stays about there; where ε is out of reach it grows without end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pdu {
    /// Bound ε on the retain cross-entropy, in nats per token.
    #[schemars(range(min = 0.0))]
    pub epsilon: f64,
    /// Step η of the dual variable, per nat.
    #[schemars(range(min = 0.0))]
    pub eta: f64,
    /// The dual variable at the first step.
    #[schemars(range(min = 0.0))]
    pub start: f64,
}

impl Default for Pdu {
    fn default() -> Self {
        Pdu { epsilon: 0.1, eta: 1.0, start: 1.0 }
    }
}

impl RetainObjective for Pdu {
    fn gradients(&self, model: &Model, batch: &RetainBatch<'_>) -> Result<Option<LossAndGradients>> {
        Nll::default().gradients(model, batch)
    }

    fn multiplier(&self, memory: &Memory) -> f32 {
        self.dual(memory) as f32
    }

    fn after_step(&self, loss: f64, memory: &mut Memory, row: &mut Map<String, Value>) {
        let dual = self.dual(memory);
        row.insert("dual".into(), json!(dual));
        memory.keep_number(DUAL, (dual + self.eta * (loss - self.epsilon)).max(0.0));
    }
}

impl Pdu {
    fn dual(&self, memory: &Memory) -> f64 {
        memory.number(DUAL).unwrap_or(self.start)
    }
}
