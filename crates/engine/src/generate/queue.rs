//! Prompts that are to be read, and the sequences that wait for them.
//!
//! Equal prompts, and with them the samples of one prompt, form a group that is read once; its sequences
//! start from copies of its cache. Groups are opened in the order of their priority and submission as there
//! comes room for their sequences, and read in chunks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::RequestId;
use super::request::Accepted;
use crate::Tensor;
use crate::models::{KvCache, Model};

/// Where a group stands in line: by priority, then by submission.
pub(super) type Place = (Reverse<i64>, usize);

/// A sequence that has not started: the request, and which of its samples.
pub(super) type Waiting = (Arc<Accepted>, usize);

/// A prompt and the sequences that continue it; there is at least one.
pub(super) struct PromptGroup {
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) cache: KvCache,
    /// Logits after the prompt, once it is read: [V].
    pub(super) logits: Option<Tensor>,
    content: u64,
}

impl PromptGroup {
    pub(super) fn prompt(&self) -> &[u32] {
        self.waiting.front().map_or(&[], |(accepted, _)| &accepted.request.prompt)
    }

    /// Tokens that are kept free in the cache for it: what its first sequence to start may take. The prompt's
    /// own cache is in there, since a sequence can always take that.
    fn cache_tokens(&self) -> usize {
        self.waiting.iter().map(|(accepted, _)| accepted.cache_tokens()).max().unwrap_or(0)
    }
}

/// A part of a prompt that is to be read in the next pass.
pub(super) struct Chunk {
    pub(super) place: Place,
    /// Number of tokens.
    pub(super) length: usize,
    /// Whether it is the prompt's last.
    pub(super) last: bool,
}

/// What there is room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Sequences.
    pub(super) sequences: usize,
    /// Tokens in caches.
    pub(super) tokens: usize,
}

