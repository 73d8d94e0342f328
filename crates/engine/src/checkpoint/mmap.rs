//! A file seen as memory.
//!
//! Weights are read once, tensor by tensor; mapping lets the system bring in the pages in the
//! order we ask and drop them again under memory pressure.
#![expect(
    unsafe_code,
    reason = "a memory map is the one way to read weights without a second copy of the file"
)]

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::{Error, Result};

/// A read-only map of a whole file.
///
/// Before every access the file's length is compared with the length at opening, so a file cut
/// short by another program gives an error. What remains is the moment between that check and the
/// reading: who truncates a checkpoint in exactly that moment ends the process with a bus error.
pub(super) struct MappedFile {
    path: PathBuf,
    file: File,
    // An empty file cannot be mapped on every system.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the file `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "cannot read", e))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, "cannot read", e))?;
        if !metadata.is_file() {
            return Err(Error::format(path, "not a regular file"));
        }
        let map = if metadata.len() == 0 {
            None
        } else {
            // SAFETY: the map is private to this struct, read-only, and handed out only as `&[u8]`
            // borrowed from it, so no reference outlives it. Bytes changed by another process
            // could be seen changing; every value read is validated after it has been copied out,
            // and the length is checked again in `bytes` before each access.
            let map = unsafe { Mmap::map(&file) };
            Some(map.map_err(|e| Error::io(path, "cannot map into memory", e))?)
        };
        Ok(MappedFile { path: path.to_owned(), file, map })
    }

    /// The file's name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes when the file was opened.
    pub(super) fn len(&self) -> usize {
        self.map.as_ref().map_or(0, |m| m.len())
    }

    /// The bytes of `range`, which must lie within the file.
    pub(super) fn bytes(&self, range: Range<usize>) -> Result<&[u8]> {
        let length = self.file.metadata().map_err(|e| Error::io(&self.path, "cannot read", e))?.len();
        if length < self.len() as u64 {
            return Err(Error::format(
                &self.path,
                format!("the file shrank from {} to {length} bytes while it was in use", self.len()),
            ));
        }
        let all = self.map.as_deref().unwrap_or(&[]);
        all.get(range.clone()).ok_or_else(|| {
            Error::format(&self.path, format!("bytes {range:?} lie outside of the file's {}", all.len()))
        })
    }
}
