//! Unlearning: a model forgets a part of what it knows, is attacked, and the report proves what happened.
//!
//! The pipeline, read from top to bottom, is [`run`]: data → base and gold model → for every arm, forget
//! objective, retain objective, combination, where the update lives, guard (see `arm.rs`) → measurement → attacks →
//! verdicts. Each slot is a folder, each filler a file.

mod answers;
mod area;
mod arm;
pub mod attack;
mod certificate;
pub mod combine;
pub mod compare;
pub mod context;
pub mod data;
pub mod entity;
pub mod features;
mod forecast;
pub mod forget;
pub mod guard;
pub mod measure;
pub mod memory;
pub mod minor;
pub mod models;
pub mod objectives;
pub mod outcome;
mod plan;
mod premise;
pub mod recipe;
mod rehearsal;
pub mod reinforcement;
mod report;
pub mod retain;
mod revision;
pub mod save;
#[cfg(test)]
mod small;
mod stages;
mod starter;
pub mod stop;
pub mod verdict;
pub mod r#where;

use std::path::{Path, PathBuf};

use amend_engine::Model;
use amend_learn::{Error, RecordEncoder, Result};
use amend_run::Run;
use amend_run::method::Method;

pub use area::AREA;
pub use outcome::Outcome;
pub use recipe::UnlearnRecipe;
pub use report::report;
pub use starter::{ATTACK, DEMO};

use arm::{Unlearned, adapter_dir};
use attack::{Findings, Target};
use compare::Arm;
use context::Context;
use data::Sets;
use forecast::forecast;
use measure::{Snapshot, snapshot};
use models::Models;
use outcome::{ArmResult, SeedResult};
use stages::Stages;

/// Every method of the area, slot by slot in the order data flows.
pub fn methods() -> impl Iterator<Item = &'static dyn Method> {
    [
        forget::Forget::METHODS,
        retain::Retain::METHODS,
        combine::Combination::METHODS,
        r#where::Where::METHODS,
        guard::Guard::METHODS,
        attack::Attack::METHODS,
        verdict::Verdict::METHODS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Runs a recipe whose relative paths start at `base`, for all its seeds.
pub fn run(recipe: &UnlearnRecipe, base: &Path, run: &mut Run<'_>) -> Result<Outcome> {
    // What is wrong is said before anything is computed or written.
    let forecast = forecast(recipe, base, run.progress, &run.stop, &|stage| run.folder.stage_done(stage))?;
    run.progress.plan(&forecast.without(|stage| run.folder.stage_done(stage)));
    let arms = recipe.arms();
    let mut seeds = Vec::new();
    for seed in recipe.seeds() {
        seeds.push(run_seed(recipe, &arms, base, run, seed)?);
    }
    Ok(Outcome::of(recipe, seeds))
}

/// One seed: models and data, then every arm on them.
fn run_seed(
    recipe: &UnlearnRecipe,
    arms: &[Arm],
    base: &Path,
    run: &mut Run<'_>,
    seed: u64,
) -> Result<SeedResult> {
    let stages = Stages::of(seed, recipe.seeds().len());
    let sets = Sets::prepare(recipe, base, seed, run.progress)?;
    if let Some(world) = &recipe.data.world {
        data::write_world(run, world, seed)?;
    }
    let mut models = Models::prepare(run, recipe, &sets, base, seed, &stages)?;
    for model in std::iter::once(&mut models.base).chain(&mut models.gold) {
        model.params.interrupt_by(run.stop.flag());
    }
    let (reference, tokenizer) = (&models.base, &models.tokenizer);
    let encoder = RecordEncoder::new(tokenizer, recipe.data.template.clone(), reference.spec().context);
    let mut context = Context::new(reference, tokenizer, &encoder, &sets, &recipe.eval, seed, run.progress)?;
    context.gold = models.gold.as_ref();

    // In an audit the only model is the one in question, which its arm measures.
    let has_before = !recipe.is_audit();
    let before = has_before.then(|| snapshot(run, &stages.eval("base"), reference, &context)).transpose()?;
    let measure = |gold| snapshot(run, &stages.eval("gold"), gold, &context);
    let gold = models.gold.as_ref().map(measure).transpose()?;
    let look = || run.once(&stages.watched(), |_| recipe.stop.watch.of(reference, &context));
    let watched = has_before.then(look).transpose()?;
    if watched.is_some_and(|watched| watched.value <= recipe.stop.aim(gold.as_ref())) {
        run.progress.note(
            "warning: the aim is met before the first step; the model may never have learnt the forget set",
        );
    }
    let seed = Seed { recipe, context: &context, models: &models, gold: gold.as_ref(), stages, base };
    let arms: Vec<ArmResult> = arms.iter().map(|arm| seed.run_arm(run, arm)).collect::<Result<_>>()?;
    let gold_findings =
        models.gold.as_ref().map(|model| seed.attack(run, "gold", model, None)).transpose()?;
    let as_it_is = || arms.first().map(|arm| (arm.after.clone(), arm.unlearned.watched));
    let (before, watched_before) = before
        .zip(watched)
        .or_else(as_it_is)
        .ok_or_else(|| Error::conflict_at("compare", "[[compare]]: an audit needs an arm"))?;
    Ok(SeedResult {
        seed: context.seed,
        before,
        watched_before,
        gold,
        gold_findings: gold_findings.unwrap_or_default(),
        arms,
    })
}

/// What the arms of one seed share.
struct Seed<'a> {
    recipe: &'a UnlearnRecipe,
    context: &'a Context<'a>,
    models: &'a Models,
    gold: Option<&'a Snapshot>,
    stages: Stages,
    /// Where the recipe's paths start.
    base: &'a Path,
}

