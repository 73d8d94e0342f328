//! How the next token is chosen.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::{Error, Result, Rng, kernels};

/// Sampling settings; the default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 is greedy: the most likely token, the lowest id among equals.
    pub temperature: f32,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this share as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divide positive and multiply negative logits of tokens already there by this (arXiv 1909.05858).
    pub repetition_penalty: f32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampling {
    pub(super) fn check(&self) -> Result<()> {
        let in_unit = |x: f32| (0.0..=1.0).contains(&x);
        let problem = if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            format!("temperature {} must be 0 (greedy) or above", self.temperature)
        } else if !(in_unit(self.top_p) && self.top_p > 0.0) {
            format!("top-p {} must be above 0 and at most 1", self.top_p)
        } else if !in_unit(self.min_p) {
            format!("min-p {} must be between 0 and 1", self.min_p)
        } else if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            format!("repetition penalty {} must be above 0", self.repetition_penalty)
        } else {
            return Ok(());
        };
        Err(Error::invalid(problem))
    }

    /// Chooses from `logits` at `place` = [key of the draws, sample, token].
    ///
    /// The order is that of the reference implementation (transformers): repetition penalty, what is
    /// allowed, temperature, top-k, top-p, min-p. Tokens as likely as the last of the top k are kept too;
    /// among equals, top-p takes lower ids first.
    pub(super) fn choose(
        &self,
        logits: &[f32],
        seen: &BTreeSet<u32>,
        candidates: Candidates<'_>,
        place: [u64; 3],
    ) -> u32 {
        let mut penalised = Vec::new();
        let mut logits = logits;
        if self.repetition_penalty != 1.0 {
            penalised.extend_from_slice(logits);
            for &id in seen {
                if let Some(l) = penalised.get_mut(id as usize) {
                    *l = if *l > 0.0 { *l / self.repetition_penalty } else { *l * self.repetition_penalty };
                }
            }
            logits = &penalised;
        }
        let with_logit = |&id: &u32| (id, logits[id as usize]);
        match candidates {
            Candidates::All if self.temperature == 0.0 => kernels::argmax(logits) as u32,
            Candidates::All => self.draw((0..).zip(logits.iter().copied()).collect(), place),
            Candidates::Only([only]) => *only,
            Candidates::Only(ids) if self.temperature == 0.0 => {
                ids.iter().map(with_logit).min_by(likelier).map_or(0, |(id, _)| id)
            }
            Candidates::Only(ids) => self.draw(ids.iter().map(with_logit).collect(), place),
        }
    }

    fn draw(&self, logits: Vec<(u32, f32)>, [key, sample, token]: [u64; 3]) -> u32 {
        let (mut kept, total) = self.kept(logits);
        let mut left = Rng::at(&[self.seed, key, sample, token]).uniform() * total;
        let (mut at, mut chosen) = (0, 0);
        while let Some((id, w)) = kept.get(at) {
            chosen = id;
            left -= w;
            if left < 0.0 {
                break;
            }
            at += 1;
        }
        chosen
    }

    /// What the filters leave, with weights relative to the likeliest, and the sum of these.
    fn kept(&self, mut logits: Vec<(u32, f32)>) -> (Descending, f64) {
        if (1..logits.len()).contains(&self.top_k) {
            let (_, &mut (_, last), _) = logits.select_nth_unstable_by(self.top_k - 1, likelier);
            logits.retain(|&(_, l)| l >= last);
        }
        let top = logits.iter().map(|&(_, l)| l).fold(f32::NEG_INFINITY, f32::max);
        let weight = |l: f32| {
            // Said apart because the difference of two infinities is no number.
            if l == top { 1.0 } else { ((f64::from(l) - f64::from(top)) / f64::from(self.temperature)).exp() }
        };
        let weights = logits.into_iter().map(|(id, l)| (id, weight(l)));
        let sum = |weights: &[(u32, f64)]| weights.iter().map(|w| w.1).sum::<f64>();
        let likely = |w: f64| w >= f64::from(self.min_p);
        if self.top_p >= 1.0 {
            let kept = Descending::new(weights.filter(|&(_, w)| likely(w)).collect());
            let total = sum(&kept.items);
            return (kept, total);
        }
        let mut kept = Descending::new(weights.collect());
        let enough = f64::from(self.top_p) * sum(&kept.items);
        let (mut count, mut reached) = (0, 0.0);
        while reached < enough
            && let Some((_, w)) = kept.get(count).filter(|&(_, w)| likely(w))
        {
            reached += w;
            count += 1;
        }
        kept.items.truncate(count);
        (kept, reached)
    }
}

/// What is chosen from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Candidates<'c> {
    /// The whole vocabulary.
    All,
    /// These ids.
    Only(&'c [u32]),
}

/// Likelier tokens first, lower ids among equals.
pub(super) fn likelier<T: PartialOrd>(a: &(u32, T), b: &(u32, T)) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

/// Weights from the greatest to the least, of which no more are sorted than are asked for.
struct Descending {
    items: Vec<(u32, f64)>,
    sorted: usize,
}

impl Descending {
    fn new(items: Vec<(u32, f64)>) -> Self {
        Descending { items, sorted: 0 }
    }

