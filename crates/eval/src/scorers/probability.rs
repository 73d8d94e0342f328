//! The probability a model gives an answer among others.
//!
//! Source: Maini et al. 2024, TOFU, arXiv 2401.06121

/// P_c / (P_c + Σ P_wrong) with P = exp(−CE), for questions with known wrong answers.
///
/// Computed as 1/(1 + Σ exp(CE_c − CE_wrong)), so that a damaged model, whose probabilities all
/// underflow, still gets a number.
pub fn multiple_choice(correct_ce: f64, wrong_ce: &[f64]) -> f64 {
    1.0 / (1.0 + wrong_ce.iter().map(|wrong| (correct_ce - wrong).exp()).sum::<f64>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        assert!((multiple_choice(1.0, &[1.0, 1.0, 1.0]) - 0.25).abs() < 1e-15);
        assert!((multiple_choice(3000.0, &[3000.0]) - 0.5).abs() < 1e-15);
        assert_eq!(multiple_choice(2.0, &[]), 1.0);
    }

    proptest! {
        #[test]
        fn choices_share_one(ce in prop::collection::vec(0.0f64..30.0, 1..6)) {
            let total: f64 = (0..ce.len()).map(|right| {
                let wrong: Vec<f64> = ce.iter().enumerate().filter(|(i, _)| *i != right).map(|(_, x)| *x).collect();
                multiple_choice(ce[right], &wrong)
            }).sum();
            prop_assert!((total - 1.0).abs() < 1e-12);
        }
    }
}
