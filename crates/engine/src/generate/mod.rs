//! Generation: cached, batched, reproducible.
//!
//! Sequences join the running batch as soon as one ends (continuous batching). Because no row's
//! arithmetic depends on its neighbours, and every draw is named by (seed, prompt, sample, token),
//! a prompt's text does not depend on the batch it ran in.

mod sampling;

pub use sampling::Sampling;

use crate::models::{KvCache, Model};
use crate::tape::{Graph, Layout};
use crate::taps::Taps;
use crate::{Error, Result, kernels};

/// When and how to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Most new tokens per sequence.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Ids that end a sequence (they are kept in the output).
    pub stop_ids: Vec<u32>,
    /// Sequences running at a time. Has no influence on results.
    pub batch_size: usize,
    /// Samples per prompt.
    pub samples: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            max_new_tokens: 128,
            sampling: Sampling::default(),
            stop_ids: Vec::new(),
            batch_size: 64,
            samples: 1,
        }
    }
}

/// What ended a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A stop id.
    Stop,
    /// The limit of new tokens.
    Length,
    /// The model's context.
    Context,
    /// The caller's own rule.
    Rule,
}

/// One generated continuation.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Index of its prompt.
    pub prompt: usize,
    /// Which sample of that prompt.
    pub sample: usize,
    /// New ids.
    pub ids: Vec<u32>,
    /// Log-probability of each new id under the model, before temperature and filters.
    pub logprobs: Vec<f32>,
    /// What ended it.
    pub finish: Finish,
}

/// Called after every new token with what was generated; `true` ends that sequence (stop strings).
pub type StopRule<'a> = dyn Fn(&Generated) -> bool + 'a;

struct Running {
    out: Generated,
    history: Vec<u32>,
    /// Tokens the model has not seen yet.
    pending: Vec<u32>,
}

impl Model {
    /// Continues every prompt; the results are ordered by prompt, then sample.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        stop_rule: Option<&StopRule<'_>>,
        taps: &Taps,
    ) -> Result<Vec<Generated>> {
        options.sampling.check()?;
        for (i, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(Error::invalid(format!("prompt {i} is empty; give at least one token")));
            }
            if prompt.len() > self.spec().context {
                return Err(Error::invalid(format!(
                    "prompt {i} has {} tokens; the model's context is {}",
                    prompt.len(),
                    self.spec().context
                )));
            }
        }
        let mut waiting = (0..prompts.len()).flat_map(|p| (0..options.samples).map(move |s| (p, s)));
        let (mut running, mut caches): (Vec<Running>, Vec<KvCache>) = Default::default();
        let mut finished = Vec::new();
        loop {
            while running.len() < options.batch_size.max(1) {
                let Some((prompt, sample)) = waiting.next() else { break };
                let ids = prompts[prompt].clone();
                let out = Generated {
                    prompt,
                    sample,
                    ids: Vec::new(),
                    logprobs: Vec::new(),
                    finish: Finish::Length,
                };
                if options.max_new_tokens == 0 {
                    finished.push(out);
                    continue;
                }
                running.push(Running { out, history: ids.clone(), pending: ids });
                caches.push(self.new_cache());
            }
            if running.is_empty() {
                break;
            }
            self.advance(&mut running, &mut caches, options, taps)?;
            for i in (0..running.len()).rev() {
                if let Some(finish) = self.ended(&running[i], options, stop_rule) {
                    // The order of the running batch does not matter, so removal may swap.
                    let mut done = running.swap_remove(i);
                    caches.swap_remove(i);
                    done.out.finish = finish;
                    finished.push(done.out);
                }
            }
        }
        finished.sort_by_key(|g| (g.prompt, g.sample));
        Ok(finished)
    }

    /// Feeds every sequence's pending tokens and chooses its next one.
    fn advance(
        &self,
        running: &mut [Running],
        caches: &mut [KvCache],
        options: &GenerateOptions,
        taps: &Taps,
    ) -> Result<()> {
        for (running, cache) in running.iter_mut().zip(caches.iter_mut()) {
            if !self.cache_serves(cache.len(), running.history.len()) {
                cache.truncate(0);
                running.pending.clone_from(&running.history);
            }
        }
        let ids: Vec<u32> = running.iter().flat_map(|r| r.pending.iter().copied()).collect();
        let layout =
            Layout::continued(running.iter().zip(caches.iter()).map(|(r, c)| (c.len(), r.pending.len())));
        let last_rows: Vec<_> = layout.sequences.iter().map(|rows| rows.end - 1).collect();
        let mut g = Graph::inference(&self.params);
        let hidden = self.continue_hidden(&mut g, &ids, &layout, caches, taps)?;
        let logits = self.logits(&mut g, &hidden, &last_rows, taps)?;
        let rows = logits.value().f32().chunks_exact(self.spec().vocabulary);
        for (running, logits) in running.iter_mut().zip(rows) {
            if logits.iter().any(|l| l.is_nan()) {
                return Err(Error::NotFinite {
                    what: format!("logits of prompt {}", running.out.prompt),
                    value: f64::NAN,
                    hint: "; the model's weights are broken".into(),
                });
            }
            let place = [running.out.prompt as u64, running.out.sample as u64, running.out.ids.len() as u64];
            let id = options.sampling.choose(logits, &running.history, place);
            running.out.logprobs.push(logits[id as usize] - kernels::log_sum_exp(logits));
            running.out.ids.push(id);
            running.history.push(id);
            running.pending = vec![id];
        }
        Ok(())
    }

    fn ended(&self, r: &Running, options: &GenerateOptions, rule: Option<&StopRule<'_>>) -> Option<Finish> {
        if r.out.ids.last().is_some_and(|id| options.stop_ids.contains(id)) {
            Some(Finish::Stop)
        } else if rule.is_some_and(|rule| rule(&r.out)) {
            Some(Finish::Rule)
        } else if r.out.ids.len() >= options.max_new_tokens {
            Some(Finish::Length)
        } else if r.history.len() > self.spec().context {
            Some(Finish::Context)
        } else {
            None
        }
    }
}
