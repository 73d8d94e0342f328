//! Files and folders that appear whole or not at all.
//!
//! Everything is written next to its destination under a temporary name, flushed to the disk and
//! then renamed, so an interrupted or failed write never leaves half a checkpoint under its name.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Error, Result};

/// Replaces the file `path` by `bytes` in one step.
///
/// Missing parent folders are created. Fails with [`Error::Io`] naming `path`; the former file is
/// then still there.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path.as_ref(), |sink| sink.write(bytes))
}

/// Where a writer puts its bytes; failures name the file as the user knows it, not the temporary one.
pub(super) struct Sink<'a> {
    out: BufWriter<&'a File>,
    path: &'a Path,
}

impl<'a> Sink<'a> {
    fn new(file: &'a File, path: &'a Path) -> Self {
        Sink { out: BufWriter::with_capacity(1 << 20, file), path }
    }

    /// Appends `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::io(self.path, "cannot write", e))
    }

    /// The file being written, for messages.
    pub(super) fn path(&self) -> &Path {
        self.path
    }

    fn finish(mut self, file: &File) -> Result<()> {
        self.out.flush().and_then(|()| file.sync_all()).map_err(|e| Error::io(self.path, "cannot write", e))
    }
}

/// Replaces the file `path` in one step by what `fill` writes.
pub(super) fn write_atomic_with(path: &Path, fill: impl FnOnce(&mut Sink<'_>) -> Result<()>) -> Result<()> {
    let parent = parent_of(path)?;
    fs::create_dir_all(parent).map_err(|e| Error::io(parent, "cannot create the folder", e))?;
    let temporary =
        builder(path, 0o666)?.tempfile_in(parent).map_err(|e| Error::io(path, "cannot write", e))?;
    let mut sink = Sink::new(temporary.as_file(), path);
    fill(&mut sink)?;
    sink.finish(temporary.as_file())?;
    temporary.persist(path).map_err(|e| Error::io(path, "cannot write", e.error))?;
    sync_folder(parent)
}

/// A folder under construction. Dropped before [`StagedFolder::commit`], it vanishes.
pub(super) struct StagedFolder {
    temporary: TempDir,
    target: PathBuf,
}

impl StagedFolder {
    /// Starts a folder that will become `target`, which must not exist or be empty.
    pub(super) fn new(target: &Path) -> Result<Self> {
        refuse_occupied(target)?;
        let parent = parent_of(target)?;
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, "cannot create the folder", e))?;
        let temporary = builder(target, 0o777)?
            .tempdir_in(parent)
            .map_err(|e| Error::io(target, "cannot create the folder", e))?;
        Ok(StagedFolder { temporary, target: target.to_owned() })
    }

    /// Writes one file of the folder.
    pub(super) fn write_with(
        &self,
        name: &str,
        fill: impl FnOnce(&mut Sink<'_>) -> Result<()>,
    ) -> Result<()> {
        let shown = self.target.join(name);
        let file = File::create_new(self.temporary.path().join(name))
            .map_err(|e| Error::io(&shown, "cannot write", e))?;
        let mut sink = Sink::new(&file, &shown);
        fill(&mut sink)?;
        sink.finish(&file)
    }

    /// Writes one file of the folder.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_with(name, |sink| sink.write(bytes))
    }

    /// Copies `from` into the folder where it exists; says whether it did.
    pub(super) fn copy_if_there(&self, from: &Path, name: &str) -> Result<bool> {
        match fs::read(from) {
            Ok(bytes) => self.write(name, &bytes).map(|()| true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io(from, "cannot read", e)),
        }
    }

    /// Gives the folder its final name.
    pub(super) fn commit(self) -> Result<()> {
        sync_folder(self.temporary.path())?;
        // Not every system renames over an empty folder; a folder that has been filled in the
        // meantime makes this fail, which is what we want.
        if self.target.is_dir() {
            fs::remove_dir(&self.target).map_err(|e| Error::io(&self.target, "cannot replace", e))?;
        }
        fs::rename(self.temporary.path(), &self.target)
            .map_err(|e| Error::io(&self.target, "cannot write", e))?;
        let parent = parent_of(&self.target)?;
        // The temporary name is gone; forgetting it keeps the destructor from looking for it.
        let _ = self.temporary.keep();
        sync_folder(parent)
    }
}

fn refuse_occupied(target: &Path) -> Result<()> {
    let Ok(metadata) = fs::metadata(target) else { return Ok(()) };
    if !metadata.is_dir() {
        return Err(Error::format(target, "a file of this name is in the way; choose another folder"));
    }
    let mut entries = fs::read_dir(target).map_err(|e| Error::io(target, "cannot read", e))?;
    if entries.next().is_some() {
        return Err(Error::format(
            target,
            "the folder already holds files; choose another one or remove it first",
        ));
    }
    Ok(())
}

fn parent_of(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(Error::format(path, "not a name that can be written to")),
    }
}

/// How temporary files and folders beside `path` are made. Files and folders that we write are
/// ordinary ones, so the user's umask alone decides who may read them: `mode` is what it is
/// applied to.
fn builder(path: &Path, mode: u32) -> Result<tempfile::Builder<'static, 'static>> {
    if path.file_name().is_none() {
        return Err(Error::format(path, "not a name that can be written to"));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".amend-").suffix(".partial");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    Ok(builder)
}

/// Makes the names in a folder durable. Only Unix lets a folder be opened for that.
fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| Error::io(folder, "cannot flush to disk", e))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_reported_with_the_final_name() {
        // Writing to this device always fails with "no space left on device".
        let device = File::options().write(true).open("/dev/full").unwrap();
        let mut sink = Sink::new(&device, Path::new("model.safetensors"));
        sink.write(b"small enough to be buffered").unwrap();
        let late = sink.finish(&device).unwrap_err().to_string();
        assert!(late.starts_with("model.safetensors: cannot write: No space left"), "{late}");
        let mut sink = Sink::new(&device, Path::new("model.safetensors"));
        let early = sink.write(&[0; 2 << 20]).unwrap_err();
        assert!(matches!(early, Error::Io { .. }));
    }
}
