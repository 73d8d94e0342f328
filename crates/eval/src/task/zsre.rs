//! zsRE.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rewrites::OfRewrites;
use crate::rewrite::Rewrites;

/// # What it does
/// Asks whether a model gives new answers to questions of zsRE: to each, to the question in other words, and whether it
/// answers a question about something else as before.
///
/// # When to use it
/// To measure an edited model, with a log of the unedited one as --reference-log; its subjects are rarer than CounterFact's,
/// and its locality questions further away.
///
/// # What it logs
/// The figures of `counterfact`, over zsRE's questions. Its own figures are `token_efficacy`, `token_generalisation` (shares
/// of the target's tokens that are the first choice at their place) and `locality` (the answer to another question is that of
/// the unedited model).
///
/// # Source
/// Levy et al. 2017, arXiv 1706.04115; as an editing benchmark De Cao et al. 2021, arXiv 2104.08164, and Mitchell et al.
/// 2022, arXiv 2110.11309, whose files are read.
///
/// # Inferred parts
/// Questions are asked as `Question: …`, a line break, `Answer:`, whatever the model; those about something else lose their
/// `nq question: ` and get a question mark. Agreement with the unedited model is that of what is written, which is stricter
/// than that of the first choices at the places of a given answer.
///
/// # Expected result
/// Of an unedited model `token_efficacy` near 0.2: some tokens of a wrong answer can be guessed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ZsRe {
    /// The file of the data folder that is read: records with `subject`, `src`, `alt`, and what they have of `rephrase`,
    /// `answers`, `loc` and `loc_ans`.
    pub file: String,
    /// Edits asked about at most; the first ones. Absent: all.
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Most tokens that the model writes to a prompt; with 0 it writes nothing, and free-running figures are left out.
    pub max_new_tokens: usize,
}

impl Default for ZsRe {
    fn default() -> Self {
        ZsRe { file: "zsre.json".into(), limit: None, max_new_tokens: 10 }
    }
}

impl OfRewrites for ZsRe {
    fn asked(&self) -> (&str, Option<usize>, Rewrites) {
        (&self.file, self.limit, Rewrites { max_new_tokens: self.max_new_tokens })
    }
}
