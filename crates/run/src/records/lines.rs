//! A file being read: hashed as it passes, cut into lines of bounded length.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::Fault;
use super::{Format, RecordsError};
use crate::file::hex;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Hashes what is read through it.
pub(crate) struct Hashing {
    file: File,
    hasher: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// An open file of a data set.
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) reader: BufReader<Hashing>,
    pub(crate) longest_line: usize,
    line: usize,
}

impl Input {
    pub(crate) fn open(path: &Path, longest_line: usize) -> Result<Self, RecordsError> {
        let refuse = |e: std::io::Error| {
            RecordsError::new(Fault::Unreadable, path, None, format!("cannot read the file: {e}"))
        };
        if path.is_dir() {
            let error =
                RecordsError::new(Fault::Unreadable, path, None, "this is a folder, not a file".into());
            return Err(error.hint("name the files in it"));
        }
        let file = File::open(path).map_err(refuse)?;
        let reader = BufReader::with_capacity(1 << 16, Hashing { file, hasher: Sha256::new() });
        Ok(Self { path: path.to_path_buf(), reader, longest_line, line: 0 })
    }

    /// Looks at the name and the first bytes, without moving on.
    pub(crate) fn format(&mut self) -> Result<Format, RecordsError> {
        let extension = self.path.extension().unwrap_or_default().to_ascii_lowercase();
        let path = &self.path;
        let start = match self.reader.fill_buf() {
            Ok(start) => start,
            Err(e) => {
                return Err(RecordsError::new(
                    Fault::Unreadable,
                    path,
                    None,
                    format!("cannot read the file: {e}"),
                ));
            }
        };
        let refuse = |what: &str| {
            RecordsError::new(Fault::Format, path, None, format!("this is {what}, which is not read"))
                .hint("convert it to JSON lines: one object per line")
        };
        if start.starts_with(b"PAR1") {
            return Err(refuse("a Parquet file"));
        }
        if start.starts_with(b"\x1f\x8b") || start.starts_with(b"\x28\xb5\x2f\xfd") {
            return Err(refuse("a compressed file"));
        }
        // `.tokens` is how WikiText is published.
        if ["txt", "text", "md", "tokens"].iter().any(|text| extension == *text) {
            return Ok(Format::Text);
        }
        let start = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start);
        match start.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => Ok(Format::JsonArray),
            _ => Ok(Format::JsonLines),
        }
    }

    /// For a parser that does not know the mark. Follows [`Input::format`], which has filled the buffer.
    pub(crate) fn skip_byte_order_mark(&mut self) {
        if self.reader.buffer().starts_with(BYTE_ORDER_MARK) {
            self.reader.consume(BYTE_ORDER_MARK.len());
        }
    }

    /// The next line without its end, and its number. Returns `None` at the end of the file.
    pub(crate) fn next_line<'b>(
        &mut self,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<(usize, &'b str)>, RecordsError> {
        buffer.clear();
        self.line += 1;
        let mut any = false;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.error(Fault::Unreadable, format!("cannot read the file: {e}"))),
            };
            if available.is_empty() {
                break;
            }
            any = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(available.len());
            if buffer.len() + taken > self.longest_line {
                let limit = self.longest_line;
                return Err(self
                    .error(Fault::Format, format!("the line is longer than {limit} bytes"))
                    .hint("is this really a file with one record per line?"));
            }
            buffer.extend_from_slice(&available[..taken]);
            self.reader.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        if self.line == 1 && buffer.starts_with(BYTE_ORDER_MARK) {
            buffer.drain(..BYTE_ORDER_MARK.len());
        }
        if buffer.last() == Some(&b'\r') {
            buffer.pop();
        }
        match std::str::from_utf8(buffer) {
            Ok(line) => Ok(Some((self.line, line))),
            Err(e) => Err(self
                .error(Fault::Format, "the line is not UTF-8 text".into())
                .column(e.valid_up_to() + 1)),
        }
    }

    /// An error about the line that was read last.
    fn error(&self, fault: Fault, message: String) -> RecordsError {
        RecordsError::new(fault, &self.path, Some(self.line), message)
    }

    /// The hash of the whole file; reads what may be left of it.
    pub(crate) fn finish(mut self) -> Result<String, RecordsError> {
        let path = self.path.clone();
        std::io::copy(&mut self.reader, &mut std::io::sink()).map_err(|e| {
            RecordsError::new(Fault::Unreadable, &path, None, format!("cannot read the file: {e}"))
        })?;
        Ok(hex(&self.reader.into_inner().hasher.finalize()))
    }
}
