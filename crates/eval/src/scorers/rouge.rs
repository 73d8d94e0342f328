//! ROUGE-1, ROUGE-2 and ROUGE-L as Google's `rouge_score` computes them.
//!
//! Source: C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. TOFU and RWKU
//! report ROUGE-L recall with the stemmer, MUSE ROUGE-L F1 (its own code without the stemmer).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::porter_stem;

/// How much of two texts overlaps.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PrecisionRecall {
    /// Share of the candidate found in the reference.
    pub precision: f64,
    /// Share of the reference found in the candidate.
    pub recall: f64,
    /// 2·precision·recall / (precision + recall).
    pub f1: f64,
}

impl PrecisionRecall {
    /// `matched` units of `candidate` and `reference` many; texts without units overlap by 0.
    fn of(matched: usize, reference: usize, candidate: usize) -> PrecisionRecall {
        let precision = matched as f64 / candidate.max(1) as f64;
        let recall = matched as f64 / reference.max(1) as f64;
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        PrecisionRecall { precision, recall, f1 }
    }
}

/// The three overlaps of one pair of texts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RougeScores {
    /// Shared words, each counted at most as often as the other text has it.
    pub rouge1: PrecisionRecall,
    /// Shared pairs of neighbouring words.
    pub rouge2: PrecisionRecall,
    /// Longest common subsequence of words.
    pub rouge_l: PrecisionRecall,
}

/// The scorer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rouge {
    /// Whether words longer than three letters are stemmed first.
    pub stem: bool,
}

impl Rouge {
    /// Compares a candidate (what the model said) with a reference (what it should have said).
    pub fn score(&self, reference: &str, candidate: &str) -> RougeScores {
        let (reference, candidate) = (self.tokens(reference), self.tokens(candidate));
        RougeScores {
            rouge1: shared_ngrams(&reference, &candidate, 1),
            rouge2: shared_ngrams(&reference, &candidate, 2),
            rouge_l: PrecisionRecall::of(
                longest_common_subsequence(&reference, &candidate),
                reference.len(),
                candidate.len(),
            ),
        }
    }

    /// Runs of `[a-z0-9]` of the lower-cased text. Every other character separates, letters with
    /// accents included: `Hernández` is the two words `hern` and `ndez`.
    pub fn tokens(&self, text: &str) -> Vec<String> {
        text.to_lowercase()
            .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
            .filter(|word| !word.is_empty())
            .map(|word| if self.stem && word.len() > 3 { porter_stem(word) } else { word.to_owned() })
            .collect()
    }
}

fn shared_ngrams(reference: &[String], candidate: &[String], n: usize) -> PrecisionRecall {
    let mut unmatched: HashMap<&[String], usize> = HashMap::new();
    for ngram in reference.windows(n) {
        *unmatched.entry(ngram).or_default() += 1;
    }
    let mut matched = 0;
    for ngram in candidate.windows(n) {
        if let Some(left) = unmatched.get_mut(ngram)
            && *left > 0
        {
            *left -= 1;
            matched += 1;
        }
    }
    let count = |words: &[String]| (words.len() + 1).saturating_sub(n);
    PrecisionRecall::of(matched, count(reference), count(candidate))
}

/// Length of the longest common subsequence, in one row of the usual table.
fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Rouge = Rouge { stem: false };
    const STEMMED: Rouge = Rouge { stem: true };

    #[test]
    fn known_pairs() {
        let scores = PLAIN.score("the cat sat on the mat", "the cat on the the mat lay");
        assert_eq!(scores.rouge1, PrecisionRecall::of(5, 6, 7));
        assert_eq!(scores.rouge2, PrecisionRecall::of(3, 5, 6));
        assert_eq!(scores.rouge_l, PrecisionRecall::of(5, 6, 7));
        assert!((scores.rouge_l.f1 - 2.0 * 5.0 / 13.0).abs() < 1e-15);
        assert_eq!(PLAIN.score("", "words"), RougeScores::default());
        assert_eq!(PLAIN.score("one", "").rouge1.recall, 0.0);
        assert_eq!(PLAIN.score("a b c d", "d c b a").rouge_l.recall, 0.25);
    }

    #[test]
    fn tokens_follow_the_reference_implementation() {
        assert_eq!(
            PLAIN.tokens("Hernández's CAFÉ, 2019–20_x"),
            ["hern", "ndez", "s", "caf", "2019", "20", "x"]
        );
        // The Kelvin sign is the one letter outside ASCII that lower-cases into it.
        assert_eq!(PLAIN.tokens("300 \u{212a}elvin"), ["300", "kelvin"]);
        assert_eq!(STEMMED.tokens("Was writing novels"), ["was", "write", "novel"]);
    }

    /// Recalls of ROUGE-1, ROUGE-2, ROUGE-L by `rouge_score` 0.1.2.
    #[test]
    fn reference_scores() {
        let translated = (
            "Hernández's first novels were translated, twice; İstanbul liked them",
            "the novel of Hernandez was first translating twice in istanbul 300 \u{212a}elvin",
        );
        let songs = ("The generously repeated the the songs of the sea", "the sea songs the repeats");
        for (rouge, (reference, candidate), recalls) in [
            (PLAIN, translated, [2.0 / 12.0, 0.0, 2.0 / 12.0]),
            (PLAIN, songs, [4.0 / 9.0, 1.0 / 8.0, 3.0 / 9.0]),
            (STEMMED, translated, [4.0 / 12.0, 1.0 / 11.0, 3.0 / 12.0]),
            (STEMMED, songs, [5.0 / 9.0, 1.0 / 8.0, 3.0 / 9.0]),
        ] {
            let scores = rouge.score(reference, candidate);
            let found = [scores.rouge1, scores.rouge2, scores.rouge_l].map(|overlap| overlap.recall);
            assert_eq!(found, recalls, "{rouge:?} on {reference}");
        }
    }

    #[test]
    fn stemming_joins_inflected_words() {
        assert_eq!(PLAIN.score("writes novels", "writing novel").rouge1.recall, 0.0);
        assert_eq!(STEMMED.score("writes novels", "writing novel").rouge1.recall, 1.0);
    }

    proptest! {
        #[test]
        fn bounds_and_exchange(a in "[a-d ]{0,30}", b in "[a-d ]{0,30}") {
            let (ab, ba) = (PLAIN.score(&a, &b), PLAIN.score(&b, &a));
            for (x, y) in [(ab.rouge1, ba.rouge1), (ab.rouge2, ba.rouge2), (ab.rouge_l, ba.rouge_l)] {
                prop_assert_eq!(x.precision, y.recall);
                prop_assert!((x.f1 - y.f1).abs() < 1e-15);
                prop_assert!((0.0..=1.0).contains(&x.recall));
            }
            prop_assert!(ab.rouge_l.recall <= ab.rouge1.recall);
            if !PLAIN.tokens(&a).is_empty() {
                prop_assert_eq!(PLAIN.score(&a, &a).rouge_l.f1, 1.0);
            }
        }
    }
}
