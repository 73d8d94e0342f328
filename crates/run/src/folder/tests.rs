use super::*;
use serde_json::json;

fn info() -> RunInfo {
    RunInfo { program: program("a"), seed: 3, command: vec!["amend".into()], ..RunInfo::default() }
}

fn program(commit: &str) -> Program {
    Program { version: "0.1.0".into(), commit: commit.into() }
}

#[test]
fn a_run_is_created_interrupted_resumed_and_finished() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("runs/first");
    let mut run = RunFolder::create(&dir, "seed = 3\n", info()).unwrap();
    run.mark_stage("forget", json!({ "steps": 10 })).unwrap();
    run.log("hello").unwrap();
    assert!(matches!(RunFolder::open(&dir, program("b")), Err(FolderError::Locked { .. })));
    assert!(is_in_use(&dir));
    drop(run);
    assert!(!is_in_use(&dir) && !is_in_use(parent.path()) && !parent.path().join("lock").exists());

    let run = RunFolder::open(&dir, program("b")).unwrap();
    assert!(run.stage_done("forget") && !run.stage_done("attack"));
    assert_eq!(run.stage_value("forget"), Some(&json!({ "steps": 10 })));
    assert_eq!(run.recipe().unwrap(), "seed = 3\n");
    assert_eq!(run.state().resumed.len(), 1);
    assert_eq!(run.state().programs(), [&program("a"), &program("b")]);
    run.finish(Status::Interrupted).unwrap();
    assert_eq!(read_state(&dir).unwrap().status, Status::Interrupted);
    RunFolder::open(&dir, program("b")).unwrap().finish(Status::Done).unwrap();
    assert_eq!(read_state(&dir).unwrap().info, info());
    let error = RunFolder::open(&dir, program("b")).unwrap_err().to_string();
    assert!(error.contains("is finished"), "{error}");
    assert!(fs::read_to_string(dir.join("log.txt")).unwrap().ends_with("Z hello\n"));
}

#[test]
fn a_new_run_never_touches_an_old_folder() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "years").unwrap();
    let error = RunFolder::create(dir.path(), "", info()).unwrap_err().to_string();
    assert!(error.contains("exists; choose another --out; it holds something else than a run"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let error = RunFolder::open(dir.path(), program("b")).unwrap_err().to_string();
    assert!(error.contains("is not a run folder: it has no run.json"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no lock is left in a stranger's folder");
    fs::write(dir.path().join("run.json"), "{\"version\"").unwrap();
    assert!(RunFolder::open(dir.path(), program("b")).unwrap_err().to_string().contains("damaged"));
    assert!(
        RunFolder::open(&dir.path().join("no"), program("b"))
            .unwrap_err()
            .to_string()
            .contains("does not exist")
    );
}

/// What a run took once counted the night for which it lay still.
#[test]
fn pauses_are_no_time_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("run");
    RunFolder::create(&dir, "", RunInfo::default()).unwrap().finish(Status::Interrupted).unwrap();
    let long_ago = |text: &str| {
        let mut state: serde_json::Value = serde_json::from_str(text).unwrap();
        state["started"] = "2000-01-01T00:00:00Z".into();
        state["finished"] = "2000-01-01T00:01:40Z".into();
        state
    };
    let file = dir.join("run.json");
    let state = long_ago(&fs::read_to_string(&file).unwrap());
    fs::write(&file, state.to_string()).unwrap();
    RunFolder::open(&dir, Program::default()).unwrap().finish(Status::Interrupted).unwrap();
    assert!(read_state(&dir).unwrap().took().unwrap().as_secs() < 50);
    // Earlier versions did not count: that was from start to end.
    let mut state = long_ago(&fs::read_to_string(&file).unwrap());
    state.as_object_mut().unwrap().remove("worked");
    fs::write(&file, state.to_string()).unwrap();
    assert_eq!(read_state(&dir).unwrap().took().unwrap().as_secs(), 100);
    RunFolder::open(&dir, Program::default()).unwrap().finish(Status::Done).unwrap();
    assert_eq!(read_state(&dir).unwrap().took().unwrap().as_secs(), 100);
}

/// A run that failed once took samples with it that it had already written.
#[test]
fn a_folder_that_an_area_has_written_to_is_not_untouched() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("run");
    assert!(!is_untouched(&dir), "there is no run");
    let mut run = RunFolder::create(&dir, "", info()).unwrap();
    run.log("hello").unwrap();
    let checkpoints = crate::Checkpoints::new(&dir, 1).unwrap();
    assert!(is_untouched(&dir));
    fs::write(dir.join("samples.jsonl"), "{}\n").unwrap();
    assert!(!is_untouched(&dir));
    fs::remove_file(dir.join("samples.jsonl")).unwrap();
    checkpoints.save("a", Default::default(), |_| Ok::<(), FileError>(())).unwrap();
    assert!(!is_untouched(&dir));
    checkpoints.clear("a").unwrap();
    assert!(is_untouched(&dir));
    run.mark_stage("a", json!(null)).unwrap();
    assert!(!is_untouched(&dir));
}
