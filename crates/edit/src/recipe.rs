//! What a recipe of this area says.

use amend_eval::Summary;
use amend_eval::world::WorldConfig;
use amend_learn::{Computing, Error, Pretrain, Result, SaveType, Template};
use amend_run::RecipePath;
use amend_run::records::Chosen;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::editor::Editing;
use crate::locate::TraceOptions;
use crate::statistics::Sampling;

/// A recipe for rewriting facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRecipe {
    /// The area: `edit`.
    pub method: Area,
    /// Seed of everything random: contexts, noise, a world, a model made on the spot.
    #[serde(default)]
    pub seed: u64,
    /// Number type that the edited model is written in, and then measured as; default: that of the model it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_dtype: Option<SaveType>,
    /// The model.
    pub model: ModelSource,
    /// The data.
    pub data: Data,
    /// The method.
    #[serde(default)]
    pub edit: Slots,
    /// How causal tracing finds the layer. With this section it is done whether or not a layer is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceOptions>,
    /// How the statistics of keys are taken.
    #[serde(default)]
    pub statistics: Sampling,
    /// How models compute.
    #[serde(default)]
    pub engine: Computing,
    /// How models are measured.
    #[serde(default)]
    pub eval: Evaluation,
    /// What is asked of the result: the exit code answers it. What else is measured decides nothing.
    #[serde(default)]
    pub require: Required,
}

/// The area a recipe belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Editing.
    Edit,
}

/// Where the model comes from: the disk, or made on the spot. Exactly one of `path` and `scratch`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSource {
    /// Hugging Face folder or GGUF file of the model to be edited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<RecipePath>,
    /// Train a small model first: on `data.learn`, or on the world.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Pretrain>,
}

/// The data: edits from a file, or from a little world made on the spot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The edits: CounterFact (nested or flat), zsRE, or one's own rows of `subject`, `prompt` (with the subject or `{}` in
    /// it), `target_new`, and what there is of `target_true`, `paraphrases`, `neighbours`. A file, or
    /// `{ path = "counterfact.json", where = 'case_id < 100' }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edits: Option<Chosen>,
    /// Edits made at most; the first ones. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Any text, from which editors take the statistics of keys: plain text, or records of any kind. Default: what a model
    /// made on the spot learns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Chosen>,
    /// What a model made on the spot learns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learn: Option<Chosen>,
    /// A generated world of fictitious people for a model made on the spot: a fact about each of those that the world would
    /// have forgotten is rewritten. Its seed is the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world: Option<WorldConfig>,
    /// How questions of `learn`, `text` and the world become prompts.
    pub template: Template,
}

/// What fills the slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Slots {
    /// How facts are rewritten.
    pub editor: Editing,
    /// Edits made together. The batches come one after the other, on the same weights.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Put the weights back before every batch, so that each is judged alone. The run then leaves no model.
    pub restore: bool,
    /// Beginnings that the model writes itself, behind which an edit is to hold as well: half of them of 5 tokens, half of
    /// 10.
    #[schemars(range(max = 1000))]
    pub contexts: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Slots { editor: Editing::default(), batch_size: 1, restore: false, contexts: 20 }
    }
}

/// How models are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// Most tokens that a model writes to a prompt; 0 leaves out what it says when it runs free.
    pub max_new_tokens: usize,
    /// How many of the first edits are looked at again while later ones are made.
    #[schemars(range(min = 1))]
    pub watched: usize,
    /// After how many batches they are looked at.
    #[schemars(range(min = 1))]
    pub check_every: u64,
}

impl Default for Evaluation {
    fn default() -> Self {
        Evaluation { max_new_tokens: 10, watched: 10, check_every: 10 }
    }
}

/// The least that figures of the free-running model have to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Required {
    /// Least efficacy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub efficacy: Option<f64>,
    /// Least generalisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub generalisation: Option<f64>,
    /// Least locality.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub locality: Option<f64>,
}

impl Required {
    /// What is asked for, by the name of the figure.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let named = [
            ("efficacy", self.efficacy),
            ("generalisation", self.generalisation),
            ("locality", self.locality),
        ];
        named.into_iter().filter_map(|(name, least)| Some((name, least?)))
    }

    /// Whether figures are as asked; nothing where nothing is asked for. A figure that is missing is not.
    pub fn holds(&self, figures: &Summary) -> Option<bool> {
        let reached =
            |(name, least): (&str, f64)| figures.figure(name).is_some_and(|figure| figure.value >= least);
        self.all().next()?;
        Some(self.all().all(reached))
    }
}

impl EditRecipe {
    /// Refuses what cannot be done whatever data and model are.
    pub(crate) fn check(&self) -> Result<()> {
        match (&self.model.path, &self.model.scratch) {
            (Some(_), None) | (None, Some(_)) => {}
            (None, None) => {
                return Err(Error::conflict(
                    "[model]: `path` is missing: the folder of the model to be edited (or `[model.scratch]`)",
                ));
            }
            _ => return Err(Error::conflict("[model]: give either `path` or `scratch`, not both")),
        }
        let Data { edits, learn, world, .. } = &self.data;
        if self.model.scratch.is_none() && (learn.is_some() || world.is_some()) {
            return Err(Error::conflict(
                "[data]: `learn` and `world` are for a model made on the spot; add [model.scratch], or leave them out",
            ));
        }
        if self.model.scratch.is_some() && learn.is_some() == world.is_some() {
            return Err(Error::conflict(
                "[data]: a model made on the spot learns from `learn` or from `world`; give one of the two",
            ));
        }
        if edits.is_some() == world.is_some() {
            return Err(Error::conflict(
                "[data]: `edits` is needed, the file of the facts to be rewritten; a `world` brings its own and takes its place",
            ));
        }
        if self.edit.editor.filler().uses_statistics()
            && self.data.text.is_none()
            && self.model.scratch.is_none()
        {
            return Err(Error::conflict(format!(
                "[data]: `{}` asks what keys look like in general: name any text file of the kind that the model was trained \
                 on under `text`",
                self.edit.editor.name()
            )));
        }
        Ok(())
    }

    /// Whether the layer is found by tracing.
    pub(crate) fn traces(&self) -> bool {
        self.trace.is_some() || self.edit.editor.filler().layers().is_empty()
    }
}