#[derive(Default)]
pub(super) struct Queue {
    /// Prompts that nothing has been done about.
    closed: BTreeMap<Place, PromptGroup>,
    /// Prompts that are being read, or whose sequences wait for room.
    pub(super) open: BTreeMap<Place, PromptGroup>,
    /// Groups that an equal prompt may join, by the name of their prompt's content.
    joinable: HashMap<u64, Place>,
    groups: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.is_empty()
    }

    /// Puts the samples of a request in line.
    pub(super) fn add(&mut self, accepted: &Arc<Accepted>) {
        let samples = accepted.request.options.samples;
        if samples == 0 {
            return;
        }
        let waiting = (0..samples).map(|sample| (accepted.clone(), sample));
        if accepted.request.options.taps.is_some() {
            // Whoever looks inside sees every sequence's own pass.
            for sequence in waiting {
                self.push_group(accepted, [sequence].into());
            }
        } else if let Some(group) = self.group_of_equals(accepted) {
            group.waiting.extend(waiting);
        } else {
            let place = self.push_group(accepted, waiting.collect());
            self.joinable.insert(accepted.content, place);
        }
    }

    /// The group of the same prompt that the request's sequences may join.
    fn group_of_equals(&mut self, accepted: &Accepted) -> Option<&mut PromptGroup> {
        let place = self.joinable.get(&accepted.content)?;
        // Who asks for the same again and again must not keep out others in line.
        let others_wait = self.closed.first_key_value().is_some_and(|(first, _)| first.0 <= place.0);
        // Of an open group it is settled how much of the cache is kept for it.
        let (group, most) = match self.open.get_mut(place) {
            Some(_) if others_wait => return None,
            Some(group) => {
                let most = group.cache_tokens();
                (group, most)
            }
            None => (self.closed.get_mut(place)?, usize::MAX),
        };
        let joins = place.0.0 == accepted.request.priority
            && accepted.cache_tokens() <= most
            && accepted.request.prompt == group.prompt();
        joins.then_some(group)
    }

    fn push_group(&mut self, accepted: &Accepted, waiting: VecDeque<Waiting>) -> Place {
        let place = (Reverse(accepted.request.priority), self.groups);
        self.groups += 1;
        let (cache, content) = (KvCache::default(), accepted.content);
        self.closed.insert(place, PromptGroup { waiting, cache, logits: None, content });
        place
    }

    /// Tokens that are kept free for open prompts and their sequences.
    pub(super) fn cache_tokens(&self) -> usize {
        self.open.values().map(PromptGroup::cache_tokens).sum()
    }

    /// Begins to read prompts whose sequences will find room. Nobody overtakes: a large request that waits
    /// for room gets it.
    pub(super) fn open(&mut self, mut room: Room, model: &Model) {
        while let Some(next) = self.closed.first_entry() {
            // Who is behind in line does not take places from this one, however many sequences it has.
            let before: usize = self.open.range(..*next.key()).map(|(_, group)| group.waiting.len()).sum();
            if room.sequences <= before || next.get().cache_tokens() > room.tokens {
                break;
            }
            let (place, mut group) = next.remove_entry();
            group.cache = model.new_cache();
            room.tokens -= group.cache_tokens();
            self.open.insert(place, group);
        }
    }

    /// Which chunks of open prompts are read in a pass that has room for `rows` of them.
    ///
    /// Short prompts go first, and need not wait for the whole of a long one; for the first in line some rows
    /// are kept in every pass. A prompt that must be read whole is.
    pub(super) fn chunks(&self, rows: usize, model: &Model) -> Vec<Chunk> {
        let unread = self.open.iter().filter(|(_, group)| group.logits.is_none());
        let mut unread: Vec<_> =
            unread.map(|(&place, group)| (place, group.prompt().len() - group.cache.len())).collect();
        let Some(&(first, rest)) = unread.first() else { return Vec::new() };
        let kept = rest.min((rows / 8).max(1));
        let mut left = rows.saturating_sub(kept);
        unread.sort_by_key(|&(place, rest)| (rest, place));
        let mut chunks = Vec::new();
        for (place, rest) in unread {
            if place == first {
                left += kept;
            }
            let whole = !model.reads_in_pieces(self.open[&place].prompt().len());
            let length = if whole && left > 0 { rest } else { rest.min(left) };
            left = left.saturating_sub(length);
            if length > 0 {
                chunks.push(Chunk { place, length, last: length == rest });
            }
        }
        chunks
    }

    /// Open prompts that have been read, in line.
    pub(super) fn read(&self) -> Vec<Place> {
        self.open.iter().filter(|(_, group)| group.logits.is_some()).map(|(&place, _)| place).collect()
    }

    /// Takes sequences of a prompt that has been read out of the line, as many as there is room for, each
    /// with its cache.
    ///
    /// All but the last need a copy of the prompt's cache. Where there is no room for one, nor anything that
    /// could give some back (`alone`), a sequence takes the prompt's own, and the others read it again.
    pub(super) fn start(&mut self, place: Place, mut room: Room, alone: bool) -> Vec<(Waiting, KvCache)> {
        let Some(group) = self.open.get_mut(&place) else { return Vec::new() };
        let mut started = Vec::new();
        while room.sequences > 0
            && let Some(next) = group.waiting.front().map(|(accepted, _)| accepted.cache_tokens())
        {
            let is_last = group.waiting.len() == 1;
            let copies = !is_last && next <= room.tokens;
            let takes = is_last || (alone && started.is_empty());
            if !copies && !takes {
                break;
            }
            let cache = if copies { group.cache.clone() } else { std::mem::take(&mut group.cache) };
            started.extend(group.waiting.pop_front().map(|sequence| (sequence, cache)));
            if !copies {
                break;
            }
            room.sequences -= 1;
            room.tokens -= next;
        }
        self.settle(place);
        started
    }

    /// Takes a group out that has lost its sequences, and back into line where it has lost its cache.
    fn settle(&mut self, place: Place) {
        let Some(mut group) = self.open.remove(&place) else { return };
        if group.waiting.is_empty() {
            if self.joinable.get(&group.content) == Some(&place) {
                self.joinable.remove(&group.content);
            }
        } else if group.logits.is_some() && group.cache.is_empty() {
            group.logits = None;
            self.closed.insert(place, group);
        } else {
            self.open.insert(place, group);
        }
    }

    /// Takes all sequences of a request out of the line.
    pub(super) fn remove(&mut self, request: RequestId) -> Vec<Waiting> {
        let mut removed = Vec::new();
        for groups in [&mut self.closed, &mut self.open] {
            groups.retain(|_, group| {
                let (own, others): (VecDeque<_>, _) =
                    group.waiting.drain(..).partition(|(accepted, _)| accepted.id == request);
                group.waiting = others;
                removed.extend(own);
                !group.waiting.is_empty()
            });
        }
        self.joinable.retain(|_, place| self.closed.contains_key(place) || self.open.contains_key(place));
        removed
    }
}
