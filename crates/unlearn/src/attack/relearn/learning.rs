//! What a relearning attacker learns, with which weights, and for how long.

use std::collections::BTreeSet;

use amend_engine::{Error as EngineError, Example, Model};
use amend_learn::Result;
use amend_run::Record;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Relearn;
use crate::attack::HIDDEN;
use crate::context::Context;

/// What a relearning attacker learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// One half of the forgotten items; the other is watched.
    #[default]
    Disjoint,
    /// All forgotten items, which are watched.
    Same,
    /// Text that has nothing to do with them; all forgotten items are watched.
    Unrelated,
}

/// What of a record is learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Learns {
    /// Its answer.
    #[default]
    Answer,
    /// All of it, as plain text.
    Text,
}

/// Which weights learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Learning {
    /// All.
    #[default]
    All,
    /// Those of the feed-forwards.
    Mlp,
}

/// What is learnt, and what is watched.
pub(super) struct Split<'c> {
    pub(super) learnt: &'c [Example],
    pub(super) watched: &'c [Example],
    pub(super) records: &'c [Record],
}

impl On {
    pub(super) fn split<'c>(self, context: &'c Context<'_>) -> Split<'c> {
        let sets = context.sets;
        match self {
            On::Disjoint => {
                Split { learnt: &context.attack, watched: &context.attack_test, records: &sets.attack_test }
            }
            On::Same => Split { learnt: &context.forget, watched: &context.forget, records: &sets.forget },
            On::Unrelated => {
                Split { learnt: context.unrelated(), watched: &context.forget, records: &sets.forget }
            }
        }
    }

    /// How the findings are read, and what the curves show.
    pub(super) fn reading(self) -> (String, &'static str) {
        let (reading, title) = match self {
            On::Disjoint => (
                "Each model is fine-tuned on one half of the forgotten items; the curves show the other half, which the \
                 attacker never sees.",
                "Forgotten items the attacker never saw",
            ),
            On::Same => (
                "Each model is fine-tuned on the forgotten items themselves, which the curves show. Any model learns them in \
                 the end; what counts is how soon.",
                "Forgotten items while they are learnt again",
            ),
            On::Unrelated => (
                "Each model is fine-tuned on text that has nothing to do with the forgotten items, which the curves show.",
                "Forgotten items while something else is learnt",
            ),
        };
        (format!("{reading} {HIDDEN}"), title)
    }
}

/// For how long an attacker learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    /// Steps.
    pub(super) steps: u64,
    /// Steps between two looks.
    pub(super) every: u64,
}

impl Relearn {
    /// For how long it learns so many items.
    pub(super) fn length(&self, items: usize) -> Length {
        match self.epochs {
            None => Length { steps: self.steps, every: self.every },
            Some(epochs) => {
                let every = items.div_ceil(self.batch_size.min(items).max(1)).max(1) as u64;
                Length { steps: epochs.saturating_mul(every), every }
            }
        }
    }

    /// What it learns, as it learns it.
    pub(super) fn learnt(&self, examples: &[Example]) -> Vec<Example> {
        let as_asked = |example: &Example| match self.learns {
            Learns::Answer => example.clone(),
            Learns::Text => Example::text(example.ids.clone()),
        };
        examples.iter().map(as_asked).collect()
    }

    /// Makes exactly the weights trainable that learn.
    ///
    /// # Errors
    /// Where there are fewer layers than are to learn.
    pub(super) fn choose(&self, model: &mut Model) -> Result<()> {
        let layers = model.spec().layers;
        let learning = self.early_layers.unwrap_or(layers);
        if learning > layers {
            return Err(EngineError::invalid(format!(
                "attack = \"relearn\": `early_layers = {learning}` of a model of {layers} layers"
            ))
            .into());
        }
        let blocks = model.spec().names.block.blocks;
        let of_mlps: BTreeSet<String> = (0..learning)
            .flat_map(|layer| model.feed_forward_parameters(layer))
            .map(|id| model.params.get(id).name.clone())
            .collect();
        let is_early = |name: &str| {
            let layer = name.strip_prefix(blocks).and_then(|rest| rest.strip_prefix('.')?.split('.').next());
            layer.and_then(|layer| layer.parse::<usize>().ok()).is_some_and(|layer| layer < learning)
        };
        match (self.weights, self.early_layers) {
            (Learning::All, None) => model.params.set_trainable(|_| true),
            (Learning::All, Some(_)) => model.params.set_trainable(is_early),
            (Learning::Mlp, _) => model.params.set_trainable(|name| of_mlps.contains(name)),
        }
        Ok(())
    }
}
