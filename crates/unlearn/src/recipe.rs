//! What a recipe of this area says.

use amend_eval::world::WorldConfig;
use amend_learn::{Computing, Error, Optimizer, Pretrain, Result, SaveType, Template};
use amend_run::RecipePath;
use amend_run::recipe::Seeds;
use amend_run::records::Chosen;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attack::Attack;
use crate::combine::{Combination, Weights};
use crate::compare::{Arm, Compare};
use crate::forget::Forget;
use crate::guard::Guard;
use crate::retain::Retain;
use crate::save::Save;
use crate::stop::StopRule;
use crate::verdict::Verdict;
use crate::r#where::Where;

/// A recipe for making a model forget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlearnRecipe {
    /// The area: `unlearn`.
    pub method: Area,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// How many seeds to run, counting up from `seed`, or a list of them; figures are then means over seeds.
    #[serde(default)]
    pub seeds: Seeds,
    /// Which models stay in the run folder: `all`, `best` or `none`.
    #[serde(default)]
    pub save: Save,
    /// Number type that unlearned models are written in, and then measured as; default: that of the model they come
    /// from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_dtype: Option<SaveType>,
    /// The model.
    pub model: ModelSource,
    /// The data.
    pub data: Data,
    /// The method, slot by slot.
    #[serde(default)]
    pub unlearn: Slots,
    /// Arms to run side by side, each the slots of `unlearn` with some of them filled differently.
    #[serde(default, skip_serializing_if = "Compare::is_empty")]
    pub compare: Compare,
    /// The optimiser of the unlearning steps.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// How models compute.
    #[serde(default)]
    pub engine: Computing,
    /// When to stop.
    #[serde(default)]
    pub stop: StopRule,
    /// How models are measured.
    #[serde(default)]
    pub eval: Evaluation,
}

impl UnlearnRecipe {
    /// Its seeds, one run of everything for each.
    pub fn seeds(&self) -> Vec<u64> {
        self.seeds.from(self.seed)
    }

    /// Refuses what cannot be done whatever the data and the model are.
    pub(crate) fn check(&self, arms: &[Arm]) -> Result<()> {
        self.model.given()?;
        arms.iter().try_for_each(Arm::check)?;
        self.unlearn.check()
    }
}

/// The area a recipe belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Unlearning.
    Unlearn,
}

/// Where the model comes from: the disk, or made on the spot. Exactly one of `path` and `scratch`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSource {
    /// Hugging Face folder or GGUF file of the model that is to forget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<RecipePath>,
    /// Hugging Face folder or GGUF file of a model trained without the forget set: the gold standard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold: Option<RecipePath>,
    /// Train a small model on forget and retain set first, and its gold standard on the retain set alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Pretrain>,
}

/// The one of `path` and `scratch` that a recipe gives.
pub(crate) enum GivenModel<'a> {
    /// A folder, or a GGUF file.
    Path(&'a RecipePath),
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
            (Some(path), None) => Ok(GivenModel::Path(path)),
            (None, Some(scratch)) if self.gold.is_none() => Ok(GivenModel::Scratch(scratch)),
            (None, None) => Err(Error::conflict_at(
                "model",
                "[model]: `path` is missing: the folder of the model that is to forget (or `[model.scratch]`)",
            )),
            _ => Err(Error::conflict_at(
                "model",
                "[model]: `scratch` makes base and gold model itself; remove `path` and `gold`",
            )),
        }
    }
}

