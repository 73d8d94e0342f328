//! Records as JSON: one object per line, or one array of objects.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Value;

use super::error::Fault;
use super::lines::Input;
use super::rows::{Add, Row};
use super::{RecordsError, kind};

/// Reads one object per line; blank lines are skipped.
pub(crate) fn read_lines(input: &mut Input, add: &mut Add<'_>) -> Result<(), RecordsError> {
    let mut buffer = Vec::new();
    while let Some((line, text)) = input.next_line(&mut buffer)? {
        if text.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(text).map_err(|e| malformed(input, line, text, &e))?;
        add(line, row(&input.path, line, value)?)?;
    }
    Ok(())
}

fn row(path: &Path, line: usize, value: Value) -> Result<Row, RecordsError> {
    match value {
        Value::Object(row) => Ok(row),
        other => {
            let message = format!("a record must be an object, found {}", kind(&other));
            Err(RecordsError::new(Fault::Record, path, Some(line), message))
        }
    }
}

fn malformed(input: &Input, line: usize, text: &str, error: &serde_json::Error) -> RecordsError {
    let refusal = RecordsError::new(
        Fault::MalformedJson,
        &input.path,
        Some(line),
        format!("malformed JSON: {}", reason(error)),
    );
    let refusal = refusal.column(error.column().max(1));
    if error.is_eof() && text.trim_end().ends_with(['{', ',', '[']) {
        return refusal
            .hint("each line must hold one whole object; a list over several lines starts with `[`");
    }
    if line == 1 && !text.trim_start().starts_with('{') {
        return refusal.hint("known files: JSON lines, a JSON array, plain text named .txt");
    }
    refusal
}

/// The parser's message without its own idea of the place: it counts lines within what it was given.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

/// Reads one array of objects, holding one element at a time.
pub(crate) fn read_array(input: &mut Input, add: &mut Add<'_>) -> Result<(), RecordsError> {
    input.skip_byte_order_mark();
    let meter = Meter::default();
    let mut failure = None;
    let path = input.path.clone();
    let limit = input.longest_line;
    let reader = Metered { inner: &mut input.reader, meter: meter.clone(), limit };
    let mut parser = serde_json::Deserializer::from_reader(reader);
    let array = Array { add, meter: &meter, failure: &mut failure, path: &path };
    let result = parser.deserialize_seq(array).and_then(|()| parser.end());
    match (failure, result) {
        (Some(failure), _) => Err(failure),
        (None, Ok(())) => Ok(()),
        (None, Err(e)) if e.is_io() => Err(RecordsError::new(
            Fault::Unreadable,
            &path,
            Some(meter.line()),
            format!("cannot read the file: {e}"),
        )),
        (None, Err(e)) => {
            let message = format!("malformed JSON: {}", reason(&e));
            Err(RecordsError::new(Fault::MalformedJson, &path, Some(e.line().max(1)), message)
                .column(e.column().max(1)))
        }
    }
}

/// Counts lines, and the bytes of the current element, as the parser draws them.
#[derive(Clone, Default)]
struct Meter {
    newlines: Rc<Cell<usize>>,
    element: Rc<Cell<usize>>,
}

impl Meter {
    fn line(&self) -> usize {
        self.newlines.get() + 1
    }
}

struct Metered<'r, R> {
    inner: &'r mut R,
    meter: Meter,
    limit: usize,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let newlines = buffer[..count].iter().filter(|byte| **byte == b'\n').count();
        self.meter.newlines.set(self.meter.newlines.get() + newlines);
        self.meter.element.set(self.meter.element.get() + count);
        if self.meter.element.get() > self.limit {
            return Err(io::Error::other(format!("a record is longer than {} bytes", self.limit)));
        }
        Ok(count)
    }
}

struct Array<'a, 'f> {
    add: &'a mut Add<'f>,
    meter: &'a Meter,
    /// The parser's own error type cannot carry ours.
    failure: &'a mut Option<RecordsError>,
    path: &'a Path,
}

impl<'de> Visitor<'de> for Array<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element()? {
            self.meter.element.set(0);
            let line = self.meter.line();
            if let Err(failure) = row(self.path, line, value).and_then(|row| (self.add)(line, row)) {
                *self.failure = Some(failure);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
