//! `amend runs`: the runs there are, how far each came and what it found.

use std::path::{Path, PathBuf};
use std::time::Duration;

use amend_run::folder::{RunState, is_in_use, read_state};
use amend_run::{Status, read_results};
use clap::{Args, ValueHint};
use indicatif::DecimalBytes;
use serde::Serialize;
use serde_json::Value;

use crate::app::Exit;
use crate::context::Context;
use crate::error::Error;
use crate::progress::duration;
use crate::table::{self, Align};

const EXAMPLES: &str = "\
Examples:
  amend runs                     those in runs/
  amend runs experiments --json  those in another folder, for programs

The newest comes first. A run that says it is running and has no process any
more was killed; `amend resume` goes on with it. Of one that is damaged the
run.json cannot be read.";

/// List runs: state, verdict, time, size
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunsArgs {
    /// Folder that holds run folders
    #[arg(value_name = "DIR", default_value = "runs", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

/// One run.
#[derive(Serialize)]
struct Listed {
    folder: PathBuf,
    state: State,
    /// Whether what was asked for holds; null where nothing is known yet.
    passed: Option<bool>,
    /// Null where the run is damaged.
    started: Option<String>,
    /// How long it was worked on, pauses left out; null while it goes on and where it was killed.
    seconds: Option<f64>,
    bytes: u64,
    /// The command that began it.
    command: Vec<String>,
}

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Running,
    Killed,
    Interrupted,
    Failed,
    Done,
    /// Its run.json cannot be read.
    Damaged,
}

impl State {
    fn of(dir: &Path, status: Status) -> Self {
        match status {
            Status::Running if is_in_use(dir) => State::Running,
            Status::Running => State::Killed,
            Status::Interrupted => State::Interrupted,
            Status::Failed => State::Failed,
            Status::Done => State::Done,
        }
    }

    fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Killed => "killed",
            State::Interrupted => "interrupted",
            State::Failed => "failed",
            State::Done => "done",
            State::Damaged => "damaged",
        }
    }
}

pub(crate) fn execute(args: RunsArgs, context: &mut Context) -> Result<Exit, Error> {
    let mut runs = listed(&args.folder)?;
    runs.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| a.folder.cmp(&b.folder)));
    if context.json {
        for run in &runs {
            context.out.json_line(run)?;
        }
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        context.console.note(&format!("no runs in {}", args.folder.display()));
        return Ok(Exit::Done);
    }
    let columns = [
        ("run", Align::Left),
        ("state", Align::Left),
        ("verdict", Align::Left),
        ("started", Align::Left),
        ("took", Align::Right),
        ("size", Align::Right),
    ];
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    for line in table::lines(&columns, &rows) {
        context.out.line(line)?;
    }
    Ok(Exit::Done)
}

fn row(run: &Listed) -> Vec<String> {
    let verdict = match run.passed {
        Some(true) => "passed ✓",
        Some(false) => "failed ✗",
        None => "–",
    };
    let took = run.seconds.map_or("–".into(), |s| duration(Duration::from_secs_f64(s)));
    // To the minute.
    let started =
        run.started.as_deref().map_or("–".into(), |at| at.get(..16).unwrap_or(at).replace('T', " "));
    vec![
        run.folder.display().to_string(),
        run.state.name().into(),
        verdict.into(),
        started,
        took,
        DecimalBytes(run.bytes).to_string(),
    ]
}

/// The runs in a folder, and the folder itself where it is one. What is no run is passed over.
fn listed(folder: &Path) -> Result<Vec<Listed>, Error> {
    if let Ok(state) = read_state(folder) {
        return Ok(vec![Listed::of(folder, &state)]);
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // Where runs would be, there may be none yet.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder == Path::new("runs") => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(Error::read(folder, e)),
    };
    let dirs = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let run = |dir: PathBuf| match read_state(&dir) {
        Ok(state) => Some(Listed::of(&dir, &state)),
        Err(_) => dir.join("run.json").exists().then(|| Listed::damaged(&dir)),
    };
    Ok(dirs.filter_map(run).collect())
}

impl Listed {
    fn of(dir: &Path, state: &RunState) -> Self {
        let passed = || read_results::<Value>(dir).ok()?.get("passed")?.as_bool();
        Listed {
            folder: dir.to_path_buf(),
            state: State::of(dir, state.status),
            passed: if state.status == Status::Done { passed() } else { None },
            started: Some(state.started.clone()),
            seconds: state.finished.as_ref().and(state.took()).map(|took| took.as_secs_f64()),
            bytes: size(dir),
            command: state.info.command.clone(),
        }
    }

    /// A run of which nothing can be said but where it is.
    fn damaged(dir: &Path) -> Self {
        Listed {
            folder: dir.to_path_buf(),
            state: State::Damaged,
            passed: None,
            started: None,
            seconds: None,
            bytes: size(dir),
            command: Vec::new(),
        }
    }
}

/// Bytes of all files in a folder. What vanishes or cannot be read meanwhile counts nothing; links are not followed.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    };
    entries.flatten().map(of).sum()
}
