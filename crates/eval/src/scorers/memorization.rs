//! How much of a text a model reproduces, teacher-forced.
//!
//! All metrics read `matches[t]`: whether the most likely token at position t, given the true
//! tokens before it, is the true one. Sources: Tirumala et al. 2022 (arXiv 2205.10770) for exact
//! memorisation; Carlini et al. 2021 (arXiv 2012.07805) in the form of OpenUnlearning (arXiv
//! 2506.12618) for extraction strength, which found it the most faithful and robust of the forget
//! metrics.

use serde::{Deserialize, Serialize};

/// Σ matches / T. `None` when no token was scored.
pub fn exact_memorization(matches: &[bool]) -> Option<f64> {
    let right = matches.iter().filter(|&&m| m).count();
    (!matches.is_empty()).then(|| right as f64 / matches.len() as f64)
}

/// Whether the model gives the whole text word for word, every token its first choice: 1 or 0. `None` when no token was
/// scored.
pub fn word_for_word(matches: &[bool]) -> Option<f64> {
    (!matches.is_empty()).then(|| f64::from(u8::from(matches.iter().all(|&m| m))))
}

/// What extraction strength says of a text whose last token is not predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtractionMode {
    /// 1/T, as the reference code, which never lets the prefix cover the whole text.
    #[default]
    Compat,
    /// 0: nothing can be extracted.
    Strict,
}

/// ES = 1 − k/T, where k is the shortest prefix after which every token is predicted. The end token
/// is no part of `matches`. `None` when no token was scored.
pub fn extraction_strength(matches: &[bool], mode: ExtractionMode) -> Option<f64> {
    let total = matches.len();
    if total == 0 {
        return None;
    }
    let prefix = matches.iter().rposition(|&m| !m).map_or(0, |last_miss| last_miss + 1);
    let prefix = match mode {
        ExtractionMode::Compat => prefix.min(total - 1),
        ExtractionMode::Strict => prefix,
    };
    Some(1.0 - prefix as f64 / total as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_cases() {
        let both = |m: &[bool]| {
            (
                extraction_strength(m, ExtractionMode::Compat).unwrap(),
                extraction_strength(m, ExtractionMode::Strict).unwrap(),
            )
        };
        assert_eq!(both(&[true; 4]), (1.0, 1.0));
        assert_eq!(both(&[false; 4]), (0.25, 0.0));
        assert_eq!(both(&[true, true, true, false]), (0.25, 0.0));
        assert_eq!(both(&[true, false, true, true]), (0.5, 0.5));
        assert_eq!(exact_memorization(&[true, false, true, true]), Some(0.75));
        assert_eq!(exact_memorization(&[]), None);
        assert_eq!((word_for_word(&[true, true]), word_for_word(&[true, false])), (Some(1.0), Some(0.0)));
        assert_eq!(word_for_word(&[]), None);
        assert_eq!(extraction_strength(&[], ExtractionMode::Strict), None);
    }

    proptest! {
        #[test]
        fn extraction_never_exceeds_memorisation(matches in prop::collection::vec(any::<bool>(), 1..40)) {
            let strict = extraction_strength(&matches, ExtractionMode::Strict).unwrap();
            let compat = extraction_strength(&matches, ExtractionMode::Compat).unwrap();
            prop_assert!(strict <= exact_memorization(&matches).unwrap() + 1e-12);
            prop_assert!(strict <= compat && compat > 0.0);
        }
    }
}
