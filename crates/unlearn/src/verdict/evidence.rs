//! Everything that was found out about one arm, over all seeds.

use amend_eval::questions::SetFigures;
use amend_run::Figure;
use serde::{Deserialize, Serialize};

use crate::outcome::{ArmOutcome, ArmResult, SeedResult};
use crate::stop::StopRule;

/// What verdicts on answers rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JudgedBy {
    /// Answers given word for word.
    Accuracy,
    /// exp(−NLL/|y|) of the answers.
    Probability,
}

/// Below this share of word-for-word answers before unlearning, accuracy is too near its floor to show a
/// loss, and probability is judged instead. Long answers are seldom given word for word.
const ENOUGH_ACCURACY: f64 = 0.5;

impl JudgedBy {
    /// What the results of these seeds are judged by.
    pub fn of(seeds: &[SeedResult]) -> Self {
        let accurate = |s: &SeedResult| s.before.retain.accuracy.value >= ENOUGH_ACCURACY;
        if seeds.iter().all(accurate) { JudgedBy::Accuracy } else { JudgedBy::Probability }
    }

    /// The judged figure of a set.
    pub fn figure(self, set: &SetFigures) -> Figure {
        match self {
            JudgedBy::Accuracy => set.accuracy,
            JudgedBy::Probability => set.probability,
        }
    }

    /// The judged figure of the retain set after unlearning, over all seeds.
    pub(crate) fn figure_of(self, arm: &ArmOutcome) -> Figure {
        match self {
            JudgedBy::Accuracy => arm.figures.retain_accuracy,
            JudgedBy::Probability => arm.figures.retain_probability,
        }
    }

    /// The judged figure's name.
    pub fn name(self) -> &'static str {
        match self {
            JudgedBy::Accuracy => "accuracy",
            JudgedBy::Probability => "probability",
        }
    }
}

/// Everything that was found out about one arm, over all seeds.
pub struct Evidence<'a> {
    /// The seeds, with what their arms share.
    pub seeds: &'a [SeedResult],
    /// Which of the arms this is about.
    pub arm: usize,
    /// When unlearning stopped.
    pub stop: &'a StopRule,
    /// What verdicts on answers rest on.
    pub judged_by: JudgedBy,
    /// Whether the model knew more of the forget set than the aim, so that there was something to forget.
    pub known_before: bool,
    /// Whether the model was only asked and attacked: what it was like before, nobody knows.
    pub audit: bool,
}

impl Evidence<'_> {
    /// The arm, seed by seed.
    pub fn results(&self) -> impl Iterator<Item = &ArmResult> {
        self.seeds.iter().map(|seed| &seed.arms[self.arm])
    }

    /// The watched figure before the first step, over all seeds.
    pub(crate) fn watched_before(&self) -> f64 {
        over_seeds(self.seeds.iter().map(|seed| seed.watched_before).collect()).value
    }

    /// A figure of the arm over all seeds: its own where there is one seed, otherwise mean and standard error.
    pub fn over(&self, figure: impl Fn(&SeedResult, &ArmResult) -> Figure) -> Figure {
        over_seeds(self.seeds.iter().map(|seed| figure(seed, &seed.arms[self.arm])).collect())
    }

    /// The same, where every seed has one.
    pub fn maybe(&self, figure: impl Fn(&SeedResult, &ArmResult) -> Option<Figure>) -> Option<Figure> {
        let all: Option<Vec<_>> = self.seeds.iter().map(|seed| figure(seed, &seed.arms[self.arm])).collect();
        all.map(over_seeds)
    }
}

/// A figure over seeds: its own where there is one seed, otherwise mean and standard error of the seeds.
pub(crate) fn over_seeds(figures: Vec<Figure>) -> Figure {
    match figures.as_slice() {
        [only] => *only,
        many => Figure::mean(&many.iter().map(|f| f.value).collect::<Vec<_>>()),
    }
}
