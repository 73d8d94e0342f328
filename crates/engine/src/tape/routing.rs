//! Routing in a mixture of experts: the weight with which a token goes to its experts.

use std::sync::Arc;

use super::{Dispatch, Graph, Var};
use crate::kernels;
use crate::{Error, Result, Tensor};

/// What a router did in one forward pass.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Scores of every token for every expert: [T, E].
    pub logits: Var,
    /// The choice that was made from them.
    pub dispatch: Arc<Dispatch>,
}

impl<'m> Graph<'m> {
    /// Probabilities of the chosen experts: probs [T, E] → one per pair ([`Dispatch::shape`]), divided by
    /// the sum over the token's experts where `renormalise` says so. The choice itself has no gradient.
    pub fn routing_weights(
        &mut self,
        probs: &Var,
        dispatch: &Arc<Dispatch>,
        renormalise: bool,
    ) -> Result<Var> {
        let (tokens, experts) = (dispatch.tokens(), dispatch.experts());
        if probs.shape() != [tokens, experts] {
            return Err(Error::shape("router probabilities", &[tokens, experts], probs.shape()));
        }
        let mut sums = vec![1.0f32; tokens];
        let value = Tensor::build(&dispatch.shape(), |out| {
            for (token, probs) in probs.value.f32().chunks_exact(experts).enumerate() {
                let own = dispatch.of_token(token);
                let (out, chosen) = (&mut out[own.clone()], &dispatch.chosen()[own]);
                out.iter_mut().zip(chosen).for_each(|(w, &e)| *w = probs[e as usize]);
                if renormalise {
                    sums[token] = out.iter().sum();
                    out.iter_mut().for_each(|w| *w /= sums[token]);
                }
            }
        });
        let (probs, weights, dispatch) = (probs.clone(), value.clone(), dispatch.clone());
        Ok(self.push(value, probs.needs_gradient(), move |back, gradient| {
            back.add_with(&probs, |dprobs| {
                for (token, (dprobs, sum)) in dprobs.chunks_exact_mut(experts).zip(&sums).enumerate() {
                    let own = dispatch.of_token(token);
                    let (g, w) = (&gradient.f32()[own.clone()], &weights.f32()[own.clone()]);
                    // w = p / Σp: dp = (g − ⟨g, w⟩) / Σp
                    let inner = if renormalise { kernels::dot(g, w) as f32 } else { 0.0 };
                    for (&e, &g) in dispatch.chosen()[own].iter().zip(g) {
                        dprobs[e as usize] += (g - inner) / sum;
                    }
                }
            });
            Ok(())
        }))
    }

    /// `ln Σ_j exp x_j` of every row: [T, n] → `[T]`.
    pub fn log_sum_exp(&mut self, x: &Var) -> Result<Var> {
        let columns = x.value.columns();
        let value = Tensor::build(&[x.value.rows()], |out| {
            for (out, row) in out.iter_mut().zip(x.value.f32().chunks_exact(columns)) {
                *out = kernels::log_sum_exp(row);
            }
        });
        let x = x.clone();
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            let mut dx = x.value.clone();
            kernels::softmax_rows(dx.f32_mut(), columns);
            for (row, &g) in dx.f32_mut().chunks_exact_mut(columns).zip(gradient.f32()) {
                kernels::scale(g, row);
            }
            back.add(&x, dx)
        }))
    }

    /// Notes what a router did, where the graph keeps that.
    pub(crate) fn note_routing(&mut self, logits: &Var, dispatch: &Arc<Dispatch>) {
        if let Some(routings) = &mut self.routings {
            routings.push(Routing { logits: logits.clone(), dispatch: dispatch.clone() });
        }
    }
}
