//! Finds the test data, which is not part of this repository.

use std::path::{Path, PathBuf};

/// The folder of test data, or `None` after saying that `test` is skipped.
pub(crate) fn test_data(test: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("AMEND_TEST_DATA").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    #[expect(clippy::print_stdout, reason = "a skipped test must say so")]
    {
        println!("skipped: {test}: test data not found");
    }
    None
}
