use std::collections::BTreeMap;

use super::*;
use crate::folder::{Program, RunFolder, RunInfo};

/// A run of which nothing is known but what it read; finished where there is a status.
fn run(dir: &Path, commit: &str, hash: &str, status: Option<Status>) {
    let info = RunInfo {
        program: Program { version: "0.1.0".into(), commit: commit.into() },
        model: BTreeMap::from([("m".to_owned(), "0a".to_owned())]),
        data: BTreeMap::from([(format!("{commit}.json"), hash.to_owned())]),
        ..RunInfo::default()
    };
    let recipe = format!("[model]\npath = \"m\"\n[data]\nforget = \"{commit}.json\"\n");
    let folder = RunFolder::create(dir, &recipe, info).unwrap();
    if let Some(status) = status {
        crate::write_results(dir, &serde_json::json!({ "passed": true })).unwrap();
        folder.finish(status).unwrap();
    }
}

fn refused(dirs: &[&Path]) -> String {
    let dirs: Vec<PathBuf> = dirs.iter().map(|dir| dir.to_path_buf()).collect();
    FinishedRun::open_all(&dirs).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_compared_is_refused_with_what_to_do() {
    let parent = tempfile::tempdir().unwrap();
    let dir = |name: &str| parent.path().join(name);
    let done = Some(Status::Done);
    for (name, status) in [("a", done), ("b", done), ("cut", Some(Status::Interrupted)), ("killed", None)] {
        run(&dir(name), "x", "1", status);
    }
    fs::create_dir(dir("none")).unwrap();
    for name in ["cut", "killed"] {
        let error = refused(&[&dir("a"), &dir(name)]);
        assert!(error.contains(&format!("`amend resume {}`", dir(name).display())), "{error}");
    }
    for name in ["none", "missing"] {
        let error = refused(&[&dir("a"), &dir(name)]);
        assert!(error.contains("not a run folder") && error.contains(name), "{error}");
    }
    // Alone, too: what is wrong with it comes before that there is no second.
    let error = refused(&[parent.path()]);
    assert!(error.contains("holds 4") && error.contains(&dir("a").display().to_string()), "{error}");
    assert!(error.contains(&dir("cut").display().to_string()) && error.ends_with('…'), "{error}");
    assert!(refused(&[&dir("a")]).contains("only one run"));
    assert!(refused(&[&dir("a"), &dir("b"), &dir("b/../a")]).contains("given twice"));
    let held = RunFolder::open(&dir("cut"), Program::default()).unwrap();
    assert!(refused(&[&dir("a"), &dir("cut")]).contains("still running"));
    drop(held);
}

/// The same file under another path is the same data; other content under the same key is not.
#[test]
fn what_was_read_is_compared_by_content() {
    let parent = tempfile::tempdir().unwrap();
    let dirs = ["a", "b", "c"].map(|name| parent.path().join(name));
    for (dir, (commit, hash)) in dirs.iter().zip([("x", "1"), ("y", "1"), ("x", "2")]) {
        run(dir, commit, hash, Some(Status::Done));
    }
    let runs = FinishedRun::open_all(&dirs).unwrap();
    assert!(runs[0].other_data(&runs[1]).is_empty() && runs[0].other_models(&runs[2]).is_empty());
    assert_eq!(runs[0].other_data(&runs[2]), ["data.forget"]);
    let rows = FinishedRun::setup_differences(&runs);
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["version", "SHA-256 of data.forget"]);
    assert_eq!(FinishedRun::recipe_differences(&runs).unwrap()[0].key, "data.forget");
}
