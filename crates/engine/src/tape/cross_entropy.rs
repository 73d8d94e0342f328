//! The language-model head with log-softmax, in chunks: full logits are never held.

use std::cell::OnceCell;
use std::sync::Arc;

use rayon::prelude::*;

use super::{Graph, Var};
use crate::kernels::{self, Compute, Mat, MatMut, Packed};
use crate::params::{ParamId, Params};
use crate::{DType, Error, Result, Tensor, profile};

/// Logits held at a time, in numbers: large enough for full-speed products, small next to a model.
const CHUNK_LOGITS: usize = 16 << 20;

/// Rows per chunk for a vocabulary. Has no influence on results: rows are computed independently.
pub(super) fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_LOGITS / vocabulary.max(1)).clamp(64, 512)
}

/// How hidden states become logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// W: [V, d].
    pub weight: ParamId,
    /// Bound c on logits, where there is one: `c · tanh(logit / c)`.
    pub softcap: Option<f32>,
}

/// A head's weight, packed once for all chunks of one call.
pub(super) struct PackedHead<'a> {
    pub(super) softcap: Option<f32>,
    weight: &'a [f32],
    pub(super) vocabulary: usize,
    width: usize,
    forward: Arc<Packed>,
    /// Packed when the first of several chunks needs it.
    backward: OnceCell<Packed>,
    compute: Compute,
}

impl<'a> PackedHead<'a> {
    pub(super) fn new(weight: &'a Tensor, softcap: Option<f32>) -> Self {
        Self::packed(weight, softcap, Compute::F32, None)
    }

    fn packed(
        weight: &'a Tensor,
        softcap: Option<f32>,
        compute: Compute,
        forward: Option<Arc<Packed>>,
    ) -> Self {
        let _timed = profile::span("head packing");
        let (vocabulary, width) = (weight.rows(), weight.columns());
        let pack = || Arc::new(compute.pack(Mat::new(weight.f32(), vocabulary, width).t()));
        let forward = forward.unwrap_or_else(pack);
        PackedHead {
            softcap,
            weight: weight.f32(),
            vocabulary,
            width,
            forward,
            backward: OnceCell::new(),
            compute,
        }
    }

    /// hidden [n, d] → logits [n, V] into `out`.
    pub(super) fn logits(&self, hidden: &[f32], out: &mut [f32]) {
        let rows = hidden.len() / self.width;
        let _timed = profile::product("forward", "head", [rows, self.vocabulary, self.width]);
        kernels::gemm_packed(
            Mat::new(hidden, rows, self.width),
            &self.forward,
            MatMut::new(out, rows, self.vocabulary),
            false,
        );
        if let Some(cap) = self.softcap {
            kernels::softcap(out, cap);
        }
    }

    /// dLogits [n, V] → dHidden [n, d].
    pub(super) fn hidden_gradient(&self, dlogits: &[f32], out: &mut [f32]) {
        let rows = dlogits.len() / self.vocabulary;
        let weight = Mat::new(self.weight, self.vocabulary, self.width);
        let packed = self.backward.get_or_init(|| {
            let _timed = profile::span("head packing");
            self.compute.pack(weight)
        });
        let _timed = profile::product("input gradient", "head", [rows, self.vocabulary, self.width]);
        let dlogits = Mat::new(dlogits, rows, self.vocabulary);
        kernels::gemm_packed(dlogits, packed, MatMut::new(out, rows, self.width), false);
    }

    /// dW [V, d] += dLogitsᵀ · hidden.
    pub(super) fn weight_gradient(&self, dlogits: &[f32], hidden: &[f32], out: &mut [f32]) {
        let rows = hidden.len() / self.width;
        let _timed = profile::product("weight gradient", "head", [rows, self.vocabulary, self.width]);
        self.compute.product(
            Mat::new(dlogits, rows, self.vocabulary).t(),
            Mat::new(hidden, rows, self.width),
            MatMut::new(out, self.vocabulary, self.width),
            true,
        );
    }
}

/// A parameter as the head, in the model's own precision; inference keeps the packed form.
fn packed_head(params: &Params, head: Head, recording: bool) -> PackedHead<'_> {
    PackedHead::packed(
        &params.get(head.weight).tensor,
        head.softcap,
        params.precision().compute,
        params.packed(head.weight, 1, recording).cloned(),
    )
}

