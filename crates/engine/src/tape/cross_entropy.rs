//! Log-softmax under the language-model head, in chunks: the logits of a long text are never held.

use rayon::prelude::*;

use super::head::{Head, Logits, PackedHead, packed_head};
use super::{Graph, Var};
use crate::{DType, Error, Result, Tensor, kernels, profile};

/// Visits every target with its place in `rows` and the logits that predict it, all rows of a chunk at a time.
fn for_each_target<R: Send>(
    logits: &mut Logits,
    head: &PackedHead<'_>,
    hidden: &Tensor,
    targets: &[u32],
    mut rows: Vec<R>,
    visit: impl Fn(&mut R, &[f32], usize) + Sync,
) -> Result<()> {
    logits.for_each_chunk(head, hidden, |first, _, logits| {
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
    /// choice, in one pass over the logits: hidden [n, d], head [V, d], targets `[n]` → `[n]` each. Nothing is recorded.
    ///
    /// Among equal logits the first in the vocabulary is the choice, as in greedy decoding.
    pub fn scored_targets(&self, hidden: &Var, head: Head, targets: &[u32]) -> Result<(Tensor, Vec<bool>)> {
        self.check_targets(hidden, head, targets)?;
        let mut logprobs = Tensor::stale(&[targets.len()]);
        let mut greedy = vec![false; targets.len()];
        let packed = packed_head(self.params, head, self.is_recording());
        let rows = logprobs.f32_mut().iter_mut().zip(&mut greedy).collect();
        let mut logits = Logits::of_chunk(&packed, targets.len());
        let hidden = &hidden.value;
        for_each_target(&mut logits, &packed, hidden, targets, rows, |(logprob, greedy), logits, target| {
            **logprob = logits[target] - kernels::log_sum_exp(logits);
            **greedy = kernels::argmax(logits) == target;
        })?;
        Ok((logprobs, greedy))
    }

    /// Log-probability of every target: hidden [n, d], head [V, d], targets `[n]` → `[n]`.
    ///
    /// The weight of each row is known in the backward pass only: until then the logits are kept where they are
    /// few, and computed a second time where they are not. Where the weights are known beforehand
    /// [`Graph::cross_entropy`] is cheaper.
    pub fn token_logprobs(&mut self, hidden: &Var, head: Head, targets: &[u32]) -> Result<Var> {
        let _timed = profile::span("loss");
        self.check_targets(hidden, head, targets)?;
        let (params, recording) = (self.params, self.is_recording());
        let mut value = Tensor::stale(&[targets.len()]);
        let mut lse = Tensor::stale(&[targets.len()]);
        let learns = self.learns(head.weight);
        let needs = recording && (learns || hidden.needs_gradient());
        let mut kept = None;
        {
            let packed = packed_head(params, head, recording);
            if needs {
                kept = Logits::kept(&packed, targets.len());
            }
            let mut of_chunk = None;
            let logits = match &mut kept {
                Some(kept) => kept,
                None => of_chunk.insert(Logits::of_chunk(&packed, targets.len())),
            };
            let rows = value.f32_mut().iter_mut().zip(lse.f32_mut()).collect();
            for_each_target(
                logits,
                &packed,
                &hidden.value,
                targets,
                rows,
                |(value, lse), logits, target| {
                    **lse = kernels::log_sum_exp(logits);
                    **value = logits[target] - **lse;
                },
            )?;
        }
        let (hidden, targets) = (hidden.clone(), targets.to_vec());
        Ok(self.push(value, needs, move |back, gradient| {
            let _timed = profile::span("loss backward");
            let packed = packed_head(params, head, recording);
            let vocabulary = packed.vocabulary;
            let mut dhidden = Tensor::stale(hidden.shape());
            let mut logits = kept.unwrap_or_else(|| Logits::of_chunk(&packed, targets.len()));
            logits.for_each_chunk(&packed, &hidden.value, |first, rows_in, logits| {
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

    /// `Σ weight_t · (−log p_t)`: hidden [n, d], head [V, d], targets and weights `[n]` → scalar.
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
        let mut logits = Logits::of_chunk(&packed, targets.len());
        logits.for_each_chunk(&packed, &hidden.value, |first, rows_in, logits| {
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
    kernels::scaled_exp(logits, lse, w);
    logits[target as usize] -= w;
    if let Some((cap, capped)) = capped {
        kernels::softcap_backward(&capped, cap, logits);
    }
}
