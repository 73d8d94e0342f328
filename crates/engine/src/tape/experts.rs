//! The feed-forwards of a mixture of experts: one product per expert and matrix over the rows sent to it.

use std::sync::Arc;

use rayon::prelude::*;

use super::dispatch::{Dispatch, Group};
use super::linear::times_weight;
use super::saved::Saved;
use super::{Edge, Graph, Linear, Var};
use crate::kernels::{self, Activation, Mat, MatMut};
use crate::params::{ParamId, Params};
use crate::{Error, Result, Tensor};

/// Multiply-adds below which handing experts to other threads costs more than it saves.
const PARALLEL_WORK: usize = 1 << 20;
/// Elements of summed rows below which the same holds.
const PARALLEL_SUM: usize = 1 << 16;

/// One expert: `down · (act(gate · x) ∘ up · x)`.
#[derive(Debug, Clone)]
pub struct Expert {
    /// Gate: [f, d].
    pub gate: Linear,
    /// Up projection: [f, d].
    pub up: Linear,
    /// Down projection: [d, f].
    pub down: Linear,
}

impl Expert {
    /// Weights of gate, up and down projection.
    pub(crate) fn weights(&self) -> [ParamId; 3] {
        [self.gate.weight, self.up.weight, self.down.weight]
    }

    /// Whether any of its layers has an adapter.
    pub fn is_adapted(&self) -> bool {
        [&self.gate, &self.up, &self.down].into_iter().any(|l| l.adapter.is_some())
    }
}

impl<'m> Graph<'m> {
    /// `Σ_p weights[p] · expert_{chosen[p]}(x[t])` over the pairs p of every token t: x [T, d], a weight per
    /// pair → [T, d].
    ///
    /// Sums over a token's experts run from its first pair to its last; no row's bits depend on the
    /// other rows. An expert without rows costs nothing, and its parameters receive no gradient.
    /// Biases and adapters are not part of this operation.
    pub fn experts(
        &mut self,
        x: &Var,
        weights: &Var,
        dispatch: &Arc<Dispatch>,
        experts: &'m [Expert],
        activation: Activation,
    ) -> Result<Var> {
        let (tokens, d) = (x.value.rows(), x.value.columns());
        Self::check_mix(weights, dispatch, tokens)?;
        if experts.len() != dispatch.experts() {
            return Err(Error::shape("experts", &[dispatch.experts()], &[experts.len()]));
        }
        let f = experts.first().map_or(0, |e| self.param(e.gate.weight).tensor.rows());
        let pairs = dispatch.pairs().len();
        let (mut gate, mut up) = (Tensor::stale(&[pairs, f]), Tensor::stale(&[pairs, f]));
        let mut y = Tensor::stale(&[pairs, d]);
        {
            let (params, training) = (self.params, self.is_recording());
            let groups = dispatch.groups();
            let outputs = by_group(groups, gate.f32_mut(), f)
                .zip(by_group(groups, up.f32_mut(), f))
                .zip(by_group(groups, y.f32_mut(), d));
            share_out(groups.iter().zip(outputs).collect(), 3 * pairs * d * f, |(group, ((gate, up), y))| {
                let expert = &experts[group.expert];
                let rows = group.rows.len();
                let own = gather(&x.value, dispatch.tokens_of(&group.rows), rows);
                times_weight(params, expert.gate.weight, &own, gate, training);
                times_weight(params, expert.up.weight, &own, up, training);
                let inner = Tensor::build(&[rows, f], |a| kernels::gated(activation, gate, up, a));
                times_weight(params, expert.down.weight, &inner, y, training);
            });
        }
        let value = mix(&y, Some(&weights.value), dispatch, Some(dispatch.place()));
        let learns =
            dispatch.groups().iter().any(|g| experts[g.expert].weights().iter().any(|&w| self.learns(w)));
        let needs = learns || x.needs_gradient() || weights.needs_gradient();
        // Only gradients of gates and ups need x.
        let (saved, x) = (learns.then(|| x.saved()), Edge::from(x));
        let (weights, dispatch) = (weights.clone(), dispatch.clone());
        Ok(self.push(value, needs, move |back, dout| {
            let x_value = saved.as_ref().map(Saved::value);
            let pass =
                ExpertsBackward { x: x_value, weights: &weights, dispatch: &dispatch, experts, activation };
            let groups = dispatch.groups();
            // Each expert's gradients travel with its job, so that experts can be done side by side.
            let buffers: Vec<[Option<Tensor>; 3]> = groups
                .iter()
                .map(|g| experts[g.expert].weights().map(|w| back.take_param_gradient(w)))
                .collect();
            let mut dweights = Tensor::stale(&[pairs]);
            let mut dx = Tensor::stale(&[if x.node.is_some() { pairs } else { 0 }, d]);
            let jobs: Vec<_> = groups
                .iter()
                .zip(buffers)
                .zip(by_group(groups, dweights.f32_mut(), 1))
                .zip(by_group(groups, dx.f32_mut(), d))
                .map(|(((group, buffers), dweights), dx)| Job { group, buffers, dweights, dx })
                .collect();
            let params = back.params;
            let finished =
                share_out(jobs, 6 * pairs * d * f, |job| pass.backward(params, [&gate, &up], &dout, job));
            for (id, gradient) in finished.into_iter().flatten() {
                back.gradients.set(id, gradient);
            }
            if weights.needs_gradient() {
                let dweights = Tensor::build(weights.shape(), |out| {
                    let by_row = dweights.f32();
                    out.iter_mut().zip(dispatch.place()).for_each(|(out, &row)| *out = by_row[row]);
                });
                back.add(&weights, dweights)?;
            }
            if x.node.is_some() {
                back.add(x, mix(&dx, None, &dispatch, Some(dispatch.place())))?;
            }
            Ok(())
        }))
    }

