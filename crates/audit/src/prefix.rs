//! What is put before a prompt to bring an old object back.

use serde::{Deserialize, Serialize};

/// A kind of prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefix {
    /// Nothing: what the model does by itself.
    None,
    /// A text about the old object, such as the beginning of an encyclopedia's article.
    Wiki,
    /// The old object, said again and again.
    Rep,
    /// A question, to be answered by yes or no, that asserts the old fact.
    Que,
    /// Whatever else stands before the prompt in a probe of the file.
    Given,
}

/// How often an object is said.
const TIMES: usize = 10;

/// What questions begin with where they are asked as such.
const QUESTION: &str = "Question:";

impl Prefix {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Prefix; 5] = [Prefix::None, Prefix::Wiki, Prefix::Rep, Prefix::Que, Prefix::Given];

    /// What it is called where people read it.
    pub fn words(self) -> &'static str {
        match self {
            Prefix::None => "no prefix",
            Prefix::Wiki => "Wiki: a text about the object",
            Prefix::Rep => "Rep: the object, ten times",
            Prefix::Que => "Que: a question that asserts it",
            Prefix::Given => "other probes of the file",
        }
    }

    /// Which kind a given prefix is.
    pub(crate) fn of(before: &str, old: &str, context: Option<&str>, question: Option<&str>) -> Self {
        let (before, old) = (before.trim(), old.trim());
        let is = |text: Option<&str>| text.is_some_and(|text| text.trim() == before);
        let said = before.matches(old).count();
        match before {
            "" => Prefix::None,
            _ if is(context) => Prefix::Wiki,
            _ if is(question) || before.ends_with('?') && said > 0 => Prefix::Que,
            _ if said > 1 && before == vec![old; said].join(" ") => Prefix::Rep,
            _ => Prefix::Given,
        }
    }
}

/// A text with a space behind it.
pub(crate) fn apart(text: &str) -> String {
    format!("{} ", text.trim())
}

/// The object again and again.
pub(crate) fn repeated(object: &str) -> String {
    apart(object).repeat(TIMES)
}

/// A question that asserts that the prompt goes on with the object: after a question that stands in the prompt `Is it
/// OBJECT?`, otherwise `Is it true that PROMPT OBJECT?`
pub(crate) fn asserting(prompt: &str, object: &str) -> String {
    let object = object.trim();
    match prompt.rfind('?') {
        Some(end) => {
            let asked = prompt[..=end].trim_start();
            let asked = asked.strip_prefix(QUESTION).unwrap_or(asked).trim_start();
            format!("{asked} Is it {object}? ")
        }
        None => {
            let said = prompt.trim_start();
            let said = said.strip_prefix(QUESTION).unwrap_or(said).split('\n').next().unwrap_or_default();
            format!("Is it true that {} {object}? ", said.trim())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_before_the_prompt() {
        assert_eq!(repeated(" Rome"), "Rome ".repeat(10));
        assert_eq!(asserting("Ann lives in", " Rome "), "Is it true that Ann lives in Rome? ");
        let asked = asserting("Question: Where does Ann live?\nAnswer:", "Rome");
        assert_eq!(asked, "Where does Ann live? Is it Rome? ");
        let framed = asserting("Question: The home of Ann is\nAnswer:", "Rome");
        assert_eq!(framed, "Is it true that The home of Ann is Rome? ");
    }

    #[test]
    fn a_prefix_says_of_which_kind_it_is() {
        let of = |before: &str| Prefix::of(before, "New York", Some("A city."), Some("Is it New York?"));
        assert_eq!(of("  "), Prefix::None);
        assert_eq!(of("A city. "), Prefix::Wiki);
        assert_eq!(of("Is it New York? "), Prefix::Que);
        assert_eq!(of("Did she live in New York? "), Prefix::Que, "in other words than the file's question");
        assert_eq!(of("Did she live there? "), Prefix::Given);
        assert_eq!(of("New York New York "), Prefix::Rep);
        assert_eq!(of("New York "), Prefix::Given);
        assert_eq!(of("New York, New York "), Prefix::Given);
    }
}
