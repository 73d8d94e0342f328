//! A mean over cases, and how sure it is.

use amend_eval::stats::Bootstrap;
use amend_run::in_short;
use amend_run::report::Cell;
use serde::{Deserialize, Serialize};

/// The mean over cases with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How many cases it rests on.
    pub n: usize,
}

impl Estimate {
    /// The mean of one value per case; nothing without cases, or where a value is no number.
    pub fn of(values: &[f64], seed: u64) -> Option<Self> {
        let interval = Bootstrap { seed, ..Bootstrap::default() }.mean(values).ok()?;
        Some(Estimate { value: interval.estimate, low: interval.low, high: interval.high, n: values.len() })
    }
}

/// `0.412 (0.380 to 0.450, n = 40)`.
impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ({} to {}, n = {})",
            in_short(self.value),
            in_short(self.low),
            in_short(self.high),
            self.n
        )
    }
}

impl From<Estimate> for Cell {
    fn from(estimate: Estimate) -> Self {
        let text = if estimate.value.is_finite() { in_short(estimate.value) } else { "n/a".into() };
        let note = format!("{} to {}, n = {}", in_short(estimate.low), in_short(estimate.high), estimate.n);
        Cell { text, numeric: true, ..Cell::default() }.noted(note)
    }
}

/// A cell of what may not be there.
pub(crate) fn cell(estimate: Option<Estimate>) -> Cell {
    estimate.map_or_else(|| Cell::from("–"), Cell::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_lies_in_its_interval() {
        let estimate = Estimate::of(&[0.0, 1.0, 1.0, 0.0, 1.0], 3).unwrap();
        assert_eq!((estimate.value, estimate.n), (0.6, 5));
        assert!(estimate.low < 0.6 && 0.6 < estimate.high && estimate.high <= 1.0);
        assert_eq!(Estimate::of(&[0.0, 1.0, 1.0, 0.0, 1.0], 3), Some(estimate), "the seed decides");
        let one = Estimate::of(&[0.5], 0).unwrap();
        assert_eq!(one.to_string(), "0.500 (0.500 to 0.500, n = 1)");
        assert_eq!(Estimate::of(&[], 0), None);
        assert_eq!(Estimate::of(&[f64::NAN], 0), None);
    }
}
