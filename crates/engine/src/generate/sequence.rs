//! One sequence while it is generated.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::constraint::Cursor;
use super::request::{Accepted, GenerateOptions, RequestId};
use super::sampling::{Candidates, likelier};
use super::unfolding::Unfolding;
use super::{Finish, Generated, Token};
use crate::tokenizer::Tokenizer;
use crate::{Result, kernels};

/// The logits that a token is chosen from, and ln Σ exp of them.
pub(super) struct LogitRow<'l> {
    logits: &'l [f32],
    log_sum: f32,
}

impl<'l> LogitRow<'l> {
    /// `None` where a logit is no number.
    pub(super) fn new(logits: &'l [f32]) -> Option<Self> {
        // The sum is no number exactly where one of the logits is none.
        let log_sum = kernels::log_sum_exp(logits);
        (!log_sum.is_nan()).then_some(LogitRow { logits, log_sum })
    }

    fn logprob(&self, id: u32) -> f32 {
        self.logits[id as usize] - self.log_sum
    }

    /// The `n` likeliest ids with their log-probabilities, likeliest first.
    fn likeliest(&self, n: usize) -> Vec<(u32, f32)> {
        if n == 0 {
            return Vec::new();
        }
        let mut all: Vec<(u32, f32)> = (0..).zip(self.logits.iter().copied()).collect();
        if n < all.len() {
            all.select_nth_unstable_by(n, likelier);
            all.truncate(n);
        }
        all.sort_unstable_by(likelier);
        all.into_iter().map(|(id, logit)| (id, logit - self.log_sum)).collect()
    }
}

/// A chosen token.
pub(super) struct Choice {
    id: u32,
    logprob: f32,
    alternatives: Vec<(u32, f32)>,
}

pub(super) struct Sequence<'t> {
    pub(super) accepted: Arc<Accepted>,
    out: Generated,
    cursor: Cursor,
    /// Tokens that the repetition penalty is for.
    seen: BTreeSet<u32>,
    unfolding: Option<Unfolding<'t>>,
}

impl<'t> Sequence<'t> {
    pub(super) fn new(accepted: Arc<Accepted>, sample: usize, tokenizer: Option<&'t Tokenizer>) -> Self {
        let Accepted { request, .. } = &*accepted;
        let penalised = request.options.sampling.repetition_penalty != 1.0;
        let seen = if penalised { request.prompt.iter().copied().collect() } else { BTreeSet::new() };
        let out = Generated {
            sample,
            ids: Vec::new(),
            logprobs: Vec::new(),
            alternatives: Vec::new(),
            text: None,
            finish: Finish::Length,
        };
        let unfolding = tokenizer.map(Unfolding::new);
        Sequence { accepted, out, cursor: Cursor::START, seen, unfolding }
    }

    pub(super) fn request(&self) -> RequestId {
        self.accepted.id
    }

    pub(super) fn sample(&self) -> usize {
        self.out.sample
    }

    fn options(&self) -> &GenerateOptions {
        &self.accepted.request.options
    }

    /// Prompt and new tokens together.
    pub(super) fn len(&self) -> usize {
        self.accepted.request.prompt.len() + self.out.ids.len()
    }

    /// The tokens from position `first` on.
    pub(super) fn ids_from(&self, first: usize) -> impl Iterator<Item = u32> {
        self.accepted.request.prompt.iter().chain(&self.out.ids).skip(first).copied()
    }

    fn left(&self) -> usize {
        self.accepted.budget - self.out.ids.len()
    }

    /// Chooses the next token; its log-probability is the model's own.
    pub(super) fn choose(&self, row: &LogitRow<'_>) -> Choice {
        let [key, sample] = self.accepted.draws(self.out.sample);
        let place = [key, sample, self.out.ids.len() as u64];
        let options = self.options();
        let sampling = &options.sampling;
        let id = match &options.constraint {
            None => sampling.choose(row.logits, &self.seen, Candidates::All, place),
            Some(constraint) => {
                let step = constraint.step(self.cursor);
                let ends: &[u32] = if step.complete { &options.stop_ids } else { &[] };
                // A model may have no row for an id that its files list as an end.
                let ends = ends.iter().copied().filter(|&id| (id as usize) < row.logits.len());
                let allowed: Vec<u32> = step.ids(self.left() - 1).chain(ends).collect();
                sampling.choose(row.logits, &self.seen, Candidates::Only(&allowed), place)
            }
        };
        Choice { id, logprob: row.logprob(id), alternatives: row.likeliest(options.alternatives) }
    }

    /// Takes the chosen token; gives what there is to tell about it, and what ended the sequence, if
    /// anything has.
    pub(super) fn push(&mut self, choice: Choice) -> Result<(Token, Option<Finish>)> {
        let Choice { id, logprob, alternatives } = choice;
        let accepted = self.accepted.clone();
        let options = &*accepted.request.options;
        self.out.ids.push(id);
        self.out.logprobs.push(logprob);
        if options.alternatives > 0 {
            self.out.alternatives.push(alternatives.clone());
        }
        if options.sampling.repetition_penalty != 1.0 {
            self.seen.insert(id);
        }
        let (mut text, mut finish) = (String::new(), None);
        if options.stop_ids.contains(&id) {
            // What ends a text is no part of it, even where the tokenizer does not list it as special.
            finish = Some(Finish::Stop);
        } else {
            if let Some(constraint) = &options.constraint {
                self.cursor = constraint.advance(self.cursor, id);
            }
            if let Some(unfolding) = &mut self.unfolding {
                let news = unfolding.push(id, &options.stop_strings)?;
                text = news.text;
                finish = news.stopped.then_some(Finish::StopString);
            }
            finish = finish.or_else(|| self.ended());
        }
        if finish.is_some_and(|finish| finish != Finish::StopString)
            && let Some(unfolding) = &mut self.unfolding
        {
            text.push_str(&unfolding.finish(&options.stop_strings)?);
        }
        Ok((Token { id, logprob, alternatives, text }, finish))
    }

    /// What keeps the sequence from going on, if anything does.
    pub(super) fn ended(&self) -> Option<Finish> {
        let options = self.options();
        if let Some(constraint) = &options.constraint {
            let step = constraint.step(self.cursor);
            if step.complete && step.ids(self.left().saturating_sub(1)).next().is_none() {
                return Some(Finish::Complete);
            }
        }
        let limit =
            if self.accepted.budget < options.max_new_tokens { Finish::Context } else { Finish::Length };
        (self.left() == 0).then_some(limit)
    }

    /// What was generated.
    pub(super) fn end(self, finish: Finish) -> Generated {
        Generated { finish, text: self.unfolding.map(Unfolding::into_text), ..self.out }
    }

    /// What was generated, where somebody ends the sequence from outside.
    pub(super) fn cancel(mut self) -> Generated {
        let accepted = self.accepted.clone();
        if let Some(unfolding) = &mut self.unfolding {
            // Text that cannot be decoded is left out: whoever cancels does not want it.
            let _ = unfolding.finish(&accepted.request.options.stop_strings);
        }
        self.end(Finish::Cancelled)
    }
}
