//! One arm of a run: one combination rule makes one model forget.

use std::path::{Path, PathBuf};

use amend_engine::{Example, Gradients, Model};
use amend_eval::refusals::refusal;
use amend_learn::{Descent, Learner, Result, StateReader, StateWriter, Step, epoch_batches, partner, train};
use amend_run::Run;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bench::Workbench;
use crate::combine::{self, Combination, Geometry, Weights};
use crate::measure::{mean_choice, mean_probability, share_exact};
use crate::objective::{self, ForgetBatch};
use crate::recipe::{UnlearnRecipe, Watched};

/// Retain items looked at while unlearning goes on: enough for a curve.
const RETAIN_LOOK: usize = 64;

/// How an arm's unlearning ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unlearned {
    /// Steps taken.
    pub steps: u64,
    /// The watched figure on the forget set at the end.
    pub watched: f64,
    /// Whether it came down to the aim within the steps allowed.
    pub reached: bool,
}

/// One arm: the model that forgets, and everything its steps read.
struct Arm<'a> {
    model: Model,
    descent: Descent,
    work: &'a Workbench<'a>,
    aim: f64,
    /// The watched figure at the last look; NaN before the first.
    watched: f64,
    recipe: &'a UnlearnRecipe,
    rule: &'a Combination,
    weights: Weights,
    reference: &'a Model,
    forget: &'a [Example],
    retain: &'a [Example],
    refusals: Vec<Example>,
    reference_nll: Vec<f64>,
    reference_refusal_nll: Vec<f64>,
    seed: u64,
}

/// Unlearns as stage `name`, writes the model to `dir` (and an adapter beside it), and says how it ended.
pub(crate) fn unlearn(
    run: &mut Run<'_>,
    name: &str,
    recipe: &UnlearnRecipe,
    rule: &Combination,
    work: &Workbench<'_>,
    seed: u64,
    dir: &Path,
) -> Result<Unlearned> {
    let has_retain = recipe.unlearn.retain.filler().is_active();
    combine::check(rule, has_retain)?;
    run.once(name, |run| {
        let aim = work.aim(&recipe.stop)?;
        if recipe.stop.is_met_by(&work.before, work.gold_snapshot.as_ref()) {
            run.progress.note(&format!(
                "warning: {name}: the aim ({aim:.4}) is met before the first step; the model may never have \
                 learnt the forget set"
            ));
        }
        let mut model = work.base.clone();
        recipe.unlearn.r#where.filler().prepare(&mut model, seed)?;
        let (_, trainable) = model.params.count();
        run.folder.log(&format!(
            "{name}: {trainable} weights may change; effective batch {} forget + {} retain",
            recipe.unlearn.batch_size,
            if has_retain { recipe.unlearn.batch_size } else { 0 }
        ))?;
        let mut arm = Arm::new(model, recipe, rule, work, aim, seed)?;
        let steps = train(run, recipe.stop.max_steps, &mut arm)?;
        save(&arm.model, recipe, work, dir)?;
        Ok(Unlearned { steps, watched: arm.watched, reached: arm.watched <= arm.aim })
    })
}

/// The watched figure on the forget set as it is trained on.
pub(crate) fn watch(model: &Model, work: &Workbench<'_>, watched: Watched) -> Result<f64> {
    match watched {
        Watched::Probability => mean_probability(model, &work.forget),
        Watched::Accuracy => share_exact(model, &work.forget),
        Watched::Choice => mean_choice(model, &work.choices),
    }
}

impl<'a> Arm<'a> {
    fn new(
        model: Model,
        recipe: &'a UnlearnRecipe,
        rule: &'a Combination,
        work: &'a Workbench<'a>,
        aim: f64,
        seed: u64,
    ) -> Result<Self> {
        let slots = &recipe.unlearn;
        let objective = slots.forget.filler();
        let needs = objective.needs();
        let refusals = match needs.refusals {
            true => work
                .sets
                .forget
                .iter()
                .enumerate()
                .map(|(i, record)| work.encoder.reply(record, refusal(seed, i)))
                .collect::<amend_engine::Result<Vec<_>>>()?,
            false => Vec::new(),
        };
        let nll = |examples: &[Example]| -> Result<Vec<f64>> {
            let scores = work.base.score(examples, amend_engine::SCORING_TOKENS)?;
            Ok(scores.iter().map(|lp| -lp.iter().map(|&l| f64::from(l)).sum::<f64>()).collect())
        };
        let weights = Weights {
            forget: slots.forget_weight.unwrap_or_else(|| objective.default_weight()),
            retain: slots.retain_weight,
        };
        Ok(Arm {
            descent: Descent::new(&model.params, &recipe.optimizer, recipe.stop.max_steps),
            model,
            work,
            aim,
            watched: f64::NAN,
            recipe,
            rule,
            weights,
            reference: &work.base,
            forget: &work.forget,
            retain: &work.retain,
            reference_nll: if needs.reference { nll(&work.forget)? } else { Vec::new() },
            reference_refusal_nll: if needs.reference && needs.refusals {
                nll(&refusals)?
            } else {
                Vec::new()
            },
            refusals,
            seed,
        })
    }