    fn get(&mut self, i: usize) -> Option<(u32, f64)> {
        while i >= self.sorted && self.sorted < self.items.len() {
            let rest = &mut self.items[self.sorted..];
            // Twice as many each time: the whole is never sorted more than once over.
            let more = self.sorted.max(64).min(rest.len());
            if more < rest.len() {
                rest.select_nth_unstable_by(more, likelier);
            }
            rest[..more].sort_unstable_by(likelier);
            self.sorted += more;
        }
        self.items.get(i).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(s: &Sampling, logits: &[f32], token: u64) -> u32 {
        s.choose(logits, &BTreeSet::new(), Candidates::All, [0, 0, token])
    }

    #[test]
    fn filters_keep_what_they_promise() {
        let logits = [0.0, 3.0, 2.0, -5.0];
        let draw = |s: &Sampling| -> BTreeSet<u32> { (0..400).map(|t| choose(s, &logits, t)).collect() };
        let base = Sampling { temperature: 1.0, ..Default::default() };
        assert_eq!(draw(&Sampling { top_k: 2, ..base.clone() }), [1, 2].into());
        assert_eq!(draw(&Sampling { top_p: 0.5, ..base.clone() }), [1].into());
        assert_eq!(draw(&Sampling { min_p: 0.2, ..base.clone() }), [1, 2].into());
        assert!(draw(&base).len() >= 3);
        assert_eq!(choose(&Sampling::default(), &logits, 0), 1);
        let penalty = Sampling { repetition_penalty: 4.0, ..Default::default() };
        assert_eq!(penalty.choose(&logits, &[1].into(), Candidates::All, [0; 3]), 2);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let s = Sampling { temperature: 1.0, ..Default::default() };
        let hits = (0..20_000).filter(|&t| choose(&s, &[0.0, 1.0], t) == 1).count();
        assert!((hits as f64 / 20_000.0 - 0.7311).abs() < 0.01);
    }

    /// The definitions, one after the other on the whole sorted vocabulary.
    fn by_definition(s: &Sampling, logits: &[f32], token: u64) -> u32 {
        let top = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let weigh = |l: f32| ((f64::from(l) - top) / f64::from(s.temperature)).exp();
        let mut kept: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|&l| weigh(l))).collect();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if s.top_k > 0 && s.top_k < kept.len() {
            let last = kept[s.top_k - 1].1;
            kept.retain(|k| k.1 >= last);
        }
        // A token goes where those before it are already enough.
        let all: f64 = kept.iter().map(|k| k.1).sum();
        let mut before = 0.0;
        kept.retain(|k| {
            before += k.1;
            s.top_p >= 1.0 || before - k.1 < f64::from(s.top_p) * all
        });
        kept.retain(|k| k.1 >= f64::from(s.min_p));
        let mut left = Rng::at(&[s.seed, 0, 0, token]).uniform() * kept.iter().map(|k| k.1).sum::<f64>();
        let chosen = kept.iter().find(|k| {
            left -= k.1;
            left < 0.0
        });
        chosen.or(kept.last()).unwrap().0
    }

    #[test]
    fn a_part_that_is_sorted_draws_what_the_whole_would() {
        let mut rng = Rng::named(1, "sampling");
        for round in 0..600 {
            let n = 1 + rng.below(700);
            // Rounded, so that many are equal.
            let logits: Vec<f32> = (0..n).map(|_| ((rng.normal() * 8.0).round() / 4.0) as f32).collect();
            let s = Sampling {
                temperature: [0.3, 1.0, 2.5][rng.below(3)],
                top_k: [0, 1, 7, 50, 5000][rng.below(5)],
                top_p: [1.0, 0.95, 0.5, 1e-6][rng.below(4)],
                min_p: [0.0, 0.02, 0.5, 1.0][rng.below(4)],
                ..Default::default()
            };
            assert_eq!(choose(&s, &logits, round), by_definition(&s, &logits, round), "{s:?} of {n}");
        }
    }

    #[test]
    fn equals_of_the_last_of_the_top_k_stay() {
        let s = Sampling { temperature: 1.0, top_k: 2, ..Default::default() };
        let drawn: BTreeSet<u32> = (0..300).map(|t| choose(&s, &[1.0, 0.0, 1.0, 1.0], t)).collect();
        assert_eq!(drawn, [0, 2, 3].into());
    }

    #[test]
    fn candidates_are_all_there_is() {
        for temperature in [0.0, 1.0, 50.0] {
            let s = Sampling { temperature, ..Default::default() };
            let from = |ids: &[u32], logits: &[f32], t| {
                s.choose(logits, &BTreeSet::new(), Candidates::Only(ids), [0, 0, t])
            };
            let drawn: BTreeSet<u32> = (0..99).map(|t| from(&[3, 1], &[9.0, 1.0, 9.0, 1.0], t)).collect();
            assert!(drawn.iter().all(|id| [1, 3].contains(id)) && drawn.contains(&1));
            let infinite = [f32::NEG_INFINITY; 4];
            assert!([1, 3].contains(&from(&[3, 1], &infinite, 0)));
            assert_eq!(from(&[2, 1], &[0.0, f32::NEG_INFINITY, f32::INFINITY, 0.0], 0), 2);
        }
    }
}
