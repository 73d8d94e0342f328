//! Tells the binary which commit it was built from, for `--version` and `run.json`.

#[path = "../../tests/build.rs"]
mod test_data;

use std::env;
use std::process::Command;

fn main() {
    test_data::main();
    println!("cargo:rerun-if-env-changed=AMEND_COMMIT");
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
    };
    // The log of HEAD grows with every commit and every checkout, so it says when to look again.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    // Packagers build from an archive without a repository and set the variable themselves.
    let given = env::var("AMEND_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    println!("cargo:rustc-env=AMEND_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}
