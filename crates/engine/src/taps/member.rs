//! Several sets of taps in one pass, each for sequences of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{Check, Taps, TowerSite};
use crate::Error;
use crate::tape::{Graph, Layout, Var};

/// A set of taps, and which sequences of a pass it is for.
pub(crate) struct Member {
    taps: Arc<Taps>,
    /// The keys of its sequences in the pass, and what it calls them itself.
    keys: BTreeMap<u64, u64>,
    /// Why taps of a sequence have failed, under its key in the pass. They see no more of it.
    failures: Mutex<BTreeMap<u64, Error>>,
}

impl Member {
    /// Taps for no sequence yet.
    pub(crate) fn new(taps: Arc<Taps>) -> Self {
        Member { taps, keys: BTreeMap::new(), failures: Mutex::default() }
    }

    /// Whether it is this set of taps.
    pub(crate) fn is(&self, taps: &Arc<Taps>) -> bool {
        Arc::ptr_eq(&self.taps, taps)
    }

    /// Makes the taps see the sequence `key` of the pass, which they call `own`.
    pub(crate) fn add(&mut self, key: u64, own: u64) {
        self.keys.insert(key, own);
    }

    /// What has failed since the last call, under the keys that sequences have in the pass.
    pub(super) fn take_failures(&self) -> BTreeMap<u64, Error> {
        self.failures.lock().map(|mut failures| std::mem::take(&mut *failures)).unwrap_or_default()
    }

    /// Whether anything happens at a site.
    pub(super) fn touches(&self, site: TowerSite) -> bool {
        self.taps.touches(site)
    }

    /// Whether nothing happens anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Passes a value through the taps, which see no sequences but their own.
    ///
    /// A pass that others share goes on where they fail: what they failed at stays as it was.
    pub(super) fn at<'m>(
        &self,
        g: &mut Graph<'m>,
        site: TowerSite,
        x: Var,
        layout: &Layout,
        check: &Check<'_>,
    ) -> Var {
        if !self.touches(site) {
            return x;
        }
        let own: Vec<usize> = (0..layout.keys.len()).filter(|&i| self.sees(layout.keys[i])).collect();
        self.at_sequences(g, site, x, layout, &own, check)
    }

    fn sees(&self, key: u64) -> bool {
        let failed = || self.failures.lock().is_ok_and(|failures| failures.contains_key(&key));
        self.keys.contains_key(&key) && !failed()
    }

    fn at_sequences<'m>(
        &self,
        g: &mut Graph<'m>,
        site: TowerSite,
        x: Var,
        layout: &Layout,
        sequences: &[usize],
        check: &Check<'_>,
    ) -> Var {
        if sequences.is_empty() {
            return x;
        }
        let own = Layout {
            sequences: sequences.iter().map(|&i| layout.sequences[i].clone()).collect(),
            keys: sequences.iter().map(|&i| self.keys[&layout.keys[i]]).collect(),
            visibility: sequences.iter().map(|&i| layout.visibility[i]).collect(),
            positions: layout.positions.clone(),
        };
        match (self.taps.at_checked(g, site, x.clone(), &own, check), sequences) {
            (Ok(x), _) => x,
            (Err(error), &[sequence]) => {
                if let Ok(mut failures) = self.failures.lock() {
                    failures.insert(layout.keys[sequence], error);
                }
                x
            }
            // Which of the sequences it is that they fail at is only known when each is alone.
            (Err(_), _) => sequences
                .iter()
                .fold(x, |x, &sequence| self.at_sequences(g, site, x, layout, &[sequence], check)),
        }
    }
}
