//! Unlearning: a model forgets a part of what it knows, is attacked, and the report proves what happened.
//!
//! The pipeline, read from top to bottom, is [`run`]: data → base and gold model → for every arm, forget
//! objective, retain objective, combination, where the update lives → measurement → attack → verdict. Each
//! slot is a folder, each filler a file.

mod arm;
pub mod attack;
pub mod bench;
pub mod combine;
pub mod data;
pub mod measure;
pub mod objective;
pub mod outcome;
pub mod place;
pub mod recipe;
mod report;
pub mod retain;
mod starter;

use std::path::{Path, PathBuf};

use amend_learn::{Encoder, Result};
use amend_run::Run;
use amend_run::method::{Method, Registered};

pub use outcome::{ArmResult, Outcome, Verdict};
pub use recipe::UnlearnRecipe;
pub use report::report;
pub use starter::{DEMO, STARTER};

use attack::{Relearn, relearn};
use bench::{Models, Workbench};
use combine::Combination;
use data::Sets;
use measure::snapshot;
use outcome::SeedResult;

/// Every method of the area, slot by slot in the order data flows.
pub fn methods() -> impl Iterator<Item = &'static dyn Method> {
    const ATTACKS: &[&dyn Method] = &[&Registered::<Relearn>::new("relearn", "unlearn", "attack")];
    [
        objective::Forget::METHODS,
        retain::Retain::METHODS,
        Combination::METHODS,
        place::Where::METHODS,
        ATTACKS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Runs a recipe whose relative paths start at `base`, for all its seeds.
pub fn run(recipe: &UnlearnRecipe, base: &Path, run: &mut Run<'_>) -> Result<Outcome> {
    // What is wrong with the recipe is said before anything is written.
    recipe.model.given()?;
    for rule in recipe.unlearn.arms() {
        combine::check(rule, recipe.unlearn.retain.filler().is_active())?;
    }
    let mut seeds = Vec::new();
    for seed in recipe.seed..recipe.seed + recipe.seeds.max(1) {
        seeds.push(run_seed(recipe, base, run, seed)?);
    }
    Ok(Outcome::of(recipe, seeds))
}

fn run_seed(recipe: &UnlearnRecipe, base: &Path, run: &mut Run<'_>, seed: u64) -> Result<SeedResult> {
    let tag = if recipe.seeds > 1 { format!("seed{seed}-") } else { String::new() };
    let sets = Sets::prepare(run, &recipe.data, base, seed)?;
    let Models { base, base_dir, tokenizer, gold } = Models::prepare(run, recipe, &sets, base, seed, &tag)?;
    let encoder = Encoder::new(&tokenizer, recipe.data.template.clone(), base.spec().context);
    let models = (base, base_dir, gold);
    let work = Workbench::prepare(run, recipe, &sets, &encoder, &tokenizer, models, &tag)?;
    let mut arms = Vec::new();
    for rule in recipe.unlearn.arms() {
        arms.push(run_arm(recipe, run, &work, rule, seed, &tag)?);
    }
    let gold_curve = match (&recipe.attack.relearn, &work.gold) {
        (Some(attack), Some(gold)) => {
            let name = format!("{tag}gold-relearn");
            Some(relearn(run, &name, attack, gold, &work.attack, &work.attack_test, seed)?)
        }
        _ => None,
    };
    Ok(SeedResult { seed, before: work.before, gold: work.gold_snapshot, gold_curve, arms })
}

fn run_arm(
    recipe: &UnlearnRecipe,
    run: &mut Run<'_>,
    work: &Workbench<'_>,
    rule: &Combination,
    seed: u64,
    tag: &str,
) -> Result<ArmResult> {
    let name = format!("{tag}{}", rule.name());
    let dir = model_dir(recipe, run, &name);
    let unlearned = arm::unlearn(run, &format!("{name}-unlearn"), recipe, rule, work, seed, &dir)?;
    let model = recipe.engine.open(&dir)?;
    let after = snapshot(
        run,
        &format!("{name}-eval"),
        &model,
        work.tokenizer,
        work.encoder,
        work.sets,
        &recipe.eval,
    )?;
    let curve = match &recipe.attack.relearn {
        Some(attack) => {
            let stage = format!("{name}-relearn");
            Some(relearn(run, &stage, attack, &model, &work.attack, &work.attack_test, seed)?)
        }
        None => None,
    };
    let changes = model.changes_since(&work.base)?;
    Ok(ArmResult { name: rule.name().to_owned(), model: dir, unlearned, after, curve, changes })
}

/// A run with one arm and one seed has its model in `model/`, as every run has; the others keep theirs apart.
fn model_dir(recipe: &UnlearnRecipe, run: &Run<'_>, name: &str) -> PathBuf {
    let single = recipe.seeds == 1 && recipe.unlearn.arms().len() == 1;
    let folder = run.folder.path();
    if single { folder.join("model") } else { folder.join("models").join(name) }
}
