//! How the rows of a sequence become its embedding.

use std::fmt;
use std::str::FromStr;

use super::input::Input;
use super::tower::Tower;
use crate::tape::{Graph, Var};
use crate::{Error, Result};

/// One way to turn hidden states into a vector per sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first row: the class token.
    Cls,
    /// The largest value of every column.
    Max,
    /// The mean of all rows, special tokens included.
    Mean,
    /// The sum of all rows over the root of their number.
    MeanSqrtLength,
    /// The mean weighted by position, counted from 1.
    WeightedMean,
    /// The last row: the end of a text.
    Last,
    /// The model's own: BERT's and ViT's pooler, CLIP's row and projection.
    Pooler,
}

const NAMES: [(Pooling, &str); 7] = [
    (Pooling::Cls, "cls"),
    (Pooling::Max, "max"),
    (Pooling::Mean, "mean"),
    (Pooling::MeanSqrtLength, "mean_sqrt_len_tokens"),
    (Pooling::WeightedMean, "weightedmean"),
    (Pooling::Last, "last"),
    (Pooling::Pooler, "pooler"),
];

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(pooling, _)| pooling == self).map_or("?", |(_, name)| name))
    }
}

impl FromStr for Pooling {
    type Err = Error;

    /// Reads the names that [`Pooling`] shows, and those sentence-transformers has besides.
    fn from_str(text: &str) -> Result<Self, Error> {
        let name = match text {
            "eos" | "lasttoken" => "last",
            "mean_sqrt_len" => "mean_sqrt_len_tokens",
            other => other,
        };
        NAMES.iter().find(|(_, known)| *known == name).map(|(pooling, _)| *pooling).ok_or_else(|| {
            let known = NAMES.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
            Error::invalid(format!("pooling {text:?} is unknown; choose among {known}"))
        })
    }
}

impl Pooling {
    /// Hidden states [T, d] → one row per sequence.
    pub(super) fn forward<'m>(
        self,
        g: &mut Graph<'m>,
        hidden: &Var,
        tower: &'m Tower,
        input: &Input,
    ) -> Result<Var> {
        let sequences = &input.layout.sequences;
        let weighted = |g: &mut Graph<'m>, weight: &dyn Fn(usize, usize) -> f32| {
            let weights: Vec<f32> =
                sequences.iter().flat_map(|s| (0..s.len()).map(|i| weight(i, s.len()))).collect();
            g.sum_rows(hidden, sequences, &weights)
        };
        match self {
            Pooling::Cls => g.gather_rows(hidden, &sequences.iter().map(|s| s.start).collect::<Vec<_>>()),
            Pooling::Last => g.gather_rows(hidden, &sequences.iter().map(|s| s.end - 1).collect::<Vec<_>>()),
            Pooling::Max => g.max_rows(hidden, sequences),
            Pooling::Mean => weighted(g, &|_, n| 1.0 / n as f32),
            Pooling::MeanSqrtLength => weighted(g, &|_, n| 1.0 / (n as f32).sqrt()),
            Pooling::WeightedMean => weighted(g, &|i, n| (i + 1) as f32 / (n * (n + 1) / 2) as f32),
            Pooling::Pooler => tower.features(g, hidden, input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for (pooling, name) in NAMES {
            assert_eq!(name.parse::<Pooling>().unwrap(), pooling);
            assert_eq!(pooling.to_string(), name);
        }
        assert_eq!("eos".parse::<Pooling>().unwrap(), Pooling::Last);
        assert!("sum".parse::<Pooling>().unwrap_err().to_string().contains("mean"));
    }
}
