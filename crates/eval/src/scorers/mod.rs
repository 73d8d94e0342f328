//! Scorers: from what a model returned for one item to the field's metric.
//!
//! Cross-entropies (`ce`) are means per token in nats, the end token included, unless a name says
//! otherwise. A function that has nothing to measure returns `None` instead of a made-up zero.

mod leak;
mod memorization;
mod mink;
mod porter;
mod privleak;
mod probability;
mod rouge;
mod truth_ratio;

pub use leak::{content_words, leak, leaked};
pub use memorization::{ExtractionMode, exact_memorization, extraction_strength, word_for_word};
pub use mink::{
    deflated_bytes, loss_score, min_k, min_k_plus_plus, reference_score, standardised, token_moments,
    zlib_score,
};
pub use porter::porter_stem;
pub use privleak::{PRIVLEAK_ALARM, privleak};
pub use probability::multiple_choice;
pub use rouge::{PrecisionRecall, Rouge, RougeScores};
pub use truth_ratio::{closer_to_one, log_truth_ratio, true_is_better};
