//! A session: requests come and go at any time, and all of them are worked on together.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rayon::prelude::*;

use super::queue::{Queue, Room};
use super::request::Accepted;
use super::sequence::{Choice, LogitRow, Sequence};
use super::step_batch::{StepBatch, StepOutput};
use super::{Event, GenerateOptions, Generated, Request, RequestId};
use crate::models::{KvCache, Model};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result, Tensor};

/// Logits beyond which rows are sampled on several threads.
const SERIAL: usize = 1 << 15;

/// Bounds of what a session does at a time. None of them has an influence on results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// Sequences running at a time.
    pub batch_size: usize,
    /// Rows of one forward pass beyond which prompts are read in chunks. They bound a pass's memory, and how
    /// long running sequences wait for it.
    pub rows: usize,
    /// Tokens that all caches together may hold. One takes 8 · layers · key heads · head width bytes, and
    /// 8 · layers · r more with a Shift-FFN editor of rank r. A sequence starts where there is room for the longest
    /// that it may become, so none is ever put out again.
    pub cache_tokens: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { batch_size: 64, rows: 2048, cache_tokens: usize::MAX }
    }
}

/// Requests on one model, worked on together. The model cannot change meanwhile: changed weights are a new
/// session.
///
/// ```no_run
/// use amend_engine::Model;
/// use amend_engine::generate::{Event, GenerateOptions, Request, Session, SessionOptions};
/// let model = Model::open("models/qwen3-0.6b")?;
/// let mut session = Session::new(&model, SessionOptions::default());
/// let first = session.submit(Request::new(vec![1, 2, 3], GenerateOptions::default()))?;
/// while !session.is_idle() {
///     // Requests may be submitted and cancelled here.
///     for event in session.step()? {
///         if let Event::Finished { request, generated } = event {
///             assert_eq!(request, first);
///             println!("{:?}", generated.ids);
///         }
///     }
/// }
/// # Ok::<(), amend_engine::Error>(())
/// ```
pub struct Session<'m> {
    model: &'m Model,
    tokenizer: Option<&'m Tokenizer>,
    options: SessionOptions,
    queue: Queue,
    running: Vec<Sequence<'m>>,
    /// Caches of the running sequences.
    caches: Vec<KvCache>,
    /// What has happened since the last step told.
    events: Vec<Event>,
    submitted: usize,
}

impl<'m> Session<'m> {
    /// A session without requests, which knows tokens but no text.
    pub fn new(model: &'m Model, options: SessionOptions) -> Self {
        let options = SessionOptions {
            batch_size: options.batch_size.max(1),
            rows: options.rows.max(1),
            cache_tokens: options.cache_tokens,
        };
        let (queue, running, caches, events) = Default::default();
        Session { model, tokenizer: None, options, queue, running, caches, events, submitted: 0 }
    }

    /// Makes the session tell text, and know stop strings.
    pub fn with_tokenizer(mut self, tokenizer: &'m Tokenizer) -> Self {
        self.tokenizer = Some(tokenizer);
        self
    }

