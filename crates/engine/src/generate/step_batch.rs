//! The batch of one step: which rows go through the model together.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::models::{KvCache, Model};
use crate::tape::{Graph, Layout};
use crate::taps::{Member, Taps};
use crate::{Error, Result, Tensor};

/// New rows of sequences that a cache each holds the beginning of.
#[derive(Default)]
pub(super) struct StepBatch {
    ids: Vec<u32>,
    /// First position and number of rows of every sequence.
    pieces: Vec<(usize, usize)>,
    /// Rows whose logits are wanted.
    ends: Vec<usize>,
    /// Sets of taps, and the sequences that they are for.
    taps: Vec<Member>,
}

/// What a step's forward pass gives.
pub(super) struct StepOutput {
    /// Logits of the wanted rows, in the order in which they were added: [n, V].
    pub(super) logits: Tensor,
    /// The sequences whose taps have failed, by their place in the batch. What there is of them means nothing; the
    /// others are as if these had not been there.
    pub(super) failures: BTreeMap<usize, Error>,
}

impl StepBatch {
    /// Adds rows of a sequence, of which `held` are cached; `wanted` says whether the logits after them are,
    /// `tapped` which taps see it, and what they call it.
    pub(super) fn add(
        &mut self,
        held: usize,
        ids: impl IntoIterator<Item = u32>,
        wanted: bool,
        tapped: Option<(&Arc<Taps>, u64)>,
    ) {
        let before = self.rows();
        if let Some((taps, own)) = tapped {
            let key = self.pieces.len() as u64;
            match self.taps.iter_mut().find(|member| member.is(taps)) {
                Some(member) => member.add(key, own),
                None => {
                    let mut member = Member::new(taps.clone());
                    member.add(key, own);
                    self.taps.push(member);
                }
            }
        }
        self.ids.extend(ids);
        self.pieces.push((held, self.rows() - before));
        if wanted {
            self.ends.push(self.rows() - 1);
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.ids.len()
    }

    /// One forward pass. There is a cache for every sequence, which then holds its new rows too.
    pub(super) fn run(self, model: &Model, caches: &mut [KvCache]) -> Result<StepOutput> {
        let (layout, taps) = (Layout::continued(self.pieces), Taps::joined(self.taps));
        let mut g = Graph::inference(&model.params);
        let hidden = model.continue_hidden(&mut g, &self.ids, &layout, caches, &taps)?;
        let logits = model.logits(&mut g, &hidden, &layout, &self.ends, &taps)?;
        let failures = taps.take_failures().into_iter().map(|(key, error)| (key as usize, error));
        Ok(StepOutput { logits: logits.value().clone(), failures: failures.collect() })
    }
}