/// What a visit to one row of logits sees: the row's index, its logits (free to be overwritten).
pub(super) fn for_each_chunk(
    head: &PackedHead<'_>,
    hidden: &Tensor,
    mut visit: impl FnMut(usize, &[f32], &mut [f32]) -> Result<()>,
) -> Result<()> {
    let rows = chunk_rows(head.vocabulary);
    let mut buffer = Tensor::stale(&[rows.min(hidden.rows().max(1)), head.vocabulary]);
    for (index, hidden) in hidden.f32().chunks(rows * head.width).enumerate() {
        let logits = &mut buffer.f32_mut()[..hidden.len() / head.width * head.vocabulary];
        head.logits(hidden, logits);
        visit(index * rows, hidden, logits)?;
    }
    Ok(())
}

/// Visits every target with its place in `rows` and the logits that predict it, all rows of a chunk at a time.
fn for_each_target<R: Send>(
    head: &PackedHead<'_>,
    hidden: &Tensor,
    targets: &[u32],
    mut rows: Vec<R>,
    visit: impl Fn(&mut R, &[f32], usize) + Sync,
) -> Result<()> {
    for_each_chunk(head, hidden, |first, _, logits| {
        let chunk = first..first + logits.len() / head.vocabulary;
        rows[chunk.clone()]
            .par_iter_mut()
            .zip(&targets[chunk])
            .zip(logits.par_chunks(head.vocabulary))
            .for_each(|((row, &target), logits)| visit(row, logits, target as usize));
        Ok(())
    })
}

impl<'m> Graph<'m> {
    /// Of every target its log-probability, the bits of [`Graph::token_logprobs`], and whether it is the first
    /// choice, in one pass over the logits: hidden [n, d], head [V, d], targets [n] → [n] each. Nothing is recorded.
    ///
    /// Among equal logits the first in the vocabulary is the choice, as in greedy decoding.
    pub fn scored_targets(&self, hidden: &Var, head: Head, targets: &[u32]) -> Result<(Tensor, Vec<bool>)> {
        self.check_targets(hidden, head, targets)?;
        let mut logprobs = Tensor::stale(&[targets.len()]);
        let mut greedy = vec![false; targets.len()];
        let packed = packed_head(self.params, head, self.is_recording());
        let rows = logprobs.f32_mut().iter_mut().zip(&mut greedy).collect();
        for_each_target(&packed, &hidden.value, targets, rows, |(logprob, greedy), logits, target| {
            **logprob = logits[target] - kernels::log_sum_exp(logits);
            **greedy = kernels::argmax(logits) == target;
        })?;
        Ok((logprobs, greedy))
    }

    /// Log-probability of every target: hidden [n, d], head [V, d], targets [n] → [n].
    ///
    /// The backward pass computes the logits a second time, because the weight of each row is known
    /// only then; where it is known beforehand [`Graph::cross_entropy`] is cheaper.
    pub fn token_logprobs(&mut self, hidden: &Var, head: Head, targets: &[u32]) -> Result<Var> {
        let _timed = profile::span("loss");
        self.check_targets(hidden, head, targets)?;
        let (params, recording) = (self.params, self.is_recording());
        let mut value = Tensor::stale(&[targets.len()]);
        let mut lse = Tensor::stale(&[targets.len()]);
        {
            let packed = packed_head(params, head, recording);
            let rows = value.f32_mut().iter_mut().zip(lse.f32_mut()).collect();
            for_each_target(&packed, &hidden.value, targets, rows, |(value, lse), logits, target| {
                **lse = kernels::log_sum_exp(logits);
                **value = logits[target] - **lse;
            })?;
        }
        let learns = self.learns(head.weight);
        let (hidden, targets) = (hidden.clone(), targets.to_vec());
        Ok(self.push(value, learns || hidden.needs_gradient(), move |back, gradient| {
            let _timed = profile::span("loss backward");
            let packed = packed_head(params, head, recording);
            let vocabulary = packed.vocabulary;
            let mut dhidden = Tensor::stale(hidden.shape());
            for_each_chunk(&packed, &hidden.value, |first, rows_in, logits| {
                let rows = logits.len() / vocabulary;
                logits.par_chunks_mut(vocabulary).enumerate().for_each(|(i, row)| {
                    let row_index = first + i;
                    softmax_gradient(
                        row,
                        lse.f32()[row_index],
                        targets[row_index],
                        -gradient.f32()[row_index],
                        packed.softcap,
                    );
                });
                let width = packed.width;
                packed.hidden_gradient(logits, &mut dhidden.f32_mut()[first * width..(first + rows) * width]);
                if learns {
                    packed.weight_gradient(logits, rows_in, back.param(head.weight));
                }
                Ok(())
            })?;
            back.add(&hidden, dhidden)
        }))
    }

