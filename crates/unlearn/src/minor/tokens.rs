//! Which tokens of a record are looked at.

use amend_engine::{Error, Example, Result};
use amend_run::Record;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::{Context, Side};

/// Which tokens of a record are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tokens {
    /// All but the first of a sequence, whose state is the same in all texts.
    Text,
    /// Those of the answer; of plain text, all but the first.
    #[default]
    Answer,
    /// From the last token of the subject, which the record names in its field `subject` or `name`, up to before the answer.
    Subject,
}

/// Fields of a record that may name its subject.
const SUBJECT: [&str; 2] = ["subject", "name"];

impl Context<'_> {
    /// The positions of these tokens in item `item` of a set, ascending; none where the item has no such token.
    ///
    /// # Errors
    /// Where the subject is asked for, and the record names none that its prompt has.
    pub fn positions(&self, side: Side, item: usize, tokens: Tokens) -> Result<Vec<usize>> {
        let (examples, records) = match side {
            Side::Forget => (&self.forget, &self.sets.forget),
            Side::Retain => (&self.retain, &self.sets.retain),
        };
        let set = if side == Side::Forget { "forget" } else { "retain" };
        self.tokens_of(
            &examples[item],
            &records[item],
            tokens,
            &format!("record {} of the {set} set", item + 1),
        )
    }

    /// The same of any record and what it is encoded as; `called` says in errors which it is.
    pub(crate) fn tokens_of(
        &self,
        example: &Example,
        record: &Record,
        tokens: Tokens,
        called: &str,
    ) -> Result<Vec<usize>> {
        match tokens {
            Tokens::Text => Ok((1..example.ids.len()).collect()),
            Tokens::Answer => Ok((1..example.ids.len()).filter(|&i| example.scored[i]).collect()),
            Tokens::Subject => {
                let unknown = |what: &str| {
                    Error::invalid(format!(
                        "tokens = \"subject\": {called} {what}; take \"answer\" or \"text\""
                    ))
                };
                let subject =
                    subject_of(record).ok_or_else(|| unknown("has no field `subject` or `name`"))?;
                let found = self.last_of(example, subject)?;
                found.ok_or_else(|| unknown(&format!("does not say {subject:?} before its answer")))
            }
        }
    }

    /// From the token that completes the last mention of `subject` in the prompt, up to the end of the prompt.
    fn last_of(&self, example: &Example, subject: &str) -> Result<Option<Vec<usize>>> {
        let answer = example.scored.iter().position(|&scored| scored).unwrap_or(example.ids.len());
        let mentions = |until: usize| -> Result<usize> {
            Ok(self.tokenizer.decode(&example.ids[..until], true)?.matches(subject).count())
        };
        let all = mentions(answer)?;
        if all == 0 {
            return Ok(None);
        }
        // Mentions only grow in number: the place where there are all of them is searched for by halving.
        let (mut without, mut with) = (0, answer);
        while with - without > 1 {
            let middle = without.midpoint(with);
            if mentions(middle)? == all { with = middle } else { without = middle }
        }
        Ok(Some((with - 1..answer).collect()))
    }
}

fn subject_of(record: &Record) -> Option<&str> {
    let named = SUBJECT.iter().find_map(|field| record.fields.get(*field));
    named.and_then(Value::as_str).map(str::trim).filter(|subject| !subject.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::small::with_context;

    #[test]
    fn a_subject_ends_where_a_model_has_read_it() {
        with_context(|context, _| {
            let example = &context.forget[1];
            let answer = example.scored.iter().position(|&scored| scored).unwrap();
            let text = |until: usize| context.tokenizer.decode(&example.ids[..until], true).unwrap();
            for subject in ["Where", "she", "she born?"] {
                let at = context.last_of(example, subject).unwrap().unwrap();
                assert!(text(at[0] + 1).contains(subject) && !text(at[0]).contains(subject), "{subject}");
                assert_eq!((at[at.len() - 1], at.len()), (answer - 1, answer - at[0]));
            }
            assert!(context.last_of(example, "old town").unwrap().is_none(), "the answer is not read yet");
            let error = context.positions(Side::Retain, 1, Tokens::Subject).unwrap_err().to_string();
            assert!(error.contains("record 2 of the retain set has no field"), "{error}");
            let answers = context.positions(Side::Forget, 1, Tokens::Answer).unwrap();
            assert_eq!((answers[0], answers.len()), (answer, example.scored_len()));
            let text = context.positions(Side::Forget, 1, Tokens::Text).unwrap();
            assert_eq!((text[0], text.len()), (1, example.ids.len() - 1));
        });
    }
}
