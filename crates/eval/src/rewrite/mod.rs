//! Facts that are to be rewritten, what is asked about them, and what the answers are worth.
//!
//! A [`Rewrite`] is read from a row of CounterFact, in the benchmark's own nesting or flat, of zsRE, or of one's own file.
//! What is asked of a model is the same for all: the prompt itself (efficacy), the prompt in other words (generalisation),
//! and prompts about others that must stay as they are (locality). Each is asked twice: what the model writes when it
//! runs free, and how likely the wanted answers are when they are put into its mouth.

mod layout;
mod probes;

use std::ops::Range;

use amend_run::records::Row;
use serde_json::{Value, json};

pub use probes::{Rewrites, figures};

/// A fact, and what it is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Whom or what it is about.
    pub subject: String,
    /// The beginning of a statement, or a question with the beginning of its answer; the target goes on from there.
    pub prompt: String,
    /// The bytes of `prompt` that are the subject.
    pub place: Range<usize>,
    /// What is to follow.
    pub target_new: String,
    /// What follows by rights, where that is known.
    pub target_true: Option<String>,
    /// The prompt in other words; each names the subject.
    pub paraphrases: Vec<String>,
    /// Prompts about others.
    pub neighbours: Vec<Neighbour>,
}

/// A prompt whose answer must not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The prompt.
    pub prompt: String,
    /// What follows by rights, where that is known.
    pub answer: Option<String>,
}

impl Rewrite {
    /// The prompt in the words of a template in which `{}` stands for the subject, or as it is where it has none: then the
    /// subject is where it occurs last.
    pub(crate) fn placed(prompt: &str, subject: &str) -> Result<(String, Range<usize>), String> {
        let subject = subject.trim();
        if subject.is_empty() {
            return Err("the subject is empty; name whom or what the fact is about".into());
        }
        if let Some(at) = prompt.find("{}") {
            return Ok((prompt.replacen("{}", subject, 1).trim_end().to_owned(), at..at + subject.len()));
        }
        match prompt.rfind(subject) {
            Some(at) => Ok((prompt.trim_end().to_owned(), at..at + subject.len())),
            None => Err(format!(
                "the subject {subject:?} does not occur in the prompt {prompt:?}; write it there as it stands in `subject`, \
                 or `{{}}` in its place"
            )),
        }
    }

    /// A prompt followed by a target, as one text.
    pub fn statement(prompt: &str, target: &str) -> String {
        format!("{prompt}{}", completion(target))
    }
}

/// A target as it follows a prompt: tokenizers make its first word and the space before it one token.
pub(crate) fn completion(target: &str) -> String {
    format!(" {}", target.trim())
}

impl From<&Rewrite> for Row {
    /// The row of one's own layout that reads as this rewrite.
    fn from(rewrite: &Rewrite) -> Self {
        let Rewrite { subject, prompt, place, target_new, target_true, paraphrases, neighbours } = rewrite;
        let template = format!("{}{{}}{}", &prompt[..place.start], &prompt[place.end..]);
        let neighbours: Vec<Value> = neighbours
            .iter()
            .map(|neighbour| json!({ "prompt": neighbour.prompt, "answer": neighbour.answer }))
            .collect();
        Row::from_iter([
            ("subject".to_owned(), json!(subject)),
            ("prompt".to_owned(), json!(template)),
            ("target_new".to_owned(), json!(target_new)),
            ("target_true".to_owned(), json!(target_true)),
            ("paraphrases".to_owned(), json!(paraphrases)),
            ("neighbours".to_owned(), Value::Array(neighbours)),
        ])
    }
}
