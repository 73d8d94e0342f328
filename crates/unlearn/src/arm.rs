//! One arm of a run: a model forgets, from the first look at the data to the saved weights.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use amend_engine::tensor::{memory_use, restart_peak};
use amend_engine::{Gradients, Model};
use amend_learn::{
    Descent, Error, Learner, Optimizer, Result, SaveType, StateReader, StateWriter, Step, train,
};
use amend_run::{Figure, Run, in_short};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::combine::{self, Geometry, Weights};
use crate::compare::Arm;
use crate::context::Context;
use crate::measure::share_exact;
use crate::memory::Memory;
use crate::minor::{minor_dir, write_bases};
use crate::objectives::Objectives;
use crate::recipe::Slots;
use crate::stop::StopRule;
use crate::r#where::{LayerEnergy, Regulariser};
use crate::{forget, guard};

/// Retain items looked at while unlearning goes on: enough for a curve.
pub(crate) const RETAIN_LOOK: usize = 64;

/// How an arm's unlearning ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unlearned {
    /// Steps taken.
    pub steps: u64,
    /// The watched figure on the forget set at the end.
    pub watched: Figure,
    /// Where it was to come down to.
    pub aim: f64,
    /// Whether it did within the steps allowed.
    pub reached: bool,
    /// Where the adapter wrote to begin with and at the end, layer by layer, where the choice of weights can tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energies: Vec<[LayerEnergy; 2]>,
}

impl Arm {
    /// Refuses slots whose fillers do not go together.
    pub(crate) fn check(&self) -> Result<()> {
        forget::check(&self.slots).map_err(|e| Error::refused_at(&self.key("forget"), e))?;
        guard::check(&self.slots).map_err(|e| Error::refused_at(&self.key("guard"), e))?;
        combine::check(&self.slots.combine, self.slots.retain.filler().is_active())
            .map_err(|e| Error::refused_at(&self.key("combine"), e))
    }

    /// Unlearns as the stage in progress, until the watched figure is down to `aim`. The whole of the method, slot by
    /// slot:
    ///
    /// 1. `where` makes the weights trainable that may change, and says what holds them.
    /// 2. For every step (`Unlearning::step`), a batch is drawn from the forget and one from the retain set; `forget`
    ///    and `retain` have a loss each, `guard` says where their gradients are taken, what holds the weights adds its own
    ///    to that of `retain`, `combine` makes one update of them, and the optimiser clips it and takes the step. Then
    ///    `guard` has a word again. A `forget` that gives weights instead of a loss needs none of that.
    /// 3. Every few steps the watched figure is looked at. Once it is down to the aim, or when the steps are used
    ///    up, that is the unlearned model.
    pub(crate) fn unlearn(
        &self,
        run: &mut Run<'_>,
        stop: &StopRule,
        aim: f64,
        context: &Context<'_>,
    ) -> Result<(Model, Unlearned)> {
        let Slots { retain, batch_size, .. } = &self.slots;
        let mut model = context.reference.clone();
        let regulariser = self.prepare(&mut model, context)?;
        let before = energies(regulariser.as_deref(), &model)?;
        run.folder.log(&format!(
            "{}: {} weights may change; effective batch {batch_size} forget + {} retain",
            run.stage()?,
            model.params.count().1,
            if retain.filler().is_active() { *batch_size } else { 0 }
        ))?;
        let descent = Descent::new(&model.params, &self.optimizer, stop.max_steps)?;
        let mut learner = Unlearning::new(&self.slots, context, (stop, aim), (model, regulariser), descent);
        let steps = train(run, stop.max_steps, &mut learner)?;
        let model = learner.outcome()?;
        let regulariser = learner.regulariser;
        let watched = match learner.watched {
            Some(watched) if stop.looks_after(steps) => watched,
            // No step was taken, or somebody outside ended it between two looks.
            _ => stop.watch.of(&model, context)?,
        };
        let after = energies(regulariser.as_deref(), &model)?;
        let energies = before.into_iter().zip(after).map(|(before, after)| [before, after]).collect();
        Ok((model, Unlearned { steps, watched, aim, reached: watched.value <= aim, energies }))
    }

    /// Chooses the weights that may change, and what holds them.
    fn prepare(&self, model: &mut Model, context: &Context<'_>) -> Result<Option<Box<dyn Regulariser>>> {
        let place = self.slots.r#where.filler();
        place.prepare(model, context).map_err(|e| self.misplaced(e))?;
        place.regulariser(model, context).map_err(|e| self.misplaced(e))
    }

