//! Files of texts, one per line.

use std::io::Read;
use std::path::Path;

use crate::error::Error;

/// The lines of a file, or of standard input for `-`. An empty line is an empty text: dropping it would
/// shift the numbers of all that follow.
///
/// # Errors
/// Where the file cannot be read, holds nothing at all, or is not UTF-8 (names the line).
pub(crate) fn read_lines(path: &Path) -> Result<Vec<String>, Error> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|e| Error::read(path, &e))?;
    lines(path, &bytes)
}

fn lines(path: &Path, bytes: &[u8]) -> Result<Vec<String>, Error> {
    if bytes.is_empty() {
        return Err(Error::told(format!("{}: the file is empty", path.display()), "write one text per line"));
    }
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = |(index, line): (usize, &[u8])| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| {
            Error::told(
                format!("{}:{}: not UTF-8 text", path.display(), index + 1),
                "convert the file to UTF-8",
            )
        })?;
        // Some editors mark UTF-8 files with a byte-order mark, which is no part of the first text.
        Ok(if index == 0 { text.trim_start_matches('\u{feff}') } else { text }.to_owned())
    };
    body.split(|&byte| byte == b'\n').enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<String>, String> {
        lines(Path::new("t.txt"), bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn lines_keep_their_numbers() {
        assert_eq!(read(b"a\r\n\nb c"), Ok(vec!["a".into(), "".into(), "b c".into()]));
        assert_eq!(read("\u{feff}a\n".as_bytes()), Ok(vec!["a".into()]));
        assert_eq!(read(b"\n"), Ok(vec!["".into()]));
        assert_eq!(read(b""), Err("t.txt: the file is empty".into()));
        assert_eq!(read(b"a\n\xff"), Err("t.txt:2: not UTF-8 text".into()));
    }
}
