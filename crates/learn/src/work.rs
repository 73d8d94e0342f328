//! An amount of computing, and how long this machine takes for it.

use std::time::{Duration, Instant};

use amend_engine::{Example, Model, SCORING_TOKENS};

use crate::Result;

/// Passes over a token in a training step, in the time of one that only looks: there, and twice as much back.
const TRAINED: f64 = 3.0;

/// A token that is written, in the time of one that is only read: answers are written side by side, and yet every one of
/// their tokens waits for all weights.
const WRITTEN: f64 = 2.5;

/// What takes so long tells how long more of it will take; shorter than that, it is mostly overhead.
pub const TELLING: Duration = Duration::from_millis(150);

/// An amount of computing, in tokens that go through a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Tokens learnt from.
    pub trained: usize,
    /// Tokens read.
    pub scored: usize,
    /// Tokens written.
    pub written: usize,
}

impl Work {
    /// Both.
    pub fn and(self, other: Work) -> Work {
        Work {
            trained: self.trained.saturating_add(other.trained),
            scored: self.scored.saturating_add(other.scored),
            written: self.written.saturating_add(other.written),
        }
    }

    /// So many times as much.
    pub fn times(self, count: usize) -> Work {
        Work {
            trained: self.trained.saturating_mul(count),
            scored: self.scored.saturating_mul(count),
            written: self.written.saturating_mul(count),
        }
    }

    /// How long it takes where a token that is read takes `per_token` seconds.
    pub fn seconds(&self, per_token: f64) -> f64 {
        let passes = TRAINED * self.trained as f64 + self.scored as f64 + WRITTEN * self.written as f64;
        passes * per_token
    }
}

/// Tokens of all examples.
pub fn tokens(examples: &[Example]) -> usize {
    examples.iter().map(|example| example.ids.len()).sum()
}

/// Tokens of an example of middling length.
pub fn mean_tokens(examples: &[Example]) -> usize {
    tokens(examples).div_ceil(examples.len().max(1))
}

/// Seconds that a model takes for one token that it reads: of ever more examples, until that takes long enough to go by.
pub fn per_token(model: &Model, examples: &[Example]) -> Result<f64> {
    let timed = |count: usize| -> Result<Duration> {
        let began = Instant::now();
        model.score(&examples[..count], SCORING_TOKENS)?;
        Ok(began.elapsed())
    };
    // The first pass also lays out weights.
    let mut count = 1.min(examples.len());
    timed(count)?;
    loop {
        let took = timed(count)?;
        if took >= TELLING || count == examples.len() {
            return Ok(took.as_secs_f64() / tokens(&examples[..count]).max(1) as f64);
        }
        count = (2 * count).min(examples.len());
    }
}
