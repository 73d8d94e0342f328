//! The training loop: steps, checkpoints, metrics, and going on after an interruption.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use amend_engine::checkpoint::{SafetensorsFile, write_tensors};
use amend_engine::optim::{AdamW, AdamWOptions, DecayOn, Schedule, ScheduleKind, clip_factor};
use amend_engine::{Gradients, Model};
use amend_run::{Run, RunError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// Shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// No decay.
    #[default]
    Constant,
    /// A straight line down to zero.
    Linear,
    /// Half a cosine down to zero.
    Cosine,
}

/// AdamW and its learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Optimizer {
    /// Largest learning rate.
    pub lr: f64,
    /// Decay of the gradient's running mean.
    pub beta1: f32,
    /// Decay of the gradient's running mean square.
    pub beta2: f32,
    /// Added to the root of the mean square.
    pub eps: f32,
    /// Decoupled weight decay of matrices, per unit of learning rate. Norms and biases do not decay.
    pub weight_decay: f32,
    /// Shape of the learning rate after warm-up: `constant`, `linear` or `cosine`.
    pub schedule: ScheduleName,
    /// Steps over which the learning rate rises to its largest value.
    pub warmup_steps: u64,
    /// Gradients longer than this are scaled down to it, after combination; 0 turns clipping off.
    pub max_grad_norm: f64,
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer {
            lr: 1e-5,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            schedule: ScheduleName::Constant,
            warmup_steps: 0,
            max_grad_norm: 1.0,
        }
    }
}

impl Optimizer {
    fn adamw(&self) -> AdamWOptions {
        AdamWOptions {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            decay_on: DecayOn::Matrices,
        }
    }

    fn schedule(&self, total: u64) -> Schedule {
        let kind = match self.schedule {
            ScheduleName::Constant => ScheduleKind::Constant,
            ScheduleName::Linear => ScheduleKind::Linear,
            ScheduleName::Cosine => ScheduleKind::Cosine,
        };
        Schedule { peak: self.lr, kind, warmup: self.warmup_steps, total, floor: 0.0 }
    }
}

/// What one step computed.
pub struct Step {
    /// The gradient to descend.
    pub gradients: Gradients,
    /// What is shown beside the progress bar.
    pub loss: f64,
    /// What is logged; the loop adds `lr` and `grad_norm`.
    pub row: Map<String, Value>,
    /// Which items the step was made of, for errors.
    pub items: Vec<usize>,
}

/// Whether a stage goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum Flow {
    /// It does; the values are added to the step's row.
    On(Map<String, Value>),
    /// Its aim is reached.
    Done(Map<String, Value>),
}

/// Trains `model` for at most `total` steps as stage `name`, from its latest checkpoint where there is one.
///
/// `step` computes the gradient of a step (counted from 0); `after` looks at the model once the step is
/// taken. Both must depend on nothing but the model and the step's number: then an interrupted stage ends
/// with the same bits as one that ran through. Returns the model and the number of steps taken.
pub fn train_stage(
    run: &mut Run<'_>,
    name: &str,
    mut model: Model,
    optimizer: &Optimizer,
    total: u64,
    mut step: impl FnMut(&Model, u64) -> amend_engine::Result<Step>,
    mut after: impl FnMut(&Model, u64) -> Result<Flow>,
) -> Result<(Model, u64)> {
    let schedule = optimizer.schedule(total);
    let mut adamw = AdamW::new(&model.params, optimizer.adamw());
    let start = restore(run, name, &mut model, &mut adamw)?;
    let mut bar = run.progress.begin(name, total, "steps");
    bar.advance(start, "");
    let mut saved = Instant::now();
    for index in start..total {
        if run.stop.requested() {
            save(run, name, index, &model, &adamw)?;
            return Err(RunError::Interrupted.into());
        }
        let taken = step(&model, index).and_then(|computed| {
            let norm = computed.gradients.norm();
            if let Some(tensor) = computed.gradients.first_not_finite(&model.params) {
                return Err(amend_engine::Error::NotFinite {
                    what: format!("gradient of {tensor} (batch items {:?})", computed.items),
                    value: norm,
                    hint: "; lower the learning rate".into(),
                });
            }
            let lr = schedule.at(index);
            let clip = clip_factor(norm, optimizer.max_grad_norm);
            adamw.step(&mut model.params, &computed.gradients, lr, clip)?;
            Ok((computed, lr, norm))
        });
        let (computed, lr, norm) = taken.map_err(|source| failed(run, name, index, source))?;
        let mut row = computed.row;
        row.insert("lr".into(), json!(lr));
        row.insert("grad_norm".into(), json!(norm));
        let (flow, extra) = match after(&model, index)? {
            Flow::On(extra) => (true, extra),
            Flow::Done(extra) => (false, extra),
        };
        row.extend(extra);
        run.metrics.append(name, index + 1, &row)?;
        bar.advance(1, &format!("loss {:.3}", computed.loss));
        if !flow {
            bar.finish(&format!("{} steps, loss {:.3}", index + 1, computed.loss));
            return Ok((model, index + 1));
        }
        if saved.elapsed() >= run.checkpoint_every && index + 1 < total {
            save(run, name, index + 1, &model, &adamw)?;
            saved = Instant::now();
        }
    }
    bar.finish(&format!("{total} steps"));
    Ok((model, total))
}

fn failed(run: &Run<'_>, name: &str, index: u64, source: amend_engine::Error) -> Error {
    let kept = match run.checkpoints.latest(name) {
        Ok(Some((step, path))) => format!("; the checkpoint of step {step} is kept in {}", path.display()),
        _ => String::new(),
    };
    Error::Step { stage: name.to_owned(), step: index + 1, kept, source: Box::new(source) }
}

/// Writes what a stage needs to go on after `step` steps.
fn save(run: &Run<'_>, name: &str, step: u64, model: &Model, adamw: &AdamW) -> Result<()> {
    let trained: Vec<_> = model
        .params
        .iter()
        .filter(|(_, p)| p.trainable)
        .map(|(_, p)| (p.name.clone(), p.tensor.clone()))
        .collect();
    run.checkpoints.save(name, step, |dir: &Path| -> Result<()> {
        write_tensors(dir.join("params.safetensors"), &trained, &BTreeMap::new())?;
        write_tensors(dir.join("optimizer.safetensors"), &adamw.state(&model.params), &BTreeMap::new())?;
        Ok(())
    })?;
    Ok(())
}

/// Takes up the latest checkpoint of a stage, and forgets what was logged after it. Returns its step.
fn restore(run: &mut Run<'_>, name: &str, model: &mut Model, adamw: &mut AdamW) -> Result<u64> {
    let latest = run.checkpoints.latest(name)?;
    let Run { metrics, folder, .. } = run;
    metrics.rewind(name, latest.as_ref().map(|l| l.0), |stage| folder.stage_done(stage))?;
    let Some((step, dir)) = latest else { return Ok(0) };
    let params = SafetensorsFile::open(dir.join("params.safetensors"))?;
    for (_, param) in model.params.iter_mut().filter(|(_, p)| p.trainable) {
        param.tensor = params.tensor_f32(&param.name, param.tensor.shape())?;
    }
    let moments = SafetensorsFile::open(dir.join("optimizer.safetensors"))?;
    adamw.restore(&model.params, step, |key| moments.info(key).map(|_| moments.tensor(key)).transpose())?;
    Ok(step)
}
