//! Several sets of taps in one pass, each for sequences of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Taps, TowerSite};
use crate::Result;
use crate::tape::{Graph, Layout, Var};

/// A set of taps, and which sequences of a pass it is for.
pub(crate) struct Member {
    pub(crate) taps: Arc<Taps>,
    /// The keys of its sequences in the pass, and what it calls them itself.
    pub(crate) keys: BTreeMap<u64, u64>,
}

impl Member {
    /// Passes a value through the taps, which see no sequences but their own.
    pub(super) fn at<'m>(&self, g: &mut Graph<'m>, site: TowerSite, x: Var, layout: &Layout) -> Result<Var> {
        if !self.taps.touches(site) {
            return Ok(x);
        }
        let positions = layout.positions.clone();
        let mut own = Layout { sequences: Vec::new(), keys: Vec::new(), visibility: Vec::new(), positions };
        for (i, key) in layout.keys.iter().enumerate() {
            if let Some(&key) = self.keys.get(key) {
                own.sequences.push(layout.sequences[i].clone());
                own.keys.push(key);
                own.visibility.push(layout.visibility[i]);
            }
        }
        if own.keys.is_empty() {
            return Ok(x);
        }
        self.taps.at(g, site, x, &own)
    }
}
