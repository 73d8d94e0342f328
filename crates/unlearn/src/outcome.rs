//! What a run found out, and the verdict.

use std::path::PathBuf;

use amend_engine::models::TensorChange;
use amend_run::Figure;
use serde::{Deserialize, Serialize};

use crate::arm::Unlearned;
use crate::attack::Findings;
use crate::measure::Snapshot;
use crate::premise;
use crate::recipe::UnlearnRecipe;
use crate::stop::Watched;
use crate::verdict::{Claim, Evidence, JudgedBy, Verdict, over_seeds};

/// Results of one arm of one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArmResult {
    /// The arm.
    pub name: String,
    /// Folder of the unlearned model, where the run made one and keeps it.
    pub model: Option<PathBuf>,
    /// Whether it is a model that forgot elsewhere.
    #[serde(default)]
    pub opened: bool,
    /// How unlearning ended.
    pub unlearned: Unlearned,
    /// Measurement of the unlearned model.
    pub after: Snapshot,
    /// What the attacks brought to light, each under its name.
    pub attacks: Vec<(String, Findings)>,
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
    /// The watched figure before unlearning, on the items on which it is watched: on all, where a measurement is limited.
    #[serde(default = "unknown")]
    pub watched_before: Figure,
    /// Measurement of the model that never saw the forget set.
    pub gold: Option<Snapshot>,
    /// The attacks on that model; empty where there is none.
    pub gold_findings: Vec<(String, Findings)>,
    /// The arms.
    pub arms: Vec<ArmResult>,
}

/// What older results do not say.
fn unknown() -> Figure {
    Figure::exact(f64::NAN, 0)
}

/// One arm over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmOutcome {
    /// The arm.
    pub name: String,
    /// The claims: those that the recipe asks for, in its order, then the others.
    pub claims: Vec<Claim>,
    /// Whether every claim that is asked for holds, and at least one is.
    pub passed: Option<bool>,
    /// The arm's figures.
    pub figures: ArmFigures,
}

/// An arm's figures over all seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmFigures {
    /// Accuracy on the forget set after unlearning.
    pub forget_accuracy: Figure,
    /// Probability of the forget set's answers after unlearning.
    pub forget_probability: Figure,
    /// Accuracy on the retain set after unlearning.
    pub retain_accuracy: Figure,
    /// Probability of the retain set's answers after unlearning.
    pub retain_probability: Figure,
    /// log10 of the forget quality's p-value.
    pub forget_quality_log10: Option<Figure>,
    /// Model utility (TOFU's), or the retain set's utility where its other sets are missing.
    pub utility: Option<Figure>,
    /// Steps taken.
    pub steps: Figure,
}

/// Everything a run found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What was watched and down to where, for the reader.
    pub aim: String,
    /// What was watched.
    #[serde(default)]
    pub watched: Watched,
    /// What verdicts on answers rest on.
    pub judged_by: JudgedBy,
    /// The comparison, arm by arm.
    pub arms: Vec<ArmOutcome>,
    /// Accuracy on the retain set before.
    pub retain_accuracy_before: Figure,
    /// Accuracy on the forget set before.
    pub forget_accuracy_before: Figure,
    /// Everything, seed by seed.
    pub seeds: Vec<SeedResult>,
    /// Whether the model knew more of the forget set than the aim, so that there was something to forget.
    pub known_before: bool,
    /// What is wrong with the experiment itself, to be read before anything else.
    #[serde(default)]
    pub premises: Vec<String>,
    /// Whether the model was only asked and attacked: then there is no before.
    #[serde(default)]
    pub audit: bool,
    /// Whether at least one arm passed; nothing where nothing was asked for.
    pub passed: Option<bool>,
}

