//! The probability a model gives an answer.
//!
//! Source: Maini et al. 2024, TOFU, arXiv 2401.06121

/// exp(−NLL/|y|): the geometric mean of the probabilities of the `tokens` tokens of an answer, its
/// end token included. `nll` is their summed negative log-likelihood in nats.
///
/// `None` for an answer without tokens.
pub fn length_normalised(nll: f64, tokens: usize) -> Option<f64> {
    (tokens > 0).then(|| (-nll / tokens as f64).exp())
}

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
        assert_eq!(length_normalised(0.0, 3), Some(1.0));
        assert!((length_normalised(4.0 * 2f64.ln(), 4).unwrap() - 0.5).abs() < 1e-15);
        assert_eq!(length_normalised(1.0, 0), None);
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