    /// What the choice of weights was refused for.
    pub(crate) fn misplaced(&self, error: amend_engine::Error) -> Error {
        Error::refused_at(&self.key("where"), error)
    }

    /// Takes two steps as `unlearn` does, with `batch_size` items each, and says what the second took: the most bytes
    /// that tensors of this process held, and the time. Nothing of it is kept.
    pub(crate) fn rehearse(&self, batch_size: usize, context: &Context<'_>) -> Result<(usize, Duration)> {
        let slots = Slots { batch_size, ..self.slots.clone() };
        let mut model = context.reference.clone();
        let regulariser = self.prepare(&mut model, context)?;
        // A step that changes nothing takes what any step takes, and cannot diverge.
        let still = Optimizer { lr: 0.0, ..self.optimizer.clone() };
        let descent = Descent::new(&model.params, &still, u64::MAX)?;
        // Nothing is looked at on the way.
        let stop = StopRule { check_every: u64::MAX, max_steps: u64::MAX, ..StopRule::default() };
        let mut learner = Unlearning::new(&slots, context, (&stop, 0.0), (model, regulariser), descent);
        learner.step(0)?;
        restart_peak();
        let began = Instant::now();
        learner.step(1)?;
        Ok((memory_use().peak, began.elapsed()))
    }

    /// Writes the unlearned model to `dir`, and beside it the adapter it came from, where there is one, and the components that
    /// were left alone. `base_dir` is the folder of the model it was made of.
    pub(crate) fn save(
        &self,
        model: &Model,
        base_dir: &Path,
        dir: &Path,
        dtype: Option<SaveType>,
        context: &Context<'_>,
    ) -> Result<()> {
        let dtype = dtype.map(SaveType::dtype);
        let adapter_dir = adapter_dir(dir);
        for stale in [dir, &adapter_dir, &minor_dir(dir)] {
            if stale.exists() {
                std::fs::remove_dir_all(stale)
                    .map_err(|e| amend_engine::Error::io(stale, "cannot replace", e))?;
            }
        }
        let left_alone =
            [self.slots.forget.filler().bases(context)?, self.slots.guard.filler().bases(model, context)?];
        let of_slots = ["forget", "guard"].into_iter().zip(left_alone);
        let of_slots: Vec<_> = of_slots.filter_map(|(slot, bases)| Some((slot, bases?))).collect();
        if !of_slots.is_empty() {
            write_bases(&of_slots, dir)?;
        }
        if !model.is_adapted() {
            return Ok(model.save(dir, Some(base_dir), dtype)?);
        }
        let base = base_dir.canonicalize().unwrap_or_else(|_| base_dir.to_owned());
        model.save_adapter(&adapter_dir, &base.display().to_string())?;
        Ok(model.merged()?.save(dir, Some(base_dir), dtype)?)
    }
}

/// An arm at work.
struct Unlearning<'a> {
    slots: &'a Slots,
    context: &'a Context<'a>,
    stop: &'a StopRule,
    aim: f64,
    model: Model,
    regulariser: Option<Box<dyn Regulariser>>,
    descent: Descent,
    /// What fillers carry from step to step.
    memory: Memory,
    /// The watched figure at the last look.
    watched: Option<Figure>,
}

