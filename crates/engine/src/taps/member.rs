//! Several sets of taps in one pass, each for sequences of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Site, Taps};
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
    pub(super) fn at<'m>(&self, g: &mut Graph<'m>, site: Site, x: Var, layout: &Layout) -> Result<Var> {
        let own = layout.sequences.iter().zip(&layout.keys);
        let (sequences, keys): (Vec<_>, Vec<_>) =
            own.filter_map(|(rows, key)| Some((rows.clone(), *self.keys.get(key)?))).unzip();
        if keys.is_empty() || !self.taps.touches(site) {
            return Ok(x);
        }
        self.taps.at(g, site, x, &Layout { sequences, keys, ..layout.clone() })
    }
}
