//! Edits as tokens: what an editor reads and writes.

use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Result};
use amend_eval::rewrite::Rewrite;
use amend_interpret::subject_tokens;

/// A text with a subject in it, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The tokens; those of the target are scored.
    pub example: Example,
    /// Position of the subject's last token, where the model has read the subject and nothing behind it.
    pub subject: usize,
}

/// A rewrite as an editor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What the edit goes by.
    pub name: String,
    /// Prompt and new target behind every context; behind none comes first.
    pub contexts: Vec<Placed>,
    /// `SUBJECT is a`: what the model makes of it is to stay.
    pub essence: Placed,
}

impl Request {
    /// A rewrite behind these contexts, each a text that it is to hold behind; the empty one comes first.
    ///
    /// # Errors
    /// Where the tokenizer does not end a token where the subject ends.
    pub fn new(name: &str, rewrite: &Rewrite, contexts: &[String], tokenizer: &Tokenizer) -> Result<Self> {
        let Rewrite { prompt, place, target_new, subject, .. } = rewrite;
        let behind = |context: &String| {
            let before = if context.is_empty() { String::new() } else { format!("{context}. ") };
            let place = before.len() + place.start..before.len() + place.end;
            let given = format!("{before}{prompt}");
            Placed::new(&Rewrite::statement(&given, target_new), given.len(), place, tokenizer)
        };
        let essence = format!("{subject} is a");
        Ok(Request {
            name: name.to_owned(),
            contexts: contexts.iter().map(behind).collect::<Result<_>>()?,
            essence: Placed::new(&essence, essence.len(), 0..subject.len(), tokenizer)?,
        })
    }

    /// The prompt alone, and the new target.
    pub fn plain(&self) -> &Placed {
        &self.contexts[0]
    }
}

impl Placed {
    /// A text of which the first `given` bytes are not scored, and in which the subject has these bytes.
    fn new(text: &str, given: usize, subject: std::ops::Range<usize>, tokenizer: &Tokenizer) -> Result<Self> {
        let encoded = tokenizer.encode_offsets(text, true)?;
        let subject = subject_tokens(text, &encoded, subject)?.end - 1;
        let scored = encoded.offsets.iter().map(|bytes| !bytes.is_empty() && bytes.end > given).collect();
        let mut example = Example { ids: encoded.ids, scored };
        if example.ids.last().is_some_and(|last| tokenizer.eos_ids().contains(last)) {
            // Some tokenizers end every text; the target is to be the beginning of what follows.
            example.truncate(example.ids.len() - 1);
        }
        Ok(Placed { example, subject })
    }
}
