//! How the sequences of a packed batch lie.

use std::ops::Range;
use std::sync::Arc;

use crate::kernels::PackedSequence;
use crate::{Error, Result};

/// Which rows of its sequence a row sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// Itself and those before it.
    #[default]
    Causal,
    /// All.
    BothWays,
    /// The first n see each other both ways; those after them see themselves and what is before.
    Prefix(usize),
}

impl Visibility {
    /// How many of the first positions see each other both ways.
    pub(crate) fn prefix(self) -> usize {
        match self {
            Visibility::Causal => 0,
            Visibility::BothWays => usize::MAX,
            Visibility::Prefix(n) => n,
        }
    }

    /// Whether the row at `position` sees the one at `key`.
    pub(crate) fn sees(self, position: usize, key: usize) -> bool {
        key <= position || key < self.prefix()
    }
}

/// Where each sequence of a packed batch lies, whose it is, and its tokens' positions. No padding, ever.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Rows of every sequence.
    pub sequences: Vec<Range<usize>>,
    /// Key of every sequence: what it goes by in every pass, wherever in the batch it lies.
    pub keys: Vec<u64>,
    /// Position of every row within its sequence (counting what a cache already holds).
    pub positions: Arc<Vec<u32>>,
    /// What the rows of every sequence see.
    pub visibility: Vec<Visibility>,
}

/// What one sequence brings to a packed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Key of the sequence.
    pub key: u64,
    /// Position of its first row here: the number of tokens that a cache already holds.
    pub first: usize,
    /// Number of rows.
    pub length: usize,
}

impl Layout {
    /// Sequences of the given lengths, one after the other, from position 0; causal. Their keys are 0, 1, 2, …
    pub fn packed(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::continued(lengths.into_iter().map(|length| (0, length)))
    }

    /// Pieces of `(first position, length)`: what cached sequences go on with; causal. Their keys are 0, 1, 2, …
    pub fn continued(pieces: impl IntoIterator<Item = (usize, usize)>) -> Self {
        Self::of((0..).zip(pieces).map(|(key, (first, length))| Piece { key, first, length }))
    }

    /// Pieces of sequences that bring keys of their own.
    pub fn of(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let (mut sequences, mut keys, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for Piece { key, first, length } in pieces {
            sequences.push(positions.len()..positions.len() + length);
            keys.push(key);
            positions.extend((first..first + length).map(|p| p as u32));
        }
        let visibility = vec![Visibility::Causal; sequences.len()];
        Layout { sequences, keys, positions: Arc::new(positions), visibility }
    }

    /// The same sequences, seen in one way.
    pub fn seen(self, visibility: Visibility) -> Self {
        Layout { visibility: vec![visibility; self.sequences.len()], ..self }
    }

    /// Fails where a sequence cannot be continued from a cache after this piece of it: what sees both ways
    /// has to be read whole, because cached rows do not change any more.
    pub(crate) fn check_cached(&self) -> Result<()> {
        for (i, (rows, visibility)) in self.sequences.iter().zip(&self.visibility).enumerate() {
            let positions = &self.positions[rows.clone()];
            let first = positions.first().map_or(0, |&p| p as usize);
            let end = positions.last().map_or(0, |&p| p as usize + 1);
            match *visibility {
                Visibility::BothWays => {
                    return Err(Error::invalid(format!(
                        "sequence {i} is read both ways, so it has no cache: what comes later would change it"
                    )));
                }
                Visibility::Prefix(n) if end < n => {
                    return Err(Error::invalid(format!(
                        "the first {n} positions of sequence {i} see each other both ways and have to be read \
                         in one pass; this one ends at {end}"
                    )));
                }
                Visibility::Prefix(n) if 0 < first && first < n => {
                    return Err(Error::invalid(format!(
                        "the first {n} positions of sequence {i} see each other both ways and have to be read \
                         in one pass; this one begins at {first}"
                    )));
                }
                Visibility::Prefix(_) | Visibility::Causal => {}
            }
        }
        Ok(())
    }

    /// Rows and visibility of every sequence.
    pub(super) fn seen_sequences(&self) -> impl Iterator<Item = PackedSequence> {
        let pairs = self.sequences.iter().zip(&self.visibility);
        pairs.map(|(rows, visibility)| PackedSequence { rows: rows.clone(), prefix: visibility.prefix() })
    }

    /// The layout of a value that holds only these rows, each a piece of its sequence.
    pub fn of_rows(&self, rows: &[usize]) -> Self {
        let piece = |&row: &usize| {
            // Sequences lie one after the other, so the first that ends behind the row holds it.
            let sequence = self.sequences.partition_point(|s| s.end <= row);
            Piece { key: self.keys[sequence], first: self.positions[row] as usize, length: 1 }
        };
        Self::of(rows.iter().map(piece))
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }
}
