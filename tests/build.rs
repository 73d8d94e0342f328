//! Build script of the crates whose tests read the test data: tells them whether it is there, so that those
//! that need it count as ignored where it is not.

#![allow(clippy::print_stdout, reason = "how a build script talks to cargo")]

use std::env;
use std::path::{Path, PathBuf};

pub(crate) fn main() {
    println!("cargo:rerun-if-changed=../../tests/build.rs");
    println!("cargo:rerun-if-env-changed=AMEND_TEST_DATA");
    println!("cargo:rustc-check-cfg=cfg(test_data)");
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if env::var_os("AMEND_TEST_DATA").map_or(beside, PathBuf::from).is_dir() {
        println!("cargo:rustc-cfg=test_data");
    }
}
