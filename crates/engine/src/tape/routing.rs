//! Routing in a mixture of experts: who goes where, and with what weight.

use std::ops::Range;
use std::sync::Arc;

use super::{Graph, Var};
use crate::kernels;
use crate::{Error, Result, Tensor};

/// The k experts of every token, and the (token, slot) pairs sorted by expert.
///
/// Pair `token · k + slot` stands for one of a token's experts. Sorting makes the rows of one expert
/// contiguous, so that each of its matrices takes part in one product.
#[derive(Debug, Clone)]
pub struct Dispatch {
    per_token: usize,
    experts: usize,
    chosen: Vec<u32>,
    pairs: Vec<usize>,
    place: Vec<usize>,
    groups: Vec<Group>,
}

/// One expert that has work, and which of the sorted rows are its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The expert.
    pub expert: usize,
    /// Its rows among the sorted pairs.
    pub rows: Range<usize>,
}

impl Dispatch {
    /// Sorts a choice: `chosen` holds `per_token` experts below `experts` for every token, best first.
    ///
    /// Rows of one expert stay in the order of their tokens.
    pub fn new(chosen: Vec<u32>, experts: usize, per_token: usize) -> Result<Self> {
        if per_token == 0 || !chosen.len().is_multiple_of(per_token) {
            return Err(Error::invalid(format!("{} choices are not {per_token} per token", chosen.len())));
        }
        let mut starts = vec![0; experts + 1];
        for &expert in &chosen {
            match starts.get_mut(expert as usize + 1) {
                Some(count) => *count += 1,
                None => return Err(Error::invalid(format!("expert {expert} of a layer that has {experts}"))),
            }
        }
        for e in 0..experts {
            starts[e + 1] += starts[e];
        }
        let groups = (0..experts)
            .map(|expert| Group { expert, rows: starts[expert]..starts[expert + 1] })
            .filter(|group| !group.rows.is_empty())
            .collect();
        let (mut pairs, mut place) = (vec![0; chosen.len()], vec![0; chosen.len()]);
        for (pair, &expert) in chosen.iter().enumerate() {
            let row = starts[expert as usize];
            starts[expert as usize] += 1;
            pairs[row] = pair;
            place[pair] = row;
        }
        Ok(Dispatch { per_token, experts, chosen, pairs, place, groups })
    }

    /// The k largest of every row of `scores` [T, E], largest first; of equals the lower index.
    pub fn top_k(scores: &Tensor, per_token: usize) -> Result<Self> {
        let experts = scores.columns();
        if per_token > experts {
            return Err(Error::invalid(format!("{per_token} of {experts} experts per token")));
        }
        let mut chosen: Vec<u32> = Vec::with_capacity(scores.rows() * per_token);
        for row in scores.f32().chunks_exact(experts.max(1)) {
            let start = chosen.len();
            for _ in 0..per_token {
                let mut best: Option<usize> = None;
                for (e, &score) in row.iter().enumerate() {
                    if best.is_none_or(|b| score > row[b]) && !chosen[start..].contains(&(e as u32)) {
                        best = Some(e);
                    }
                }
                chosen.extend(best.map(|e| e as u32));
            }
        }
        Self::new(chosen, experts, per_token)
    }

    /// Number of tokens T.
    pub fn tokens(&self) -> usize {
        self.chosen.len() / self.per_token
    }

    /// Experts per token k.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// Number of experts E, with work or without.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Every token's experts, best first: [T·k].
    pub fn chosen(&self) -> &[u32] {
        &self.chosen
    }

    /// The pairs sorted by expert: [T·k].
    pub fn pairs(&self) -> &[usize] {
        &self.pairs
    }

    /// Row of every pair among the sorted ones: [T·k].
    pub fn place(&self) -> &[usize] {
        &self.place
    }

    /// Experts that have work, in ascending order; their rows follow one another without a gap.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Tokens whose pairs stand in the given sorted rows.
    pub fn tokens_of(&self, rows: &Range<usize>) -> impl Iterator<Item = usize> {
        self.pairs[rows.clone()].iter().map(|pair| pair / self.per_token)
    }
}

