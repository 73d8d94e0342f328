//! Who goes to which expert: any number of experts per token, sorted by expert.

use std::cmp::Ordering;
use std::ops::Range;

use crate::{Error, Result, Tensor};

/// The experts of every token, and the (token, expert) pairs sorted by expert.
///
/// A token's pairs follow one another, those of the first token first. Sorting makes the rows of one expert
/// contiguous, so that each of its matrices takes part in one product. A token that no expert takes has no
/// pairs, and what experts add to it is zero.
#[derive(Debug, Clone)]
pub struct Dispatch {
    experts: usize,
    chosen: Vec<u32>,
    /// Where the pairs of every token start, and behind them their number: [T + 1].
    starts: Vec<usize>,
    tokens: Vec<usize>,
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
    /// Sorts a choice: `chosen` holds experts below `experts` token by token, `counts[t]` of them for token t.
    ///
    /// Rows of one expert stay in the order of their tokens.
    pub fn new(chosen: Vec<u32>, counts: impl IntoIterator<Item = usize>, experts: usize) -> Result<Self> {
        let (mut starts, mut tokens) = (vec![0], Vec::with_capacity(chosen.len()));
        for (token, count) in counts.into_iter().enumerate() {
            tokens.extend(std::iter::repeat_n(token, count));
            starts.push(tokens.len());
        }
        if tokens.len() != chosen.len() {
            return Err(Error::invalid(format!(
                "{} experts are chosen for tokens that have {} in all",
                chosen.len(),
                tokens.len()
            )));
        }
        let mut first = vec![0; experts + 1];
        for &expert in &chosen {
            match first.get_mut(expert as usize + 1) {
                Some(count) => *count += 1,
                None => return Err(Error::invalid(format!("expert {expert} of a layer that has {experts}"))),
            }
        }
        for e in 0..experts {
            first[e + 1] += first[e];
        }
        let groups = (0..experts)
            .map(|expert| Group { expert, rows: first[expert]..first[expert + 1] })
            .filter(|group| !group.rows.is_empty())
            .collect();
        let (mut pairs, mut place) = (vec![0; chosen.len()], vec![0; chosen.len()]);
        for (pair, &expert) in chosen.iter().enumerate() {
            let row = first[expert as usize];
            first[expert as usize] += 1;
            pairs[row] = pair;
            place[pair] = row;
        }
        Ok(Dispatch { experts, chosen, starts, tokens, pairs, place, groups })
    }

    /// Tokens choose: the k largest of every row of `scores` [T, E], largest first.
    pub fn top_k(scores: &Tensor, per_token: usize) -> Result<Self> {
        let experts = scores.columns();
        if per_token > experts {
            return Err(Error::invalid(format!("{per_token} of {experts} experts per token")));
        }
        let mut chosen: Vec<u32> = Vec::with_capacity(scores.rows() * per_token);
        for row in scores.f32().chunks_exact(experts.max(1)) {
            chosen.extend(largest(row.len(), per_token, |e| row[e]).into_iter().map(|e| e as u32));
        }
        Self::new(chosen, std::iter::repeat_n(per_token, scores.rows()), experts)
    }

    /// Experts choose: within every sequence of n rows each takes the `capacity(n)` tokens whose scores
    /// [T, E] for it are largest, or all where there are fewer. A token's experts stand in ascending order.
    ///
    /// Whom a token goes to depends on the later tokens of its sequence, so this is for models that read
    /// both ways; on other sequences it does not depend.
    pub fn expert_choice(
        scores: &Tensor,
        sequences: &[Range<usize>],
        capacity: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let (tokens, experts) = (scores.rows(), scores.columns());
        if let Some(rows) = sequences.iter().find(|rows| rows.end > tokens) {
            return Err(Error::shape("router scores", &[rows.end, experts], scores.shape()));
        }
        let mut taken = vec![false; tokens * experts];
        for rows in sequences {
            let places = capacity(rows.len()).min(rows.len());
            for e in 0..experts {
                let score = |i: usize| scores.f32()[(rows.start + i) * experts + e];
                for i in largest(rows.len(), places, score) {
                    taken[(rows.start + i) * experts + e] = true;
                }
            }
        }
        let by_token = || taken.chunks_exact(experts.max(1));
        let of_token = |row: &[bool]| (0..experts as u32).filter(|&e| row[e as usize]).collect::<Vec<_>>();
        let chosen = by_token().flat_map(of_token).collect();
        Self::new(chosen, by_token().map(|row| row.iter().filter(|&&t| t).count()), experts)
    }

