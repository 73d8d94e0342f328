//! Slot `attack`: what an unlearned model has to withstand.

mod relearn;

use amend_engine::Model;
use amend_learn::Result;
use amend_learn::work::Work;
use amend_run::{Figure, Run, slot};
use serde::{Deserialize, Serialize};

pub use relearn::Relearn;

use crate::context::Context;
use crate::data::Sets;
use crate::measure::Said;

/// Tries to get back what a model was made to forget.
pub trait Attacker {
    /// Refuses data on which the attack could show nothing, before anything is computed.
    fn check(&self, _sets: &Sets) -> Result<()> {
        Ok(())
    }

    /// How many weights of a model the attacker trains, for the memory that takes.
    fn trains(&self, _model: &Model) -> usize {
        0
    }

    /// How much there is to compute in an attack on one model, at most.
    fn work(&self, context: &Context<'_>) -> Work;

    /// Attacks `model` as the stage in progress, and says what came back. The gold model is attacked alike: what it
    /// gives away as well was never hidden.
    fn attack(&self, run: &mut Run<'_>, model: &Model, context: &Context<'_>) -> Result<Findings>;
}

/// What an attack brought to light.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// How the findings are to be read, in a sentence or two.
    pub reading: String,
    /// What came back, the larger the worse, the most telling figure first. A figure that measures answers is called
    /// by the measure's name, `accuracy` or `probability`, so that verdicts find it.
    pub figures: Vec<(String, Figure)>,
    /// How it came back.
    pub curves: Vec<Curve>,
    /// What the attacked model says.
    pub samples: Vec<Said>,
    /// Why the attack was weak, where the attacker hardly learnt even what it trained on: a clause with its figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weak: Option<String>,
}

impl Findings {
    /// The figure of this name, otherwise the most telling one.
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        let called = self.figures.iter().find(|(n, _)| n == name);
        called.or(self.figures.first()).map(|(_, figure)| figure)
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
    }
}
