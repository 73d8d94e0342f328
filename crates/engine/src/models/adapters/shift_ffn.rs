//! Shift-FFN: a feed-forward reads an edited token, into which flows what a gate lets through of the token before it
//! ("Amplify Adjacent Token Differences", arXiv 2505.17153).
//!
//! Of the input x_i of token i and x_{i−1} of the token before, zero before the first of a sequence:
//! `x̃_i = x_i + alpha/r · W_c (gate(W_b [x_{i−1}; x_i]) ⊙ W_a x_{i−1})`, with W_a [r, d], W_b [r, 2d] and W_c [d, r].
//! The paper leaves open the gate's function, biases (none here) and whether the norm comes before the edit.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::folder::by_module;
use super::{AdapterKind, AdapterTensors, FeedForwardAdapter, check_positive, kaiming};
use crate::kernels::Activation;
use crate::models::within::Within;
use crate::models::{KvCache, Model};
use crate::params::{ParamId, Params};
use crate::tape::{Graph, Var};
use crate::{DType, Error, Result, Tensor};

pub(super) const TYPE: &str = "shift_ffn";
const PARTS: [&str; 3] = ["editor.a", "editor.b", "editor.c"];

/// Options of Shift-FFN. The default has the rank and scaling that go with LoRA's at r = 16.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftFfn {
    /// Rank of the editor, which has 4·d·r parameters per layer.
    pub r: usize,
    /// The edit is scaled by alpha / r.
    pub alpha: f64,
    /// The gate's function.
    pub gate: Gate,
    /// Where the edit happens.
    pub point: EditPoint,
}

impl Default for ShiftFfn {
    fn default() -> Self {
        ShiftFfn { r: 16, alpha: 32.0, gate: Gate::default(), point: EditPoint::default() }
    }
}

/// Function of a gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// max(x, 0).
    #[default]
    Relu,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// x / (1 + e⁻ˣ).
    Silu,
}

/// Where the input of a feed-forward is edited. The same place where the feed-forward has no norm before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditPoint {
    /// Behind the norm of what the feed-forward reads.
    #[default]
    PostNorm,
    /// Before that norm. The residual stream itself stays as it is.
    PreNorm,
}

pub(super) fn parse(path: &Path, config: &Map<String, Value>) -> Result<Arc<dyn AdapterKind>> {
    let options = config.iter().filter(|(key, _)| *key != "type");
    let options = Value::Object(options.map(|(key, value)| (key.clone(), value.clone())).collect());
    let options: ShiftFfn = serde_json::from_value(options).map_err(|e| {
        Error::format(path, format!("{e}; a config of type \"{TYPE}\" has r, alpha, gate and point"))
    })?;
    Ok(Arc::new(options))
}

impl AdapterKind for ShiftFfn {
    fn name(&self) -> &'static str {
        "Shift-FFN"
    }

    fn parts(&self) -> &'static [&'static str] {
        &PARTS
    }

    fn check_options(&self) -> Result<(), String> {
        check_positive("r", self.r as f64)?;
        check_positive("alpha", self.alpha)
    }

    fn check(&self, tensors: &AdapterTensors) -> Result<(), String> {
        let editors = by_module(tensors, PARTS)?;
        if editors.is_empty() {
            return Err("the adapter holds no tensors of Shift-FFN".into());
        }
        for (module, [a, b, c]) in editors {
            let (r, d) = (self.r, a.columns());
            if a.shape() != [r, d] || b.shape() != [r, 2 * d] || c.shape() != [d, r] {
                return Err(format!(
                    "{module}: editor.a has shape {:?}, editor.b {:?} and editor.c {:?}, but rank {r} needs \
                     [{r}, d], [{r}, 2·d] and [d, {r}]",
                    a.shape(),
                    b.shape(),
                    c.shape()
                ));
            }
        }
        Ok(())
    }

    fn config(&self, _: Option<&str>, _: &AdapterTensors) -> Result<Value, String> {
        let ShiftFfn { r, alpha, gate, point } = self;
        Ok(json!({ "type": TYPE, "r": r, "alpha": alpha, "gate": gate, "point": point }))
    }

    fn draw(&self, model: &Model, seed: u64) -> Result<AdapterTensors> {
        let (r, d) = (self.r, model.spec().hidden);
        let of_module = |module: String| {
            let [a, b, c] = PARTS.map(|part| format!("{module}.{part}.weight"));
            let (w_a, w_b) = (kaiming(seed, &a, &[r, d], d), kaiming(seed, &b, &[r, 2 * d], 2 * d));
            [(a, w_a), (b, w_b), (c, Tensor::zeros(&[d, r], DType::F32))]
        };
        Ok(model.feed_forwards().flat_map(of_module).collect())
    }

    fn put_on(&self, model: &mut Model, tensors: &AdapterTensors) -> Result<()> {
        let d = model.spec().hidden;
        for (module, [a, b, c]) in by_module(tensors, PARTS).map_err(Error::invalid)? {
            let known: Vec<_> = model.feed_forwards().collect();
            let Some(layer) = known.iter().position(|there| there == module) else {
                return Err(Error::invalid(format!(
                    "the model has no feed-forward called {module}; they are called {}",
                    known.join(", ")
                )));
            };
            if a.columns() != d {
                return Err(Error::shape(format!("editor of {module}"), &[self.r, d], a.shape()));
            }
            let [previous, current, output] = held([a, b, c].map(Tensor::to_f32));
            let mut add = |part, tensor| model.params.add(held_name(module, part), tensor);
            let editor = Editor {
                previous: add("previous", previous)?,
                current: add("current", current)?,
                output: add("output", output)?,
                scaling: (self.alpha / self.r as f64) as f32,
                gate: self.gate,
                point: self.point,
            };
            model.decoder.block_mut(layer).feed_forward.adapter = Some(Arc::new(editor));
        }
        Ok(())
    }

    fn tensors_on(&self, model: &Model) -> Result<AdapterTensors> {
        let mut tensors = AdapterTensors::new();
        for module in model.feed_forwards() {
            if model.params.find(&held_name(&module, "previous")).is_none() {
                continue;
            }
            let held = |part| model.adapter_tensor(&held_name(&module, part));
            let stored = stored([held("previous")?, held("current")?, held("output")?]);
            tensors.extend(PARTS.map(|part| format!("{module}.{part}.weight")).into_iter().zip(stored));
        }
        Ok(tensors)
    }
}

