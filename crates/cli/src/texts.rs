//! Files of texts, one per line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The lines of a file, or of standard input for `-`, read as they are asked for. An empty line is an empty text:
/// dropping it would shift the numbers of all that follow.
///
/// A line that cannot be read or is not UTF-8 is an error that names it, and so is a file that holds nothing at all.
pub(crate) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    /// Lines so far.
    read: usize,
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let reader: Box<dyn BufRead> = if path == Path::new("-") {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(path).map_err(|e| Error::read(path, e))?))
        };
        Ok(Lines { path: path.to_path_buf(), reader, read: 0 })
    }

    fn line(&mut self) -> Result<Option<String>, Error> {
        let path = self.path.display();
        let mut line = Vec::new();
        let count = self.reader.read_until(b'\n', &mut line).map_err(|e| Error::read(&self.path, e))?;
        if count == 0 {
            return match self.read {
                0 => Err(Error::told(format!("{path}: the file is empty"), "write one text per line")),
                _ => Ok(None),
            };
        }
        self.read += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| {
            Error::told(format!("{path}:{}: not UTF-8 text", self.read), "convert the file to UTF-8")
        })?;
        // Some editors mark UTF-8 files with a byte-order mark, which is no part of the first text.
        Ok(Some(if self.read == 1 { text.trim_start_matches('\u{feff}') } else { text }.to_owned()))
    }
}

impl Iterator for Lines {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Result<Vec<String>, String> {
        let lines = Lines { path: "t.txt".into(), reader: Box::new(bytes), read: 0 };
        lines.collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    #[test]
    fn lines_keep_their_numbers() {
        assert_eq!(read(b"a\r\n\nb c"), Ok(vec!["a".into(), "".into(), "b c".into()]));
        assert_eq!(read("\u{feff}a\n".as_bytes()), Ok(vec!["a".into()]));
        assert_eq!(read(b"\n"), Ok(vec!["".into()]));
        assert_eq!(read(b"a\n\n"), Ok(vec!["a".into(), "".into()]));
        assert_eq!(read(b""), Err("t.txt: the file is empty".into()));
        assert_eq!(read(b"a\n\xff"), Err("t.txt:2: not UTF-8 text".into()));
    }
}
