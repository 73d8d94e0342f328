//! Plain text: documents separated by blank lines, or whole files.

use super::lines::Input;
use super::rows::{Add, Row};
use super::{RecordsError, TextUnit};

/// Reads a text file as rows of one column, `text`; line ends become `\n`, and a document has none at its end.
pub(crate) fn read(input: &mut Input, unit: TextUnit, add: &mut Add<'_>) -> Result<(), RecordsError> {
    let mut buffer = Vec::new();
    let (mut document, mut begun) = (String::new(), 0);
    while let Some((line, text)) = input.next_line(&mut buffer)? {
        if unit == TextUnit::Paragraphs && text.trim().is_empty() {
            flush(&mut document, begun, add)?;
            continue;
        }
        if document.is_empty() {
            begun = line;
        }
        document.push_str(text);
        document.push('\n');
    }
    flush(&mut document, begun, add)
}

fn flush(document: &mut String, line: usize, add: &mut Add<'_>) -> Result<(), RecordsError> {
    let text = std::mem::take(document);
    match text.trim_end() {
        "" => Ok(()),
        text => add(line, Row::from_iter([("text".to_owned(), text.into())])),
    }
}
