//! What a recipe of this area says.

use amend_eval::world::WorldConfig;
use amend_learn::{Computing, Error, Optimizer, Pretrain, Result, Template};
use amend_run::RecipePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attack::Relearn;
use crate::combine::Combination;
use crate::objective::Forget;
use crate::place::Where;
use crate::retain::Retain;

/// A recipe for making a model forget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlearnRecipe {
    /// The area: `unlearn`.
    pub method: Area,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// How many seeds to run, counting up from `seed`; figures are then means over seeds.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub seeds: u64,
    /// The model.
    pub model: ModelSource,
    /// The data.
    pub data: Data,
    /// The method, slot by slot.
    #[serde(default)]
    pub unlearn: Slots,
    /// The optimiser of the unlearning steps.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// How models compute.
    #[serde(default)]
    pub engine: Computing,
    /// When to stop.
    #[serde(default)]
    pub stop: StopRule,
    /// What the unlearned model has to withstand.
    #[serde(default)]
    pub attack: Attacks,
    /// How models are measured.
    #[serde(default)]
    pub eval: Evaluation,
}

fn one() -> u64 {
    1
}

/// The area a recipe belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Unlearning.
    Unlearn,
}

/// Where the model comes from: a folder, or made on the spot. Exactly one of `path` and `scratch`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSource {
    /// Hugging Face folder of the model that is to forget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<RecipePath>,
    /// Hugging Face folder of a model trained without the forget set: the gold standard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold: Option<RecipePath>,
    /// Train a small model on forget and retain set first, and its gold standard on the retain set alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Pretrain>,
}

/// The one of `path` and `scratch` that a recipe gives.
pub(crate) enum GivenModel<'a> {
    /// A folder.
    Folder(&'a RecipePath),
    /// Made on the spot, and the gold model with it.
    Scratch(&'a Pretrain),
}

impl ModelSource {
    /// What the recipe gives.
    ///
    /// # Errors
    /// Where it gives nothing, or things that exclude each other.
    pub(crate) fn given(&self) -> Result<GivenModel<'_>> {
        match (&self.path, &self.scratch) {
            (Some(path), None) => Ok(GivenModel::Folder(path)),
            (None, Some(scratch)) if self.gold.is_none() => Ok(GivenModel::Scratch(scratch)),
            (None, None) => Err(Error::invalid(
                "[model]: `path` is missing: the folder of the model that is to forget (or `[model.scratch]`)",
            )),
            _ => Err(Error::invalid(
                "[model]: `scratch` makes base and gold model itself; remove `path` and `gold`",
            )),
        }
    }
}

/// The data: files, or a little world made on the spot. Either `forget` and `retain`, or `world`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// What is to be forgotten (TOFU JSON lines, prompt/completion, messages or text).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget: Option<RecipePath>,
    /// What is to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<RecipePath>,
    /// The forget set with paraphrased and perturbed answers, for measuring; default: `forget`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget_eval: Option<RecipePath>,
    /// The retain set with paraphrased and perturbed answers, for measuring; default: `retain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_eval: Option<RecipePath>,
    /// TOFU's questions about real authors; with `world_facts` they complete the model utility.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_authors: Option<RecipePath>,
    /// TOFU's questions about the world.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world_facts: Option<RecipePath>,
    /// A generated world of fictitious people; its seed is the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world: Option<WorldConfig>,
    /// How questions become prompts.
    pub template: Template,
}

/// One filler per slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Slots {
    /// What lowers the model's grip on the forget set.
    pub forget: Forget,
    /// What holds on to everything else.
    pub retain: Retain,
    /// How the two gradients become one update.
    pub combine: Combination,
    /// Combination rules to run side by side instead of `combine`.
    pub compare: Vec<Combination>,
    /// Which weights the update may touch.
    pub r#where: Where,
    /// Weight γ of the forget gradient; default: what the objective's authors use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget_weight: Option<f32>,
    /// Weight α of the retain gradient.
    pub retain_weight: f32,
    /// Forget items per step; as many retain items are drawn to go with them.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Slots {
            forget: Forget::default(),
            retain: Retain::default(),
            combine: Combination::default(),
            compare: Vec::new(),
            r#where: Where::default(),
            forget_weight: None,
            retain_weight: 1.0,
            batch_size: 32,
        }
    }
}

impl Slots {
    /// The combination rules to run.
    pub fn arms(&self) -> Vec<&Combination> {
        if self.compare.is_empty() { vec![&self.combine] } else { self.compare.iter().collect() }
    }
}

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

/// Below this a forget set counts as forgotten where there is no gold model to compare with.
pub(crate) const DEFAULT_AIM: f64 = 0.1;

/// When unlearning stops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopRule {
    /// What is watched on the forget set.
    pub watch: Watched,
    /// Stop once it is at or below this; default: the gold model's own value, where there is a gold
    /// model, otherwise 0.1. Methods that stop at the same value are compared at matched forgetting.
    #[serde(skip_serializing_if = "Option::is_none")]
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

/// Attacks on the unlearned model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Attacks {
    /// Fine-tuning on half of the forgotten items, watching the other half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relearn: Option<Relearn>,
}

/// How models are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// Most questions per set, counted from its start.
    #[schemars(range(min = 1))]
    pub limit: usize,
    /// Most tokens of a free answer; 0 leaves ROUGE and samples out.
    pub max_new_tokens: usize,
    /// Share of the retain accuracy that must be left for a positive verdict.
    pub keep: f64,
}

impl Default for Evaluation {
    fn default() -> Self {
        // TOFU asks 300 questions per set and allows 200 tokens.
        Evaluation { limit: 300, max_new_tokens: 200, keep: 0.95 }
    }
}