/// The data: files, or a little world made on the spot. Either `forget` and `retain`, or `world`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// What is to be forgotten (TOFU JSON lines, prompt/completion, messages or text): a file, or
    /// `{ path = "facts.jsonl", where = 'author = "Ann"' }`, whose other records are kept where `retain` names nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget: Option<Chosen>,
    /// What is to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<Chosen>,
    /// The forget set with paraphrased and perturbed answers, for measuring; default: `forget`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget_eval: Option<Chosen>,
    /// The retain set with paraphrased and perturbed answers, for measuring; default: `retain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_eval: Option<Chosen>,
    /// TOFU's questions about real authors; with `world_facts` they complete the model utility.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_authors: Option<Chosen>,
    /// TOFU's questions about the world.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world_facts: Option<Chosen>,
    /// Records of the kind of the forget set that no model was trained on, for membership inference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<Chosen>,
    /// Text that has nothing to do with either set, for an attacker who learns from that; default: the retain set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unrelated: Option<Chosen>,
    /// Part T of the forget set, which a relearning attacker learns from, with `attack_test`; default: a random half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<Chosen>,
    /// Part V of the forget set, which that attacker wants back. Wordings of one fact belong to one part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack_test: Option<Chosen>,
    /// A generated world of fictitious people; its seed is the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world: Option<WorldConfig>,
    /// How questions become prompts.
    pub template: Template,
}

/// What fills each slot, in the order data flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Slots {
    /// What lowers the model's grip on the forget set.
    pub forget: Forget,
    /// What holds on to everything else.
    pub retain: Retain,
    /// How the two gradients become one update.
    pub combine: Combination,
    /// Which weights the update may touch.
    pub r#where: Where,
    /// What stands around the step.
    pub guard: Guard,
    /// Weight γ of the forget gradient; default: what the objective's authors use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub forget_weight: Option<f32>,
    /// Weight α of the retain gradient.
    #[schemars(range(min = 0.0))]
    pub retain_weight: f32,
    /// Forget items per step; as many retain items are drawn to go with them.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// What the unlearned model is attacked with, one attack after the other.
    pub attack: Vec<Attack>,
    /// What is asked of the result. What else can be said is measured and shown, and decides nothing.
    pub verdict: Vec<Verdict>,
}

impl Default for Slots {
    fn default() -> Self {
        Slots {
            forget: Forget::default(),
            retain: Retain::default(),
            combine: Combination::default(),
            r#where: Where::default(),
            guard: Guard::default(),
            forget_weight: None,
            retain_weight: 1.0,
            batch_size: 32,
            attack: Vec::new(),
            verdict: Verdict::asked_by_default(),
        }
    }
}

impl Slots {
    /// The weights of the two gradients.
    pub fn weights(&self) -> Weights {
        let own = || self.forget.filler().default_weight();
        Weights { forget: self.forget_weight.unwrap_or_else(own), retain: self.retain_weight }
    }

    /// Refuses a verdict that nothing would be known about, and one that is asked for twice.
    pub(crate) fn check(&self) -> Result<()> {
        let names: Vec<&str> = self.verdict.iter().map(Verdict::name).collect();
        if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Err(Error::conflict_at(
                "unlearn.verdict",
                format!("[unlearn]: `verdict` asks for `{}` twice; once is enough", names[twice]),
            ));
        }
        let asks = self.verdict.iter().any(|verdict| matches!(verdict, Verdict::Withstands(_)));
        if asks && self.attack.is_empty() {
            return Err(Error::conflict_at(
                "unlearn.verdict",
                "[unlearn]: `verdict` asks for `withstands`, but there is no attack to withstand; \
                 fill `attack`, for example with [\"relearn\"]",
            ));
        }
        Ok(())
    }

    /// The attacks, each under a name of its own: a second `relearn` is `relearn-2`.
    pub fn attacks(&self) -> impl Iterator<Item = (String, &Attack)> {
        self.attack.iter().enumerate().map(|(i, attack)| {
            let earlier = self.attack[..i].iter().filter(|a| a.name() == attack.name()).count();
            let name = attack.name();
            (if earlier == 0 { name.to_owned() } else { format!("{name}-{}", earlier + 1) }, attack)
        })
    }
}

/// How models are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// Most questions per set, counted from its start.
    #[schemars(range(min = 1))]
    pub limit: usize,
    /// Most tokens of a free answer; 0 leaves out ROUGE and what rests on it (utility, TOFU's logs), and samples.
    pub max_new_tokens: usize,
}

impl Default for Evaluation {
    fn default() -> Self {
        // TOFU asks 300 questions per set and allows 200 tokens.
        Evaluation { limit: 300, max_new_tokens: 200 }
    }
}
