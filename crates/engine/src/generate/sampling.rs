//! How the next token is chosen.

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

    /// Chooses from `logits` at `place` = [prompt, sample, token].
    pub(super) fn choose(&self, logits: &[f32], history: &[u32], place: [u64; 3]) -> u32 {
        let mut penalised = Vec::new();
        let mut logits = logits;
        if self.repetition_penalty != 1.0 {
            penalised.extend_from_slice(logits);
            let mut seen = history.to_vec();
            seen.sort_unstable();
            seen.dedup();
            for id in seen {
                let l = &mut penalised[id as usize];
                *l = if *l > 0.0 { *l / self.repetition_penalty } else { *l * self.repetition_penalty };
            }
            logits = &penalised;
        }
        if self.temperature == 0.0 {
            return kernels::argmax(logits) as u32;
        }
        self.draw(logits, place)
    }

    fn draw(&self, logits: &[f32], [prompt, sample, token]: [u64; 3]) -> u32 {
        let top = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let weight = |l: f32| ((f64::from(l) - top) / f64::from(self.temperature)).exp();
        let mut kept: Vec<(u32, f64)> =
            logits.iter().enumerate().map(|(i, &l)| (i as u32, weight(l))).collect();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.top_k > 0 {
            kept.truncate(self.top_k);
        }
        kept.retain(|&(_, w)| w >= f64::from(self.min_p));
        let total: f64 = kept.iter().map(|k| k.1).sum();
        let mut reached = 0.0;
        let enough = kept.iter().position(|k| {
            reached += k.1;
            reached >= f64::from(self.top_p) * total
        });
        kept.truncate(enough.map_or(kept.len(), |i| i + 1));
        let total: f64 = kept.iter().map(|k| k.1).sum();
        let mut left = Rng::at(&[self.seed, prompt, sample, token]).uniform() * total;
        for &(id, w) in &kept {
            left -= w;
            if left < 0.0 {
                return id;
            }
        }
        kept.last().map_or(0, |k| k.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_keep_what_they_promise() {
        let logits = [0.0, 3.0, 2.0, -5.0];
        let draw = |s: &Sampling| -> std::collections::BTreeSet<u32> {
            (0..400).map(|t| s.choose(&logits, &[], [0, 0, t])).collect()
        };
        let base = Sampling { temperature: 1.0, ..Default::default() };
        assert_eq!(draw(&Sampling { top_k: 2, ..base.clone() }), [1, 2].into());
        assert_eq!(draw(&Sampling { top_p: 0.5, ..base.clone() }), [1].into());
        assert_eq!(draw(&Sampling { min_p: 0.2, ..base.clone() }), [1, 2].into());
        assert!(draw(&base).len() >= 3);
        assert_eq!(Sampling::default().choose(&logits, &[], [0; 3]), 1);
        let penalty = Sampling { repetition_penalty: 4.0, ..Default::default() };
        assert_eq!(penalty.choose(&logits, &[1], [0; 3]), 2);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let s = Sampling { temperature: 1.0, ..Default::default() };
        let hits = (0..20_000).filter(|&t| s.choose(&[0.0, 1.0], &[], [0, 0, t]) == 1).count();
        assert!((hits as f64 / 20_000.0 - 0.7311).abs() < 0.01);
    }
}
