//! Percentile bootstrap intervals: resample the items with replacement, take quantiles.
//!
//! Source: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13. No bias
//! correction is made. The same seed gives the same interval.

use amend_engine::Rng;
use serde::{Deserialize, Serialize};

use super::{StatsError, checked};

/// How intervals are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: usize,
    /// Confidence level, between 0 and 1.
    pub level: f64,
    /// Seed of the resampling.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Bootstrap { resamples: 2000, level: 0.95, seed: 0 }
    }
}

/// An estimate and the interval around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The statistic of the sample as it is.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence level.
    pub level: f64,
    /// Number of resamples behind the ends.
    pub resamples: usize,
}

impl Bootstrap {
    /// Interval of the mean of `values`.
    ///
    /// # Errors
    /// When there are none, one is NaN, or the bootstrap itself is impossible.
    pub fn mean(&self, values: &[f64]) -> Result<Interval, StatsError> {
        let values = checked("bootstrapped", values)?;
        let mut rng = Rng::named(self.seed, "bootstrap/mean");
        self.interval(average(values), || resampled_mean(values, &mut rng))
    }

    /// Interval of the mean of `after[i] − before[i]`, the same items measured twice.
    ///
    /// # Errors
    /// As [`Bootstrap::mean`], and when the lengths differ.
    pub fn paired_difference(&self, before: &[f64], after: &[f64]) -> Result<Interval, StatsError> {
        if before.len() != after.len() {
            return Err(StatsError::Unpaired { first: before.len(), second: after.len() });
        }
        checked("first", before)?;
        checked("second", after)?;
        let differences: Vec<f64> = before.iter().zip(after).map(|(b, a)| a - b).collect();
        let mut rng = Rng::named(self.seed, "bootstrap/paired");
        self.interval(average(&differences), || resampled_mean(&differences, &mut rng))
    }

    /// Interval of `mean(second) − mean(first)`, two samples of different items.
    ///
    /// # Errors
    /// As [`Bootstrap::mean`].
    pub fn unpaired_difference(&self, first: &[f64], second: &[f64]) -> Result<Interval, StatsError> {
        let (first, second) = (checked("first", first)?, checked("second", second)?);
        let mut rng = Rng::named(self.seed, "bootstrap/unpaired");
        self.interval(average(second) - average(first), || {
            resampled_mean(second, &mut rng) - resampled_mean(first, &mut rng)
        })
    }

    fn interval(&self, estimate: f64, mut draw: impl FnMut() -> f64) -> Result<Interval, StatsError> {
        let Bootstrap { resamples, level, .. } = *self;
        if resamples == 0 || !(0.0..=1.0).contains(&level) {
            return Err(StatsError::Bootstrap { resamples, level });
        }
        let mut draws: Vec<f64> = (0..resamples).map(|_| draw()).collect();
        draws.sort_by(f64::total_cmp);
        let tail = (1.0 - level) / 2.0;
        let (low, high) = (quantile(&draws, tail), quantile(&draws, 1.0 - tail));
        Ok(Interval { estimate, low, high, level, resamples })
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn resampled_mean(values: &[f64], rng: &mut Rng) -> f64 {
    (0..values.len()).map(|_| values[rng.below(values.len())]).sum::<f64>() / values.len() as f64
}

/// The `q`-quantile of sorted values, linear between neighbours (type 7, as NumPy's default).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use amend_engine::Rng;
    use proptest::prelude::*;

    use super::*;

    fn normal_sample(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::named(seed, "bootstrap/test");
        (0..n).map(|_| rng.normal()).collect()
    }

    #[test]
    fn width_agrees_with_the_normal_theory() {
        let values = normal_sample(400, 1);
        let interval = Bootstrap::default().mean(&values).unwrap();
        let expected = 2.0 * 1.96 * super::super::mean(&values).unwrap().stderr.unwrap();
        assert!((interval.high - interval.low) / expected > 0.9, "{interval:?} against {expected}");
        assert!((interval.high - interval.low) / expected < 1.1, "{interval:?} against {expected}");
    }

    #[test]
    fn pairing_removes_what_the_items_share() {
        let before = normal_sample(100, 2);
        let after: Vec<f64> = before.iter().map(|x| x + 0.5).collect();
        let bootstrap = Bootstrap::default();
        let paired = bootstrap.paired_difference(&before, &after).unwrap();
        let unpaired = bootstrap.unpaired_difference(&before, &after).unwrap();
        assert!(paired.high - paired.low < 1e-12);
        assert!(unpaired.high - unpaired.low > 0.3);
        assert!((paired.estimate - 0.5).abs() < 1e-12 && (unpaired.estimate - 0.5).abs() < 1e-12);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 1.0), 4.0);
        assert_eq!(quantile(&[5.0], 0.3), 5.0);
    }

    #[test]
    fn impossible_requests_are_refused() {
        let bootstrap = Bootstrap { resamples: 0, ..Bootstrap::default() };
        assert!(matches!(bootstrap.mean(&[1.0]), Err(StatsError::Bootstrap { .. })));
        let bootstrap = Bootstrap { level: f64::NAN, ..Bootstrap::default() };
        assert!(matches!(bootstrap.mean(&[1.0]), Err(StatsError::Bootstrap { .. })));
        let unpaired = Bootstrap::default().paired_difference(&[1.0], &[1.0, 2.0]);
        assert_eq!(unpaired, Err(StatsError::Unpaired { first: 1, second: 2 }));
    }

    proptest! {
        #[test]
        fn same_seed_same_interval_within_the_data(
            values in prop::collection::vec(-5.0f64..5.0, 1..30), seed in 0u64..1000
        ) {
            let bootstrap = Bootstrap { resamples: 50, seed, ..Bootstrap::default() };
            let interval = bootstrap.mean(&values).unwrap();
            prop_assert_eq!(interval, bootstrap.mean(&values).unwrap());
            let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(smallest - 1e-12 <= interval.low && interval.low <= interval.high);
            prop_assert!(interval.high <= largest + 1e-12);
        }
    }
}
