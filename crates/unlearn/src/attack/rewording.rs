//! Questions put in other ways.

use std::collections::BTreeSet;

use amend_eval::questions::{answer_of, question_of};
use amend_eval::scorers::content_words;
use amend_learn::{Conversation, RecordEncoder, Result};
use amend_run::{Content, Record};

/// How a question is put.
pub(super) struct Asking {
    /// The question.
    pub(super) content: Content,
    /// Questions with their answers that come first.
    pub(super) examples: Vec<(String, String)>,
    /// How the answer begins.
    pub(super) begun: &'static str,
}

impl Asking {
    /// A question by itself.
    pub(super) fn of(content: Content) -> Self {
        Asking { content, examples: Vec::new(), begun: "" }
    }

    /// Its tokens.
    pub(super) fn prompt(&self, encoder: &RecordEncoder<'_>) -> Result<Vec<u32>> {
        Ok(encoder.prompt_after(&self.examples, &self.content, self.begun)?)
    }

    /// All that is said in it.
    pub(super) fn text(&self) -> String {
        let examples = self.examples.iter().flat_map(|(question, answer)| [question, answer]);
        let question = question_of(&self.content);
        examples.map(String::as_str).chain([question.as_str(), self.begun]).collect::<Vec<_>>().join("\n")
    }
}

/// The same content with another question.
pub(super) fn with_question(content: &Content, question: &str) -> Content {
    match content {
        Content::Question { answer, .. } => {
            Content::Question { question: question.to_owned(), answer: answer.clone() }
        }
        Content::PromptCompletion { completion, .. } => {
            Content::PromptCompletion { prompt: question.to_owned(), completion: completion.clone() }
        }
        Content::Messages(turns) => {
            let asked = Conversation::of(turns).asked.len();
            let mut turns = turns.clone();
            if let Some(turn) = turns[..asked].iter_mut().rev().find(|turn| turn.role == "user") {
                question.clone_into(&mut turn.content);
            }
            Content::Messages(turns)
        }
        Content::Text(_) => Content::Text(question.to_owned()),
    }
}

/// Records that may come before a question, with the words that they say.
pub(super) struct Neighbours(Vec<((String, String), BTreeSet<String>)>);

impl Neighbours {
    /// The questions among these records.
    pub(super) fn of(records: &[Record]) -> Self {
        let questions = records.iter().filter(|record| !matches!(record.content, Content::Text(_)));
        let neighbour = |record: &Record| {
            let (question, answer) = (question_of(&record.content), answer_of(&record.content));
            let words = content_words("", &format!("{question} {answer}")).into_iter().collect();
            ((question, answer), words)
        };
        Neighbours(questions.map(neighbour).collect())
    }

    /// Those that share most words with a question, and none with what it is not to be told; the nearest last, where it
    /// stands beside the question.
    pub(super) fn nearest(&self, question: &str, untold: &[String], count: usize) -> Vec<(String, String)> {
        let asked = content_words("", question);
        let shared = |words: &BTreeSet<String>| asked.iter().filter(|word| words.contains(*word)).count();
        let allowed = self.0.iter().filter(|(_, words)| !untold.iter().any(|word| words.contains(word)));
        let mut ranked: Vec<_> = allowed.map(|(pair, words)| (shared(words), pair)).collect();
        // Stable: among equals, the order of the data.
        ranked.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
        ranked.into_iter().take(count).map(|(_, pair)| pair.clone()).rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use amend_run::records::{Row, Turn};

    use super::*;

    fn record(question: &str, answer: &str) -> Record {
        Content::Question { question: question.into(), answer: answer.into() }.into()
    }

    #[test]
    fn examples_are_near_the_question_and_say_nothing_of_its_answer() {
        let kept = [
            record("Where was Bo born?", "In Rome."),
            record("What does Bo eat?", "Figs."),
            record("Where was Cy born?", "In Paris."),
            Content::Text("Where was Di born? In Oslo.".into()).into(),
            record("Where was Ed born?", "In Lima."),
        ];
        let neighbours = Neighbours::of(&kept);
        let near = |count| neighbours.nearest("Where was Ann born?", &["paris".into()], count);
        let questions = |count| near(count).into_iter().map(|(question, _)| question).collect::<Vec<_>>();
        assert_eq!(questions(2), ["Where was Ed born?", "Where was Bo born?"]);
        assert_eq!(questions(9), ["What does Bo eat?", "Where was Ed born?", "Where was Bo born?"]);
    }

    #[test]
    fn a_conversation_is_asked_otherwise_where_it_asks() {
        let turn = |role: &str, content: &str| Turn {
            role: role.into(),
            content: content.into(),
            fields: Row::new(),
        };
        let asked =
            [turn("system", "s"), turn("user", "old"), turn("assistant", "a"), turn("user", "thanks")];
        let other = with_question(&Content::Messages(asked.to_vec()), "new");
        let Content::Messages(turns) = &other else { panic!("{other:?}") };
        let texts: Vec<&str> = turns.iter().map(|turn| turn.content.as_str()).collect();
        assert_eq!(texts, ["s", "new", "a", "thanks"]);
        assert_eq!(question_of(&other), "new");
    }
}