    /// Whether the watched figure is looked at after `steps` steps.
    fn looks_after(&self, steps: u64) -> bool {
        let stop = &self.recipe.stop;
        steps.is_multiple_of(stop.check_every) || steps == stop.max_steps
    }

    /// Looks at the model, for the row and for the aim.
    fn look(&mut self, row: &mut Map<String, Value>) -> Result<()> {
        self.watched = watch(&self.model, self.work, self.recipe.stop.watch)?;
        row.insert("forget_watched".into(), json!(self.watched));
        row.insert("forget_accuracy".into(), json!(share_exact(&self.model, self.forget)?));
        let look = &self.retain[..self.retain.len().min(RETAIN_LOOK)];
        row.insert("retain_accuracy".into(), json!(share_exact(&self.model, look)?));
        Ok(())
    }
}

impl Learner for Arm<'_> {
    /// The two gradients, each over its whole batch, what the rule makes of them, and a step along it.
    fn step(&mut self, step: u64) -> Result<Step> {
        let slots = &self.recipe.unlearn;
        let items = epoch_batches(self.seed, "forget", self.forget.len(), slots.batch_size, step);
        let pick = |values: &[f64]| -> Vec<f64> {
            if values.is_empty() { Vec::new() } else { items.iter().map(|&i| values[i]).collect() }
        };
        let forget_batch = ForgetBatch {
            answers: items.iter().map(|&i| &self.forget[i]).collect(),
            reference_nll: pick(&self.reference_nll),
            refusals: if self.refusals.is_empty() {
                Vec::new()
            } else {
                items.iter().map(|&i| &self.refusals[i]).collect()
            },
            reference_refusal_nll: pick(&self.reference_refusal_nll),
        };
        let (forget_loss, forget) = objective::gradients(slots.forget.filler(), &self.model, &forget_batch)?;
        let partners = partner(self.seed, "retain", self.retain.len(), slots.batch_size, step);
        let retain_batch: Vec<&Example> = partners.iter().map(|&i| &self.retain[i]).collect();
        let retain = slots.retain.filler().gradients(&self.model, self.reference, &retain_batch)?;
        let (retain_loss, retain) = match retain {
            Some((loss, gradients)) => (Some(loss), gradients),
            None => (None, Gradients::none(&self.model.params)),
        };
        let gradients = self.rule.filler().combine(&forget, &retain, self.weights)?;
        let mut row = Map::new();
        row.insert("loss_forget".into(), json!(forget_loss));
        row.insert("loss_retain".into(), json!(retain_loss));
        if let Ok(Value::Object(geometry)) = serde_json::to_value(Geometry::of(&forget, &retain, &gradients))
        {
            row.extend(geometry);
        }
        self.descent.step(&mut self.model.params, &gradients, step, &items)?.log(&mut row);
        if self.looks_after(step + 1) {
            self.look(&mut row)?;
        }
        let shown = format!("loss {:.3}", retain_loss.unwrap_or(forget_loss));
        Ok(Step { row, shown, done: self.watched <= self.aim, ..Step::default() })
    }

    fn save(&self, to: &mut StateWriter) -> Result<()> {
        to.value("watched", &self.watched)?;
        self.descent.save("model", &self.model.params, to)
    }

    fn load(&mut self, from: &StateReader) -> Result<()> {
        self.watched = from.value("watched")?;
        self.descent.load("model", &mut self.model.params, from)
    }

    fn set(&mut self, option: &str, value: &Value) -> Result<()> {
        self.descent.set(option, value)
    }
}

/// Writes the unlearned model, and the adapter it came from where there is one.
fn save(model: &Model, recipe: &UnlearnRecipe, work: &Workbench<'_>, dir: &Path) -> Result<()> {
    let adapter_dir = adapter_dir(dir);
    for stale in [dir, &adapter_dir] {
        if stale.exists() {
            std::fs::remove_dir_all(stale)
                .map_err(|e| amend_engine::Error::io(stale, "cannot replace", e))?;
        }
    }
    let Some(options) = recipe.unlearn.r#where.filler().adapter() else {
        return Ok(model.save(dir, Some(&work.base_dir), None)?);
    };
    let base = work.base_dir.canonicalize().unwrap_or_else(|_| work.base_dir.clone());
    model.save_adapter(&adapter_dir, &options, &base.display().to_string())?;
    Ok(model.merged()?.save(dir, Some(&work.base_dir), None)?)
}

/// Where the adapter of the model in `dir` goes.
fn adapter_dir(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push("-adapter");
    dir.with_file_name(name)
}
