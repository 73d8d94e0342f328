//! Where what was typed is kept from one chat to the next.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file, under the folder that the XDG rules give to a program's state. Nothing where there is no home.
pub(super) fn file() -> Option<PathBuf> {
    in_state(std::env::var_os("XDG_STATE_HOME"), std::env::home_dir())
}

fn in_state(state: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    // A relative path is to be ignored.
    let given = state.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || home.filter(|home| home.is_absolute()).map(|home| home.join(".local/state"));
    Some(given.or_else(home)?.join("amend/chat-history"))
}

/// Makes the file where there is none, and in any case one that its owner alone may read.
pub(super) fn prepare(file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        create_folder(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let opened = options.open(file)?;
    #[cfg(unix)]
    opened.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    drop(opened);
    Ok(())
}

fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_where_xdg_says() {
        let place = |state: &str, home: &str| {
            let found = in_state(Some(state.into()).filter(|s: &OsString| !s.is_empty()), Some(home.into()));
            found.map(|path| path.to_string_lossy().into_owned())
        };
        assert_eq!(place("/s", "/h").as_deref(), Some("/s/amend/chat-history"));
        for state in ["", "s"] {
            assert_eq!(place(state, "/h").as_deref(), Some("/h/.local/state/amend/chat-history"));
        }
        assert_eq!(in_state(None, None), None);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("amend/chat-history");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        prepare(&file).unwrap();
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        fs::write(&file, "kept").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        prepare(&file).unwrap();
        assert_eq!((mode(&file), fs::read_to_string(&file).unwrap()), (0o600, "kept".into()));
    }
}
