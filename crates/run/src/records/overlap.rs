//! Records that two data sets share: what is to be forgotten must not be trained on as something to retain.

use std::collections::HashMap;

use super::{Content, Record};

/// Pairs `(i, j)` of identical records `a[i]` and `b[j]`, for each `i` the first such `j`, in the order of `a`.
///
/// Identical means: of the same kind, with the same texts after runs of white space became one space. Other
/// fields do not count, since files of one benchmark differ in what they add.
pub fn overlap(a: &[Record], b: &[Record]) -> Vec<(usize, usize)> {
    let mut first_in_b = HashMap::new();
    for (j, record) in b.iter().enumerate() {
        first_in_b.entry(normal_form(record)).or_insert(j);
    }
    let found =
        a.iter().enumerate().filter_map(|(i, record)| Some((i, *first_in_b.get(&normal_form(record))?)));
    found.collect()
}

fn normal_form(record: &Record) -> Vec<String> {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match &record.content {
        Content::Question { question, answer } => vec!["question".into(), plain(question), plain(answer)],
        Content::PromptCompletion { prompt, completion } => {
            vec!["prompt".into(), plain(prompt), plain(completion)]
        }
        Content::Messages(messages) => {
            let texts = messages.iter().flat_map(|message| [message.role.clone(), plain(&message.content)]);
            std::iter::once("messages".to_owned()).chain(texts).collect()
        }
        Content::Text(text) => vec!["text".into(), plain(text)],
    }
}
