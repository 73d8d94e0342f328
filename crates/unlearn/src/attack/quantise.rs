//! Quantisation: do coarser weights bring back what was forgotten?

use amend_engine::models::WeightGrid;
use amend_learn::Result;
use amend_run::Run;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::{ask_all, findings};
use super::{Attacker, Findings, HIDDEN, Target};
use crate::context::Context;
use crate::data::Sets;
use crate::recipe::UnlearnRecipe;
use crate::rehearsal::of_asking;
use amend_learn::work::Work;

/// # What it does
/// Rounds the unlearned weights to the grids on which models are served, and measures the forget set again: to the
/// nearest level, group by group, with a step of the group's own. Every linear weight of every block is rounded, experts
/// included; embeddings, head, norms, biases and routers stay as they are.
///
/// # When to use it
/// Always, when weights are to be published: somebody will quantise them. Unlearning that moves weights by less than half a
/// step is undone by rounding, for both models then have the same codes.
///
/// # What it logs
/// The largest of every figure over the formats, then accuracy, probability and leak as they were and in every format.
/// Nothing on the way.
///
/// # Source
/// Zhang et al., "Catastrophic Failure of LLM Unlearning via Quantization", arXiv 2410.16454. NF4: Dettmers et al., arXiv
/// 2305.14314.
///
/// # Inferred parts
/// Integer grids are symmetric, with the group's largest weight on the outermost level, as GGUF's Q8_0 has them; halfway
/// between two levels the even one is taken. Activations are not rounded.
///
/// # Expected result
/// int8 changes hardly anything. At 4 bits small updates vanish, and much comes back of what a low learning rate hid; what
/// was forgotten with large updates stays away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quantise {
    /// The formats that weights are rounded to, one after the other.
    #[schemars(length(min = 1))]
    pub formats: Vec<Format>,
    /// Weights that have a step in common: neighbours along a layer's inputs.
    #[schemars(range(min = 1))]
    pub group: usize,
}

/// A format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Integers from −127 to 127.
    Int8,
    /// Integers from −7 to 7.
    Int4,
    /// Sixteen levels that are as likely under a normal distribution.
    Nf4,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Int8 => "int8",
            Format::Int4 => "int4",
            Format::Nf4 => "nf4",
        }
    }

    fn grid(self) -> WeightGrid {
        match self {
            Format::Int8 => WeightGrid::Int8,
            Format::Int4 => WeightGrid::Int4,
            Format::Nf4 => WeightGrid::Nf4,
        }
    }
}

impl Default for Quantise {
    fn default() -> Self {
        Quantise { formats: vec![Format::Int8, Format::Int4, Format::Nf4], group: 64 }
    }
}

impl Attacker for Quantise {
    fn check(&self, _sets: &Sets, _recipe: &UnlearnRecipe) -> Result<()> {
        if self.formats.is_empty() {
            return Err(amend_learn::Error::conflict_at(
                "unlearn.attack",
                "attack = \"quantise\": `formats` names none; give at least one of \"int8\", \"int4\", \"nf4\"",
            ));
        }
        Ok(())
    }

    fn work(&self, context: &Context<'_>) -> Result<Work> {
        let once = of_asking(context, context.measured_forget(), context.evaluation.max_new_tokens)?;
        Ok(once.times(self.formats.len() + 1))
    }

    fn attack(&self, run: &mut Run<'_>, target: Target<'_>, context: &Context<'_>) -> Result<Findings> {
        let names: Vec<String> = self.formats.iter().map(|format| format.name().to_owned()).collect();
        let rounded = |index: usize| {
            let mut model = target.model.clone();
            model.round_to_grid(self.formats[index].grid(), self.group)?;
            Ok(model)
        };
        let max_new_tokens = context.evaluation.max_new_tokens;
        let forms = ask_all(run, (target.model, "as it is"), &names, &rounded, context, max_new_tokens)?;
        let reading = format!(
            "Each model's linear weights are rounded to the nearest level of a coarse grid, in groups of {}, and the forget \
             set is measured again; the first figures are the largest over the formats, what is said is said in the format \
             that gives most away. {HIDDEN}",
            self.group
        );
        let mut found = findings(reading, &forms);
        for form in &forms {
            let named = |name: &&str| Some((format!("{name}, {}", form.name), form.figure(name)?));
            found.figures.extend(["accuracy", "probability", "leak"].iter().filter_map(named));
        }
        Ok(found)
    }
}
