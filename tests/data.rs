//! Where the tests find their files. Crates include this file as a module.

#![allow(dead_code, reason = "not every crate needs both")]

use std::path::{Path, PathBuf};

/// The folder of a small model of random weights, with what the reference implementation made of it.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// The folder of test data, which is not part of this repository. Tests that call this are
/// `#[cfg_attr(not(test_data), ignore)]`.
pub(crate) fn test_data() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("AMEND_TEST_DATA").map_or(beside, PathBuf::from);
    assert!(folder.is_dir(), "{}: no such folder; set AMEND_TEST_DATA to the test data", folder.display());
    folder
}
