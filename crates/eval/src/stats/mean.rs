//! Arithmetic mean with its standard error, and the harmonic mean.

use serde::{Deserialize, Serialize};

use super::{StatsError, checked};

/// A mean over items, the way every figure is reported: value, standard error, number of items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// x̄ = Σxᵢ / n.
    pub value: f64,
    /// s/√n with s² = Σ(xᵢ − x̄)²/(n − 1); `None` for a single item, whose spread is unknown.
    pub standard_error: Option<f64>,
    /// Number of items.
    pub n: usize,
}

impl Mean {
    /// The mean of `values`.
    ///
    /// # Errors
    /// When there are none, or one is NaN.
    pub fn of(values: &[f64]) -> Result<Mean, StatsError> {
        let values = checked("averaged", values)?;
        let n = values.len();
        let value = values.iter().sum::<f64>() / n as f64;
        let standard_error = (n > 1).then(|| (sample_variance(values, value) / n as f64).sqrt());
        Ok(Mean { value, standard_error, n })
    }
}

/// Σ(xᵢ − x̄)²/(n − 1), in two passes so that a large mean does not swallow a small spread.
fn sample_variance(values: &[f64], mean: f64) -> f64 {
    values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// n / Σ(1/xᵢ), for scores that are not negative; 0 as soon as one of them is 0.
///
/// TOFU's model utility is this mean over nine scores (Maini et al. 2024, arXiv 2401.06121): a
/// model that lost one ability altogether has no utility, however good the others are.
/// `None` when there are no values.
pub fn harmonic_mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    if values.iter().any(|&x| x <= 0.0) {
        return Some(0.0);
    }
    Some(values.len() as f64 / values.iter().map(|x| 1.0 / x).sum::<f64>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mean_of_known_values() {
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((mean.value, mean.n), (2.5, 4));
        assert!((mean.standard_error.unwrap() - 0.645_497_224_367_902_8).abs() < 1e-15);
        assert_eq!(Mean::of(&[7.0]).unwrap().standard_error, None);
        assert_eq!(Mean::of(&[]), Err(StatsError::Empty { sample: "averaged" }));
        assert_eq!(Mean::of(&[0.0, f64::NAN]), Err(StatsError::NotANumber { sample: "averaged", index: 1 }));
    }

    #[test]
    fn harmonic_mean_of_known_values() {
        assert!((harmonic_mean(&[0.9, 0.8, 0.5]).unwrap() - 0.687_898_089_171_974_5).abs() < 1e-12);
        assert_eq!(harmonic_mean(&[0.9, 0.0, 0.5]), Some(0.0));
        assert_eq!(harmonic_mean(&[]), None);
    }

    proptest! {
        #[test]
        fn harmonic_mean_lies_between_the_smallest_and_the_arithmetic(
            values in prop::collection::vec(0.01f64..1.0, 1..12)
        ) {
            let harmonic = harmonic_mean(&values).unwrap();
            let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!(harmonic >= smallest - 1e-12);
            prop_assert!(harmonic <= Mean::of(&values).unwrap().value + 1e-12);
        }

        #[test]
        fn standard_error_ignores_a_shift(values in prop::collection::vec(-1.0f64..1.0, 2..20)) {
            let shifted: Vec<f64> = values.iter().map(|x| x + 1000.0).collect();
            let (a, b) = (Mean::of(&values).unwrap(), Mean::of(&shifted).unwrap());
            prop_assert!((a.standard_error.unwrap() - b.standard_error.unwrap()).abs() < 1e-9);
        }
    }
}