    /// `Σ weight_t · (−log p_t)`: hidden [n, d], head [V, d], targets and weights [n] → scalar.
    ///
    /// The weights are known, so the gradient is made in the same pass over the logits.
    pub fn cross_entropy(
        &mut self,
        hidden: &Var,
        head: Head,
        targets: &[u32],
        weights: &[f32],
    ) -> Result<Var> {
        let _timed = profile::span("loss");
        let weight = self.check_targets(hidden, head, targets)?;
        let (params, recording) = (self.params, self.is_recording());
        if weights.len() != targets.len() {
            return Err(Error::shape("loss weights", &[targets.len()], &[weights.len()]));
        }
        let learns = self.learns(head.weight);
        let needs = learns || (self.is_recording() && hidden.needs_gradient());
        let packed = packed_head(params, head, recording);
        let vocabulary = packed.vocabulary;
        let mut losses = Tensor::stale(&[targets.len()]);
        let mut dhidden = needs.then(|| Tensor::stale(hidden.shape()));
        let mut dweight = learns.then(|| Tensor::zeros(weight.shape(), DType::F32));
        for_each_chunk(&packed, &hidden.value, |first, rows_in, logits| {
            let rows = logits.len() / vocabulary;
            losses.f32_mut()[first..first + rows]
                .par_iter_mut()
                .zip(logits.par_chunks_mut(vocabulary))
                .enumerate()
                .for_each(|(i, (loss, logits))| {
                    let (target, w) = (targets[first + i], weights[first + i]);
                    let lse = kernels::log_sum_exp(logits);
                    *loss = w * (lse - logits[target as usize]);
                    if needs {
                        softmax_gradient(logits, lse, target, w, packed.softcap);
                    }
                });
            if let Some(dhidden) = &mut dhidden {
                let width = packed.width;
                packed.hidden_gradient(logits, &mut dhidden.f32_mut()[first * width..(first + rows) * width]);
            }
            if let Some(dweight) = &mut dweight {
                packed.weight_gradient(logits, rows_in, dweight.f32_mut());
            }
            Ok(())
        })?;
        let total: f64 = losses.f32().iter().map(|&l| f64::from(l)).sum();
        let value = Tensor::from_f32(&[total as f32], &[])?;
        let hidden = hidden.clone();
        Ok(self.push(value, needs, move |back, gradient| {
            let _timed = profile::span("loss backward");
            let factor = gradient.f32()[0];
            if let Some(dweight) = dweight {
                kernels::axpy(factor, dweight.f32(), back.param(head.weight));
            }
            let Some(mut dhidden) = dhidden else { return Ok(()) };
            kernels::scale(factor, dhidden.f32_mut());
            back.add(&hidden, dhidden)
        }))
    }

    fn check_targets(&self, hidden: &Var, head: Head, targets: &[u32]) -> Result<&'m Tensor> {
        let weight = &self.param(head.weight).tensor;
        if hidden.shape() != [targets.len(), weight.columns()] {
            return Err(Error::shape("hidden states", &[targets.len(), weight.columns()], hidden.shape()));
        }
        match targets.iter().find(|&&t| t as usize >= weight.rows()) {
            Some(t) => {
                Err(Error::invalid(format!("target id {t} is outside the vocabulary of {}", weight.rows())))
            }
            None => Ok(weight),
        }
    }
}

/// Replaces logits by `w · (softmax − onehot(target))`, the gradient of `w · (−log p_target)`; with a
/// bound, by the gradient before it.
fn softmax_gradient(logits: &mut [f32], lse: f32, target: u32, w: f32, softcap: Option<f32>) {
    if w == 0.0 {
        logits.fill(0.0);
        return;
    }
    let capped = softcap.map(|cap| (cap, logits.to_vec()));
    exp_minus(logits, lse);
    kernels::scale(w, logits);
    logits[target as usize] -= w;
    if let Some((cap, capped)) = capped {
        kernels::softcap_backward(&capped, cap, logits);
    }
}

/// Replaces logits by `exp(logit − lse)`: probabilities.
pub(super) fn exp_minus(logits: &mut [f32], lse: f32) {
    logits.iter_mut().for_each(|l| *l -= lse);
    kernels::exp_in_place(logits);
}