    /// Takes a request, which the next steps begin as soon as there is room.
    ///
    /// Fails where it cannot be answered: an empty prompt, one too long for the context, a constraint without
    /// an answer that fits, taps at a site that the model has not, more than the cache may hold.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        let id = RequestId(self.submitted);
        let accepted =
            Accepted::new(id, request, self.model, self.options.cache_tokens, self.tokenizer.is_some())?;
        let accepted = Arc::new(accepted);
        self.submitted += 1;
        match Sequence::new(accepted.clone(), 0, self.tokenizer).ended() {
            // Nothing is to be generated: no token, or the empty answer that the constraint asks for.
            Some(finish) => self.events.extend((0..accepted.request.options.samples).map(|sample| {
                let sequence = Sequence::new(accepted.clone(), sample, self.tokenizer);
                Event::Finished { request: id, generated: sequence.end(finish) }
            })),
            None => self.queue.add(&accepted),
        }
        Ok(id)
    }

    /// Takes every prompt as a request.
    ///
    /// A prompt that comes a second time continues the numbering of the first one's samples: `n` times the same
    /// prompt is the same as `n` samples of it. What another prompt is answered does not depend on it. In taps,
    /// sequences are called 0, 1, 2, … by prompt, then sample. Fails at the first prompt that cannot be answered;
    /// those before it have been taken.
    pub fn submit_all(
        &mut self,
        prompts: &[Vec<u32>],
        options: impl Into<Arc<GenerateOptions>>,
    ) -> Result<Vec<RequestId>> {
        let options = options.into();
        options.check(self.model, self.tokenizer.is_some())?;
        let mut seen: HashMap<&[u32], usize> = HashMap::new();
        let mut ids = Vec::with_capacity(prompts.len());
        for (i, prompt) in prompts.iter().enumerate() {
            let times = seen.entry(prompt).or_default();
            let request = Request {
                first_sample: *times * options.samples,
                tap_key: (i * options.samples) as u64,
                ..Request::new(prompt.clone(), options.clone())
            };
            *times += 1;
            ids.push(self.submit(request).map_err(|error| match error {
                Error::Invalid(message) => Error::invalid(format!("prompt {i}: {message}")),
                error => error,
            })?);
        }
        Ok(ids)
    }

    /// Whether nothing is left to do or to tell.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.queue.is_empty() && self.events.is_empty()
    }

    /// One pass through the model: the next token of every running sequence, and some of the prompts. Says what
    /// has happened; the events of one sequence are in order.
    ///
    /// Where a request's taps fail, it ends with [`Event::Failed`], and no other notices. Where the pass itself fails,
    /// all requests are gone; what had happened before comes with the next step, and the session is idle then.
    pub fn step(&mut self) -> Result<Vec<Event>> {
        self.queue.open(self.room(), self.model);
        if let Err(error) = self.advance() {
            self.queue = Queue::default();
            self.running.clear();
            self.caches.clear();
            return Err(error);
        }
        self.start();
        Ok(std::mem::take(&mut self.events))
    }

    /// Works until everything has ended, and lets `watch` see every event. Gives the samples of each request,
    /// in the order of submission.
    pub fn run(mut self, mut watch: impl FnMut(&Event)) -> Result<Vec<Vec<Generated>>> {
        let mut all: Vec<Vec<Generated>> = (0..self.submitted).map(|_| Vec::new()).collect();
        while !self.is_idle() {
            for event in self.step()? {
                watch(&event);
                match event {
                    Event::Token { .. } => {}
                    Event::Finished { request, generated } => all[request.0].push(generated),
                    Event::Failed { error, .. } => return Err(error),
                }
            }
        }
        all.iter_mut().for_each(|samples| samples.sort_by_key(|generated| generated.sample));
        Ok(all)
    }

    /// Ends a request; gives what those of its samples had so far that had not ended.
    pub fn cancel(&mut self, request: RequestId) -> Vec<Generated> {
        let waiting = self.queue.remove(request).into_iter();
        let mut cancelled: Vec<_> =
            waiting.map(|(accepted, sample)| Sequence::new(accepted, sample, self.tokenizer)).collect();
        for i in (0..self.running.len()).rev() {
            if self.running[i].request() == request {
                cancelled.push(self.take_out(i));
            }
        }
        cancelled.sort_by_key(Sequence::sample);
        cancelled.into_iter().map(Sequence::cancel).collect()
    }

    fn take_out(&mut self, i: usize) -> Sequence<'m> {
        // The order of the running batch does not matter, so removal may swap.
        self.caches.swap_remove(i);
        self.running.swap_remove(i)
    }

    fn room(&self) -> Room {
        let running: usize = self.running.iter().map(|sequence| sequence.accepted.cache_tokens()).sum();
        Room {
            sequences: self.options.batch_size - self.running.len(),
            tokens: self.options.cache_tokens.saturating_sub(running + self.queue.cache_tokens()),
        }
    }

    /// One pass: the last token of every running sequence, and as much of the open prompts as fits.
    fn advance(&mut self) -> Result<()> {
        let mut batch = StepBatch::default();
        for (sequence, cache) in self.running.iter().zip(&mut self.caches) {
            if !self.model.cache_serves(cache.len(), sequence.len()) {
                cache.truncate(0);
            }
            let tapped = sequence.accepted.tapped(sequence.sample());
            batch.add(cache.len(), sequence.ids_from(cache.len()), true, tapped);
        }
        // Some rows of a prompt in every pass, however many sequences run.
        let rows = self.options.rows.saturating_sub(batch.rows()).max((self.options.rows / 8).max(1));
        let chunks = self.queue.chunks(rows, self.model);
        for chunk in &chunks {
            let Some(group) = self.queue.open.get_mut(&chunk.place) else { continue };
            let read = group.cache.len();
            let ids = group.prompt()[read..read + chunk.length].iter().copied();
            let tapped = group.waiting.front().and_then(|(accepted, sample)| accepted.tapped(*sample));
            batch.add(read, ids, chunk.last, tapped);
            self.caches.push(std::mem::take(&mut group.cache));
        }
        if batch.rows() == 0 {
            return Ok(());
        }
        let StepOutput { logits, mut failures } = batch.run(self.model, &mut self.caches)?;
        let caches = self.caches.split_off(self.running.len());
        let vocabulary = self.model.spec().vocabulary;
        let (own, prompts) = logits.f32().split_at(self.running.len() * vocabulary);
        let mut prompts = prompts.chunks_exact(vocabulary);
        let mut failed = Vec::new();
        for ((i, chunk), cache) in (self.running.len()..).zip(chunks).zip(caches) {
            let failure = failures.remove(&i);
            let Some(group) = self.queue.open.get_mut(&chunk.place) else { continue };
            group.cache = cache;
            if let (Some(error), Some((accepted, _))) = (failure, group.waiting.front()) {
                failed.push((accepted.id, error));
            }
            if chunk.last
                && let Some(row) = prompts.next()
            {
                group.logits = Some(Tensor::from_f32(row, &[vocabulary])?);
            }
        }
        let mut choices = self.continuations(own, vocabulary);
        failures.into_iter().for_each(|(i, error)| choices[i] = Err(error));
        self.take(0, choices, failed);
        Ok(())
    }

    /// The next token of every running sequence.
    fn continuations(&self, logits: &[f32], vocabulary: usize) -> Vec<Result<Choice>> {
        let rows: Vec<Option<LogitRow<'_>>> = if logits.len() < SERIAL {
            logits.chunks_exact(vocabulary).map(LogitRow::new).collect()
        } else {
            logits.par_chunks_exact(vocabulary).map(LogitRow::new).collect()
        };
        choose(&self.running, |i| rows[i].as_ref(), vocabulary)
    }

    /// Starts sequences whose prompt has been read, as far as there is room.
    fn start(&mut self) {
        for place in self.queue.read() {
            let room = self.room();
            let Some(logits) = self.queue.open.get(&place).and_then(|group| group.logits.clone()) else {
                continue;
            };
            let started = self.queue.start(place, room, self.running.is_empty());
            let first = self.running.len();
            for ((accepted, sample), cache) in started {
                self.running.push(Sequence::new(accepted, sample, self.tokenizer));
                self.caches.push(cache);
            }
            let row = LogitRow::new(logits.f32());
            let choices = choose(&self.running[first..], |_| row.as_ref(), logits.len());
            self.take(first, choices, Vec::new());
        }
    }

    /// Gives every running sequence from `first` on its next token, takes out those that it ends, and all of a request
    /// of which one has `failed`.
    fn take(&mut self, first: usize, choices: Vec<Result<Choice>>, mut failed: Vec<(RequestId, Error)>) {
        let mut ended = Vec::new();
        for (i, choice) in (first..).zip(choices) {
            let sequence = &mut self.running[i];
            let request = sequence.request();
            match choice.and_then(|choice| sequence.push(choice)) {
                Ok((token, finish)) => {
                    self.events.push(Event::Token { request, sample: sequence.sample(), token });
                    ended.extend(finish.map(|finish| (i, finish)));
                }
                Err(error) => failed.push((request, error)),
            }
        }
        // From the last to the first: one that is taken out is replaced by the last.
        for (i, finish) in ended.into_iter().rev() {
            let sequence = self.take_out(i);
            let request = sequence.request();
            self.events.push(Event::Finished { request, generated: sequence.end(finish) });
        }
        let mut known = BTreeSet::new();
        for (request, error) in failed {
            if known.insert(request) {
                self.cancel(request);
                self.events.push(Event::Failed { request, error });
            }
        }
    }
}

/// The next token of every sequence, from its row; an error where the row holds no numbers.
fn choose<'r>(
    sequences: &[Sequence<'_>],
    row: impl Fn(usize) -> Option<&'r LogitRow<'r>> + Sync,
    vocabulary: usize,
) -> Vec<Result<Choice>> {
    let choose = |(i, sequence): (usize, &Sequence<'_>)| {
        row(i).map(|row| sequence.choose(row)).ok_or_else(|| broken(&sequence.accepted))
    };
    if sequences.len() * vocabulary < SERIAL {
        sequences.iter().enumerate().map(choose).collect()
    } else {
        sequences.par_iter().enumerate().map(choose).collect()
    }
}

fn broken(accepted: &Accepted) -> Error {
    let tapped = accepted.request.options.taps.is_some();
    Error::NotFinite {
        what: format!("logits of prompt {}", accepted.id),
        value: f64::NAN,
        hint: format!(
            "; the model's weights{} are broken",
            if tapped { ", or the request's taps," } else { "" }
        ),
    }
}
