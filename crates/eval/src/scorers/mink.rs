//! Membership scores: how surprised is a model by a text it may have been trained on?
//!
//! All are loss-like, so members score low. The area under the ROC curve against texts that were
//! never trained on ([`crate::stats::roc_auc`]) turns them into an attack. Sources: Min-K%, Shi et
//! al. 2024 (arXiv 2310.16789); Min-K%++, Zhang et al. 2025 (arXiv 2404.02936); zlib, Carlini et al.
//! 2021 (arXiv 2012.07805).

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// −mean ℓ_t, the cross-entropy itself. `None` without tokens.
pub fn loss_score(log_probs: &[f64]) -> Option<f64> {
    (!log_probs.is_empty()).then(|| -log_probs.iter().sum::<f64>() / log_probs.len() as f64)
}

/// Bytes of the deflate stream of a text at level 6, header and checksum of zlib included.
pub fn deflated_bytes(text: &str) -> usize {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    // Memory takes whatever is written to it.
    let written = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    written.map_or(0, |stream| stream.len())
}

/// NLL / bytes, with the summed negative log-likelihood of the text in nats and the length of its
/// deflate stream at level 6: surprise per bit of content. `None` for an empty stream.
pub fn zlib_score(nll: f64, compressed_bytes: usize) -> Option<f64> {
    (compressed_bytes > 0).then(|| nll / compressed_bytes as f64)
}

/// CE_θ − CE_ref: surprise beyond that of a reference model.
pub fn reference_score(ce: f64, reference_ce: f64) -> f64 {
    ce - reference_ce
}

/// Min-K%: minus the mean of the int(k·T), at least one, lowest log-probabilities of the text.
///
/// `k` is a fraction (0.4 in MUSE's PrivLeak) and is held within 0 and 1. `None` without tokens.
pub fn min_k(log_probs: &[f64], k: f64) -> Option<f64> {
    if log_probs.is_empty() {
        return None;
    }
    let mut lowest = log_probs.to_vec();
    lowest.sort_by(f64::total_cmp);
    let count = ((k.clamp(0.0, 1.0) * lowest.len() as f64) as usize).max(1);
    Some(-lowest[..count].iter().sum::<f64>() / count as f64)
}

/// Min-K%++: [`min_k`] of the standardised log-probabilities of [`standardised`].
pub fn min_k_plus_plus(z: &[f64], k: f64) -> Option<f64> {
    min_k(z, k)
}

/// μ = Σ_v p ln p and σ² = Σ_v p ln² p − μ² of one position's distribution, given the
/// log-probabilities of the whole vocabulary.
pub fn token_moments(vocabulary_log_probs: &[f64]) -> (f64, f64) {
    // A token of probability zero contributes nothing, although its logarithm is infinite.
    let weighted = |power: i32| -> f64 {
        vocabulary_log_probs.iter().filter(|l| l.is_finite()).map(|l| l.exp() * l.powi(power)).sum()
    };
    let mean = weighted(1);
    (mean, (weighted(2) - mean * mean).max(0.0))
}

/// z = (ℓ − μ)/σ. The variance is kept above 1e-6: a distribution with a single possible token has
/// none.
pub fn standardised(log_prob: f64, (mean, variance): (f64, f64)) -> f64 {
    (log_prob - mean) / variance.max(1e-6).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_cases() {
        assert_eq!(min_k(&[-1.0, -2.0, -3.0, -4.0, -5.0], 0.4), Some(4.5));
        assert_eq!(min_k(&[-1.0, -2.0], 0.1), Some(2.0));
        assert_eq!(min_k(&[], 0.4), None);
        // What Python's zlib makes of the empty text, and of text that is its own best code.
        assert_eq!((deflated_bytes(""), deflated_bytes("a")), (8, 9));
        assert!(deflated_bytes(&"ab".repeat(500)) < 30);
        assert_eq!(zlib_score(30.0, 20), Some(1.5));
        assert_eq!(zlib_score(30.0, 0), None);
        assert_eq!(reference_score(2.0, 3.0), -1.0);
    }

    #[test]
    fn moments_of_a_small_vocabulary() {
        let log_probs = [0.5f64.ln(), 0.25f64.ln(), 0.25f64.ln()];
        let (mean, variance) = token_moments(&log_probs);
        assert!((mean + 1.039_72).abs() < 1e-5 && (variance - 0.120_113).abs() < 1e-6);
        let z: Vec<f64> = log_probs.iter().map(|&l| standardised(l, (mean, variance))).collect();
        assert!((z[0] - 1.0).abs() < 1e-9 && (z[1] + 1.0).abs() < 1e-9 && (z[2] + 1.0).abs() < 1e-9);
        assert!((min_k_plus_plus(&z, 0.7).unwrap() - 1.0).abs() < 1e-9);
        let certain = token_moments(&[0.0, f64::NEG_INFINITY]);
        assert_eq!(certain, (0.0, 0.0));
        assert_eq!(standardised(0.0, certain), 0.0);
    }

    proptest! {
        #[test]
        fn all_tokens_give_the_loss_and_fewer_give_more(
            log_probs in prop::collection::vec(-20.0f64..0.0, 1..40), k in 0.0f64..1.0
        ) {
            let loss = loss_score(&log_probs).unwrap();
            prop_assert!((min_k(&log_probs, 1.0).unwrap() - loss).abs() < 1e-9);
            prop_assert!(min_k(&log_probs, k).unwrap() >= loss - 1e-9);
        }

        #[test]
        fn constant_surprise_does_not_depend_on_k(n in 1usize..30, k in 0.0f64..1.0) {
            prop_assert!((min_k(&vec![-2.5; n], k).unwrap() - 2.5).abs() < 1e-9);
        }
    }
}