impl Seed<'_> {
    /// One arm: unlearn, measure, attack.
    fn run_arm(&self, run: &mut Run<'_>, arm: &Arm) -> Result<ArmResult> {
        let (recipe, context) = (self.recipe, self.context);
        if let Some(path) = &arm.model {
            if recipe.model.path.as_ref() == Some(path) {
                return self.look_at(run, arm, context.reference);
            }
            let mut model = recipe.engine.open(path.resolve(self.base))?;
            model.params.interrupt_by(run.stop.flag());
            return self.look_at(run, arm, &model);
        }
        let dir = self.model_dir(run, &self.stages.named(&arm.name));
        let unlearned = run.once(&self.stages.unlearn(&arm.name), |run| -> Result<_> {
            let aim = recipe.stop.aim(self.gold);
            let (model, unlearned) = arm.unlearn(run, &recipe.stop, aim, context)?;
            arm.save(&model, &self.models.base_dir, &dir, recipe.save_dtype, context)?;
            Ok(unlearned)
        })?;
        let mut model = recipe.engine.open(&dir)?;
        model.params.interrupt_by(run.stop.flag());
        let adapter = Some(adapter_dir(&dir)).filter(|dir| dir.exists());
        Ok(ArmResult {
            name: arm.name.clone(),
            after: snapshot(run, &self.stages.eval(&arm.name), &model, context)?,
            attacks: self.attack(run, &arm.name, &model, adapter.as_deref())?,
            changes: model.changes_since(context.reference)?,
            model: Some(dir),
            opened: false,
            unlearned,
        })
    }

    /// An arm that forgot elsewhere: measure, attack.
    fn look_at(&self, run: &mut Run<'_>, arm: &Arm, model: &Model) -> Result<ArmResult> {
        let (stop, aim) = (&self.recipe.stop, self.recipe.stop.aim(self.gold));
        let unlearned = run.once(&self.stages.unlearn(&arm.name), |_| -> Result<_> {
            let watched = stop.watch.of(model, self.context)?;
            Ok(Unlearned { steps: 0, watched, aim, reached: watched.value <= aim, energies: Vec::new() })
        })?;
        Ok(ArmResult {
            name: arm.name.clone(),
            after: snapshot(run, &self.stages.eval(&arm.name), model, self.context)?,
            attacks: self.attack(run, &arm.name, model, None)?,
            changes: model.changes_since(self.context.reference)?,
            model: None,
            opened: true,
            unlearned,
        })
    }

    /// What every attack brings to light on a model, into which an adapter may have been merged.
    fn attack(
        &self,
        run: &mut Run<'_>,
        name: &str,
        model: &Model,
        adapter: Option<&Path>,
    ) -> Result<Vec<(String, Findings)>> {
        let target = Target { model, adapter };
        let mut all = Vec::new();
        for (attack, slot) in self.recipe.unlearn.attacks() {
            let stage = self.stages.attack(name, &attack);
            let findings = run.once(&stage, |run| slot.filler().attack(run, target, self.context))?;
            all.push((attack, findings));
        }
        Ok(all)
    }

    /// A run with one arm and one seed has its model in `model/`, as every run has; the others keep theirs apart.
    fn model_dir(&self, run: &Run<'_>, name: &str) -> PathBuf {
        let folder = run.folder.path();
        if self.recipe.is_single() { folder.join("model") } else { folder.join("models").join(name) }
    }
}
