//! What can be certified of a finished run: its models, what was measured on them, and how to measure it again.

use std::path::{Path, PathBuf};

use amend_learn::area::{Certified, CertifiedModel};
use amend_learn::{Error, Result};
use amend_run::comparison::FinishedRun;
use amend_run::recipe::{Seeds, written_out};
use amend_run::{RecipePath, RecipeSource, load, stored};
use serde_json::{Map, Value, json};

use crate::attack::Findings;
use crate::compare::{Arm, Compare};
use crate::outcome::{ArmOutcome, ArmResult, Outcome, SeedResult};
use crate::recipe::{ModelSource, UnlearnRecipe};
use crate::save::Save;
use crate::stages::Stages;
use crate::verdict::Claim;

/// Everything about a run of this area that a certificate says. Of questions, answers and what attacks made models say there is
/// nothing: they may be what was to be forgotten.
///
/// # Errors
/// Where the run has kept no model that it could be said of, or none to compare it with.
pub(crate) fn certified(runs: &[(&FinishedRun, Outcome)]) -> Result<Certified> {
    let recipe_of = |run: &FinishedRun| {
        let source = RecipeSource { path: run.dir.join("recipe.toml"), text: run.recipe.clone() };
        load::<UnlearnRecipe>(source, &[]).map(|loaded| loaded.recipe)
    };
    let mut models: Vec<CertifiedModel> = Vec::new();
    let (mut again, mut figures) = (Vec::new(), Vec::new());
    for (run, outcome) in runs {
        let recipe = recipe_of(run)?;
        for seed in &outcome.seeds {
            let measured = Measured::of(run, &recipe, outcome, seed)?;
            for model in measured.models() {
                match models.iter_mut().find(|known| known.path == model.path) {
                    // Several seeds, or several roles, of one model.
                    Some(known) if known.role.split(", ").any(|role| role == model.role) => {}
                    Some(known) => known.role = format!("{}, {}", known.role, model.role),
                    None => models.push(model),
                }
            }
            again.push(measured.again(&recipe, seed.seed)?);
            figures.push(measured.figures(outcome, seed)?);
        }
    }
    let whole = match runs {
        [(_, outcome)] => outcome.clone(),
        [(first, _), ..] => {
            let seeds = runs.iter().flat_map(|(_, outcome)| outcome.seeds.iter().cloned());
            Outcome::of(&recipe_of(first)?, seeds.collect())
        }
        [] => return Err(Error::invalid("there is no run to certify")),
    };
    // Arms whose models are gone were certified of nothing.
    let is_certified = |arm: &&ArmOutcome| {
        figures
            .iter()
            .all(|of| of["arms"].as_array().is_some_and(|arms| arms.iter().any(|one| one["arm"] == arm.name)))
    };
    let arms: Vec<&ArmOutcome> = whole.arms.iter().filter(is_certified).collect();
    let asked = arms.iter().any(|arm| arm.passed.is_some());
    let claims = arms
        .iter()
        .map(|arm| Ok(json!({ "arm": arm.name, "passed": arm.passed, "claims": claims(&arm.claims)? })));
    Ok(Certified {
        passed: asked.then(|| arms.iter().any(|arm| arm.passed == Some(true))),
        claims: Value::Array(claims.collect::<Result<_>>()?),
        figures: Value::Array(figures),
        models,
        again,
    })
}

fn written(value: &impl serde::Serialize) -> Result<Value> {
    stored::to_value(value).map_err(|e| Error::invalid(format!("the figures cannot be written: {e}")))
}

/// Claims by what decides about them, with the figure beside them, which is measured on the models as they were written.
fn claims(all: &[Claim]) -> Result<Value> {
    let of = |claim: &Claim| {
        Ok(json!({
            "name": claim.name,
            "asked": claim.asked,
            "pass": claim.pass,
            "judged_by": claim.judged.name,
            "threshold": claim.threshold.filter(|threshold| threshold.is_finite()),
            "beside": claim.shown.name,
            "figure": written(&claim.shown.figure)?,
        }))
    };
    Ok(Value::Array(all.iter().map(of).collect::<Result<_>>()?))
}

/// The models of one seed, by absolute paths.
struct Measured<'a> {
    base: PathBuf,
    gold: Option<PathBuf>,
    /// The arms whose models are there.
    arms: Vec<(&'a ArmResult, PathBuf)>,
}

