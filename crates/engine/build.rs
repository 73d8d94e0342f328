//! Tells the tests whether their data is there: those that need it count as ignored where it is not.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=AMEND_TEST_DATA");
    println!("cargo:rustc-check-cfg=cfg(test_data)");
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if env::var_os("AMEND_TEST_DATA").map_or(beside, PathBuf::from).is_dir() {
        println!("cargo:rustc-cfg=test_data");
    }
}