    /// Number of tokens T.
    pub fn tokens(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of experts E, with work or without.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Every token's experts, token by token: `[pairs]`.
    pub fn chosen(&self) -> &[u32] {
        &self.chosen
    }

    /// The pairs of a token.
    pub fn of_token(&self, token: usize) -> Range<usize> {
        self.starts[token]..self.starts[token + 1]
    }

    /// Token of every pair: `[pairs]`.
    pub fn token_of(&self) -> &[usize] {
        &self.tokens
    }

    /// The pairs sorted by expert: `[pairs]`.
    pub fn pairs(&self) -> &[usize] {
        &self.pairs
    }

    /// Row of every pair among the sorted ones: `[pairs]`.
    pub fn place(&self) -> &[usize] {
        &self.place
    }

    /// Experts that have work, in ascending order; their rows follow one another without a gap.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Tokens whose pairs stand in the given sorted rows.
    pub fn tokens_of(&self, rows: &Range<usize>) -> impl Iterator<Item = usize> {
        self.pairs[rows.clone()].iter().map(|&pair| self.tokens[pair])
    }

    /// Shape of what has a value per pair: [T, k] where all tokens have k experts, otherwise `[pairs]`.
    pub fn shape(&self) -> Vec<usize> {
        let tokens = self.tokens();
        let per_token = self.chosen.len().checked_div(tokens).unwrap_or(0);
        match (0..tokens).all(|token| self.of_token(token).len() == per_token) {
            true => vec![tokens, per_token],
            false => vec![self.chosen.len()],
        }
    }
}

/// The `wanted` of `count` places with the largest scores, largest first; of equals the first. A score that
/// is no number comes last.
fn largest(count: usize, wanted: usize, score: impl Fn(usize) -> f32) -> Vec<usize> {
    let score = |i: usize| Some(score(i)).filter(|s| !s.is_nan()).unwrap_or(f32::NEG_INFINITY);
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(|&a, &b| score(b).partial_cmp(&score(a)).unwrap_or(Ordering::Equal));
    places.truncate(wanted);
    places
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one sequence is a list of one range of rows")]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_by_expert_and_then_by_token() {
        let dispatch = Dispatch::new(vec![2, 0, 0, 3, 2, 3], [2, 2, 2], 5).unwrap();
        assert_eq!(dispatch.pairs(), [1, 2, 0, 4, 3, 5]);
        let groups: Vec<_> = dispatch.groups().iter().map(|g| (g.expert, g.rows.clone())).collect();
        assert_eq!(groups, [(0, 0..2), (2, 2..4), (3, 4..6)]);
        assert_eq!(dispatch.tokens_of(&(2..4)).collect::<Vec<_>>(), [0, 2]);
        assert!(dispatch.pairs().iter().enumerate().all(|(row, &pair)| dispatch.place()[pair] == row));
        assert_eq!(dispatch.shape(), [3, 2]);
    }

    #[test]
    fn tokens_may_have_different_numbers_of_experts_or_none() {
        let dispatch = Dispatch::new(vec![1, 0, 1, 2], [1, 0, 3, 0], 3).unwrap();
        assert_eq!(dispatch.tokens(), 4);
        assert_eq!((0..4).map(|t| dispatch.of_token(t)).collect::<Vec<_>>(), [0..1, 1..1, 1..4, 4..4]);
        assert_eq!(dispatch.tokens_of(&(0..4)).collect::<Vec<_>>(), [2, 0, 2, 2]);
        assert_eq!(dispatch.shape(), [4]);
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

    /// Expert 0 takes the first two tokens, expert 1 the second and the third, nobody the fourth.
    #[test]
    fn experts_choose_within_a_sequence() {
        let one = [2.0, 0.0, 1.0, 1.0, 0.0, 3.0, -1.0, 0.5];
        let scores = Tensor::from_f32(&one, &[4, 2]).unwrap();
        let alone = Dispatch::expert_choice(&scores, &[0..4], |_| 2).unwrap();
        assert_eq!(alone.chosen(), [0, 0, 1, 1]);
        assert_eq!((0..4).map(|t| alone.of_token(t).len()).collect::<Vec<_>>(), [1, 2, 1, 0]);
        // Every expert has as many tokens as every other, and what one sequence chooses is not the other's.
        let both = Tensor::from_f32(&[one, one.map(|x| -x)].concat(), &[8, 2]).unwrap();
        let both = Dispatch::expert_choice(&both, &[0..4, 4..8], |_| 2).unwrap();
        assert_eq!(both.chosen()[..4], *alone.chosen());
        assert!(both.groups().iter().all(|group| group.rows.len() == 4));
        // A capacity beyond the sequence takes all of it.
        assert_eq!(Dispatch::expert_choice(&scores, &[0..4], |n| 3 * n).unwrap().shape(), [4, 2]);
        assert!(Dispatch::expert_choice(&scores, &[0..5], |_| 1).is_err());
    }

    #[test]
    fn impossible_choices_are_refused() {
        assert!(Dispatch::new(vec![0, 4], [2], 4).is_err());
        assert!(Dispatch::new(vec![0, 1, 2], [2], 4).is_err());
    }
}
