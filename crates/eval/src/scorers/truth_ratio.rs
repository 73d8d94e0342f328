//! Truth ratio: are wrong answers as likely as the right one, said in other words?
//!
//! R = wrong / correct, where `correct` = exp(−CE(paraphrased answer)) and `wrong` is the geometric
//! mean of exp(−CE) over the perturbed answers. Where there is no paraphrase (real authors, world
//! facts), the answer itself stands in. Source: Maini et al. 2024, TOFU, arXiv 2401.06121

use amend_run::Figure;

use crate::stats::{StatsError, mean};

/// Keeps a division defined where the right answer's probability underflows, as the common
/// framework does.
const EPSILON: f64 = 1e-10;

/// R = wrong / (correct + 1e-10). `None` without perturbed answers.
pub fn truth_ratio(paraphrased_ce: f64, perturbed_ce: &[f64]) -> Option<f64> {
    let wrong = (-mean_ce(perturbed_ce)?).exp();
    Some(wrong / ((-paraphrased_ce).exp() + EPSILON))
}

/// ln R = CE(paraphrased) − mean CE(perturbed), without the epsilon.
///
/// Use it to order items (the Kolmogorov–Smirnov test sees nothing but order): exponentials of a
/// damaged model's losses would overflow into ties. `None` without perturbed answers.
pub fn log_truth_ratio(paraphrased_ce: f64, perturbed_ce: &[f64]) -> Option<f64> {
    Some(paraphrased_ce - mean_ce(perturbed_ce)?)
}

/// The newer normalised form: correct / (correct + wrong), ½ where the model cannot tell.
/// `None` without perturbed answers.
pub fn normalised_truth_ratio(paraphrased_ce: f64, perturbed_ce: &[f64]) -> Option<f64> {
    Some(1.0 / (1.0 + log_truth_ratio(paraphrased_ce, perturbed_ce)?.exp()))
}

/// Forget-side aggregation: mean of min(R, 1/R), 1 where wrong and right are equally likely.
///
/// # Errors
/// When there are no ratios, or one is NaN.
pub fn closer_to_one(ratios: &[f64]) -> Result<Figure, StatsError> {
    let scores: Vec<f64> = ratios.iter().map(|r| if r.is_nan() { *r } else { r.min(1.0 / r) }).collect();
    mean(&scores)
}

/// Utility aggregation: mean of max(0, 1 − R), 1 where wrong answers are impossible.
///
/// # Errors
/// When there are no ratios, or one is NaN.
pub fn true_is_better(ratios: &[f64]) -> Result<Figure, StatsError> {
    let scores: Vec<f64> = ratios.iter().map(|r| if r.is_nan() { *r } else { (1.0 - r).max(0.0) }).collect();
    mean(&scores)
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
        let r = truth_ratio(1.0, &[2.0, 3.0]).unwrap();
        assert!((r - 0.223_13).abs() < 1e-5);
        assert!((closer_to_one(&[r]).unwrap().value - 0.223_13).abs() < 1e-5);
        assert!((true_is_better(&[r]).unwrap().value - 0.776_87).abs() < 1e-5);
        assert!((normalised_truth_ratio(1.0, &[2.0, 3.0]).unwrap() - 0.817_57).abs() < 1e-5);
        assert_eq!(truth_ratio(1.0, &[]), None);
    }

    #[test]
    fn extremes_stay_numbers_and_nan_is_reported() {
        assert_eq!(closer_to_one(&[0.0, f64::INFINITY]).unwrap().value, 0.0);
        assert_eq!(true_is_better(&[0.0, f64::INFINITY]).unwrap().value, 0.5);
        assert!(closer_to_one(&[f64::NAN]).is_err() && true_is_better(&[f64::NAN]).is_err());
    }

    proptest! {
        #[test]
        fn the_forms_agree(para in 0.0f64..10.0, wrong in prop::collection::vec(0.0f64..10.0, 1..6)) {
            let r = truth_ratio(para, &wrong).unwrap();
            let log = log_truth_ratio(para, &wrong).unwrap();
            let normalised = normalised_truth_ratio(para, &wrong).unwrap();
            prop_assert!((r.ln() - log).abs() < 1e-5);
            prop_assert!((normalised - 1.0 / (1.0 + log.exp())).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&closer_to_one(&[r]).unwrap().value));
        }
    }
}
