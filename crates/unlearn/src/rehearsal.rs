//! What things take on this machine, found out by doing a little of them.

use std::time::Duration;

use amend_eval::questions::Replies;
use amend_learn::work::{TELLING, Work, mean_tokens};
use amend_learn::{RecordEncoder, Result};
use amend_run::{Content, Record, Silent};

use crate::compare::Arm;
use crate::context::Context;
use crate::data::Sets;
use crate::models::Models;
use crate::recipe::UnlearnRecipe;

/// A written answer takes about so many tokens for one of the right answer.
const WORDY: f64 = 1.5;

/// Asking a model about records as it is measured: how likely right and wrong answers are, and what it writes in at most so many
/// tokens.
pub(crate) fn of_asking(context: &Context<'_>, records: &[Record], max_new_tokens: usize) -> Result<Work> {
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
