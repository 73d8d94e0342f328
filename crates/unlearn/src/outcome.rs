//! What a run found out, and the verdict.

use std::path::PathBuf;

use amend_engine::models::TensorChange;
use amend_eval::questions::SetFigures;
use amend_run::Figure;
use serde::{Deserialize, Serialize};

use crate::arm::Unlearned;
use crate::attack::Curve;
use crate::measure::Snapshot;
use crate::recipe::UnlearnRecipe;

/// Results of one arm of one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArmResult {
    /// The combination rule.
    pub name: String,
    /// Folder of the unlearned model.
    pub model: PathBuf,
    /// How unlearning ended.
    pub unlearned: Unlearned,
    /// Measurement of the unlearned model.
    pub after: Snapshot,
    /// The relearning attack.
    pub curve: Option<Curve>,
    /// What changed in which tensor, most changed first.
    pub changes: Vec<TensorChange>,
}

/// Results of one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// Measurement of the model before unlearning.
    pub before: Snapshot,
    /// Measurement of the model that never saw the forget set.
    pub gold: Option<Snapshot>,
    /// The relearning attack on that model.
    pub gold_curve: Option<Curve>,
    /// The arms.
    pub arms: Vec<ArmResult>,
}

/// One line of the comparison, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The arm.
    pub name: String,
    /// The watched figure on the forget set after unlearning.
    pub forget_watched: Figure,
    /// Whether every seed reached the aim.
    pub forgotten: bool,
    /// Accuracy on the forget set after unlearning.
    pub forget_accuracy: Figure,
    /// Accuracy on the retain set after unlearning.
    pub retain_accuracy: Figure,
    /// Probability of the forget set's answers after unlearning.
    pub forget_probability: Figure,
    /// Probability of the retain set's answers after unlearning.
    pub retain_probability: Figure,
    /// Share of the judged retain figure that is left.
    pub retain_kept: Figure,
    /// Whether that is enough.
    pub kept: bool,
    /// Largest judged figure on the attacker's test half while relearning.
    pub relearned: Option<Figure>,
    /// The same above what the gold model reaches under the same attack.
    pub relearned_above_gold: Option<Figure>,
    /// log10 of the forget quality's p-value.
    pub forget_quality_log10: Option<Figure>,
    /// Model utility (TOFU) or the retain set's utility where its other sets are missing.
    pub utility: Option<Figure>,
    /// Steps taken.
    pub steps: Figure,
}

