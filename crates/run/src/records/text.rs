//! Plain text: documents separated by blank lines, or whole files.

use super::layout::Collector;
use super::lines::Input;
use super::{RecordsError, TextUnit};

/// Reads a text file; line ends become `\n`, and a document has none at its end.
pub(crate) fn read(input: &mut Input, unit: TextUnit, collector: &mut Collector) -> Result<(), RecordsError> {
    let path = input.path.clone();
    let mut buffer = Vec::new();
    let (mut document, mut begun) = (String::new(), 0);
    while let Some((line, text)) = input.next_line(&mut buffer)? {
        if unit == TextUnit::Paragraphs && text.trim().is_empty() {
            flush(&mut document, |text| collector.add_text(&path, begun, text))?;
            continue;
        }
        if document.is_empty() {
            begun = line;
        }
        document.push_str(text);
        document.push('\n');
    }
    flush(&mut document, |text| collector.add_text(&path, begun, text))
}

fn flush(
    document: &mut String,
    add: impl FnOnce(String) -> Result<(), RecordsError>,
) -> Result<(), RecordsError> {
    let text = std::mem::take(document);
    match text.trim_end() {
        "" => Ok(()),
        text => add(text.to_owned()),
    }
}
