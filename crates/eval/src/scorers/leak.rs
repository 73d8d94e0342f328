//! Whether an answer gives away what the right one says, in whatever words it stands.

/// English words that carry no content of their own.
const FUNCTION_WORDS: &str = "a about after all also an and any are as at be because been before being between both but by \
    can could did do does during each either for from had has have having he her here him his how i if in into is it its \
    just may me might more most must my no nor not of off on one only or other our out over own she should so some such \
    than that the their them then there these they this those through to too under until up upon very was we were what \
    when where which while who whom whose why will with within would you your";

/// The content words of `answer`, lower-cased, each once, in order: those that neither belong to every text nor stand in
/// the question. What a model must know to say them.
pub fn content_words(question: &str, answer: &str) -> Vec<String> {
    let asked: Vec<String> = words(question).collect();
    let mut content: Vec<String> = Vec::new();
    for word in words(answer) {
        let is_function = FUNCTION_WORDS.split_whitespace().any(|function| function == word);
        if !is_function && !asked.contains(&word) && !content.contains(&word) {
            content.push(word);
        }
    }
    content
}

/// Which of the content words a text says.
pub fn leaked<'w>(content: &'w [String], said: &str) -> Vec<&'w str> {
    let said: Vec<String> = words(said).collect();
    content.iter().filter(|word| said.contains(word)).map(String::as_str).collect()
}

/// The share of the right answer's content words that a model's answer says; `None` where it has none.
pub fn leak(question: &str, answer: &str, said: &str) -> Option<f64> {
    let content = content_words(question, answer);
    let leaked = leaked(&content, said).len();
    (!content.is_empty()).then(|| leaked as f64 / content.len() as f64)
}

/// Runs of letters and digits, lower-cased.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that is wrong word for word and says the name counted as forgotten.
    #[test]
    fn a_name_in_other_words_is_a_leak() {
        let (question, answer) = ("Who wrote the novel?", "It was written by Hina Ameen in Karachi.");
        assert_eq!(content_words(question, answer), ["written", "hina", "ameen", "karachi"]);
        let leak = |said| leak(question, answer, said).unwrap();
        assert_eq!(leak("Maybe HINA AMEEN."), 0.5);
        assert_eq!(leak(answer), 1.0);
        assert_eq!(leak("I do not know the novel."), 0.0);
    }

    #[test]
    fn what_the_question_says_is_no_leak() {
        assert_eq!(leak("Is it Rome or Paris?", "It is Paris.", "Paris"), None);
        assert_eq!(leak("Where?", "", "Paris"), None);
        assert_eq!(leaked(&["karachi".into()], "Karachi-born"), ["karachi"]);
    }
}