impl<'a> Measured<'a> {
    fn of(
        run: &FinishedRun,
        recipe: &UnlearnRecipe,
        outcome: &Outcome,
        seed: &'a SeedResult,
    ) -> Result<Self> {
        let stages = Stages::of(seed.seed, outcome.seeds.len());
        let started = &run.state.info.recipe_folder;
        let dir = run.dir.canonicalize().unwrap_or_else(|_| run.dir.clone());
        let arms = recipe.arms();
        let model = |(arm, result): (&Arm, &'a ArmResult)| {
            let forgot_elsewhere = || Some(arm.model.as_ref()?.resolve(started));
            let made_here = || made_in(&dir, result.model.as_ref()?);
            Some((result, forgot_elsewhere().or_else(made_here)?))
        };
        let arms: Vec<_> = arms.iter().zip(&seed.arms).filter_map(model).collect();
        let made = |stage: String| dir.join("models").join(stage);
        let (base, gold) = match &recipe.model.path {
            Some(path) => {
                (path.resolve(started), recipe.model.gold.as_ref().map(|gold| gold.resolve(started)))
            }
            None => (made(stages.base()), Some(made(stages.gold()))),
        };
        let gone = |what: String| {
            Err(Error::invalid(format!(
                "{}: the run kept no {what}, so that it cannot be certified; run it with `save = \"all\"`",
                run.dir.display()
            )))
        };
        match gold.filter(|_| seed.gold.is_some()) {
            _ if arms.is_empty() => gone(format!("model of seed {}", seed.seed)),
            _ if !base.exists() => gone(format!("model from before it forgot ({})", base.display())),
            Some(gold) if !gold.exists() => gone(format!("gold model ({})", gold.display())),
            gold => Ok(Measured { base, gold, arms }),
        }
    }

    fn models(&self) -> Vec<CertifiedModel> {
        let model =
            |role: &str, path: &Path| CertifiedModel { role: role.to_owned(), path: path.to_path_buf() };
        let mut all: Vec<_> = self.arms.iter().map(|(arm, path)| model(&arm.name, path)).collect();
        // In an audit the model in question stands in for the one from before.
        if self.arms.iter().all(|(_, path)| *path != self.base) {
            all.insert(0, model("before", &self.base));
        }
        all.extend(self.gold.as_deref().map(|gold| model("never knew", gold)));
        all
    }

    /// The recipe that opens these models and measures and attacks them as the run did.
    fn again(&self, recipe: &UnlearnRecipe, seed: u64) -> Result<String> {
        let path = |path: &Path| match path.to_str() {
            Some(text) => Ok(RecipePath::from(text)),
            None => Err(Error::invalid(format!(
                "{}: no recipe can name a path that is not UTF-8",
                path.display()
            ))),
        };
        let arms = self.arms.iter().map(|(arm, model)| Ok((arm.name.clone(), path(model)?)));
        let again = UnlearnRecipe {
            seed,
            seeds: Seeds::Count(1),
            save: Save::None,
            model: ModelSource {
                path: Some(path(&self.base)?),
                gold: self.gold.as_deref().map(path).transpose()?,
                scratch: None,
            },
            compare: Compare::of_models(arms.collect::<Result<Vec<_>>>()?.into_iter()),
            ..recipe.clone()
        };
        written_out(&again).map_err(Error::invalid)
    }

    /// What is measured again from the models, and nothing that only the run could know.
    fn figures(&self, outcome: &Outcome, seed: &SeedResult) -> Result<Value> {
        let arm = |(arm, _): &(&ArmResult, PathBuf)| {
            Ok(json!({ "arm": arm.name, "after": written(&arm.after)?, "attacks": attacks(&arm.attacks)? }))
        };
        let before = if outcome.audit { Value::Null } else { written(&seed.before)? };
        Ok(json!({
            "seed": seed.seed,
            "before": before,
            "never_knew": written(&seed.gold)?,
            "attacks_on_never_knew": attacks(&seed.gold_findings)?,
            "arms": self.arms.iter().map(arm).collect::<Result<Vec<_>>>()?,
        }))
    }
}

/// A model of the run, by the end of its path: the run's folder may have been moved or copied since.
fn made_in(dir: &Path, model: &Path) -> Option<PathBuf> {
    let last = |depth: usize| {
        let parts: Vec<_> = model.components().rev().take(depth).collect();
        let path = dir.join(parts.into_iter().rev().collect::<PathBuf>());
        path.exists().then_some(path)
    };
    last(2).or_else(|| last(1))
}

/// Figures and curves of attacks, and no word of what models said.
fn attacks(all: &[(String, Findings)]) -> Result<Value> {
    let of = |(name, findings): &(String, Findings)| {
        let figures = findings.figures.iter().map(|(name, figure)| Ok((name.clone(), written(figure)?)));
        let curves = findings.curves.iter().map(|curve| json!({ "y": curve.y, "points": curve.points }));
        let figures: Map<String, Value> = figures.collect::<Result<_>>()?;
        Ok((name.clone(), json!({ "figures": figures, "curves": curves.collect::<Vec<_>>() })))
    };
    Ok(Value::Object(all.iter().map(of).collect::<Result<_>>()?))
}
