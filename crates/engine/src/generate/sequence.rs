//! One sequence while it is generated.

use std::collections::BTreeSet;

use super::constraint::{Constraint, Cursor};
use super::sampling::Candidates;
use super::{Finish, GenerateOptions, Generated, StopRule};
use crate::kernels;

/// The logits that a token is chosen from, and ln Σ exp of them.
pub(super) struct Row<'l> {
    pub(super) logits: &'l [f32],
    pub(super) log_sum: f32,
}

impl<'l> Row<'l> {
    /// `None` where a logit is no number.
    pub(super) fn new(logits: &'l [f32]) -> Option<Self> {
        // The sum is no number exactly where one of the logits is none.
        let log_sum = kernels::log_sum_exp(logits);
        (!log_sum.is_nan()).then_some(Row { logits, log_sum })
    }
}

pub(super) struct Sequence<'o> {
    pub(super) out: Generated,
    options: &'o GenerateOptions,
    constraint: Option<(&'o Constraint, Cursor)>,
    /// Most new tokens.
    budget: usize,
    /// Tokens that the repetition penalty is for.
    seen: BTreeSet<u32>,
}

impl<'o> Sequence<'o> {
    pub(super) fn new(
        (prompt, sample): (usize, usize),
        ids: &[u32],
        budget: usize,
        options: &'o GenerateOptions,
    ) -> Self {
        let penalised = options.sampling.repetition_penalty != 1.0;
        Sequence {
            out: Generated { prompt, sample, ids: Vec::new(), logprobs: Vec::new(), finish: Finish::Length },
            options,
            constraint: options.constraints.of(prompt).map(|c| (c, Cursor::START)),
            budget,
            seen: if penalised { ids.iter().copied().collect() } else { BTreeSet::new() },
        }
    }

    fn left(&self) -> usize {
        self.budget - self.out.ids.len()
    }

    /// Chooses the next token; its log-probability is the model's own.
    pub(super) fn choose(&self, row: &Row<'_>) -> (u32, f32) {
        let place = [self.out.prompt as u64, self.out.sample as u64, self.out.ids.len() as u64];
        let sampling = &self.options.sampling;
        let id = match self.constraint {
            None => sampling.choose(row.logits, &self.seen, Candidates::All, place),
            Some((constraint, cursor)) => {
                let step = constraint.step(cursor);
                let ends: &[u32] = if step.complete { &self.options.stop_ids } else { &[] };
                // A model may have no row for an id that its files list as an end.
                let ends = ends.iter().copied().filter(|&id| (id as usize) < row.logits.len());
                let allowed: Vec<u32> = step.ids(self.left() - 1).chain(ends).collect();
                sampling.choose(row.logits, &self.seen, Candidates::Only(&allowed), place)
            }
        };
        (id, row.logits[id as usize] - row.log_sum)
    }

    /// Takes the chosen token and says what ended the sequence, if anything has.
    pub(super) fn push(&mut self, (id, logprob): (u32, f32), rule: Option<&StopRule<'_>>) -> Option<Finish> {
        self.out.ids.push(id);
        self.out.logprobs.push(logprob);
        if self.options.sampling.repetition_penalty != 1.0 {
            self.seen.insert(id);
        }
        let stopped = self.options.stop_ids.contains(&id);
        if let Some((constraint, cursor)) = self.constraint.as_mut().filter(|_| !stopped) {
            *cursor = constraint.advance(*cursor, id);
        }
        if stopped {
            Some(Finish::Stop)
        } else if rule.is_some_and(|rule| rule(&self.out)) {
            Some(Finish::Rule)
        } else {
            self.ended()
        }
    }

    /// What keeps the sequence from going on, if anything does.
    pub(super) fn ended(&self) -> Option<Finish> {
        if let Some((constraint, cursor)) = self.constraint {
            let step = constraint.step(cursor);
            if step.complete && step.ids(self.left().saturating_sub(1)).next().is_none() {
                return Some(Finish::Complete);
            }
        }
        let limit = if self.budget < self.options.max_new_tokens { Finish::Context } else { Finish::Length };
        (self.left() == 0).then_some(limit)
    }
}
