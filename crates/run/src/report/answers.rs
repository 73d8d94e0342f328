//! All answers of all models as a table to search and filter. The page brings its own few lines of script; without them
//! everything is shown.

use super::html::{caption, escape};
use super::{AnswerRow, Answers};

/// Filters the table as its fields change.
pub(super) const SCRIPT: &str = include_str!("answers.js");

/// The fields and the table.
pub(super) fn html(answers: &Answers) -> String {
    let mut sets: Vec<&str> = Vec::new();
    for row in &answers.rows {
        if !sets.contains(&row.set.as_str()) {
            sets.push(&row.set);
        }
    }
    let options: String = sets.iter().map(|set| format!("<option>{}</option>", escape(set))).collect();
    let headings: String = ["set", "question", "expected"]
        .into_iter()
        .chain(answers.models.iter().map(String::as_str))
        .map(|name| format!("<th scope=\"col\">{}</th>", escape(name)))
        .collect();
    let rows: String = answers.rows.iter().map(|row| html_row(row, &answers.models)).collect();
    format!(
        "<section class=\"answers\">\n{}<form onsubmit=\"return false\">\n\
         <input type=\"search\" name=\"text\" placeholder=\"search\" aria-label=\"search\">\n\
         <select name=\"set\" aria-label=\"set\"><option value=\"\">all sets</option>{options}</select>\n\
         <label><input type=\"checkbox\" name=\"changed\"> changed</label>\n\
         <label><input type=\"checkbox\" name=\"leaked\"> leaked</label>\n\
         <output></output>\n</form>\n\
         <div class=\"scroll\">\n<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n\
         </section>\n",
        caption("p", &answers.caption)
    )
}

fn html_row(row: &AnswerRow, models: &[String]) -> String {
    let changed = row.answers.windows(2).any(|pair| pair[0] != pair[1]);
    // The first model is the one before the change, which may say all of it.
    let leaked = row.answers.iter().skip(1).any(|answer| row.marked.iter().any(|word| says(answer, word)));
    let flag = |name: &str, is: bool| if is { format!(" data-{name}") } else { String::new() };
    let cell = |name: &str, text: String| format!("<td data-name=\"{}\">{text}</td>", escape(name));
    let answers: String = row
        .answers
        .iter()
        .zip(models)
        .map(|(answer, model)| cell(model, marked(answer, &row.marked)))
        .collect();
    format!(
        "<tr{}{}>{}{}{}{answers}</tr>\n",
        flag("changed", changed),
        flag("leaked", leaked),
        cell("set", escape(&row.set)),
        cell("question", escape(&row.question)),
        cell("expected", escape(&row.expected)),
    )
}

/// Words of a text with the place where each begins: runs of letters and digits.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn same(word: &str, other: &str) -> bool {
    word.to_lowercase() == other.to_lowercase()
}

fn says(text: &str, word: &str) -> bool {
    words(text).any(|(_, said)| same(said, word))
}

/// The text with the marked words in it set apart.
fn marked(text: &str, marks: &[String]) -> String {
    let mut html = String::new();
    let mut done = 0;
    for (start, word) in words(text) {
        if marks.iter().any(|mark| same(word, mark)) {
            html.push_str(&escape(&text[done..start]));
            html.push_str(&format!("<mark>{}</mark>", escape(word)));
            done = start + word.len();
        }
    }
    html + &escape(&text[done..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(before: &str, after: &str) -> AnswerRow {
        AnswerRow {
            set: "forget".into(),
            question: "Where was Ada born?".into(),
            expected: "In Lisbon.".into(),
            answers: vec![before.into(), after.into()],
            marked: vec!["Lisbon".into()],
        }
    }

    #[test]
    fn words_that_must_not_be_said_are_marked_wherever_they_stand() {
        assert_eq!(
            marked("lisbon, Lisbon!", &["Lisbon".into()]),
            "<mark>lisbon</mark>, <mark>Lisbon</mark>!"
        );
        assert_eq!(marked("Lisbonne <b>", &["Lisbon".into()]), "Lisbonne &lt;b&gt;");
        assert_eq!(marked("", &["x".into()]), "");
    }

    #[test]
    fn rows_say_whether_they_changed_and_leaked() {
        let models = ["before".to_owned(), "sago".to_owned()];
        let of = |before, after| html_row(&row(before, after), &models);
        let kept = of("In Lisbon.", "In Lisbon.");
        assert!(!kept.contains("data-changed") && kept.contains("data-leaked"), "{kept}");
        let gone = of("In Lisbon.", "In Rome.");
        assert!(gone.contains("data-changed") && !gone.contains("data-leaked"), "{gone}");
    }

    #[test]
    fn a_page_with_answers_can_be_filtered_and_has_no_script_from_elsewhere() {
        let answers = Answers {
            caption: "All of them".into(),
            models: vec!["before".into(), "sago".into()],
            rows: vec![row("In Lisbon.", "</script><script>alert(1)</script>")],
        };
        let mut report = crate::Report::new("t");
        report.push(super::super::Section::Answers(answers));
        let page = report.to_html();
        assert_eq!(page.matches("<script").count(), 1, "the page's own");
        assert!(!page.contains("src=") && page.contains("<option>forget</option>"));
    }
}
