//! The loop: which rows go through the model together.
//!
//! Equal prompts, and with them the samples of one prompt, form a group that is read once; its sequences
//! start from a copy of the cache. Long prompts are read in pieces, so that memory is bounded by the rows of
//! one pass and not by the longest prompt.

use std::collections::{HashMap, VecDeque};

use rayon::prelude::*;

use super::sequence::{Row, Sequence};
use super::{GenerateOptions, Generated, StopRule};
use crate::models::{KvCache, Model};
use crate::tape::{Graph, Layout};
use crate::taps::Taps;
use crate::{Error, Result};

/// Rows of one forward pass beyond which prompts are read in pieces. Has no influence on results.
const ROWS: usize = 2048;

/// Logits beyond which rows are sampled on several threads.
const SERIAL: usize = 1 << 15;

/// A prompt and the sequences that continue it.
struct Group<'p> {
    ids: &'p [u32],
    /// (prompt, sample) of the sequences that have not started.
    waiting: VecDeque<(usize, usize)>,
    cache: KvCache,
    /// Logits after the prompt, once it is read.
    logits: Option<Vec<f32>>,
}

pub(super) struct Batching<'a> {
    model: &'a Model,
    options: &'a GenerateOptions,
    rule: Option<&'a StopRule<'a>>,
    taps: &'a Taps,
    prompts: &'a [Vec<u32>],
    /// Prompts that nothing has been done about.
    closed: VecDeque<Group<'a>>,
    /// Prompts that are being read, or whose sequences wait for room.
    open: VecDeque<Group<'a>>,
    running: Vec<Sequence<'a>>,
    /// Caches of the running sequences.
    caches: Vec<KvCache>,
    finished: Vec<Generated>,
}

impl<'a> Batching<'a> {
    pub(super) fn new(
        model: &'a Model,
        prompts: &'a [Vec<u32>],
        options: &'a GenerateOptions,
        rule: Option<&'a StopRule<'a>>,
        taps: &'a Taps,
    ) -> Self {
        let mut closed: VecDeque<Group<'a>> = VecDeque::new();
        let mut known: HashMap<&[u32], usize> = HashMap::new();
        let mut finished = Vec::new();
        for (p, ids) in prompts.iter().enumerate() {
            for s in 0..options.samples {
                let fresh = Sequence::new((p, s), ids, model.budget(ids, options), options);
                if let Some(finish) = fresh.ended() {
                    finished.push(Generated { finish, ..fresh.out });
                    continue;
                }
                // Whoever looks inside sees every sequence's own pass.
                if let Some(&group) = known.get(&ids[..]).filter(|_| taps.is_empty()) {
                    closed[group].waiting.push_back((p, s));
                    continue;
                }
                known.insert(ids, closed.len());
                let waiting = VecDeque::from([(p, s)]);
                closed.push_back(Group { ids, waiting, cache: model.new_cache(), logits: None });
            }
        }
        let (open, running, caches) = Default::default();
        Batching { model, options, rule, taps, prompts, closed, open, running, caches, finished }
    }

    pub(super) fn run(mut self) -> Result<Vec<Generated>> {
        loop {
            self.start_waiting()?;
            self.open_groups();
            if self.running.is_empty() && self.open.is_empty() {
                break;
            }
            self.advance()?;
        }
        self.finished.sort_by_key(|g| (g.prompt, g.sample));
        Ok(self.finished)
    }

    fn room(&self) -> usize {
        self.options.batch_size.max(1) - self.running.len()
    }

    /// Starts sequences whose prompt has been read, as far as there is room.
    fn start_waiting(&mut self) -> Result<()> {
        let mut still_open = VecDeque::new();
        while let Some(mut group) = self.open.pop_front() {
            let Some(logits) = group.logits.as_deref() else {
                still_open.push_back(group);
                continue;
            };
            let row = Row::new(logits).ok_or_else(|| broken(group.waiting.front()))?;
            while self.room() > 0 && !group.waiting.is_empty() {
                let places: Vec<_> = group.waiting.drain(..self.room().min(group.waiting.len())).collect();
                let sequence = |place: (usize, usize)| {
                    let ids = &self.prompts[place.0];
                    Sequence::new(place, ids, self.model.budget(ids, self.options), self.options)
                };
                let started: Vec<_> = places.into_iter().map(sequence).collect();
                let choices = choose(&started, |_| &row, logits.len());
                for (mut sequence, choice) in started.into_iter().zip(choices) {
                    match sequence.push(choice, self.rule) {
                        Some(finish) => self.finished.push(Generated { finish, ..sequence.out }),
                        None => {
                            self.running.push(sequence);
                            self.caches.push(group.cache.clone());
                        }
                    }
                }
            }
            if !group.waiting.is_empty() {
                still_open.push_back(group);
            }
        }
        self.open = still_open;
        Ok(())
    }