/// What the verdict is passed on.
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
    fn of(seeds: &[SeedResult]) -> Self {
        let accurate = |s: &SeedResult| s.before.retain.accuracy.value >= ENOUGH_ACCURACY;
        if seeds.iter().all(accurate) { JudgedBy::Accuracy } else { JudgedBy::Probability }
    }

    /// The judged figure of a set.
    pub fn figure(self, set: &SetFigures) -> &Figure {
        match self {
            JudgedBy::Accuracy => &set.accuracy,
            JudgedBy::Probability => &set.probability,
        }
    }

    /// The judged figure's largest value while relearning.
    pub fn relearned(self, curve: &Curve) -> f64 {
        match self {
            JudgedBy::Accuracy => curve.max_accuracy(),
            JudgedBy::Probability => curve.max_probability(),
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

/// Everything a run found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What was watched and down to where, for the reader.
    pub aim: String,
    /// What the verdict is passed on.
    pub judged_by: JudgedBy,
    /// The comparison, arm by arm.
    pub verdicts: Vec<Verdict>,
    /// Accuracy on the retain set before.
    pub retain_accuracy_before: Figure,
    /// Accuracy on the forget set before.
    pub forget_accuracy_before: Figure,
    /// Everything, seed by seed.
    pub seeds: Vec<SeedResult>,
    /// Whether the model knew more of the forget set than the aim, so that there was something to forget.
    pub known_before: bool,
    /// Whether at least one arm forgot what it should and kept the rest.
    pub positive: bool,
}

impl Outcome {
    /// Aggregates the seeds and judges the arms.
    pub fn of(recipe: &UnlearnRecipe, seeds: Vec<SeedResult>) -> Self {
        let arms = seeds.first().map_or(0, |s| s.arms.len());
        let judged_by = JudgedBy::of(&seeds);
        let verdicts: Vec<_> = (0..arms).map(|i| Verdict::of(recipe, &seeds, i, judged_by)).collect();
        let over = |f: &dyn Fn(&SeedResult) -> Figure| over_seeds(seeds.iter().map(f).collect());
        let what = format!("{:?}", recipe.stop.watch).to_lowercase();
        let aim = match (recipe.stop.below, seeds.first().and_then(|s| s.gold.as_ref())) {
            (Some(below), _) => format!("{what} on the forget set at most {below}"),
            (None, Some(_)) => format!("{what} on the forget set at most the gold model's"),
            (None, None) => format!("{what} on the forget set at most 0.1"),
        };
        let known_before = seeds.iter().all(|s| !recipe.stop.is_met_by(&s.before, s.gold.as_ref()));
        Outcome {
            aim,
            judged_by,
            known_before,
            positive: known_before && verdicts.iter().any(|v| v.forgotten && v.kept),
            retain_accuracy_before: over(&|s| s.before.retain.accuracy),
            forget_accuracy_before: over(&|s| s.before.forget.accuracy),
            verdicts,
            seeds,
        }
    }
}

impl Verdict {
    fn of(recipe: &UnlearnRecipe, seeds: &[SeedResult], arm: usize, judged_by: JudgedBy) -> Self {
        let over = |f: &dyn Fn(&SeedResult, &ArmResult) -> Figure| {
            over_seeds(seeds.iter().map(|s| f(s, &s.arms[arm])).collect())
        };
        let maybe = |f: &dyn Fn(&SeedResult, &ArmResult) -> Option<Figure>| {
            let all: Option<Vec<_>> = seeds.iter().map(|s| f(s, &s.arms[arm])).collect();
            all.map(over_seeds)
        };
        let plain = |value: f64| Figure::exact(value, 0);
        let retain_kept = over(&|s, a| {
            let (after, before) = (judged_by.figure(&a.after.retain), judged_by.figure(&s.before.retain));
            plain(after.value / before.value.max(1e-12))
        });
        Verdict {
            name: seeds[0].arms[arm].name.clone(),
            forget_watched: over(&|_, a| plain(a.unlearned.watched)),
            forgotten: seeds.iter().all(|s| s.arms[arm].unlearned.reached),
            forget_accuracy: over(&|_, a| a.after.forget.accuracy),
            retain_accuracy: over(&|_, a| a.after.retain.accuracy),
            kept: retain_kept.value >= recipe.eval.keep,
            retain_kept,
            forget_probability: over(&|_, a| a.after.forget.probability),
            retain_probability: over(&|_, a| a.after.retain.probability),
            relearned: maybe(&|_, a| {
                let curve = a.curve.as_ref()?;
                let value = judged_by.relearned(curve);
                Some(match judged_by {
                    JudgedBy::Accuracy => Figure::share((value * curve.n as f64).round() as usize, curve.n),
                    JudgedBy::Probability => Figure::exact(value, curve.n),
                })
            }),
            relearned_above_gold: maybe(&|s, a| {
                let [ours, gold] =
                    [a.curve.as_ref()?, s.gold_curve.as_ref()?].map(|c| judged_by.relearned(c));
                Some(plain(ours - gold))
            }),
            forget_quality_log10: maybe(&|s, a| {
                Some(plain(a.after.forget_quality(s.gold.as_ref()?)?.log10_p))
            }),
            utility: maybe(&|_, a| a.after.model_utility.or(a.after.retain.utility.map(plain))),
            steps: over(&|_, a| plain(a.unlearned.steps as f64)),
        }
    }
}

/// A figure over seeds: its own where there is one seed, otherwise mean and standard error of the seeds.
fn over_seeds(figures: Vec<Figure>) -> Figure {
    match figures.as_slice() {
        [only] => *only,
        many => Figure::mean(&many.iter().map(|f| f.value).collect::<Vec<_>>()),
    }
}
