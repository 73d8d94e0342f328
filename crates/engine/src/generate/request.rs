//! What is asked of a session.

use std::fmt;
use std::sync::Arc;

use super::{Constraint, Sampling};
use crate::models::Model;
use crate::taps::Taps;
use crate::{Error, Result, Rng};

/// How prompts are continued.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Most new tokens per sequence.
    pub max_new_tokens: usize,
    /// Sequences per prompt.
    pub samples: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Ids that end a sequence.
    pub stop_ids: Vec<u32>,
    /// Texts that end a sequence, wherever tokens begin and end in them. They need a session with a tokenizer.
    pub stop_strings: Vec<String>,
    /// What continuations must look like. They always do, whatever the budget and the sampling: a stop id is
    /// allowed exactly where the answer may end, and tokens only where what is left of `max_new_tokens` and
    /// the context suffices to finish. Only a stop string or cancelling can cut an answer short.
    pub constraint: Option<Constraint>,
    /// How many of the likeliest tokens are told with every token.
    pub alternatives: usize,
    /// What is read or changed inside the model while these sequences run, and no others.
    pub taps: Option<Arc<Taps>>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            max_new_tokens: 128,
            samples: 1,
            sampling: Sampling::default(),
            stop_ids: Vec::new(),
            stop_strings: Vec::new(),
            constraint: None,
            alternatives: 0,
            taps: None,
        }
    }
}

impl GenerateOptions {
    /// Fails where no prompt could be continued so.
    pub(super) fn check(&self, model: &Model, has_tokenizer: bool) -> Result<()> {
        self.sampling.check()?;
        self.taps.as_ref().map_or(Ok(()), |taps| model.check_taps(taps))?;
        if self.stop_strings.iter().any(String::is_empty) {
            return Err(Error::invalid("a stop string is empty, and an empty text is everywhere"));
        }
        if !self.stop_strings.is_empty() && !has_tokenizer {
            return Err(Error::invalid("stop strings need a session with a tokenizer"));
        }
        let Some(constraint) = &self.constraint else { return Ok(()) };
        let (tokens, rows) = (constraint.vocabulary(), model.spec().vocabulary);
        if tokens > rows {
            return Err(Error::invalid(format!(
                "the constraint is for a tokenizer of {tokens} tokens, the model has {rows}"
            )));
        }
        match self.stop_ids.iter().find(|&&id| constraint.is_text(id)) {
            Some(id) => Err(Error::invalid(format!(
                "stop id {id} is text to the constraint; exclude it when making the token bytes"
            ))),
            None => Ok(()),
        }
    }
}

/// A prompt to be continued.
#[derive(Debug, Clone)]
pub struct Request {
    /// Token ids.
    pub prompt: Vec<u32>,
    /// How it is continued.
    pub options: Arc<GenerateOptions>,
    /// Names the request's draws, together with the seed, the sample and the token. `None`: the prompt's
    /// content does, so that equal requests have equal answers, whatever else runs.
    pub draw_key: Option<u64>,
    /// Number that its first sample's draws go by; its others go by those that follow. So eight samples of a
    /// prompt are the same whether they are asked for at once or one by one.
    pub first_sample: usize,
    /// What its first sequence is called in taps (`Selector::sequences`, origins of readings); its others are
    /// called by the numbers that follow.
    pub tap_key: u64,
    /// Requests of higher priority are begun first; among equals those that were submitted first.
    pub priority: i64,
}

impl Request {
    /// A request with no key of its own, beginning with sample 0.
    pub fn new(prompt: Vec<u32>, options: impl Into<Arc<GenerateOptions>>) -> Self {
        Request { prompt, options: options.into(), draw_key: None, first_sample: 0, tap_key: 0, priority: 0 }
    }
}

/// A request's name in its session: requests are counted from 0 in the order of their submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) usize);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request that can be answered.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) id: RequestId,
    pub(super) request: Request,
    /// Most new tokens: what was asked for, as far as the context has room.
    pub(super) budget: usize,
    /// Names the prompt's content.
    pub(super) content: u64,
}

impl Accepted {
    pub(super) fn new(
        id: RequestId,
        request: Request,
        model: &Model,
        cache_tokens: usize,
        has_tokenizer: bool,
    ) -> Result<Self> {
        request.options.check(model, has_tokenizer)?;
        let budget = budget(&request, model)?;
        let cached = request.prompt.len() + budget;
        if cached > cache_tokens {
            return Err(Error::invalid(format!(
                "the prompt's {} tokens and {budget} new ones do not fit into a cache of {cache_tokens} tokens; \
                 allow fewer new tokens or a larger cache",
                request.prompt.len()
            )));
        }
        let ids: Vec<u64> = request.prompt.iter().map(|&id| u64::from(id)).collect();
        Ok(Accepted { id, budget, content: Rng::at(&ids).next_u64(), request })
    }

    /// Key and number that the draws of a sample go by.
    pub(super) fn draws(&self, sample: usize) -> [u64; 2] {
        [self.request.draw_key.unwrap_or(self.content), (self.request.first_sample + sample) as u64]
    }

    /// The taps that see a sample, and what they call it.
    pub(super) fn tapped(&self, sample: usize) -> Option<(&Arc<Taps>, u64)> {
        let key = self.request.tap_key.wrapping_add(sample as u64);
        self.request.options.taps.as_ref().map(|taps| (taps, key))
    }

    /// Tokens that the cache of one of its sequences may come to hold.
    pub(super) fn cache_tokens(&self) -> usize {
        self.request.prompt.len() + self.budget
    }
}

/// How many new tokens there is room for. Fails where there is no answer to the prompt.
fn budget(request: &Request, model: &Model) -> Result<usize> {
    let Request { prompt, options, .. } = request;
    let spec = model.spec();
    if prompt.is_empty() {
        return Err(Error::invalid("the prompt is empty; give at least one token"));
    }
    if prompt.len() > spec.context {
        return Err(Error::invalid(format!(
            "the prompt has {} tokens; the model's context is {}",
            prompt.len(),
            spec.context
        )));
    }
    if let Some(id) = prompt.iter().find(|&&id| id as usize >= spec.vocabulary) {
        return Err(Error::invalid(format!(
            "token id {id} is outside of the vocabulary of {}",
            spec.vocabulary
        )));
    }
    // The last new token need not fit into the context: nothing follows it.
    let budget = options.max_new_tokens.min(spec.context + 1 - prompt.len());
    let least = options.constraint.as_ref().map_or(0, Constraint::least_tokens);
    if least > budget {
        let limit = if budget < options.max_new_tokens {
            "are left of the model's context; shorten the prompt"
        } else {
            "may be generated; allow more (max_new_tokens)"
        };
        return Err(Error::invalid(format!(
            "the shortest answer that the constraint allows takes {least} tokens, but only {budget} {limit}"
        )));
    }
    Ok(budget)
}
