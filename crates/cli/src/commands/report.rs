//! `amend report`: what a run folder has to say.

use std::fs;
use std::path::{Path, PathBuf};

use amend_run::folder::{RunState, read_state};
use amend_run::{Metrics, Status};
use clap::Args;
use serde_json::{Value, json};

use crate::app::Exit;
use crate::context::Context;
use crate::error::Error;
use crate::running::SUMMARY;

const EXAMPLES: &str = "\
Examples:
  amend report runs/demo-20260301T120000Z
  amend report runs/demo-20260301T120000Z --json

Works at any time, also while the run is in progress.";

/// Show what a run has found out, or how far it has come
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// The run folder
    #[arg(value_name = "DIR")]
    run: PathBuf,
}

pub(crate) fn execute(args: ReportArgs, context: &mut Context) -> Result<Exit, Error> {
    let dir = &args.run;
    let state = read_state(dir)?;
    let results = read_if_there(&dir.join("results.json"))?;
    let summary = read_if_there(&dir.join(SUMMARY))?;
    let latest = latest_rows(dir)?;
    if context.json {
        let parsed = results.map(|text| serde_json::from_str::<Value>(&text)).transpose();
        let results = parsed.map_err(|e| Error::plain(format!("{}: {e}", dir.join("results.json").display())))?;
        let latest: Vec<Value> = latest.into_iter().map(|(stage, step, row)| json!({ "stage": stage, "step": step, "values": row })).collect();
        context.out.json_line(&json!({
            "folder": dir,
            "state": state,
            "latest": latest,
            "results": results,
            "report": existing(&dir.join("report.html")),
        }))?;
        return Ok(Exit::Done);
    }
    show_state(&state, context)?;
    if let (Status::Done, Some(summary)) = (state.status, summary) {
        context.out.line("")?;
        context.out.text(&summary)?;
        context.out.line(format_args!("\nreport   {}", dir.join("report.html").display()))?;
        return Ok(Exit::Done);
    }
    for (stage, step, row) in latest {
        let values: Vec<String> = row.iter().map(|(name, value)| format!("{name} {value}")).collect();
        context.out.line(format_args!("{stage:<20} step {step:>6}  {}", values.join("  ")))?;
    }
    context.out.line(format_args!("\ncontinue with  amend resume {}", dir.display()))?;
    Ok(Exit::Done)
}

fn show_state(state: &RunState, context: &mut Context) -> Result<(), Error> {
    let status = match state.status {
        Status::Running => "running, or killed",
        Status::Interrupted => "interrupted",
        Status::Failed => "failed",
        Status::Done => "done",
    };
    let finished = state.finished.as_deref().unwrap_or("-");
    context.out.line(format_args!("status   {status}"))?;
    context.out.line(format_args!("started  {}\nended    {finished}", state.started))?;
    context.out.line(format_args!("command  {}", state.info.command.join(" ")))?;
    context.out.line(format_args!("version  {} ({})", state.info.version, state.info.commit))?;
    context.out.line(format_args!("machine  {}", state.machine))
}

/// A step and what was logged there.
type Row = (String, u64, serde_json::Map<String, Value>);

/// The last logged row of every stage, in the order in which the stages began.
fn latest_rows(dir: &Path) -> Result<Vec<Row>, Error> {
    let mut latest: Vec<Row> = Vec::new();
    let rows = Metrics::read(dir).map_err(|e| Error::plain(e.to_string()))?;
    for row in rows {
        match latest.iter_mut().find(|(stage, ..)| *stage == row.stage) {
            Some(place) => *place = (row.stage, row.step, row.values),
            None => latest.push((row.stage, row.step, row.values)),
        }
    }
    Ok(latest)
}

fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::read(path, &e)),
    }
}

fn existing(path: &Path) -> Option<&Path> {
    path.exists().then_some(path)
}
