//! Truth ratio: are wrong answers as likely as the right one, said in other words?
//!
//! R = wrong / correct, where `correct` = exp(−CE(paraphrased answer)) and `wrong` is the geometric
//! mean of exp(−CE) over the perturbed answers. Where there is no paraphrase (real authors, world
//! facts), the answer itself stands in. Source: Maini et al. 2024, TOFU, arXiv 2401.06121

/// ln R = CE(paraphrased) − mean CE(perturbed). `None` without perturbed answers.
///
/// The logarithm, because it orders items where R itself would not (the Kolmogorov–Smirnov test sees nothing but order):
/// exponentials of a damaged model's losses would overflow into ties.
pub fn log_truth_ratio(paraphrased_ce: f64, perturbed_ce: &[f64]) -> Option<f64> {
    Some(paraphrased_ce - mean_ce(perturbed_ce)?)
}

/// min(R, 1/R), 1 where wrong and right are equally likely: TOFU's score of what is to be forgotten. NaN stays NaN.
pub fn closer_to_one(ratio: f64) -> f64 {
    if ratio.is_nan() { ratio } else { ratio.min(1.0 / ratio) }
}

/// max(0, 1 − R), 1 where wrong answers are impossible: TOFU's score of what is to be kept. NaN stays NaN.
pub fn true_is_better(ratio: f64) -> f64 {
    if ratio.is_nan() { ratio } else { (1.0 - ratio).max(0.0) }
}

fn mean_ce(ce: &[f64]) -> Option<f64> {
    (!ce.is_empty()).then(|| ce.iter().sum::<f64>() / ce.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_case() {
        let r = log_truth_ratio(1.0, &[2.0, 3.0]).unwrap().exp();
        assert!((r - 0.223_13).abs() < 1e-5);
        assert!((closer_to_one(r) - 0.223_13).abs() < 1e-5);
        assert!((true_is_better(r) - 0.776_87).abs() < 1e-5);
        assert_eq!(log_truth_ratio(1.0, &[]), None);
    }

    #[test]
    fn extremes_stay_numbers_and_nan_stays_nan() {
        assert_eq!([0.0, f64::INFINITY].map(closer_to_one), [0.0, 0.0]);
        assert_eq!([0.0, f64::INFINITY].map(true_is_better), [1.0, 0.0]);
        assert!(closer_to_one(f64::NAN).is_nan() && true_is_better(f64::NAN).is_nan());
    }

    proptest! {
        #[test]
        fn both_scores_lie_between_zero_and_one(
            para in 0.0f64..10.0, wrong in prop::collection::vec(0.0f64..10.0, 1..6)
        ) {
            let r = log_truth_ratio(para, &wrong).unwrap().exp();
            prop_assert!((0.0..=1.0).contains(&closer_to_one(r)));
            prop_assert!((0.0..=1.0).contains(&true_is_better(r)));
            // The first does not tell the two sides apart, the second does.
            prop_assert!((closer_to_one(r) - closer_to_one(1.0 / r)).abs() < 1e-12);
            prop_assert!(true_is_better(r) == 0.0 || true_is_better(1.0 / r) == 0.0);
        }
    }
}
