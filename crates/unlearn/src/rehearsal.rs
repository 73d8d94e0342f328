//! What things take on this machine, found out by doing a little of them.

use std::time::{Duration, Instant};

use amend_engine::{Example, Model, SCORING_TOKENS};
use amend_learn::{RecordEncoder, Result};
use amend_run::{Record, Silent};

use crate::compare::Arm;
use crate::context::Context;
use crate::data::Sets;
use crate::models::Models;
use crate::recipe::UnlearnRecipe;

/// Passes over a token in a training step, in the time of one that only looks: there, and twice as much back.
const TRAINED: f64 = 3.0;

/// A token that is written, in the time of one that is only read: answers are written side by side, and yet every one of
/// their tokens waits for all weights.
const WRITTEN: f64 = 2.5;

/// Records of each set that rehearsals are made with.
const RECORDS: usize = 2;

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
    /// How long it takes where a token that is read takes `per_token` seconds.
    pub(crate) fn seconds(&self, per_token: f64) -> f64 {
        let passes = TRAINED * self.trained as f64 + self.scored as f64 + WRITTEN * self.written as f64;
        passes * per_token
    }
}

/// Tokens of all examples.
pub(crate) fn tokens(examples: &[Example]) -> usize {
    examples.iter().map(|example| example.ids.len()).sum()
}

/// Tokens of an example of middling length.
pub(crate) fn mean_tokens(examples: &[Example]) -> usize {
    tokens(examples).div_ceil(examples.len().max(1))
}

/// What a step takes, by the number of items in its batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepCost {
    bytes: Line,
    seconds: Line,
}

impl StepCost {
    /// Bytes that tensors hold in a step of so many items.
    pub(crate) fn bytes(&self, items: usize) -> f64 {
        self.bytes.at(items)
    }

    /// Seconds of it.
    pub(crate) fn seconds(&self, items: usize) -> f64 {
        self.seconds.at(items)
    }
}

/// Something that grows with the number of items, measured at one and at two.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    one: f64,
    more: f64,
}

impl Line {
    fn through(one: f64, two: f64) -> Self {
        Line { one, more: (two - one).max(0.0) }
    }

    fn at(&self, items: usize) -> f64 {
        self.one + self.more * items.saturating_sub(1) as f64
    }
}

/// Takes steps of an arm with one and with two items, of middling length, and says what they took.
pub(crate) fn rehearse(
    arm: &Arm,
    models: &Models,
    encoder: &RecordEncoder<'_>,
    sets: &Sets,
    recipe: &UnlearnRecipe,
    seed: u64,
) -> Result<StepCost> {
    let few = Sets {
        forget: middling(encoder, &sets.forget)?,
        retain: middling(encoder, &sets.retain)?,
        ..Sets::default()
    };
    let (reference, tokenizer) = (&models.base, &models.tokenizer);
    let context = Context::new(reference, tokenizer, encoder, &few, &recipe.eval, seed, &Silent)?;
    let (bytes, one) = arm.rehearse(1, &context)?;
    let (more_bytes, two) = arm.rehearse(RECORDS, &context)?;
    Ok(StepCost {
        bytes: Line::through(bytes as f64, more_bytes as f64),
        seconds: Line::through(one.as_secs_f64(), two.as_secs_f64()),
    })
}

/// The records of a set whose lengths come closest to the mean.
fn middling(encoder: &RecordEncoder<'_>, records: &[Record]) -> Result<Vec<Record>> {
    let (examples, _) = encoder.encode_all(records)?;
    let mean = mean_tokens(&examples);
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|&i| examples[i].ids.len().abs_diff(mean));
    Ok(order.into_iter().take(RECORDS).map(|i| records[i].clone()).collect())
}

/// Seconds that a model takes for one token that it reads.
pub(crate) fn per_token(model: &Model, examples: &[Example]) -> Result<f64> {
    /// Enough for the products of a real batch, few enough for a second.
    const READ: usize = 512;
    let mut few: Vec<Example> = Vec::new();
    for example in examples {
        if tokens(&few) >= READ {
            break;
        }
        few.push(example.clone());
    }
    let timed = || -> Result<Duration> {
        let began = Instant::now();
        model.score(&few, SCORING_TOKENS)?;
        Ok(began.elapsed())
    };
    // The first pass also lays out weights.
    timed()?;
    Ok(timed()?.as_secs_f64() / tokens(&few).max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_as_it_began() {
        let line = Line::through(10.0, 12.0);
        assert_eq!((line.at(1), line.at(2), line.at(32)), (10.0, 12.0, 72.0));
        assert_eq!(Line::through(10.0, 9.0).at(32), 10.0, "noise makes no larger batch cheaper");
    }
}
