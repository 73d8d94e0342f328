//! The program as other programs see it: events, codes of errors, TensorBoard.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::runs::{Bench, start, wait_until};
use crate::support::{Scratch, amend};

/// The events on standard error, each with its kind and its time.
fn events(stderr: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stderr).unwrap();
    let event =
        |line: &str| -> Value { serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")) };
    let events: Vec<Value> = text.lines().map(event).collect();
    for event in &events {
        let time = event["time"].as_str().unwrap();
        assert!(event["event"].is_string() && time.len() == 24 && time.ends_with('Z'), "{event}");
    }
    events
}

fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// Rows of metrics.jsonl.
fn rows(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A metrics event as the row that it is.
fn row(event: &Value) -> Value {
    let mut row = serde_json::json!({ "stage": event["stage"], "step": event["step"] });
    row.as_object_mut().unwrap().extend(event["values"].as_object().unwrap().clone());
    row
}

#[test]
fn a_run_tells_programs_everything() {
    let bench = Bench::new();
    let out = bench.out("told");
    let args = ["run", &bench.recipe, "--out", out.to_str().unwrap(), "--json"];
    let output = amend(&args).assert().get_output().clone();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = events(&output.stderr);
    assert_eq!((&told[0]["event"], &told[0]["resumed"]), (&"run".into(), &false.into()));
    assert_eq!(told[0]["folder"].as_str(), out.canonicalize().unwrap().to_str());
    let last = told.last().unwrap();
    assert_eq!(
        (last["event"].as_str(), last["exit_code"].as_i64()),
        (Some("done"), output.status.code().map(i64::from))
    );
    assert_eq!(last["exit_code"] == 0, result["passed"] == true);
    assert_eq!(of(&told, "metrics").into_iter().map(row).collect::<Vec<_>>(), rows(&out));
    let stages = |state: &str| -> Vec<&Value> {
        of(&told, "stage").into_iter().filter(|e| e["state"] == state).map(|e| &e["stage"]).collect()
    };
    assert_eq!(stages("begun"), stages("finished"));
    assert!(stages("begun").contains(&&"base".into()) && stages("given-up").is_empty());
    let progress = of(&told, "progress");
    let training = progress.iter().find(|e| e["stage"] == "base").unwrap();
    assert_eq!(training["unit"], "steps");
    assert!(
        training["total"].is_u64() && training["done"].is_u64() && training["status"].is_string(),
        "{training}"
    );
    assert!(training["rate"].as_f64().is_some_and(|rate| rate > 0.0), "{training}");
}

#[test]
fn quiet_leaves_errors_and_no_progress_what_does_not_move() {
    let bench = Bench::new();
    let run = |name: &str, flag: &str| {
        let out = bench.out(name);
        let args = ["run", &bench.recipe, "--out", out.to_str().unwrap(), "--json", flag];
        events(&amend(&args).assert().get_output().stderr)
    };
    assert!(run("quiet", "--quiet").is_empty());
    let still = run("still", "--no-progress");
    assert!(of(&still, "progress").is_empty() && !of(&still, "stage").is_empty());
    let refused =
        events(&amend(&["run", "none.toml", "--json", "--quiet"]).assert().code(2).get_output().stderr);
    assert_eq!((refused.len(), &refused[0]["code"]), (1, &"recipe-unreadable".into()));
    assert!(amend(&["methods", "npo", "--json"]).assert().code(0).get_output().stderr.is_empty());
}

/// Steps of each stage in event files, as TensorBoard reads them: in the order of the files' names.
fn tensorboard(root: &Path) -> BTreeMap<String, Vec<u64>> {
    let sorted =
        |dir: &Path| -> BTreeSet<PathBuf> { fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect() };
    let stage = |dir: PathBuf| {
        let files = sorted(&dir);
        assert!(files.iter().all(|file| file.to_str().unwrap().contains(".tfevents.")), "{files:?}");
        let steps = files.iter().flat_map(|file| summaries(&fs::read(file).unwrap())).collect();
        (dir.file_name().unwrap().to_str().unwrap().to_owned(), steps)
    };
    sorted(root).into_iter().filter(|path| path.is_dir()).map(stage).collect()
}

/// Steps of the events that have a summary.
fn summaries(mut bytes: &[u8]) -> Vec<u64> {
    let mut steps = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = u64::from_le_bytes(*length) as usize;
        let (record, rest) = rest.split_at(length + 8);
        // Past the checksum of the length: `wall_time`, nine bytes, then `step`, if it is not zero.
        let data = &record[4..length + 4];
        let (mut step, mut at) = (0, 9);
        if data[at] == 0x10 {
            let varint = data[at + 1..].iter().position(|byte| byte & 0x80 == 0).unwrap();
            step = data[at + 1..]
                .iter()
                .take(varint + 1)
                .rev()
                .fold(0, |n, byte| n << 7 | u64::from(byte & 0x7f));
            at += varint + 2;
        }
        if data[at] == 0x2a {
            steps.push(step);
        }
        bytes = rest;
    }
    steps
}