    /// `Σ_p weights[p] · y[p]` over the pairs p of every token: y [pairs, d], a weight per pair → [T, d], in
    /// the same order of arithmetic as [`Graph::experts`].
    pub fn mix_experts(&mut self, y: &Var, weights: &Var, dispatch: &Arc<Dispatch>) -> Result<Var> {
        let d = y.value.columns();
        if y.value.rows() != dispatch.pairs().len() {
            return Err(Error::shape("rows of experts", &[dispatch.pairs().len(), d], y.shape()));
        }
        Self::check_mix(weights, dispatch, dispatch.tokens())?;
        let value = mix(&y.value, Some(&weights.value), dispatch, None);
        let (y, weights, dispatch) = (y.clone(), weights.clone(), dispatch.clone());
        Ok(self.push(value, y.needs_gradient() || weights.needs_gradient(), move |back, dout| {
            let token = |pair: usize| dispatch.token_of()[pair];
            let rows = |pair: usize| &dout.f32()[token(pair) * d..(token(pair) + 1) * d];
            let dweights = Tensor::build(weights.shape(), |out| {
                for (pair, (out, y)) in out.iter_mut().zip(y.value.f32().chunks_exact(d)).enumerate() {
                    *out = kernels::dot(rows(pair), y) as f32;
                }
            });
            back.add(&weights, dweights)?;
            back.add_with(&y, |dy| {
                for (pair, (dy, &w)) in dy.chunks_exact_mut(d).zip(weights.value.f32()).enumerate() {
                    kernels::axpy(w, rows(pair), dy);
                }
            });
            Ok(())
        }))
    }

    fn check_mix(weights: &Var, dispatch: &Dispatch, tokens: usize) -> Result<()> {
        if tokens != dispatch.tokens() {
            return Err(Error::shape("tokens of experts", &[dispatch.tokens()], &[tokens]));
        }
        if weights.shape() != dispatch.shape() {
            return Err(Error::shape("weights of experts", &dispatch.shape(), weights.shape()));
        }
        Ok(())
    }
}

/// What a backward pass reads besides activations.
struct ExpertsBackward<'a> {
    x: Option<&'a Tensor>,
    weights: &'a Var,
    dispatch: &'a Dispatch,
    experts: &'a [Expert],
    activation: Activation,
}

/// One expert's share of a backward pass: what it writes.
struct Job<'a> {
    group: &'a Group,
    /// Gradients of gate, up and down that earlier passes left, where there are any.
    buffers: [Option<Tensor>; 3],
    /// [rows].
    dweights: &'a mut [f32],
    /// [rows, d], or empty where nobody asks.
    dx: &'a mut [f32],
}