impl Learner for Unlearning<'_> {
    /// One step: the gradients of the two objectives, each over its whole batch, and the update that is made of them.
    fn step(&mut self, step: u64) -> Result<Step> {
        if let Some(moved) = self.slots.forget.filler().weights(&self.model, self.context, step)? {
            self.model = moved.model;
            let row = Map::from_iter([("scale".to_owned(), json!(moved.scale))]);
            let shown = format!("scale {:.2}", moved.scale);
            return Ok(Step { row, shown, done: moved.is_last, ..Step::default() });
        }
        let Slots { guard, combine, retain: retaining, .. } = self.slots;
        let (mut row, mut memory) = (Map::new(), self.memory.clone());
        let objectives = Objectives::draw(self.slots, self.context, step)?;
        let pair = guard.filler().gradients(&self.model, &objectives, &mut row)?;
        let (forget, retain) = (pair.forget, pair.retain);
        if forget.gradients.iter().next().is_none() {
            return Err(Error::conflict(format!(
                "no weight that `where` lets change has any influence on the forget objective `{}`; choose others, for an \
                 objective of hidden states some at or below its layer",
                self.slots.forget.name()
            )));
        }
        let retain_loss = retain.as_ref().map(|retain| retain.loss);
        let mut retain =
            retain.map_or_else(|| Gradients::none(&self.model.params), |retain| retain.gradients);
        if let Some(regulariser) = &self.regulariser {
            regulariser.add_to(&self.model, &mut retain, &mut row)?;
        }
        let Weights { forget: gamma, retain: alpha } = self.slots.weights();
        let weights = Weights { forget: gamma, retain: alpha * retaining.filler().multiplier(&memory) };
        let mut update = combine.filler().combine_next(&forget.gradients, &retain, weights, &mut memory)?;
        if let Some(loss) = retain_loss {
            retaining.filler().after_step(loss, &mut memory, &mut row);
        }

        // The losses are in the unit of their objectives, nats; those explain them.
        row.insert("loss_forget".into(), json!(forget.loss));
        row.insert("loss_retain".into(), json!(retain_loss));
        row.extend(Geometry::of(&forget.gradients, &retain, &update).row());
        self.descent.step(&mut self.model.params, &mut update, step, objectives.items())?.log(&mut row);
        guard.filler().after_step(&mut self.model, self.context, step, &mut memory)?;
        self.memory = memory;
        let shown = format!("loss {:.3}", retain_loss.unwrap_or(forget.loss));
        Ok(Step { row, shown, ..Step::default() })
    }

    /// Looks at the watched figure every few steps; once it is down to the aim, the arm is done.
    fn look(&mut self, taken: u64, step: &mut Step) -> Result<()> {
        if self.stop.looks_after(taken) {
            self.look_at_sets(&mut step.row)?;
        }
        if let Some(watched) = &self.watched {
            let _ = write!(
                step.shown,
                ", {} {} (aim {})",
                self.stop.watch.name(),
                in_short(watched.value),
                in_short(self.aim)
            );
            step.done |= watched.value <= self.aim;
        }
        Ok(())
    }

    fn save(&self, to: &mut StateWriter) -> Result<()> {
        to.value("watched", &self.watched)?;
        self.memory.save(&self.model.params, to)?;
        self.descent.save("model", &self.model.params, to)
    }

    fn load(&mut self, from: &StateReader) -> Result<()> {
        self.watched = from.value("watched")?;
        self.memory = Memory::load(&self.model.params, from)?;
        self.descent.load("model", &mut self.model.params, from)
    }

    fn set(&mut self, option: &str, value: &Value) -> Result<()> {
        self.descent.set(option, value)
    }
}

impl<'a> Unlearning<'a> {
    /// Before the first step, with a model whose weights are chosen and what holds them.
    fn new(
        slots: &'a Slots,
        context: &'a Context<'a>,
        (stop, aim): (&'a StopRule, f64),
        (model, regulariser): (Model, Option<Box<dyn Regulariser>>),
        descent: Descent,
    ) -> Self {
        let memory = Memory::default();
        Unlearning { slots, context, stop, aim, model, regulariser, descent, memory, watched: None }
    }

    /// The model that the steps so far have led to.
    fn outcome(&self) -> Result<Model> {
        Ok(self.slots.guard.filler().outcome(&self.model, &self.memory)?)
    }

    /// What is logged at a look: `forget_watched`, the figure that decides when to stop; `forget_accuracy` and
    /// `retain_accuracy`, the shares of answers that are word for word the model's first choice, the latter over the
    /// first items of the retain set.
    fn look_at_sets(&mut self, row: &mut Map<String, Value>) -> Result<()> {
        let Context { forget, retain, .. } = self.context;
        let model = self.outcome()?;
        let watched = self.stop.watch.of(&model, self.context)?;
        row.insert("forget_watched".into(), json!(watched.value));
        row.insert("forget_accuracy".into(), json!(share_exact(&model, forget)?.value));
        let first = &retain[..retain.len().min(RETAIN_LOOK)];
        row.insert("retain_accuracy".into(), json!(share_exact(&model, first)?.value));
        let energies = energies(self.regulariser.as_deref(), &model)?;
        if !energies.is_empty() {
            let mean =
                |of: fn(&LayerEnergy) -> f64| energies.iter().map(of).sum::<f64>() / energies.len() as f64;
            row.insert("forget_energy".into(), json!(mean(|energy| energy.forget)));
            row.insert("retain_energy".into(), json!(mean(|energy| energy.retain)));
        }
        self.watched = Some(watched);
        Ok(())
    }
}

/// Where the weights of `model` write, as what holds them sees it.
fn energies(regulariser: Option<&dyn Regulariser>, model: &Model) -> Result<Vec<LayerEnergy>> {
    Ok(regulariser.map(|regulariser| regulariser.energies(model)).transpose()?.unwrap_or_default())
}

/// Where the adapter of the model in `dir` goes.
pub(crate) fn adapter_dir(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push("-adapter");
    dir.with_file_name(name)
}
