//! `amend certify`: what a run did, with hashes and figures, and whether that still holds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use amend_run::clock::now;
use amend_run::comparison::FinishedRun;
use amend_run::file::{content_hash, write_atomic};
use amend_run::machine::Machine;
use amend_run::report::{Cell, Section, Table};
use amend_run::{Program, Report, shell};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::Exit;
use crate::area::{self, absolute};
use crate::args::flags_for_all;
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::interrupt::HandedOn;
use crate::running::this_program;
use crate::{chosen, completing, table};

const EXAMPLES: &str = "\
Examples:
  amend certify runs/forget                          writes runs/forget/certificate.json
  amend certify --check runs/forget/certificate.json
  amend certify --check certificate.json --hashes    what was changed since, in seconds

A certificate has the content hashes of the models from before and after and of
the data, the recipe, the claims, every figure and the curves of the attacks,
and no question and no answer. Checking it compares the hashes, opens the
models, measures and attacks them again, and compares the figures.
Exit codes: 0 it holds, 1 it does not, 2 error, 130 interrupted.";

/// Certify what a run did, or check a certificate
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CertifyArgs {
    /// The run folder
    #[arg(value_name = "RUN", required_unless_present = "check", add = completing::runs())]
    run: Option<PathBuf>,
    /// Where the certificate goes [default: certificate.json in the run folder]
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Check this certificate
    #[arg(long, value_name = "FILE", conflicts_with = "run", value_hint = clap::ValueHint::FilePath)]
    check: Option<PathBuf>,
    /// Compare hashes only, and measure nothing again
    #[arg(long, requires = "check")]
    hashes: bool,
}

/// What `certificate.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Certificate {
    /// The version of this layout.
    certificate: u32,
    made: String,
    programs: Vec<Program>,
    machine: Machine,
    run: PathBuf,
    /// Where the recipes' relative paths start.
    recipe_folder: PathBuf,
    recipe: String,
    models: Vec<Hashed>,
    data: Vec<Hashed>,
    passed: Option<bool>,
    claims: Value,
    figures: Value,
    /// Recipes that measure it again, one for each seed.
    again: Vec<String>,
    /// The command that checks it.
    check: String,
}

/// The layout that is written and understood.
const LAYOUT: u32 = 1;

/// A model or a file, by its content.
#[derive(Debug, Serialize, Deserialize)]
struct Hashed {
    what: String,
    path: PathBuf,
    sha256: String,
}

impl Hashed {
    fn of(what: &str, path: PathBuf) -> Result<Self, Error> {
        Ok(Hashed { what: what.to_owned(), sha256: content_hash(&path)?, path })
    }

    /// What became of it.
    fn now(&self) -> Result<&'static str, Error> {
        Ok(match self.path.exists() {
            false => "missing",
            true if content_hash(&self.path)? == self.sha256 => "unchanged",
            true => "changed",
        })
    }
}

pub(crate) fn execute(args: CertifyArgs, context: &mut Context) -> Result<Exit, Error> {
    match (args.check, args.run) {
        (Some(file), _) => check(&file, args.hashes, context),
        (None, Some(run)) => certify(&run, args.out, context),
        (None, None) => Err(Error::told("what is to be certified?", "give a run folder").about(Topic::Usage)),
    }
}

fn certify(dir: &Path, out: Option<PathBuf>, context: &mut Context) -> Result<Exit, Error> {
    let run = FinishedRun::open(dir, dir.display().to_string())?;
    let out = out.unwrap_or_else(|| dir.join("certificate.json"));
    let certified = area::certified(&run)?;
    let info = &run.state.info;
    let models = certified.models.iter().map(|model| Hashed::of(&model.role, absolute(&model.path)));
    let data = info.data.keys().map(|path| {
        let file = amend_run::RecipePath::from(path.as_str()).resolve(&info.recipe_folder);
        Hashed::of(path, file)
    });
    let certificate = Certificate {
        certificate: LAYOUT,
        made: now(),
        programs: run.state.programs().into_iter().cloned().collect(),
        machine: run.state.machine.clone(),
        run: absolute(dir),
        recipe_folder: info.recipe_folder.clone(),
        models: models.collect::<Result<_, _>>()?,
        data: data.collect::<Result<_, _>>()?,
        passed: certified.passed,
        claims: certified.claims,
        figures: certified.figures,
        again: certified.again,
        check: format!("amend certify --check {}", shell::path(&absolute(&out))),
        recipe: run.recipe,
    };
    // What the run read has to be what is certified.
    for (now, before) in certificate.data.iter().zip(info.data.values()) {
        if now.sha256 != *before {
            return Err(Error::told(
                format!("{} is no longer what the run read", now.path.display()),
                "put the old file back; what was measured on it cannot be certified otherwise",
            )
            .about(Topic::Changed));
        }
    }
    let mut text = serde_json::to_string_pretty(&certificate)
        .map_err(|e| Error::plain(format!("the certificate cannot be written: {e}")))?;
    text.push('\n');
    write_atomic(&out, text.as_bytes())?;
    if context.json {
        context.out.json_line(
            &json!({ "certificate": out, "passed": certificate.passed, "check": certificate.check }),
        )?;
    } else {
        context.out.line(format_args!("certificate  {}", out.display()))?;
        context.out.line(format_args!("check it     {}", certificate.check))?;
    }
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<Certificate, Error> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::read(file, e))?;
    let damaged = |e: serde_json::Error| Error::plain(format!("{}: no certificate: {e}", file.display()));
    let certificate: Certificate = serde_json::from_str(&text).map_err(damaged)?;
    if certificate.certificate != LAYOUT {
        return Err(Error::told(
            format!(
                "{}: a certificate of layout {}, and not {LAYOUT}",
                file.display(),
                certificate.certificate
            ),
            "check it with the version of amend that wrote it",
        ));
    }
    Ok(certificate)
}

