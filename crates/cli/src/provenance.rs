//! What was run, on what, by what: the end of every report.

use std::path::Path;

use amend_run::Report;
use amend_run::folder::RunState;
use amend_run::report::Section;
use indicatif::DecimalBytes;

use crate::error::Error;
use crate::progress::duration;
use crate::running::command_line;

/// Files of a run that a reader may want, with what they are.
const FILES: [(&str, &str); 7] = [
    ("every figure, as JSON", "results.json"),
    ("every step, as JSON lines", "metrics.jsonl"),
    ("every answer, as JSON lines", "answers"),
    ("the plots, as SVG and CSV", "figures"),
    ("the tables, as CSV", "tables"),
    ("the recipe with every default", "recipe.toml"),
    ("what happened when", "log.txt"),
];

/// Adds it to the report of the run in `dir`.
pub(crate) fn add(report: &mut Report, dir: &Path, state: &RunState) -> Result<(), Error> {
    report.heading("What was run");
    report.push(Section::KeyValues(facts(state)));
    report.push(recipe(dir, "The recipe, with every default written out")?);
    // The figures are written after the report, which must not differ from one that is written anew.
    let has_plots = report.sections.iter().any(|section| matches!(section, Section::Plot(_)));
    let has_tables = report.sections.iter().any(|section| matches!(section, Section::Table(_)));
    let there = FILES.iter().filter(|(_, file)| match *file {
        "results.json" => true,
        "figures" => has_plots,
        "tables" => has_tables,
        other => dir.join(other).exists(),
    });
    report.push(Section::Files(there.map(|(what, file)| ((*what).to_owned(), (*file).to_owned())).collect()));
    report.heading("How to reproduce");
    let again = again(dir)?;
    report.command("The same recipe and seed give the same numbers, in a folder of their own:", again);
    Ok(())
}

/// Adds to a model's card what made it: nothing of the machine, whose paths would lead no reader anywhere.
pub(crate) fn add_to_card(report: &mut Report, dir: &Path, state: &RunState) -> Result<(), Error> {
    // The model's own seed stands above.
    let of_machine = ["command", "took", "peak memory", "machine", "seed"];
    let facts = facts(state).into_iter().filter(|(name, _)| !of_machine.contains(&name.as_str()));
    report.heading("How it was made").push(Section::KeyValues(facts.collect()));
    report.push(recipe(dir, "The recipe, for amend run")?);
    Ok(())
}

/// The recipe of the run in `dir`, to be unfolded.
fn recipe(dir: &Path, summary: &str) -> Result<Section, Error> {
    let path = dir.join("recipe.toml");
    let recipe = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e))?;
    Ok(Section::Details { summary: summary.into(), pairs: vec![("recipe.toml".to_owned(), recipe)] })
}

/// A command that can be given anywhere and repeats the run beside it.
fn again(dir: &Path) -> Result<String, Error> {
    let dir = dir.canonicalize().map_err(|e| Error::read(dir, e))?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let recipe = dir.join("recipe.toml").display().to_string();
    let out = dir.with_file_name(format!("{name}-again")).display().to_string();
    Ok(command_line(&["amend".into(), "run".into(), recipe, "--out".into(), out]))
}

fn facts(state: &RunState) -> Vec<(String, String)> {
    let info = &state.info;
    let programs: Vec<String> = state.programs().iter().map(ToString::to_string).collect();
    let mut facts = vec![
        ("command".to_owned(), command_line(&info.command)),
        ("version".to_owned(), programs.join(", then ")),
        ("seed".to_owned(), info.seed.to_string()),
    ];
    for revision in &state.revised {
        facts.push(("changed on the way".to_owned(), format!("{}, {}", revision.set.join(" "), revision.at)));
    }
    for (path, hash) in &info.model {
        facts.push(("model".to_owned(), format!("{path}, SHA-256 {hash}")));
    }
    for (path, hash) in &info.data {
        let records = info.records.get(path).map_or_else(String::new, |count| format!("{count} records, "));
        facts.push(("data".to_owned(), format!("{path}, {records}SHA-256 {hash}")));
    }
    facts.push(("started".to_owned(), state.started.clone()));
    if let Some(took) = state.took() {
        facts.push(("took".to_owned(), duration(took)));
    }
    if let Some(bytes) = state.peak_memory {
        facts.push(("peak memory".to_owned(), DecimalBytes(bytes).to_string()));
    }
    facts.push(("machine".to_owned(), state.machine.to_string()));
    facts
}
