//! Area under the ROC curve.

use std::cmp::Ordering;

use amend_run::Figure;

use super::{StatsError, checked};

/// P(positive > negative) + ½·P(positive = negative) over all pairs, by rank sums.
///
/// In membership inference the forget items are the negatives and the holdout items the positives,
/// with a loss-like score, so the area exceeds ½ while the model still knows what it should forget
/// (Shi et al. 2024, MUSE, arXiv 2407.06460).
///
/// # Errors
/// When a sample is empty or has a NaN: without holdout items there is no area to report.
pub fn roc_auc(negatives: &[f64], positives: &[f64]) -> Result<f64, StatsError> {
    let (negatives, positives) = (checked("negative", negatives)?, checked("positive", positives)?);
    let mut ranked: Vec<(f64, bool)> =
        negatives.iter().map(|&x| (x, false)).chain(positives.iter().map(|&x| (x, true))).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    // −0 and +0 are one score, which `total_cmp` leaves adjacent; `==` below joins them.
    let mut wins = 0.0;
    let mut negatives_below = 0usize;
    for tied in ranked.chunk_by(|a, b| a.0 == b.0) {
        let positive = tied.iter().filter(|(_, is_positive)| *is_positive).count();
        let negative = tied.len() - positive;
        wins += positive as f64 * (negatives_below as f64 + 0.5 * negative as f64);
        negatives_below += negative;
    }
    Ok(wins / (negatives.len() as f64 * positives.len() as f64))
}

/// Standard error of [`roc_auc`] (DeLong, DeLong and Clarke-Pearson 1988): √(s₊²/n₊ + s₋²/n₋), where s₊² is the variance over
/// positives of the share of negatives below each, s₋² over negatives of the share of positives above each. `None` where a
/// sample has fewer than two values, or one that is no number.
pub fn roc_auc_error(negatives: &[f64], positives: &[f64]) -> Option<f64> {
    let (negatives, positives) = (checked("negative", negatives).ok()?, checked("positive", positives).ok()?);
    let wins = |negative: f64, positive: f64| match positive.partial_cmp(&negative) {
        Some(Ordering::Greater) => 1.0,
        Some(Ordering::Equal) => 0.5,
        _ => 0.0,
    };
    let share =
        |all: &[f64], win: &dyn Fn(f64) -> f64| all.iter().map(|&x| win(x)).sum::<f64>() / all.len() as f64;
    let of_positives: Vec<f64> =
        positives.iter().map(|&positive| share(negatives, &|negative| wins(negative, positive))).collect();
    let of_negatives: Vec<f64> =
        negatives.iter().map(|&negative| share(positives, &|positive| wins(negative, positive))).collect();
    let [a, b] = [of_positives, of_negatives].map(|shares| Figure::mean(&shares).stderr);
    Some(a?.hypot(b?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_areas() {
        assert_eq!(roc_auc(&[1.0, 2.0], &[3.0, 4.0]), Ok(1.0));
        assert_eq!(roc_auc(&[3.0, 4.0], &[1.0, 2.0]), Ok(0.0));
        assert_eq!(roc_auc(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), Ok(0.5));
        assert_eq!(roc_auc(&[0.0, 1.0], &[-0.0, 1.0]), Ok(0.5));
        assert_eq!(roc_auc(&[1.0], &[]), Err(StatsError::Empty { sample: "positive" }));
    }

    #[test]
    fn errors_by_hand() {
        // Positives above 1, ½ and 1 of the negatives; negatives below all, and below half.
        let error = roc_auc_error(&[1.0, 3.0], &[4.0, 2.0, 5.0]).unwrap();
        let (positives, negatives) = (Figure::mean(&[1.0, 0.5, 1.0]), Figure::mean(&[1.0, 2.0 / 3.0]));
        let squares = positives.stderr.unwrap().powi(2) + negatives.stderr.unwrap().powi(2);
        assert!((error - squares.sqrt()).abs() < 1e-12);
        assert_eq!(roc_auc_error(&[1.0, 2.0], &[3.0, 4.0]), Some(0.0));
        assert_eq!(
            (roc_auc_error(&[1.0], &[2.0, 3.0]), roc_auc_error(&[f64::NAN, 1.0], &[2.0, 3.0])),
            (None, None)
        );
    }

    proptest! {
        // Few distinct values, so that ties are common.
        #[test]
        fn agrees_with_counting_pairs_and_turns_with_the_labels(
            negatives in prop::collection::vec(0i32..6, 1..20),
            positives in prop::collection::vec(0i32..6, 1..20),
        ) {
            let real = |xs: &[i32]| xs.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let (neg, pos) = (real(&negatives), real(&positives));
            let pairs: f64 = pos.iter().flat_map(|p| neg.iter().map(move |n| {
                if p > n { 1.0 } else if p == n { 0.5 } else { 0.0 }
            })).sum();
            let area = roc_auc(&neg, &pos).unwrap();
            prop_assert!((area - pairs / (neg.len() * pos.len()) as f64).abs() < 1e-12);
            prop_assert!((area + roc_auc(&pos, &neg).unwrap() - 1.0).abs() < 1e-12);
        }
    }
}
