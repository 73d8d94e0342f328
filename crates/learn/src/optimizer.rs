//! One optimiser at work on one set of parameters: AdamW, its learning rate, and what a step must look like to be
//! taken.

use amend_engine::optim::{AdamW, AdamWOptions, DecayOn, Schedule, ScheduleKind, clip_factor};
use amend_engine::{Gradients, Params};
use amend_run::recipe::check_options;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::state::{StateReader, StateWriter};
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
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the gradient's running mean.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta1: f32,
    /// Decay of the gradient's running mean square.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta2: f32,
    /// Added to the root of the mean square. Without it, what has no gradient would be divided by zero.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f32,
    /// Decoupled weight decay of matrices, per unit of learning rate. Norms and biases do not decay.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f32,
    /// Shape of the learning rate after warm-up: `constant`, `linear` or `cosine`.
    pub schedule: ScheduleName,
    /// Steps over which the learning rate rises to its largest value.
    pub warmup_steps: u64,
    /// Gradients longer than this are scaled down to it, after combination; 0 turns clipping off.
    #[schemars(range(min = 0.0))]
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
    /// Refuses numbers that would destroy the weights, as reading a recipe does.
    fn check(&self) -> Result<()> {
        check_options("optimizer", self).map_err(Error::conflict)
    }

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

/// An optimiser with its state. A learner has one for every set of parameters it trains.
#[derive(Debug)]
pub struct Descent {
    adamw: AdamW,
    options: Optimizer,
    total: u64,
}

/// One step that was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descended {
    /// The learning rate.
    pub lr: f64,
    /// Length of the gradient before clipping, of what may change.
    pub grad_norm: f64,
}

impl Descended {
    /// Adds `lr` and `grad_norm` to a row of metrics.
    pub fn log(&self, row: &mut Map<String, Value>) {
        row.insert("lr".into(), json!(self.lr));
        row.insert("grad_norm".into(), json!(self.grad_norm));
    }
}

impl Descent {
    /// A fresh optimiser for `params`, whose schedule spans `total` steps.
    ///
    /// # Errors
    /// Options out of their range.
    pub fn new(params: &Params, options: &Optimizer, total: u64) -> Result<Self> {
        options.check()?;
        Ok(Descent { adamw: AdamW::new(params, options.adamw()), options: options.clone(), total })
    }

    /// Takes step number `step` (from 0) along `gradients`, clipped to the largest norm allowed. What selections
    /// exclude is set to zero first: it does not move, and so does not count in the norm. `items` are what the
    /// gradients were made of, for the error.
    ///
    /// # Errors
    /// Where a gradient is not finite: the step would destroy the parameters. Nothing is changed then.
    pub fn step(
        &mut self,
        params: &mut Params,
        gradients: &mut Gradients,
        step: u64,
        items: &[usize],
    ) -> Result<Descended> {
        gradients.apply_selection(params);
        let grad_norm = gradients.norm();
        if let Some(tensor) = gradients.first_not_finite(params) {
            return Err(Error::Engine(amend_engine::Error::NotFinite {
                what: format!("gradient of {tensor} (batch items {items:?})"),
                value: grad_norm,
                hint: "; lower the learning rate".into(),
            }));
        }
        let lr = self.options.schedule(self.total).at(step);
        self.adamw.step(params, gradients, lr, clip_factor(grad_norm, self.options.max_grad_norm))?;
        Ok(Descended { lr, grad_norm })
    }

    /// Gives an option of [`Optimizer`] another value from the next step on. What AdamW's running means are made
    /// of stays.
    ///
    /// # Errors
    /// Where there is no such option, or the value is none of its. The options are then as they were.
    pub fn set(&mut self, option: &str, value: &Value) -> Result<()> {
        let refuse =
            |e: &dyn std::fmt::Display| Error::conflict(format!("optimizer.{option} = {value}: {e}"));
        let mut options = json!(self.options);
        match options.get_mut(option) {
            Some(place) => *place = value.clone(),
            None => return Err(refuse(&"there is no such option")),
        }
        let options: Optimizer = serde_json::from_value(options).map_err(|e| refuse(&e))?;
        options.check()?;
        self.adamw.set_options(options.adamw());
        self.options = options;
        Ok(())
    }

    /// Keeps what may change of the trained parameters and the optimiser's state under `name`.
    ///
    /// # Errors
    /// As [`StateWriter::value`].
    pub fn save(&self, name: &str, params: &Params, to: &mut StateWriter) -> Result<()> {
        for (_, param) in params.iter().filter(|(_, p)| p.trainable) {
            to.tensor(&format!("{name}.params.{}", param.name), &param.selected());
        }
        for (key, tensor) in self.adamw.state(params) {
            to.tensor(&format!("{name}.adamw.{key}"), &tensor);
        }
        to.value(&format!("{name}.steps"), &self.adamw.steps())?;
        to.value(&format!("{name}.optimizer"), &self.options)
    }

    /// Takes up what [`Descent::save`] kept. `params` are those that the optimiser began with, or what became of
    /// them: what selections exclude is as it was.
    ///
    /// # Errors
    /// Where something is missing or has another shape, that of another selection for example.
    pub fn load(&mut self, name: &str, params: &mut Params, from: &StateReader) -> Result<()> {
        for (_, param) in params.iter_mut().filter(|(_, p)| p.trainable) {
            let key = format!("{name}.params.{}", param.name);
            let kept = from.tensor_f32(&key, &param.selected_shape())?;
            param.set_selected(kept)?;
        }
        let steps = from.value(&format!("{name}.steps"))?;
        let moment = |key: &str| from.tensor_if_any(&format!("{name}.adamw.{key}"));
        self.adamw.restore(params, steps, moment)?;
        self.options = from.value(&format!("{name}.optimizer"))?;
        self.adamw.set_options(self.options.adamw());
        Ok(())
    }
}
