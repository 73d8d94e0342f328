//! Means and ratios with their standard errors, and the harmonic mean.

use amend_run::Figure;

use super::{StatsError, checked};

/// The mean of `values` with its standard error s/√n, s² = Σ(xᵢ − x̄)²/(n − 1); none for a single item, whose
/// spread is unknown.
///
/// # Errors
/// When there are no values, or one is NaN.
pub fn mean(values: &[f64]) -> Result<Figure, StatsError> {
    Ok(Figure::mean(checked("averaged", values)?))
}

/// Σxᵢ / Σyᵢ over pairs, such as losses per word over texts, with its first-order standard error: that of the mean
/// of xᵢ − R·yᵢ, over the mean of y.
///
/// # Errors
/// When there are no pairs, their numbers differ, or a value is NaN.
pub fn ratio_of_sums(x: &[f64], y: &[f64]) -> Result<Figure, StatsError> {
    let (x, y) = (checked("first", x)?, checked("second", y)?);
    if x.len() != y.len() {
        return Err(StatsError::Unpaired { first: x.len(), second: y.len() });
    }
    let (total, n) = (y.iter().sum::<f64>(), x.len());
    let value = x.iter().sum::<f64>() / total;
    let squares: f64 = x.iter().zip(y).map(|(x, y)| (x - value * y).powi(2)).sum();
    let stderr = (n > 1).then(|| (squares * n as f64 / (n - 1) as f64).sqrt() / total);
    Ok(Figure { value, n, stderr })
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

/// The harmonic mean of several figures' means, with its first-order standard error over the items. `values` has a list per
/// figure, with nothing for an item that a figure does not count; 0 without an error where one of the means is 0. `None`
/// where a figure counts no item.
pub fn harmonic_of_means(values: &[Vec<Option<f64>>]) -> Option<Figure> {
    let there = |list: &Vec<Option<f64>>| list.iter().copied().flatten().collect::<Vec<f64>>();
    let counted: Vec<Vec<f64>> = values.iter().map(there).collect();
    let n = values.iter().map(Vec::len).max().filter(|_| counted.iter().all(|list| !list.is_empty()))?;
    let means: Vec<f64> = counted.iter().map(|list| list.iter().sum::<f64>() / list.len() as f64).collect();
    let value = harmonic_mean(&means)?;
    if value == 0.0 || n < 2 {
        return Some(Figure::exact(value, n));
    }
    // What an item adds to the harmonic mean through every figure that counts it: ∂S/∂m = S²/(k·m²).
    let influence = |item: usize| -> f64 {
        let of = |figure: usize| {
            let x = values[figure].get(item).copied().flatten()?;
            let share = n as f64 / counted[figure].len() as f64;
            Some(value.powi(2) / (means.len() as f64 * means[figure].powi(2)) * share * (x - means[figure]))
        };
        (0..means.len()).filter_map(of).sum()
    };
    let squares: f64 = (0..n).map(|item| influence(item).powi(2)).sum();
    Some(Figure { value, n, stderr: Some((squares / (n - 1) as f64 / n as f64).sqrt()) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mean_of_known_values() {
        let figure = mean(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((figure.value, figure.n), (2.5, 4));
        assert!((figure.stderr.unwrap() - 0.645_497_224_367_902_8).abs() < 1e-15);
        assert_eq!(mean(&[7.0]).unwrap().stderr, None);
        assert_eq!(mean(&[]), Err(StatsError::Empty { sample: "averaged" }));
        assert_eq!(mean(&[0.0, f64::NAN]), Err(StatsError::NotANumber { sample: "averaged", index: 1 }));
    }

    #[test]
    fn a_ratio_over_equal_units_is_a_mean() {
        let x = [1.0, 4.0, 2.5];
        let (ratio, mean) = (ratio_of_sums(&x, &[2.0; 3]).unwrap(), mean(&x).unwrap());
        assert!((ratio.value - mean.value / 2.0).abs() < 1e-15);
        assert!((ratio.stderr.unwrap() - mean.stderr.unwrap() / 2.0).abs() < 1e-15);
        let exact = ratio_of_sums(&[2.0, 6.0], &[1.0, 3.0]).unwrap();
        assert_eq!((exact.value, exact.stderr, exact.n), (2.0, Some(0.0), 2));
        assert_eq!(ratio_of_sums(&x, &[1.0]), Err(StatsError::Unpaired { first: 3, second: 1 }));
    }

    #[test]
    fn harmonic_mean_of_known_values() {
        assert!((harmonic_mean(&[0.9, 0.8, 0.5]).unwrap() - 0.687_898_089_171_974_5).abs() < 1e-12);
        assert_eq!(harmonic_mean(&[0.9, 0.0, 0.5]), Some(0.0));
        assert_eq!(harmonic_mean(&[]), None);
    }

    #[test]
    fn a_harmonic_mean_of_one_figure_is_its_mean() {
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        let values = some(&[0.2, 0.9, 0.4, 1.0]);
        let (one, mean) =
            (harmonic_of_means(std::slice::from_ref(&values)).unwrap(), mean(&[0.2, 0.9, 0.4, 1.0]).unwrap());
        assert!((one.value - mean.value).abs() < 1e-15 && one.n == 4);
        assert!((one.stderr.unwrap() - mean.stderr.unwrap()).abs() < 1e-15);
        // Equal figures have the harmonic mean, and the error, of one of them.
        let same = harmonic_of_means(&[values.clone(), values.clone(), values]).unwrap();
        assert!((same.value - one.value).abs() < 1e-15);
        assert!((same.stderr.unwrap() - one.stderr.unwrap()).abs() < 1e-15);
        let gone = harmonic_of_means(&[some(&[1.0, 1.0]), some(&[0.0, 0.0])]).unwrap();
        assert_eq!((gone.value, gone.stderr, gone.n), (0.0, None, 2));
        assert_eq!(harmonic_of_means(&[some(&[1.0]), vec![None]]), None);
    }

    proptest! {
        #[test]
        fn harmonic_mean_lies_between_the_smallest_and_the_arithmetic(
            values in prop::collection::vec(0.01f64..1.0, 1..12)
        ) {
            let harmonic = harmonic_mean(&values).unwrap();
            let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!(harmonic >= smallest - 1e-12);
            prop_assert!(harmonic <= mean(&values).unwrap().value + 1e-12);
        }

        #[test]
        fn standard_error_ignores_a_shift(values in prop::collection::vec(-1.0f64..1.0, 2..20)) {
            let shifted: Vec<f64> = values.iter().map(|x| x + 1000.0).collect();
            let (a, b) = (mean(&values).unwrap(), mean(&shifted).unwrap());
            prop_assert!((a.stderr.unwrap() - b.stderr.unwrap()).abs() < 1e-9);
        }
    }
}