impl ExpertsBackward<'_> {
    /// Writes one expert's gradients of x and of the weights; returns those of its parameters.
    fn backward(
        &self,
        params: &Params,
        [gate, up]: [&Tensor; 2],
        dout: &Tensor,
        job: Job<'_>,
    ) -> Vec<(ParamId, Tensor)> {
        let Job { group, buffers, dweights, dx } = job;
        let (rows, d, f) = (group.rows.len(), dout.columns(), gate.columns());
        let expert = &self.experts[group.expert];
        let compute = params.precision().compute;
        let own = |x: &Tensor| gather(x, self.dispatch.tokens_of(&group.rows), rows);
        let span = group.rows.start * f..group.rows.end * f;
        let (gate, up) = (&gate.f32()[span.clone()], &up.f32()[span]);
        let matrix = |id: ParamId, m, n| Mat::new(params.get(id).tensor.f32(), m, n);
        let dy = own(dout);
        let dy = Mat::new(dy.f32(), rows, d);
        let mut inner = Tensor::build(&[rows, f], |a| kernels::gated(self.activation, gate, up, a));
        let mut dinner = Tensor::build(&[rows, f], |out| {
            compute.product(dy, matrix(expert.down.weight, d, f), MatMut::new(out, rows, f), false);
        });
        let pairs = &self.dispatch.pairs()[group.rows.clone()];
        let lines = inner.f32_mut().chunks_exact_mut(f).zip(dinner.f32_mut().chunks_exact_mut(f));
        for ((dw, &pair), (inner, dinner)) in dweights.iter_mut().zip(pairs).zip(lines) {
            // ⟨dout, y⟩ = ⟨dout · W_down, inner⟩, which needs no y.
            *dw = kernels::dot(inner, dinner) as f32;
            let weight = self.weights.value.f32()[pair];
            kernels::scale(weight, inner);
            kernels::scale(weight, dinner);
        }
        let (mut dgate, mut dup) = (Tensor::stale(&[rows, f]), Tensor::stale(&[rows, f]));
        kernels::gated_backward(self.activation, gate, up, dinner.f32(), dgate.f32_mut(), dup.f32_mut());
        let (dgate, dup) = (Mat::new(dgate.f32(), rows, f), Mat::new(dup.f32(), rows, f));
        if !dx.is_empty() {
            compute.product(dgate, matrix(expert.gate.weight, f, d), MatMut::new(dx, rows, d), false);
            compute.product(dup, matrix(expert.up.weight, f, d), MatMut::new(dx, rows, d), true);
        }
        let Some(x) = self.x.map(own) else { return Vec::new() };
        let x = Mat::new(x.f32(), rows, d);
        let ids = expert.weights();
        let factors = [(dgate, x), (dup, x), (dy, Mat::new(inner.f32(), rows, f))];
        let learnt =
            ids.into_iter().zip(buffers).zip(factors).filter(|((id, _), _)| params.get(*id).trainable);
        learnt
            .map(|((id, buffer), (left, right))| {
                let accumulate = buffer.is_some();
                let mut sum = buffer.unwrap_or_else(|| Tensor::stale(params.get(id).tensor.shape()));
                compute.product(
                    left.t(),
                    right,
                    MatMut::new(sum.f32_mut(), left.cols, right.cols),
                    accumulate,
                );
                (id, sum)
            })
            .collect()
    }
}

/// Cuts rows sorted by expert into one slice per group; empty ones where the buffer is empty.
fn by_group<'b>(
    groups: &[Group],
    buffer: &'b mut [f32],
    width: usize,
) -> impl Iterator<Item = &'b mut [f32]> {
    let mut rest = buffer;
    groups.iter().map(move |group| {
        let length = (group.rows.len() * width).min(rest.len());
        let (own, others) = std::mem::take(&mut rest).split_at_mut(length);
        rest = others;
        own
    })
}

/// Runs independent jobs, on all threads where the work of all (in multiply-adds) is worth it.
///
/// Products within a job share themselves out further, so that one expert with most of the rows
/// does not keep the other threads waiting.
fn share_out<T: Send, R: Send>(jobs: Vec<T>, work: usize, run: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if work < PARALLEL_WORK || jobs.len() < 2 {
        return jobs.into_iter().map(run).collect();
    }
    jobs.into_par_iter().with_max_len(1).map(run).collect()
}

/// The given rows of x, one after the other.
fn gather(x: &Tensor, rows: impl Iterator<Item = usize>, count: usize) -> Tensor {
    let width = x.columns();
    Tensor::build(&[count, width], |out| {
        for (out, row) in out.chunks_exact_mut(width).zip(rows) {
            out.copy_from_slice(&x.f32()[row * width..(row + 1) * width]);
        }
    })
}

/// Sums every token's rows of y, weighted, from its first pair to its last. Rows of y stand in order
/// of pairs, or where `place` says.
fn mix(y: &Tensor, weights: Option<&Tensor>, dispatch: &Dispatch, place: Option<&[usize]>) -> Tensor {
    let d = y.columns();
    let sum = |token: usize, out: &mut [f32]| {
        out.fill(0.0);
        for pair in dispatch.of_token(token) {
            let row = place.map_or(pair, |place| place[pair]);
            let weight = weights.map_or(1.0, |weights| weights.f32()[pair]);
            kernels::axpy(weight, &y.f32()[row * d..(row + 1) * d], out);
        }
    };
    Tensor::build(&[dispatch.tokens(), d], |out| {
        if y.len() < PARALLEL_SUM {
            out.chunks_exact_mut(d).enumerate().for_each(|(token, out)| sum(token, out));
        } else {
            out.par_chunks_exact_mut(d).enumerate().for_each(|(token, out)| sum(token, out));
        }
    })
}
