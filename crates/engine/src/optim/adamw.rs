//! AdamW (Loshchilov & Hutter, arXiv 1711.05101), as PyTorch computes it.

use crate::gradients::Gradients;
use crate::kernels::{self, AdamWStep};
use crate::params::{ParamId, Params};
use crate::{DType, Error, Result, Tensor, profile};

/// Settings of [`AdamW`].
#[derive(Debug, Clone, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the mean.
    pub beta1: f32,
    /// Decay of the mean square.
    pub beta2: f32,
    /// Added to the root of the mean square.
    pub eps: f32,
    /// Decoupled weight decay per unit of learning rate.
    pub weight_decay: f32,
    /// What decays.
    pub decay_on: DecayOn,
}

/// Which parameters weight decay applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecayOn {
    /// Every trainable parameter (PyTorch's default).
    Everything,
    /// Matrices only: norms and biases are left alone (Hugging Face Trainer's default).
    Matrices,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        AdamWOptions { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, decay_on: DecayOn::Matrices }
    }
}

/// The optimiser and its state. State exists only for parameters that have received a gradient.
#[derive(Debug, Clone)]
pub struct AdamW {
    options: AdamWOptions,
    steps: u64,
    moments: Vec<Option<Moments>>,
}

/// State of one parameter.
#[derive(Debug, Clone)]
struct Moments {
    mean: Tensor,
    square: Tensor,
    /// Steps in which the parameter received a gradient: an expert without tokens sits a step out.
    steps: u64,
}

impl AdamW {
    /// A fresh optimiser for these parameters.
    pub fn new(params: &Params, options: AdamWOptions) -> Self {
        AdamW { options, steps: 0, moments: vec![None; params.len()] }
    }

    /// Takes the next steps with other settings; the state stays.
    pub fn set_options(&mut self, options: AdamWOptions) {
        self.options = options;
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step with learning rate `lr` on gradients scaled by `clip`. Entries a selection excludes
    /// are neither moved nor decayed, and hold no state worth the name. A parameter without a gradient
    /// sits the step out.
    pub fn step(&mut self, params: &mut Params, gradients: &Gradients, lr: f64, clip: f32) -> Result<()> {
        let _timed = profile::span("optimiser");
        self.steps += 1;
        for (id, gradient) in gradients.iter() {
            let zeros = || Tensor::zeros(gradient.shape(), DType::F32);
            let moments = self.moments[id.0].get_or_insert_with(|| Moments {
                mean: zeros(),
                square: zeros(),
                steps: 0,
            });
            moments.steps += 1;
            let param = params.get_mut(id);
            if gradient.shape() != param.tensor.shape() {
                return Err(Error::shape(&param.name, param.tensor.shape(), gradient.shape()));
            }
            let decays = self.options.decay_on == DecayOn::Everything || param.tensor.shape().len() > 1;
            let step = AdamWStep {
                lr: lr as f32,
                beta1: self.options.beta1,
                beta2: self.options.beta2,
                eps: self.options.eps,
                weight_decay: if decays { self.options.weight_decay } else { 0.0 },
                step: moments.steps,
                grad_scale: clip,
            };
            let (m, v) = (&mut moments.mean, &mut moments.square);
            let (rows, columns) = (gradient.rows(), gradient.columns());
            let (w, g, m, v) = (param.tensor.f32_mut(), gradient.f32(), m.f32_mut(), v.f32_mut());
            match &param.selection {
                None => kernels::adamw(w, g, m, v, &step),
                Some(selection) => selection.for_each_run(rows, columns, |run| {
                    let (m, v) = (&mut m[run.clone()], &mut v[run.clone()]);
                    kernels::adamw(&mut w[run.clone()], &g[run], m, v, &step);
                }),
            }
        }
        Ok(())
    }

    /// The state as named tensors, for a checkpoint: `NAME.m` and `NAME.v`, and `NAME.missed` with the
    /// number of steps a parameter has sat out, where it has.
    pub fn state(&self, params: &Params) -> Vec<(String, Tensor)> {
        let mut out = Vec::new();
        for (i, moments) in self.moments.iter().enumerate() {
            if let Some(moments) = moments {
                let name = &params.get(ParamId(i)).name;
                out.push((format!("{name}.m"), moments.mean.clone()));
                out.push((format!("{name}.v"), moments.square.clone()));
                let missed = self.steps - moments.steps;
                if missed > 0 {
                    // Exact in f32 up to 2²⁴ steps.
                    out.push((format!("{name}.missed"), Tensor::build(&[1], |n| n[0] = missed as f32)));
                }
            }
        }
        out
    }

    /// Takes up the state that [`AdamW::state`] gave after `steps` steps.
    pub fn restore(
        &mut self,
        params: &Params,
        steps: u64,
        mut tensor: impl FnMut(&str) -> Result<Option<Tensor>>,
    ) -> Result<()> {
        self.steps = steps;
        for (id, param) in params.iter() {
            let (m, v) = (tensor(&format!("{}.m", param.name))?, tensor(&format!("{}.v", param.name))?);
            let missed = tensor(&format!("{}.missed", param.name))?;
            let missed = missed.and_then(|n| n.f32().first().copied()).map_or(0, |n| n as u64);
            let steps = steps.saturating_sub(missed);
            self.moments[id.0] = m.zip(v).map(|(mean, square)| Moments { mean, square, steps });
        }
        Ok(())
    }
}