/// What a router did in one forward pass.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Scores of every token for every expert: [T, E].
    pub logits: Var,
    /// The choice that was made from them.
    pub dispatch: Arc<Dispatch>,
}

impl<'m> Graph<'m> {
    /// Probabilities of the chosen experts: probs [T, E] → [T, k], divided by their sum where
    /// `renormalise` says so. The choice itself has no gradient.
    pub fn routing_weights(
        &mut self,
        probs: &Var,
        dispatch: &Arc<Dispatch>,
        renormalise: bool,
    ) -> Result<Var> {
        let (tokens, k, experts) = (dispatch.tokens(), dispatch.per_token, dispatch.experts);
        if probs.shape() != [tokens, experts] {
            return Err(Error::shape("router probabilities", &[tokens, experts], probs.shape()));
        }
        let mut sums = vec![1.0f32; tokens];
        let value = Tensor::build(&[tokens, k], |out| {
            let rows = probs.value.f32().chunks_exact(experts).zip(dispatch.chosen.chunks_exact(k));
            for ((out, sum), (probs, chosen)) in out.chunks_exact_mut(k).zip(&mut sums).zip(rows) {
                out.iter_mut().zip(chosen).for_each(|(w, &e)| *w = probs[e as usize]);
                if renormalise {
                    *sum = out.iter().sum();
                    out.iter_mut().for_each(|w| *w /= *sum);
                }
            }
        });
        let (probs, weights, dispatch) = (probs.clone(), value.clone(), dispatch.clone());
        Ok(self.push(value, probs.needs_gradient(), move |back, gradient| {
            back.add_with(&probs, |dprobs| {
                let rows = gradient.f32().chunks_exact(k).zip(weights.f32().chunks_exact(k));
                for (((dprobs, chosen), sum), (g, w)) in
                    dprobs.chunks_exact_mut(experts).zip(dispatch.chosen.chunks_exact(k)).zip(&sums).zip(rows)
                {
                    // w = p / Σp: dp = (g − ⟨g, w⟩) / Σp
                    let inner = if renormalise { kernels::dot(g, w) as f32 } else { 0.0 };
                    for (&e, &g) in chosen.iter().zip(g) {
                        dprobs[e as usize] += (g - inner) / sum;
                    }
                }
            });
            Ok(())
        }))
    }

    /// `ln Σ_j exp x_j` of every row: [T, n] → [T].
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_by_expert_and_then_by_token() {
        let dispatch = Dispatch::new(vec![2, 0, 0, 3, 2, 3], 5, 2).unwrap();
        assert_eq!(dispatch.pairs(), [1, 2, 0, 4, 3, 5]);
        let groups: Vec<_> = dispatch.groups().iter().map(|g| (g.expert, g.rows.clone())).collect();
        assert_eq!(groups, [(0, 0..2), (2, 2..4), (3, 4..6)]);
        assert_eq!(dispatch.tokens_of(&(2..4)).collect::<Vec<_>>(), [0, 2]);
        assert!(dispatch.pairs().iter().enumerate().all(|(row, &pair)| dispatch.place()[pair] == row));
    }

    #[test]
    fn the_largest_are_chosen_and_ties_go_to_the_lower_index() {
        let scores = Tensor::from_f32(&[0.1, 0.5, 0.2, 0.2, 0.25, 0.25, 0.25, 0.25], &[2, 4]).unwrap();
        assert_eq!(Dispatch::top_k(&scores, 3).unwrap().chosen(), [1, 2, 3, 0, 1, 2]);
        assert!(Dispatch::top_k(&scores, 5).is_err());
    }

    #[test]
    fn broken_scores_still_give_distinct_experts() {
        let scores = Tensor::from_f32(&[f32::NAN; 4], &[1, 4]).unwrap();
        assert_eq!(Dispatch::top_k(&scores, 2).unwrap().chosen(), [0, 1]);
    }

    #[test]
    fn impossible_choices_are_refused() {
        assert!(Dispatch::new(vec![0, 4], 4, 2).is_err());
        assert!(Dispatch::new(vec![0, 1, 2], 4, 2).is_err());
    }
}
