//! `amend report`: what a run folder has to say.

use std::fs;
use std::path::{Path, PathBuf};

use amend_learn::area::Found;
use amend_run::folder::{RunState, is_in_use, read_state};
use amend_run::step_log::METRICS;
use amend_run::{Figure, RunError, Status, StepLog, read_results, shell};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::app::Exit;
use crate::area;
use crate::completing;
use crate::context::Context;
use crate::error::Error;
use crate::{provenance, running, table};

const EXAMPLES: &str = "\
Examples:
  amend report runs/demo-20260301T120000Z
  amend report runs/demo-20260301T120000Z --json

Of a finished run, report.html is written anew. Of one in progress or
interrupted, the last logged values of every stage are shown.";

/// Show what a run has found out, or how far it has come
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// The run folder
    #[arg(value_name = "DIR", add = completing::runs())]
    run: PathBuf,
}

pub(crate) fn execute(args: ReportArgs, context: &mut Context) -> Result<Exit, Error> {
    let dir = &args.run;
    let state = read_state(dir)?;
    let found = if state.status == Status::Done { Some(read_found(dir, &state)?) } else { None };
    if let Some(found) = &found {
        running::write_report(dir, found)?;
    }
    // A damaged row may be what ended the run: how it stands is told all the same.
    let latest = latest_rows(dir).unwrap_or_else(|e| {
        context.console.warn(&e.to_string());
        Vec::new()
    });
    if context.json {
        let report = found.is_some().then(|| dir.join("report.html"));
        context.out.json_line(&json!({
            "folder": dir,
            "state": state,
            "latest": latest,
            "report": report,
            "results": found.map(|found| found.results),
        }))?;
        return Ok(Exit::Done);
    }
    show_state(dir, &state, context)?;
    context.out.line("")?;
    if let Some(found) = &found {
        running::show_found(dir, found, context)?;
        return Ok(Exit::Done);
    }
    for LatestRow { stage, step, values } in &latest {
        let rounded = |value: &Value| match value.as_f64() {
            Some(number) => Figure::exact(number, 0).format_value(),
            None => value.to_string(),
        };
        let values: Vec<String> =
            values.iter().map(|(name, value)| format!("{name}\u{a0}{}", rounded(value))).collect();
        context.out.line(format_args!("{stage}, step {step}"))?;
        for line in table::wrap(&values.join(" "), table::width(), 2) {
            context.out.line(line.replace('\u{a0}', " "))?;
        }
    }
    if is_in_use(dir) {
        return Ok(Exit::Done);
    }
    if let Some(error) = last_error(dir).filter(|_| state.status == Status::Failed) {
        context.out.line(format_args!("\nended by  {error}"))?;
    }
    context.out.line(format_args!("\ncontinue with  amend resume {}", shell::path(dir)))?;
    Ok(Exit::Done)
}

/// The error that the run's log ends with.
fn last_error(dir: &Path) -> Option<String> {
    let log = fs::read_to_string(dir.join("log.txt")).ok()?;
    let said = log.lines().rev().find_map(|line| line.split_once(" error: "));
    said.map(|(_, error)| error.to_owned())
}

/// What a finished run found out.
fn read_found(dir: &Path, state: &RunState) -> Result<Found, Error> {
    let recipe = dir.join("recipe.toml");
    let recipe = fs::read_to_string(&recipe).map_err(|e| Error::read(&recipe, e))?;
    let mut found = area::read_results(read_results(dir)?, &recipe, dir)?;
    provenance::add(&mut found.report, dir, state)?;
    Ok(found)
}

fn show_state(dir: &Path, state: &RunState, context: &mut Context) -> Result<(), Error> {
    let status = match state.status {
        Status::Running if is_in_use(dir) => "running",
        Status::Running => "killed",
        Status::Interrupted => "interrupted",
        Status::Failed => "failed",
        Status::Done => "done",
    };
    let finished = state.finished.as_deref().unwrap_or("-");
    context.out.line(format_args!("status   {status}"))?;
    context.out.line(format_args!("started  {}\nended    {finished}", state.started))?;
    context.out.line(format_args!("command  {}", state.info.command.join(" ")))?;
    let programs: Vec<String> = state.programs().iter().map(ToString::to_string).collect();
    context.out.line(format_args!("version  {}", programs.join(", then ")))?;
    context.out.line(format_args!("machine  {}", state.machine))
}

/// The last logged row of a stage.
#[derive(Serialize)]
struct LatestRow {
    stage: String,
    step: u64,
    values: Map<String, Value>,
}

/// The last row of every stage, in the order in which the stages began.
fn latest_rows(dir: &Path) -> Result<Vec<LatestRow>, Error> {
    let mut latest: Vec<LatestRow> = Vec::new();
    for row in StepLog::read(dir, METRICS).map_err(RunError::from)? {
        let row = LatestRow { stage: row.stage, step: row.step, values: row.values };
        match latest.iter_mut().find(|known| known.stage == row.stage) {
            Some(known) => *known = row,
            None => latest.push(row),
        }
    }
    Ok(latest)
}