impl Outcome {
    /// Aggregates the seeds and passes the verdicts.
    pub fn of(recipe: &UnlearnRecipe, seeds: Vec<SeedResult>) -> Self {
        let judged_by = JudgedBy::of(&seeds);
        let known_before =
            seeds.iter().all(|seed| seed.watched_before.value > recipe.stop.aim(seed.gold.as_ref()));
        let audit = recipe.is_audit();
        let evidence =
            |arm| Evidence { seeds: &seeds, arm, stop: &recipe.stop, judged_by, known_before, audit };
        let arms = seeds.first().map_or(0, |s| s.arms.len());
        let arms: Vec<_> = (0..arms).map(|arm| ArmOutcome::of(recipe, &evidence(arm))).collect();
        let before = |f: fn(&Snapshot) -> Figure| over_seeds(seeds.iter().map(|s| f(&s.before)).collect());
        let has_gold = seeds.first().is_some_and(|s| s.gold.is_some());
        let mut premises = if audit { Vec::new() } else { premise::broken(recipe, &seeds, judged_by, &arms) };
        premises.extend(premise::weak_attacks(&seeds));
        premises.extend(premise::noted(&seeds));
        Outcome {
            aim: recipe.stop.describe(has_gold),
            watched: recipe.stop.watch,
            judged_by,
            known_before,
            premises,
            passed: arms
                .iter()
                .any(|arm| arm.asked().next().is_some())
                .then(|| arms.iter().any(|arm| arm.passed == Some(true))),
            audit,
            retain_accuracy_before: before(|s| s.retain.accuracy),
            forget_accuracy_before: before(|s| s.forget.accuracy),
            arms,
            seeds,
        }
    }
}

impl Outcome {
    /// Whether no arm was trained: all are models that forgot elsewhere.
    pub fn opened(&self) -> bool {
        self.seeds.iter().flat_map(|seed| &seed.arms).all(|arm| arm.opened)
    }

    /// Of the arms that made a model, the one that does best what the recipe asks for: that gets furthest through its claims,
    /// in their order, and among those that get equally far stands best at the next one, or at the last where all hold.
    /// `None` where no arm made any.
    pub fn best(&self) -> Option<usize> {
        let made = |arm: &usize| self.seeds.iter().any(|seed| seed.arms[*arm].model.is_some());
        let better = |a: &usize, b: &usize| {
            let (one, other) = (&self.arms[*a], &self.arms[*b]);
            let order =
                one.held().cmp(&other.held()).then_with(|| one.standing().total_cmp(&other.standing()));
            // Of equals, the first.
            order.then(b.cmp(a))
        };
        (0..self.arms.len()).filter(made).max_by(better)
    }
}

impl ArmOutcome {
    fn of(recipe: &UnlearnRecipe, evidence: &Evidence<'_>) -> Self {
        let claims = Verdict::claims(&recipe.unlearn.verdict, evidence);
        let mut asked = claims.iter().filter(|claim| claim.asked).peekable();
        let passed = asked.peek().is_some().then(|| asked.all(|claim| claim.pass == Some(true)));
        let name = evidence.results().next().map_or_else(String::new, |arm| arm.name.clone());
        ArmOutcome { name, passed, figures: ArmFigures::of(evidence), claims }
    }

    /// The claims that the recipe asks for.
    pub fn asked(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(|claim| claim.asked)
    }

    /// How many of the claims that are asked for hold, up to the first that does not.
    pub(crate) fn held(&self) -> usize {
        self.asked().take_while(|claim| claim.pass == Some(true)).count()
    }

    /// How good it is at the first claim that does not hold, or at the last; undefined figures are worst.
    fn standing(&self) -> f64 {
        let next = self.asked().nth(self.held()).or_else(|| self.asked().last());
        next.map_or(f64::NEG_INFINITY, |claim| claim.shown.goodness())
    }

    /// The claims that nobody asked for and that do not hold.
    pub fn fails_beside(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(|claim| !claim.asked && claim.pass == Some(false))
    }
}

impl ArmFigures {
    fn of(evidence: &Evidence<'_>) -> Self {
        ArmFigures {
            forget_accuracy: evidence.over(|_, arm| arm.after.forget.accuracy),
            forget_probability: evidence.over(|_, arm| arm.after.forget.probability),
            retain_accuracy: evidence.over(|_, arm| arm.after.retain.accuracy),
            retain_probability: evidence.over(|_, arm| arm.after.retain.probability),
            forget_quality_log10: evidence
                .maybe(|seed, arm| arm.after.forget_quality_log10(seed.gold.as_ref()?)),
            utility: evidence.maybe(|_, arm| arm.after.utility()),
            steps: evidence.over(|_, arm| Figure::exact(arm.unlearned.steps as f64, 0)),
        }
    }
}
