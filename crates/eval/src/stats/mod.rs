//! How sure a figure is: means with their standard error, bootstrap intervals, the two-sample
//! Kolmogorov–Smirnov test, the area under the ROC curve, and the best of several draws.

mod auc;
mod best_of;
mod bootstrap;
mod heights;
mod ks;
mod mean;
mod student;

pub use auc::{roc_auc, roc_auc_error};
pub use best_of::best_of;
pub use bootstrap::{Bootstrap, Interval};
pub use heights::{highest_stretch, mean_height};
pub use ks::{KsMethod, KsTest, ks_two_sample};
pub use mean::{harmonic_mean, harmonic_of_means, mean, ratio_of_sums};
pub use student::chance_limit;

/// Why a statistic cannot be computed from what was given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// A sample without values.
    #[error("the {sample} sample is empty; give at least one value")]
    Empty {
        /// Which of the samples.
        sample: &'static str,
    },
    /// A value that cannot be ordered or averaged.
    #[error("value {index} of the {sample} sample is not a number; look at the item it was measured on")]
    NotANumber {
        /// Which of the samples.
        sample: &'static str,
        /// Position in the sample, from 0.
        index: usize,
    },
    /// Paired samples of different length.
    #[error("paired samples need one value per item in both, but they have {first} and {second}")]
    Unpaired {
        /// Length of the first sample.
        first: usize,
        /// Length of the second sample.
        second: usize,
    },
    /// A bootstrap that cannot be drawn.
    #[error(
        "a bootstrap needs at least 1 resample and a level between 0 and 1, got {resamples} at level {level}"
    )]
    Bootstrap {
        /// Number of resamples asked for.
        resamples: usize,
        /// Confidence level asked for.
        level: f64,
    },
}

/// A sample that every statistic here accepts: not empty, every value a number.
fn checked<'a>(sample: &'static str, values: &'a [f64]) -> Result<&'a [f64], StatsError> {
    if values.is_empty() {
        return Err(StatsError::Empty { sample });
    }
    match values.iter().position(|v| v.is_nan()) {
        Some(index) => Err(StatsError::NotANumber { sample, index }),
        None => Ok(values),
    }
}
