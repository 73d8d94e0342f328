//! Slot `attack`: what an unlearned model has to withstand.

mod adapter_removal;
mod forms;
mod leaks;
mod membership;
mod probe;
mod prompts;
mod prune;
mod quantise;
mod relearn;
mod rewording;
mod ridge;
mod sampling;

use std::path::Path;

use amend_engine::Model;
use amend_learn::Result;
use amend_learn::work::Work;
use amend_run::{Figure, Run, slot};
use serde::{Deserialize, Serialize};

pub use adapter_removal::AdapterRemoval;
pub use membership::{Membership, Score};
pub use probe::Probe;
pub use prompts::{Kind, Prompts};
pub use prune::Prune;
pub use quantise::{Format, Quantise};
pub use relearn::{Learning, Learns, On, Relearn};
pub use sampling::Sampling;

use crate::context::Context;
use crate::data::Sets;
use crate::measure::Said;
use crate::minor::Component;
use crate::recipe::UnlearnRecipe;

/// How most findings are to be read.
const HIDDEN: &str =
    "What comes back was hidden, not gone, but for what a model that never knew gives away as well.";

/// Tries to get back what a model was made to forget.
pub trait Attacker {
    /// Refuses data on which the attack could show nothing, and what else of a recipe it does not go with, before anything
    /// is computed.
    fn check(&self, _sets: &Sets, _recipe: &UnlearnRecipe) -> Result<()> {
        Ok(())
    }

    /// How many weights of a model the attacker trains, for the memory that takes.
    fn trains(&self, _model: &Model) -> usize {
        0
    }

    /// How much there is to compute in an attack on one model, at most.
    fn work(&self, context: &Context<'_>) -> Result<Work>;

    /// Attacks a model as the stage in progress, and says what came back. The gold model is attacked alike: what it
    /// gives away as well was never hidden.
    fn attack(&self, run: &mut Run<'_>, target: Target<'_>, context: &Context<'_>) -> Result<Findings>;
}

/// What is attacked.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The model.
    pub model: &'a Model,
    /// The folder of the adapter that was merged into it, where there is one.
    pub adapter: Option<&'a Path>,
}

/// What an attack brought to light.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// How the findings are to be read, in a sentence or two.
    pub reading: String,
    /// What came back, the larger the worse, the most telling figure first. A figure that measures answers is called
    /// by the measure's name, `accuracy` or `probability`, so that verdicts find it.
    pub figures: Vec<(String, Figure)>,
    /// What some of these figures were before the attack, where no curve begins there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<(String, Figure)>,
    /// What else there is to know, of which neither more nor less is worse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<(String, Figure)>,
    /// How it came back.
    pub curves: Vec<Curve>,
    /// What became of the components of hidden states, where the attack compares them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// What the attacked model says.
    pub samples: Vec<Said>,
    /// Why the attack was weak, where the attacker hardly learnt even what it trained on: a clause with its figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weak: Option<String>,
    /// What is to be said of the model before any verdict: a clause with its figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Findings {
    /// The figure of this name, otherwise the most telling one, with what it is called.
    pub fn figure(&self, name: &str) -> Option<(&str, Figure)> {
        let called = self.figures.iter().find(|(n, _)| n == name);
        called.or(self.figures.first()).map(|(name, figure)| (name.as_str(), *figure))
    }

    /// What the figure of this name was before the attack began: as it is said, or where its curve begins.
    pub(crate) fn start(&self, name: &str) -> Option<Figure> {
        let said = self.before.iter().find(|(n, _)| n == name).map(|(_, figure)| *figure);
        let curve = || self.curves.iter().find(|curve| curve.y == name)?.points.first();
        said.or_else(|| curve().map(|point| Figure::exact(point.1, 0)))
    }
}

/// A curve of an attack. Those of one title are drawn together, model by model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What it shows.
    pub title: String,
    /// What runs along it, with its unit.
    pub x: String,
    /// What is measured, with its unit.
    pub y: String,
    /// Its points, all finite.
    pub points: Vec<(f64, f64)>,
}

slot! {
    /// What an unlearned model has to withstand.
    pub slot Attack("unlearn", "attack"): dyn Attacker {
        "relearn" => Relearn,
        "quantise" => Quantise,
        "prompts" => Prompts,
        "sampling" => Sampling,
        "probe" => Probe,
        "prune" => Prune,
        "adapter-removal" => AdapterRemoval,
        "membership" => Membership,
    }
}