/// The same of the metrics.
fn logged(dir: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut stages: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in rows(dir) {
        stages.entry(row["stage"].as_str().unwrap().into()).or_default().push(row["step"].as_u64().unwrap());
    }
    stages
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_tells_how_to_go_on_and_what_no_longer_holds() {
    let bench = Bench::new();
    let dir = bench.out("cut");
    let arg = dir.to_str().unwrap();
    let child = start(&bench, &dir, &["--json", "--tensorboard"]);
    wait_until("some steps", || fs::metadata(dir.join("metrics.jsonl")).is_ok_and(|file| file.len() > 2000));
    let asked = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(asked.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let told = events(&output.stderr);
    let last = told.last().unwrap();
    assert_eq!((&last["event"], &last["code"]), (&"error".into(), &"interrupted".into()));
    assert!(last["hint"].as_str().unwrap().contains(&format!("amend resume {arg}")), "{last}");
    assert_eq!(of(&told, "stage").last().unwrap()["state"], "given-up");
    assert_eq!(tensorboard(&dir.join("tensorboard")), logged(&dir));

    // Killed without warning: steps after the last checkpoint are repeated.
    let silent = std::process::Stdio::null;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_amend"))
        .args(["resume", arg, "--checkpoint-every", "3600"])
        .stdout(silent())
        .stderr(silent())
        .spawn()
        .unwrap();
    let steps = logged(&dir)["base"].len();
    wait_until("more steps", || logged_whole(&dir) > steps + 10);
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = rows(&dir);
    let output = amend(&["resume", arg, "--json"]).assert().get_output().clone();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    let told = events(&output.stderr);
    assert_eq!((&told[0]["event"], &told[0]["resumed"]), (&"run".into(), &true.into()));
    let rewind = of(&told, "rewind")[0];
    assert_eq!((&rewind["stage"], rewind["step"].as_u64()), (&"base".into(), Some(steps as u64)));
    let repeated = of(&told, "metrics").into_iter().map(row);
    let all: Vec<Value> =
        kept.into_iter().filter(|row| row["step"].as_u64() <= Some(steps as u64)).chain(repeated).collect();
    assert_eq!(all, rows(&dir));
    assert_eq!(tensorboard(&dir.join("tensorboard")), logged(&dir), "no step twice, none missing");
}

/// Whole lines of the metrics of a run at work.
fn logged_whole(dir: &Path) -> usize {
    fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default().matches('\n').count()
}

#[test]
fn event_files_go_where_they_are_wanted() {
    let bench = Bench::new();
    let [out, logs] = ["mine", "logs"].map(|name| bench.out(name));
    let [run, board] = [&out, &logs].map(|path| path.to_str().unwrap());
    let output = amend(&["run", &bench.recipe, "--out", run, "--tensorboard", board]).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(tensorboard(&logs.join("mine")), logged(&out));
    assert!(!out.join("tensorboard").exists());
}

/// They are beside the run: where they cannot be written any more, it goes on.
#[test]
fn a_run_outlives_its_event_files() {
    let bench = Bench::new();
    let [out, logs] = ["mine", "logs"].map(|name| bench.out(name));
    let [run, board] = [&out, &logs].map(|path| path.to_str().unwrap());
    // A file is where the folder of a stage would be.
    std::fs::create_dir_all(logs.join("mine")).unwrap();
    let stage = logged(&{
        let first = bench.out("first");
        amend(&["run", &bench.recipe, "--out", first.to_str().unwrap()]).output().unwrap();
        first
    });
    let stage = stage.keys().last().unwrap().clone();
    std::fs::write(logs.join("mine").join(&stage), "taken").unwrap();
    let output = amend(&["run", &bench.recipe, "--out", run, "--tensorboard", board]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{told}");
    assert!(told.contains("event files for TensorBoard are no longer written: "), "{told}");
}

/// The code of the error that a command ends with.
fn code<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Value {
    let args: Vec<_> = args.iter().map(AsRef::as_ref).chain([std::ffi::OsStr::new("--json")]).collect();
    let output = amend(&args).assert().code(2).get_output().clone();
    let told = events(&output.stderr);
    assert_eq!(of(&told, "error").len(), 1);
    let error = told.last().unwrap().clone();
    assert!(documented().contains(error["code"].as_str().unwrap()), "{error}");
    error
}

#[test]
fn errors_have_codes_and_places() {
    let scratch = Scratch::new();
    let recipe = |text: &str| scratch.file("r.toml", text);
    let bad = code(&["run", &recipe("method = \"unlearn\"\nseeed = 3\n[optimizer]\nlr = -1\n")]);
    assert_eq!(
        (&bad["code"], &bad["line"], &bad["column"]),
        (&"recipe-unknown-key".into(), &2.into(), &1.into())
    );
    assert!(
        bad["more"].as_array().unwrap().iter().any(|more| more["code"] == "recipe-out-of-range"),
        "{bad}"
    );
    let with = |text: &str| format!("method = \"unlearn\"\n[model]\npath = \"model\"\n[data]\n{text}");
    for (text, expected) in [
        ("method = ", "recipe-syntax"),
        ("", "recipe-missing-key"),
        ("method = 3", "recipe-wrong-type"),
        ("method = \"unlearn\"\n[unlearn]\nforget = \"npoo\"\n", "recipe-unknown-value"),
        (&with(""), "recipe-conflict"),
        (&with("forget = \"f.jsonl\"\nretain = \"f.jsonl\"\n"), "recipe-missing-file"),
    ] {
        assert_eq!(code(&["run", &recipe(text)])["code"], expected, "{text}");
    }
    let data = scratch.file("f.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n{\"quest\n");
    let bad = code(&["run", &recipe(&with("forget = \"f.jsonl\"\nretain = \"f.jsonl\"\n"))]);
    assert_eq!((&bad["code"], &bad["line"]), (&"data-malformed-json".into(), &2.into()));
    assert_eq!(
        bad["file"].as_str().map(|path| Path::new(path).file_name()),
        Some(Path::new(&data).file_name())
    );
    let model = scratch.arg();
    assert_eq!(code(&["score", model])["code"], "usage");
    assert_eq!(code(&["scroe", model])["code"], "usage");
    assert_eq!(code(&["score", "nowhere", "--ids", "1,2"])["code"], "model-missing-file");
    assert_eq!(code(&["score", model, "--text-file", "nowhere.txt"])["code"], "file-not-found");
    assert_eq!(code(&["score", model, "--ids", "1,99999"])["code"], "invalid-argument");
    assert_eq!(code(&["resume", model])["code"], "folder-no-run");
    assert_eq!(code(&["methods", "npoo"])["code"], "unknown-name");
    assert_eq!(code(&["eval", "--task", "wikitext", "--from-log", &data])["code"], "samples-invalid");
    let config = scratch.model.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"llama\"", "\"mystery\"")).unwrap();
    assert_eq!(code(&["score", model, "--ids", "1,2"])["code"], "model-unsupported");
    fs::write(&config, text.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")).unwrap();
    assert_eq!(code(&["score", model, "--ids", "1,2"])["code"], "model-missing-tensor");
}

/// The codes that docs/guide.md lists.
fn documented() -> BTreeSet<String> {
    let guide =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide.md")).unwrap();
    let section = guide.split("\n### Error codes\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let code = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    section.lines().filter_map(code).collect()
}

/// Every code that a method called `code` can give, wherever in the sources it is.
fn given(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            given(&path, codes);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                if line.trim_start().starts_with("pub fn code(")
                    || line.trim_start().starts_with("fn code(")
                    || line.trim_start().starts_with("pub(crate) fn code(")
                {
                    let indent = line.len() - line.trim_start().len();
                    let end = format!("{:indent$}}}", "");
                    let body = lines.by_ref().take_while(|line| **line != end);
                    codes.extend(body.flat_map(|line| {
                        let words = line.split('"').skip(1).step_by(2).map(str::to_owned);
                        words.collect::<Vec<_>>()
                    }));
                }
            }
        }
    }
}

/// Programs rely on codes: one that is new, or changed, is seen here.
#[test]
fn the_guide_lists_every_code() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut codes = BTreeSet::new();
    for entry in fs::read_dir(crates).unwrap() {
        given(&entry.unwrap().path().join("src"), &mut codes);
    }
    assert!(codes.len() > 30, "{codes:?}");
    assert_eq!(codes, documented());
}
