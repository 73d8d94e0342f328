//! When unlearning stops: a figure on the forget set is watched, and enough is forgotten once it is down to the aim.

use amend_engine::Model;
use amend_learn::{Error, Result};
use amend_run::Figure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::measure::{Snapshot, mean_choice, mean_probability, share_exact};

/// Below this a forget set counts as forgotten where there is no gold model to compare with.
const DEFAULT_AIM: f64 = 0.1;

/// What is watched to decide that enough is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Watched {
    /// exp(−NLL/|y|) of the right answers.
    #[default]
    Probability,
    /// Probability of the right answer among the wrong ones (needs perturbed answers).
    Choice,
    /// Share of answers given word for word.
    Accuracy,
}

impl Watched {
    /// The figure's name, as recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Watched::Probability => "probability",
            Watched::Choice => "choice",
            Watched::Accuracy => "accuracy",
        }
    }

    /// The figure on the forget set itself; `choice`, on the part of it that is measured.
    pub(crate) fn of(self, model: &Model, context: &Context<'_>) -> Result<Figure> {
        match self {
            Watched::Probability => mean_probability(model, &context.forget),
            Watched::Accuracy => share_exact(model, &context.forget),
            Watched::Choice => mean_choice(model, context.choices()?),
        }
    }

    /// The figure in a measurement, on the part of the forget set that is measured; of data without wrong answers there is
    /// no choice.
    pub(crate) fn measured(self, snapshot: &Snapshot) -> Option<Figure> {
        match self {
            Watched::Probability => Some(snapshot.forget.probability),
            Watched::Accuracy => Some(snapshot.forget.accuracy),
            Watched::Choice => snapshot.forget.choice,
        }
    }
}

/// When unlearning stops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopRule {
    /// What is watched on the forget set.
    pub watch: Watched,
    /// Stop once it is at or below this; default: the gold model's own value, where there is a gold
    /// model, otherwise 0.1. Methods that stop at the same value are compared at matched forgetting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub below: Option<f64>,
    /// Most steps.
    pub max_steps: u64,
    /// Steps between two looks.
    #[schemars(range(min = 1))]
    pub check_every: u64,
}

impl Default for StopRule {
    fn default() -> Self {
        StopRule { watch: Watched::Probability, below: None, max_steps: 200, check_every: 5 }
    }
}

impl StopRule {
    /// Where unlearning stops: the recipe's own value, or the gold model's.
    pub fn aim(&self, gold: Option<&Snapshot>) -> f64 {
        self.below
            .or(gold.and_then(|g| self.watch.measured(g)).map(|figure| figure.value))
            .unwrap_or(DEFAULT_AIM)
    }

    /// The aim in words.
    pub fn describe(&self, has_gold: bool) -> String {
        let aim = match self.below {
            Some(below) => below.to_string(),
            None if has_gold => "the gold model's".into(),
            None => DEFAULT_AIM.to_string(),
        };
        format!("{} on the forget set at most {aim}", self.watch.name())
    }

    /// Whether unlearning looks at the watched figure after `taken` steps.
    pub(crate) fn looks_after(&self, taken: u64) -> bool {
        taken.is_multiple_of(self.check_every) || taken == self.max_steps
    }

    /// Refuses to watch what the data does not have.
    pub(crate) fn check(&self, context: &Context<'_>) -> Result<()> {
        if self.watch == Watched::Choice && context.choices()?.is_empty() {
            return Err(Error::conflict_at(
                "stop.watch",
                "[stop]: watch = \"choice\" needs perturbed answers in the forget set; use \"probability\"",
            ));
        }
        Ok(())
    }
}
