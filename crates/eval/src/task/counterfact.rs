//! CounterFact.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rewrites::OfRewrites;
use crate::rewrite::Rewrites;

/// # What it does
/// Asks whether a model says counterfactual statements instead of true ones: at the prompt of each, at the prompt in other
/// words, and at prompts about similar subjects, of which the true ones still hold.
///
/// # When to use it
/// To measure an edited model, with a log of the unedited one as --reference-log; alone, to see what a model knows.
///
/// # What it logs
/// `efficacy`, `generalisation`: shares of prompts, and of paraphrases, after which greedy decoding begins with the new
/// target. `locality`: share of prompts about others to which it writes what the unedited model wrote. `forced_efficacy`,
/// `forced_generalisation`: shares at which the new target is likelier than the true one, as a whole; `forced_locality`: at
/// which the true one is. `token_…`: shares of the target's tokens that are the first choice at their place. `score`,
/// `forced_score`: harmonic means. `neighbours_right`: share of prompts about others at which it begins with the true
/// target. Each edit logs its own, with `logprob_new` and `logprob_true` (nats) at its prompt.
///
/// # Source
/// Meng et al. 2022, Locating and Editing Factual Associations in GPT, arXiv 2202.05262, §3.4.
///
/// # Inferred parts
/// The paper compares likelihoods alone. Free-running figures are ours and come first: a target may be likelier than
/// another and still not be said.
///
/// # Expected result
/// Of an unedited model that knows its facts, `forced_efficacy` near 0.2 and `forced_locality` near 0.8 (GPT-2 XL).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CounterFact {
    /// The file of the data folder that is read: the benchmark's own nesting (`requested_rewrite`), or flat (`prompt`,
    /// `subject`, `target_new`, `ground_truth`, `rephrase_prompt`, `locality_prompt`).
    pub file: String,
    /// Edits asked about at most; the first ones. Absent: all.
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Most tokens that the model writes to a prompt; with 0 it writes nothing, and free-running figures are left out.
    pub max_new_tokens: usize,
}

impl Default for CounterFact {
    fn default() -> Self {
        CounterFact { file: "counterfact.json".into(), limit: None, max_new_tokens: 10 }
    }
}

impl OfRewrites for CounterFact {
    fn asked(&self) -> (&str, Option<usize>, Rewrites) {
        (&self.file, self.limit, Rewrites { max_new_tokens: self.max_new_tokens })
    }
}
