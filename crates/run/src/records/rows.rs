//! Rows: what files hold before anybody says what their columns mean.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::Fault;
use super::lines::Input;
use super::{Format, ReadOptions, RecordsError, Source, json, text};

/// A row of a file: its columns by name, in the order of the file.
pub type Row = Map<String, Value>;

/// Takes a row and the line it stands at.
pub(super) type Add<'a> = dyn FnMut(usize, Row) -> Result<(), RecordsError> + 'a;

/// The rows of files, whatever their columns: for those who know what to look for.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The rows, in the order of the files; never empty.
    pub rows: Vec<Row>,
    /// The files.
    pub sources: Vec<Source>,
}

impl Rows {
    /// Reads JSON lines, JSON arrays and plain text; a document of plain text is a row with the column `text`.
    ///
    /// # Errors
    /// No files; a file without rows; malformed JSON; invalid UTF-8; a row that is no object; a line longer
    /// than the limit. All name file and line.
    pub fn read<P: AsRef<Path>>(paths: &[P], options: &ReadOptions) -> Result<Self, RecordsError> {
        let paths: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
        Self::read_files(&paths, options)
    }

    fn read_files(paths: &[&Path], options: &ReadOptions) -> Result<Self, RecordsError> {
        let mut rows = Vec::new();
        let (format, sources) = read(paths, options, &mut |_, _, row| {
            rows.push(row);
            Ok(())
        })?;
        format.map(|_| Rows { rows, sources }).ok_or_else(RecordsError::no_file)
    }

    /// SHA-256 of the files, as [`Dataset::sha256`](super::Dataset::sha256).
    pub fn sha256(&self) -> String {
        super::sha256(&self.sources)
    }
}

/// Gives every row of the files to `add`, with its file and line. Returns how the first file is written (none
/// where there is no file), and what is known of each.
pub(super) fn read(
    paths: &[&Path],
    options: &ReadOptions,
    add: &mut dyn FnMut(&Path, usize, Row) -> Result<(), RecordsError>,
) -> Result<(Option<Format>, Vec<Source>), RecordsError> {
    let mut sources = Vec::new();
    let mut first = None;
    for path in paths {
        let mut input = Input::open(path, options.longest_line)?;
        let format = input.format()?;
        let mut records = 0;
        let mut counted = |line: usize, row: Row| {
            records += 1;
            add(path, line, row)
        };
        match format {
            Format::JsonLines => json::read_lines(&mut input, &mut counted)?,
            Format::JsonArray => json::read_array(&mut input, &mut counted)?,
            Format::Text => text::read(&mut input, options.text_unit, &mut counted)?,
        }
        if records == 0 {
            return Err(RecordsError::new(Fault::Empty, path, None, "the file holds no records".into()));
        }
        first.get_or_insert(format);
        sources.push(Source { path: path.to_path_buf(), sha256: input.finish()?, records });
    }
    Ok((first, sources))
}

/// A column that holds text.
pub fn text_of<'r>(row: &'r Row, column: &str) -> Option<&'r str> {
    row.get(column)?.as_str()
}

/// A column that holds one text or a list of them; none where there is no such column or it holds anything else.
pub fn texts_of<'r>(row: &'r Row, column: &str) -> Vec<&'r str> {
    match row.get(column) {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}
