//! What things take on this machine, found out by doing a little of them.

use std::time::{Duration, Instant};

use amend_engine::{Example, Model, SCORING_TOKENS};
use amend_eval::questions::Replies;
use amend_learn::{RecordEncoder, Result};
use amend_run::{Content, Record, Silent};

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

/// A written answer takes about so many tokens for one of the right answer.
const WORDY: f64 = 1.5;

/// What takes so long tells how long more of it will take; shorter than that, it is mostly overhead.
const TELLING: Duration = Duration::from_millis(150);

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
    /// Asking a model about records as it is measured: how likely right and wrong answers are, and what it writes in at
    /// most so many tokens.
    pub(crate) fn of_asking(
        context: &Context<'_>,
        records: &[Record],
        max_new_tokens: usize,
    ) -> Result<Work> {
        let mut work = Work::default();
        for record in records {
            let Replies { paraphrased, perturbed } = Replies::of(record);
            let likelihoods = 1 + usize::from(paraphrased.is_some()) + perturbed.len();
            let example = context.encoder.encode(&record.content)?;
            work.scored += likelihoods * example.ids.len();
            work.written += match record.content {
                Content::Text(_) => 0,
                _ => max_new_tokens.min((WORDY * example.scored_len() as f64) as usize),
            };
        }
        Ok(work)
    }

    /// Both.
    pub(crate) fn and(self, other: Work) -> Work {
        Work {
            trained: self.trained.saturating_add(other.trained),
            scored: self.scored.saturating_add(other.scored),
            written: self.written.saturating_add(other.written),
        }
    }

    /// So many times as much.
    pub(crate) fn times(self, count: usize) -> Work {
        Work {
            trained: self.trained.saturating_mul(count),
            scored: self.scored.saturating_mul(count),
            written: self.written.saturating_mul(count),
        }
    }

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

/// Something that grows with the number of items, going by two measurements of it.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// What nothing takes.
    still: f64,
    /// What every item takes.
    item: f64,
}

impl Line {
    fn through((few, at_few): (usize, f64), (many, at_many): (usize, f64)) -> Self {
        // Noise makes no larger batch cheaper.
        let item = ((at_many - at_few) / (many - few).max(1) as f64).max(0.0);
        Line { still: (at_many - item * many as f64).max(0.0), item }
    }

    fn at(&self, items: usize) -> f64 {
        self.still + self.item * items as f64
    }
}

/// Takes steps of an arm on ever more items of middling length, until one takes long enough to go by or has a whole batch,
/// and says what the last two took.
pub(crate) fn rehearse(
    arm: &Arm,
    models: &Models,
    encoder: &RecordEncoder<'_>,
    sets: &Sets,
    recipe: &UnlearnRecipe,
    seed: u64,
) -> Result<StepCost> {
    let whole = arm.slots.batch_size.min(sets.forget.len()).max(2);
    let few = Sets {
        forget: middling(encoder, &sets.forget, whole)?,
        retain: middling(encoder, &sets.retain, whole)?,
        ..Sets::default()
    };
    let (reference, tokenizer) = (&models.base, &models.tokenizer);
    let mut context = Context::new(reference, tokenizer, encoder, &few, &recipe.eval, seed, &Silent)?;
    context.is_rehearsal = true;
    let rehearsed = |items| arm.rehearse(items, &context).map(|(bytes, time)| (items, bytes as f64, time));
    let mut last = rehearsed(1)?;
    loop {
        let next = rehearsed((2 * last.0).min(whole))?;
        if next.2 >= TELLING || next.0 == whole {
            let seconds = |(items, _, time): (usize, f64, Duration)| (items, time.as_secs_f64());
            return Ok(StepCost {
                bytes: Line::through((last.0, last.1), (next.0, next.1)),
                seconds: Line::through(seconds(last), seconds(next)),
            });
        }
        last = next;
    }
}

/// The `count` records of a set whose lengths come closest to the mean.
fn middling(encoder: &RecordEncoder<'_>, records: &[Record], count: usize) -> Result<Vec<Record>> {
    let (examples, _) = encoder.encode_all(records)?;
    let mean = mean_tokens(&examples);
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|&i| examples[i].ids.len().abs_diff(mean));
    Ok(order.into_iter().take(count).map(|i| records[i].clone()).collect())
}

/// Seconds that a model takes for one token that it reads: of ever more examples, until that takes long enough to go by.
pub(crate) fn per_token(model: &Model, examples: &[Example]) -> Result<f64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_as_it_began() {
        let line = Line::through((4, 10.0), (8, 18.0));
        assert_eq!((line.at(4), line.at(8), line.at(32)), (10.0, 18.0, 66.0));
        assert_eq!(Line::through((1, 10.0), (2, 9.0)).at(32), 9.0, "noise makes no larger batch cheaper");
    }
}