    /// Begins to read prompts whose sequences will find room.
    fn open_groups(&mut self) {
        let mut room = self.room().saturating_sub(self.open.iter().map(|g| g.waiting.len()).sum());
        while room > 0 {
            let Some(group) = self.closed.pop_front() else { break };
            room = room.saturating_sub(group.waiting.len());
            self.open.push_back(group);
        }
    }

    /// One pass: the last token of every running sequence, and as much of the open prompts as fits.
    fn advance(&mut self) -> Result<()> {
        let (mut ids, mut pieces): (Vec<u32>, Vec<(usize, usize)>) = Default::default();
        for (sequence, cache) in self.running.iter().zip(&mut self.caches) {
            let (prompt, own) = (&self.prompts[sequence.out.prompt], &sequence.out.ids);
            let total = prompt.len() + own.len();
            if !self.model.cache_serves(cache.len(), total) {
                cache.truncate(0);
            }
            let fresh = prompt.iter().chain(own).skip(cache.len());
            ids.extend(fresh);
            pieces.push((cache.len(), total - cache.len()));
        }
        let mut reading = Vec::new();
        for (i, group) in self.open.iter_mut().enumerate() {
            let read = group.cache.len();
            // Some rows of a prompt in every pass, however many sequences run.
            let least = if reading.is_empty() { ROWS / 8 } else { 0 };
            let fits = ROWS.saturating_sub(ids.len()).max(least);
            let whole = !self.model.reads_in_pieces(group.ids.len());
            let rows = (group.ids.len() - read).min(if whole { usize::MAX } else { fits });
            if group.logits.is_none() && rows > 0 {
                ids.extend_from_slice(&group.ids[read..read + rows]);
                pieces.push((read, rows));
                reading.push((i, read + rows == group.ids.len()));
                self.caches.push(std::mem::take(&mut group.cache));
            }
        }
        let layout = Layout::continued(pieces);
        let done = layout
            .sequences
            .iter()
            .zip((0..self.running.len()).map(|_| true).chain(reading.iter().map(|&(_, done)| done)));
        let last_rows: Vec<_> = done.filter(|(_, done)| *done).map(|(rows, _)| rows.end - 1).collect();
        let mut g = Graph::inference(&self.model.params);
        let hidden = self.model.continue_hidden(&mut g, &ids, &layout, &mut self.caches, self.taps)?;
        let caches = self.caches.split_off(self.running.len());
        let logits = self.model.logits(&mut g, &hidden, &layout, &last_rows, self.taps)?;
        let vocabulary = self.model.spec().vocabulary;
        let (own, prompts) = logits.value().f32().split_at(self.running.len() * vocabulary);
        let mut prompts = prompts.chunks_exact(vocabulary);
        for ((i, done), cache) in reading.into_iter().zip(caches) {
            self.open[i].cache = cache;
            if done {
                self.open[i].logits = prompts.next().map(<[f32]>::to_vec);
            }
        }
        self.continue_running(own, vocabulary)
    }

    /// Chooses the next token of every running sequence and takes out those that have ended.
    fn continue_running(&mut self, logits: &[f32], vocabulary: usize) -> Result<()> {
        let rows: Vec<Row<'_>> = if logits.len() < SERIAL {
            self.running.iter().zip(logits.chunks_exact(vocabulary)).map(row).collect::<Result<_>>()?
        } else {
            self.running
                .par_iter()
                .zip(logits.par_chunks_exact(vocabulary))
                .map(row)
                .collect::<Result<_>>()?
        };
        let choices = choose(&self.running, |i| &rows[i], vocabulary);
        let mut ended = Vec::new();
        for (i, (sequence, choice)) in self.running.iter_mut().zip(choices).enumerate() {
            ended.extend(sequence.push(choice, self.rule).map(|finish| (i, finish)));
        }
        for (i, finish) in ended.into_iter().rev() {
            // The order of the running batch does not matter, so removal may swap.
            let sequence = self.running.swap_remove(i);
            self.caches.swap_remove(i);
            self.finished.push(Generated { finish, ..sequence.out });
        }
        Ok(())
    }
}

fn row<'l>((sequence, logits): (&Sequence<'_>, &'l [f32])) -> Result<Row<'l>> {
    Row::new(logits).ok_or_else(|| broken(Some(&(sequence.out.prompt, sequence.out.sample))))
}

/// The next token of every sequence, from its row.
fn choose<'r>(
    sequences: &[Sequence<'_>],
    row: impl Fn(usize) -> &'r Row<'r> + Sync,
    vocabulary: usize,
) -> Vec<(u32, f32)> {
    let choose = |(i, sequence): (usize, &Sequence<'_>)| sequence.choose(row(i));
    if sequences.len() * vocabulary < SERIAL {
        sequences.iter().enumerate().map(choose).collect()
    } else {
        sequences.par_iter().enumerate().map(choose).collect()
    }
}

fn broken(place: Option<&(usize, usize)>) -> Error {
    Error::NotFinite {
        what: format!("logits of prompt {}", place.map_or(0, |p| p.0)),
        value: f64::NAN,
        hint: "; the model's weights are broken".into(),
    }
}