/// A line of what was checked.
#[derive(Serialize)]
struct Checked {
    what: String,
    found: String,
    holds: bool,
}

fn check(file: &Path, hashes_only: bool, context: &mut Context) -> Result<Exit, Error> {
    let certificate = read(file)?;
    let mut checked = Vec::new();
    for (kind, hashed) in [("model", &certificate.models), ("data", &certificate.data)] {
        for one in hashed {
            let found = one.now()?;
            let what = format!("{kind} {}: {}", one.what, one.path.display());
            checked.push(Checked { what, found: found.into(), holds: found == "unchanged" });
        }
    }
    let readable = checked.iter().all(|one| one.found != "missing");
    if !hashes_only && readable {
        let process = HandedOn::listen(&context.console)?;
        let seeds = certificate.figures.as_array().cloned().unwrap_or_default();
        for (index, (recipe, before)) in certificate.again.iter().zip(&seeds).enumerate() {
            let what = format!("figures and attacks{}", seed_of(before, seeds.len()));
            context.console.note(&format!("measuring again: {what} ({} of {})", index + 1, seeds.len()));
            let now = measured_again(recipe, &certificate.recipe_folder, file, &process)?;
            let difference = difference(before, now.get(0).unwrap_or(&Value::Null), "");
            let found = difference.clone().unwrap_or_else(|| "the same, every number".into());
            checked.push(Checked { what, found, holds: difference.is_none() });
        }
        if certificate.programs.last() != Some(&this_program()) {
            context.console.note("checked by another version of amend than the run was made by");
        }
    } else if !readable {
        context.console.warn("nothing was measured again, because something is missing");
    }
    let holds = checked.iter().all(|one| one.holds);
    if context.json {
        context.out.json_line(&json!({ "certificate": file, "holds": holds, "checked": checked }))?;
    } else {
        context.out.text(&told(&checked).to_terminal(table::width()))?;
        context
            .out
            .line(format_args!("\ncertificate  {}", if holds { "holds ✓" } else { "does not hold ✗" }))?;
    }
    Ok(if holds { Exit::Done } else { Exit::Negative })
}

fn seed_of(figures: &Value, seeds: usize) -> String {
    if seeds > 1 { format!(" of seed {}", figures["seed"]) } else { String::new() }
}

fn told(checked: &[Checked]) -> Report {
    let row = |one: &Checked| {
        let found = Cell::from(one.found.as_str());
        vec![Cell::from(one.what.as_str()), if one.holds { found.good() } else { found.bad() }]
    };
    let mut report = Report::new("Certificate");
    report.push(Section::Table(Table {
        caption: String::new(),
        columns: vec!["what".into(), "now".into()],
        rows: checked.iter().map(row).collect(),
    }));
    report
}

/// Runs a recipe that measures everything again, in a folder that goes afterwards, and gives the figures.
fn measured_again(recipe: &str, base: &Path, file: &Path, process: &HandedOn) -> Result<Value, Error> {
    let system = |e: std::io::Error| Error::plain(format!("cannot measure again: {e}"));
    let scratch = tempfile::Builder::new().prefix("amend-certify-").tempdir();
    let scratch = scratch.map_err(|e| Error::io(&std::env::temp_dir(), "cannot create a folder in it", e))?;
    let (text, out) = (scratch.path().join("recipe.toml"), scratch.path().join("run"));
    write_atomic(&text, recipe.as_bytes())?;
    let mut run = Command::new(std::env::current_exe().map_err(system)?);
    run.arg("run").arg(&text).arg("--base").arg(base).arg("--out").arg(&out);
    run.args(flags_for_all(std::env::args())).stdin(Stdio::null()).stdout(Stdio::null());
    let status = process.run(&mut run).map_err(system)?;
    match status.code() {
        Some(0 | 1) if !process.stopped() => {
            Ok(area::certified(&FinishedRun::open(&out, String::new())?)?.figures)
        }
        Some(code) if process.stopped() || code == i32::from(chosen::INTERRUPTED) => {
            Err(Error::Interrupted(format!("amend certify --check {}", shell::path(file))))
        }
        _ => Err(Error::plain("the run that measures again failed; its error stands above")),
    }
}

/// The first number, word or part in which two measurements differ, with both values; numbers are the same to the bit.
fn difference(before: &Value, now: &Value, at: &str) -> Option<String> {
    let within = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            let keys = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key)));
            let of = |key: &String| {
                let [before, now] = [before, now].map(|side| side.get(key).unwrap_or(&Value::Null));
                difference(before, now, &within(key))
            };
            keys.into_iter().find_map(of)
        }
        (Value::Array(before), Value::Array(now)) if before.len() == now.len() => {
            (0..before.len()).find_map(|i| difference(&before[i], &now[i], &within(&i.to_string())))
        }
        _ if before == now => None,
        _ => Some(format!("{at}: {} before, {} now", shown(before), shown(now))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("{} values", items.len()),
        Value::Object(_) => "figures".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let one = json!({ "arms": [{ "after": { "value": 0.5, "n": 3 } }], "gold": null });
        assert_eq!(difference(&one, &one.clone(), ""), None);
        let other = json!({ "arms": [{ "after": { "value": 0.25, "n": 3 } }], "gold": null });
        assert_eq!(difference(&one, &other, "").unwrap(), "arms.0.after.value: 0.5 before, 0.25 now");
        let more = json!({ "arms": [{ "after": { "value": 0.5, "n": 3 } }], "gold": null, "new": [1] });
        assert_eq!(difference(&one, &more, "").unwrap(), "new: null before, 1 values now");
    }
}
