//! Kullback–Leibler divergence from a frozen reference, in chunks of rows.

use rayon::prelude::*;

use super::head::{Logits, PackedHead};
use super::{Graph, Head, Var};
use crate::{Error, Result, Tensor, kernels};

impl<'m> Graph<'m> {
    /// `KL(p_ref ‖ p_θ)` of every row: hidden [n, d] under `head`, reference hidden [n, d'] under the
    /// reference head [V, d'] with its bound on logits → `[n]`, in nats.
    pub fn divergence_from(
        &mut self,
        hidden: &Var,
        head: Head,
        reference_hidden: &Tensor,
        (reference_head, reference_softcap): (&Tensor, Option<f32>),
    ) -> Result<Var> {
        let weight = &self.param(head.weight).tensor;
        let rows = hidden.value.rows();
        if reference_hidden.rows() != rows || reference_head.rows() != weight.rows() {
            return Err(Error::shape(
                "reference distribution",
                &[rows, weight.rows()],
                &[reference_hidden.rows(), reference_head.rows()],
            ));
        }
        let mut value = Tensor::stale(&[rows]);
        let mut lse = Tensor::stale(&[rows, 2]);
        with_both(
            &PackedHead::new(weight, head.softcap),
            &hidden.value,
            &PackedHead::new(reference_head, reference_softcap),
            reference_hidden,
            |first, vocabulary, _, ours, theirs| {
                let count = ours.len() / vocabulary;
                value.f32_mut()[first..first + count]
                    .par_iter_mut()
                    .zip(lse.f32_mut()[2 * first..2 * (first + count)].par_chunks_mut(2))
                    .zip(ours.par_chunks(vocabulary).zip(theirs.par_chunks(vocabulary)))
                    .for_each(|((value, lse), (ours, theirs))| {
                        lse[0] = kernels::log_sum_exp(ours);
                        lse[1] = kernels::log_sum_exp(theirs);
                        let sum: f64 = ours
                            .iter()
                            .zip(theirs)
                            .map(|(&z, &r)| {
                                let log_reference = f64::from(r - lse[1]);
                                log_reference.exp() * (log_reference - f64::from(z - lse[0]))
                            })
                            .sum();
                        *value = sum as f32;
                    });
                Ok(())
            },
        )?;
        let learns = self.learns(head.weight);
        let hidden = hidden.clone();
        let (reference_hidden, reference_head) = (reference_hidden.clone(), reference_head.clone());
        Ok(self.push(value, learns || hidden.needs_gradient(), move |back, gradient| {
            let packed = PackedHead::new(weight, head.softcap);
            let width = weight.columns();
            let mut dhidden = Tensor::stale(hidden.shape());
            with_both(
                &packed,
                &hidden.value,
                &PackedHead::new(&reference_head, reference_softcap),
                &reference_hidden,
                |first, vocabulary, rows_in, ours, theirs| {
                    let count = ours.len() / vocabulary;
                    ours.par_chunks_mut(vocabulary)
                        .zip(theirs.par_chunks_mut(vocabulary))
                        .enumerate()
                        .for_each(|(i, (ours, theirs))| {
                            let row = first + i;
                            let capped = packed.softcap.map(|cap| (cap, ours.to_vec()));
                            kernels::scaled_exp(ours, lse.f32()[2 * row], 1.0);
                            kernels::scaled_exp(theirs, lse.f32()[2 * row + 1], 1.0);
                            kernels::axpy(-1.0, theirs, ours);
                            kernels::scale(gradient.f32()[row], ours);
                            if let Some((cap, capped)) = capped {
                                kernels::softcap_backward(&capped, cap, ours);
                            }
                        });
                    packed.hidden_gradient(
                        ours,
                        &mut dhidden.f32_mut()[first * width..(first + count) * width],
                    );
                    if learns {
                        packed.weight_gradient(ours, rows_in, back.param(head.weight));
                    }
                    Ok(())
                },
            )?;
            back.add(&hidden, dhidden)
        }))
    }
}

/// Visits the logits of model and reference together, chunk by chunk:
/// `visit(first row, V, hidden rows, logits, reference logits)`.
fn with_both(
    head: &PackedHead<'_>,
    hidden: &Tensor,
    reference: &PackedHead<'_>,
    reference_hidden: &Tensor,
    mut visit: impl FnMut(usize, usize, &[f32], &mut [f32], &mut [f32]) -> Result<()>,
) -> Result<()> {
    let vocabulary = head.vocabulary;
    let reference_width = reference_hidden.columns();
    let mut buffer = Tensor::stale(&[0]);
    let mut logits = Logits::of_chunk(head, hidden.rows());
    logits.for_each_chunk(head, hidden, |first, rows_in, logits| {
        if buffer.len() < logits.len() {
            buffer = Tensor::stale(&[logits.len()]);
        }
        let count = logits.len() / vocabulary;
        let theirs = &mut buffer.f32_mut()[..logits.len()];
        let reference_rows = first * reference_width..(first + count) * reference_width;
        reference.logits(&reference_hidden.f32()[reference_rows], theirs);
        visit(first, vocabulary, rows_in, logits, theirs)
    })
}
