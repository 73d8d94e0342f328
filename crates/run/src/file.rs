//! Writing files so that a reader sees the old content or the new content, never half of either.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// An operation of the file system that failed, with the file it failed on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
pub struct FileError {
    /// What was attempted, as a verb: "read", "write", "rename".
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl FileError {
    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        "file-system"
    }
}

/// A full disk is the one error of a long run that the user can put right and then continue.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space there, then go on: `amend resume` with the run's folder"
        }
        io::ErrorKind::PermissionDenied => "; check who may write there",
        _ => "",
    }
}

/// Turns an [`io::Error`] into a [`FileError`]: `.map_err(at("read", path))`.
pub(crate) fn at<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> FileError + 'p {
    move |source| FileError { action, path: path.to_path_buf(), source }
}

/// Replaces the content of `path` atomically: a temporary file in the same folder is written, flushed to the
/// disk and renamed. A crash leaves the old file or the new one.
///
/// # Errors
/// Names `path`, also where it was the temporary file that could not be written.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private by default; a result should be as readable as any other file of the user.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut temporary = builder.tempfile_in(folder).map_err(at("write", path))?;
    temporary.write_all(content).map_err(at("write", path))?;
    temporary.as_file().sync_all().map_err(at("write", path))?;
    temporary.persist(path).map_err(|failed| at("write", path)(failed.error))?;
    sync_folder(folder)
}

/// Makes renames inside `folder` survive a power cut. Only Unix can open a folder to flush it.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    if cfg!(unix) {
        let handle = File::open(folder).map_err(at("open", folder))?;
        // Some network file systems refuse to flush a folder; the rename itself has happened.
        let _ = handle.sync_all();
    }
    Ok(())
}

/// Flushes every file under `folder` to the disk.
pub(crate) fn sync_tree(folder: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(at("read", folder))? {
        let path = entry.map_err(at("read", folder))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            let file = File::open(&path).map_err(at("open", &path))?;
            file.sync_all().map_err(at("write", &path))?;
        }
    }
    sync_folder(folder)
}

/// The SHA-256 of a file's content, or of a folder: the hash of its sorted `relative path, content hash` lines.
/// SHA-256 of bytes, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal. Hidden files count; links are followed.
///
/// # Errors
/// Names the file that could not be read.
pub fn content_hash(path: &Path) -> Result<String, FileError> {
    if !path.is_dir() {
        return file_hash(path);
    }
    let mut lines = Vec::new();
    hash_folder(path, "", &mut lines)?;
    lines.sort();
    Ok(hex(&Sha256::digest(lines.concat())))
}

/// The SHA-256 of a text. Lower-case hexadecimal.
pub fn text_hash(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hash_folder(folder: &Path, prefix: &str, lines: &mut Vec<String>) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(at("read", folder))? {
        let entry = entry.map_err(at("read", folder))?;
        let path = entry.path();
        // Always `/`, so that the hash of a model folder does not depend on the operating system.
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            hash_folder(&path, &format!("{name}/"), lines)?;
        } else {
            lines.push(format!("{name} {}\n", file_hash(&path)?));
        }
    }
    Ok(())
}

fn file_hash(path: &Path) -> Result<String, FileError> {
    let mut file = File::open(path).map_err(at("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(at("read", path))? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn errors_name_the_file_and_a_full_disk_says_what_to_do() {
        let missing = Path::new("/nonexistent-folder/run.json");
        let error = write_atomic(missing, b"x").unwrap_err().to_string();
        assert!(error.contains("/nonexistent-folder/run.json"), "{error}");
        let full = at("write", Path::new("a.json"))(io::ErrorKind::StorageFull.into()).to_string();
        assert!(full.contains("a.json") && full.contains("amend resume"), "{full}");
    }

    #[test]
    fn hashes_files_and_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("a"), "abc").unwrap();
        fs::write(folder.path().join("sub/b"), "").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(content_hash(&folder.path().join("a")).unwrap(), known);
        let before = content_hash(folder.path()).unwrap();
        fs::rename(folder.path().join("sub/b"), folder.path().join("sub/c")).unwrap();
        assert_ne!(content_hash(folder.path()).unwrap(), before, "a renamed file is another model");
    }
}