/// Name of a parameter, which goes by the token that it reads.
fn held_name(module: &str, part: &str) -> String {
    format!("{module}.editor.{part}.weight")
}

/// W_a, W_b and W_c as they are computed with: what reads the previous token [2r, d] (W_a, and under it the first half
/// of W_b's columns), what reads the current one [r, d], and W_c.
fn held([a, b, c]: [Tensor; 3]) -> [Tensor; 3] {
    let (r, d) = (a.rows(), a.columns());
    let halves = |half: usize, out: &mut [f32]| {
        let rows = out.chunks_exact_mut(d).zip(b.f32().chunks_exact(2 * d));
        rows.for_each(|(out, row)| out.copy_from_slice(&row[half * d..(half + 1) * d]));
    };
    let previous = Tensor::build(&[2 * r, d], |out| {
        let (above, below) = out.split_at_mut(r * d);
        above.copy_from_slice(a.f32());
        halves(0, below);
    });
    [previous, Tensor::build(&[r, d], |out| halves(1, out)), c]
}

/// The way back from [`held`].
fn stored([previous, current, output]: [Tensor; 3]) -> [Tensor; 3] {
    let (r, d) = (current.rows(), current.columns());
    let (above, below) = previous.f32().split_at(r * d);
    let a = Tensor::build(&[r, d], |out| out.copy_from_slice(above));
    let b = Tensor::build(&[r, 2 * d], |out| {
        let halves = below.chunks_exact(d).zip(current.f32().chunks_exact(d));
        for (out, (before, own)) in out.chunks_exact_mut(2 * d).zip(halves) {
            out[..d].copy_from_slice(before);
            out[d..].copy_from_slice(own);
        }
    });
    [a, b, output]
}

/// The editor before one feed-forward.
///
/// All that it asks of a token is linear in it, so the token before is not kept as its d numbers: what is shifted,
/// and held beside keys and values, is the 2·r that are read of it.
#[derive(Debug)]
struct Editor {
    /// [2r, d]: W_a, and the half of W_b for the token before.
    previous: ParamId,
    /// [r, d]: the half of W_b for the token itself.
    current: ParamId,
    /// W_c: [d, r].
    output: ParamId,
    scaling: f32,
    gate: Gate,
    point: EditPoint,
}

impl FeedForwardAdapter for Editor {
    fn point(&self) -> EditPoint {
        self.point
    }

    fn edit(
        &self,
        g: &mut Graph<'_>,
        x: &Var,
        within: Within<'_>,
        caches: Option<&mut [KvCache]>,
    ) -> Result<Var> {
        let read = g.project(x, self.previous, None)?;
        let before = row_before(g, &read, within, caches)?;
        let r = before.value().columns() / 2;
        let information = g.gather_columns(&before, std::slice::from_ref(&(0..r)))?;
        let gate = g.gather_columns(&before, std::slice::from_ref(&(r..2 * r)))?;
        let current = g.project(x, self.current, None)?;
        let gate = g.add(&gate, &current)?;
        let activation = match self.gate {
            Gate::Relu => Activation::Relu,
            Gate::Sigmoid => Activation::Sigmoid,
            Gate::Silu => Activation::Silu,
        };
        let through = g.gated(activation, &gate, &information)?;
        let edit = g.project(&through, self.output, None)?;
        g.add_scaled(x, &edit, self.scaling)
    }

    fn parameters(&self) -> Vec<ParamId> {
        vec![self.previous, self.current, self.output]
    }

    fn merge(&self, _: &Params, _: &mut Params) -> Result<()> {
        Err(Error::invalid(
            "Shift-FFN cannot be merged: it mixes a token with the one before, which no weights of a feed-forward \
             do; write it with Model::save_adapter and use it on its base model",
        ))
    }
}

/// Of every row the one before it in its sequence: x [T, n] → [T, n]. Before the first row of a sequence comes the last
/// that its cache keeps, to which its rows are then added, or zeros.
fn row_before(g: &mut Graph<'_>, x: &Var, within: Within<'_>, caches: Option<&mut [KvCache]>) -> Result<Var> {
    let (rows, width, sequences) = (x.value().rows(), x.value().columns(), &within.layout.sequences);
    let mut first = Tensor::zeros(&[sequences.len(), width], DType::F32);
    if let Some(caches) = caches {
        let before = first.f32_mut().chunks_exact_mut(width);
        for ((cache, rows), before) in caches.iter_mut().zip(sequences).zip(before) {
            let new = &x.value().f32()[rows.start * width..rows.end * width];
            cache.shift(within.layer, new, before)?;
        }
    }
    let all = [(x.clone(), 0, 0), (Var::constant(first), rows, 0)];
    let all = g.assemble([rows + sequences.len(), width], &all)?;
    let order = sequences.iter().enumerate();
    let order = order.flat_map(|(i, own)| [rows + i].into_iter().chain(own.clone()).take(own.len()));
    g.gather_rows(&all, &order.collect::<Vec<_>>())
}
