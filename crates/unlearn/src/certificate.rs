//! What can be certified of a finished run: its models, what was measured on them, and how to measure it again.

use std::path::{Path, PathBuf};

use amend_learn::area::{Certified, CertifiedModel};
use amend_learn::{Error, Result};
use amend_run::comparison::FinishedRun;
use amend_run::recipe::{Seeds, written_out};
use amend_run::{RecipePath, RecipeSource, load, stored};
use serde_json::{Value, json};

use crate::attack::Findings;
use crate::compare::{Arm, Compare};
use crate::outcome::{ArmResult, Outcome, SeedResult};
use crate::recipe::{ModelSource, UnlearnRecipe};
use crate::save::Save;
use crate::stages::Stages;

/// Everything about a run of this area that a certificate says. Texts of questions and answers are left out: they may be what
/// was to be forgotten.
///
/// # Errors
/// Where the run has kept no model that it could be said of, or none to compare it with.
pub(crate) fn certified(run: &FinishedRun, outcome: &Outcome) -> Result<Certified> {
    let path = run.dir.join("recipe.toml");
    let source = RecipeSource { path, text: run.recipe.clone() };
    let recipe = load::<UnlearnRecipe>(source, &[])?.recipe;
    let mut models = Vec::new();
    let mut again = Vec::new();
    let mut figures = Vec::new();
    for seed in &outcome.seeds {
        let measured = Measured::of(run, &recipe, seed, outcome.seeds.len())?;
        models.extend(measured.models());
        again.push(measured.again(&recipe, seed.seed)?);
        figures.push(measured.figures(seed)?);
    }
    models.dedup_by(|a, b| a.path == b.path);
    let claims = outcome
        .arms
        .iter()
        .map(|arm| Ok(json!({ "arm": arm.name, "passed": arm.passed, "claims": written(&arm.claims)? })));
    Ok(Certified {
        passed: outcome.passed,
        claims: Value::Array(claims.collect::<Result<_>>()?),
        figures: Value::Array(figures),
        models,
        again,
    })
}

fn written(value: &impl serde::Serialize) -> Result<Value> {
    stored::to_value(value).map_err(|e| Error::invalid(format!("the figures cannot be written: {e}")))
}

/// The models of one seed.
struct Measured<'a> {
    base: PathBuf,
    gold: Option<PathBuf>,
    /// The arms whose models are there.
    arms: Vec<(&'a ArmResult, PathBuf)>,
}

impl<'a> Measured<'a> {
    fn of(run: &FinishedRun, recipe: &UnlearnRecipe, seed: &'a SeedResult, seeds: usize) -> Result<Self> {
        let stages = Stages::of(seed.seed, seeds);
        let started = &run.state.info.recipe_folder;
        let arms = recipe.arms();
        let model = |(arm, result): (&Arm, &'a ArmResult)| {
            let forgot_elsewhere = || Some(arm.model.as_ref()?.resolve(started));
            let made_here = || here(&run.dir, result.model.as_ref()?);
            Some((result, forgot_elsewhere().or_else(made_here)?))
        };
        let arms: Vec<_> = arms.iter().zip(&seed.arms).filter_map(model).collect();
        let made = |stage: String| run.dir.join("models").join(stage);
        let (base, gold) = match &recipe.model.path {
            Some(path) => {
                (path.resolve(started), recipe.model.gold.as_ref().map(|gold| gold.resolve(started)))
            }
            None => (made(stages.base()), Some(made(stages.gold()))),
        };
        if arms.is_empty() || !base.exists() {
            return Err(Error::invalid(format!(
                "{}: the run kept no model of seed {} to certify, or not the one that it was made of; run it with `save = \
                 \"all\"`",
                run.dir.display(),
                seed.seed
            )));
        }
        Ok(Measured { base, gold: gold.filter(|gold| gold.exists()), arms })
    }

    fn models(&self) -> Vec<CertifiedModel> {
        let model =
            |role: &str, path: &Path| CertifiedModel { role: role.to_owned(), path: path.to_path_buf() };
        let mut all = vec![model("before", &self.base)];
        all.extend(self.gold.as_deref().map(|gold| model("never knew", gold)));
        all.extend(self.arms.iter().map(|(arm, path)| model(&arm.name, path)));
        all
    }

    /// The recipe that opens these models and measures and attacks them as the run did.
    fn again(&self, recipe: &UnlearnRecipe, seed: u64) -> Result<String> {
        let path = |path: &Path| RecipePath::from(path.to_string_lossy().as_ref());
        let again = UnlearnRecipe {
            seed,
            seeds: Seeds::Count(1),
            save: Save::None,
            model: ModelSource {
                path: Some(path(&self.base)),
                gold: self.gold.as_deref().map(path),
                scratch: None,
            },
            compare: Compare::of_models(self.arms.iter().map(|(arm, model)| (arm.name.clone(), path(model)))),
            ..recipe.clone()
        };
        written_out(&again).map_err(Error::invalid)
    }

    fn figures(&self, seed: &SeedResult) -> Result<Value> {
        let arm = |(arm, _): &(&ArmResult, PathBuf)| {
            Ok(json!({
                "arm": arm.name,
                "after": written(&arm.after)?,
                "attacks": attacks(&arm.attacks)?,
            }))
        };
        Ok(json!({
            "seed": seed.seed,
            "before": written(&seed.before)?,
            "never_knew": written(&seed.gold)?,
            "attacks_on_never_knew": attacks(&seed.gold_findings)?,
            "arms": self.arms.iter().map(arm).collect::<Result<Vec<_>>>()?,
        }))
    }
}

/// A model of the run, also where its folder has been moved since.
fn here(dir: &Path, model: &Path) -> Option<PathBuf> {
    if model.exists() {
        return Some(model.to_path_buf());
    }
    let moved = |depth: usize| {
        let parts: Vec<_> = model.components().rev().take(depth).collect();
        let path = dir.join(parts.into_iter().rev().collect::<PathBuf>());
        path.exists().then_some(path)
    };
    moved(2).or_else(|| moved(1))
}

/// Figures and curves of attacks, without what the models said.
fn attacks(all: &[(String, Findings)]) -> Result<Value> {
    let silent = |(name, findings): &(String, Findings)| {
        let findings = Findings { samples: Vec::new(), ..findings.clone() };
        Ok((name.clone(), written(&findings)?))
    };
    Ok(Value::Object(all.iter().map(silent).collect::<Result<_>>()?))
}
