//! Which part of a site's value a tap reaches.

use std::collections::BTreeSet;
use std::ops::Range;

use super::TowerSite;
use crate::tape::{Layout, Region};
use crate::{Error, Result, Tensor};

/// Which part of a site's value an action touches: rows by sequence and position, and columns.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// Keys of the sequences: in a batch their index, in generation what the caller calls them; `None`
    /// means all.
    pub sequences: Option<BTreeSet<u64>>,
    /// Token positions within the sequence, cached ones counted; `None` means all.
    pub positions: Option<BTreeSet<u32>>,
    /// Columns of the flattened last dimension (head h of width w is `h·w..(h+1)·w`); `None` means all.
    pub columns: Option<Range<usize>>,
}

/// The token that a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Key of its sequence.
    pub sequence: u64,
    /// Its position there.
    pub position: u32,
}

/// The region of a value that a selector reaches, and what its rows stand for.
pub(super) struct Selected {
    pub(super) region: Region,
    pub(super) origins: Vec<Origin>,
}

impl Selector {
    /// What is selected of a site's value. Sites that hold several rows per token hold them one after the
    /// other.
    pub(super) fn select(&self, site: TowerSite, x: &Tensor, layout: &Layout) -> Result<Selected> {
        let columns = self.columns.clone().unwrap_or(0..x.columns());
        if columns.end > x.columns() || columns.start > columns.end {
            return Err(Error::invalid(format!("{site}: columns {columns:?} selected of {}", x.columns())));
        }
        let repeats = x.rows() / layout.rows().max(1);
        let (mut rows, mut origins) = (Vec::new(), Vec::new());
        for (range, &sequence) in layout.sequences.iter().zip(&layout.keys) {
            if self.sequences.as_ref().is_some_and(|wanted| !wanted.contains(&sequence)) {
                continue;
            }
            for row in range.clone() {
                let position = layout.positions[row];
                if self.positions.as_ref().is_none_or(|wanted| wanted.contains(&position)) {
                    rows.extend(row * repeats..(row + 1) * repeats);
                    origins.extend(std::iter::repeat_n(Origin { sequence, position }, repeats));
                }
            }
        }
        Ok(Selected { region: Region { rows, columns }, origins })
    }
}
