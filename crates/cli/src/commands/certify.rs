//! `amend certify`: what a run did, with hashes and figures, and whether that still holds.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use amend_run::clock::now;
use amend_run::comparison::FinishedRun;
use amend_run::file::{content_hash, text_hash, write_atomic};
use amend_run::folder::read_state;
use amend_run::machine::Machine;
use amend_run::recipe::differences;
use amend_run::report::{Cell, Section, Table};
use amend_run::{Program, RecipePath, RecipeSource, Report, Status, shell};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::Exit;
use crate::area::{self, absolute};
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::interrupt::{Ended, Workers};
use crate::output::heard;
use crate::running::this_program;
use crate::{completing, table};

const EXAMPLES: &str = "\
Examples:
  amend certify runs/forget                          writes runs/forget/certificate.json
  amend certify --check runs/forget/certificate.json
  amend certify --check certificate.json --hashes    what was changed since, in seconds

A certificate has the content hashes of the models from before and after and of
the data, the recipe (with the filter that chose the records), the claims, every
figure and the curves of the attacks, and no question and no answer. Checking it
compares the hashes, opens the models where they are, measures and attacks them
again, and compares figures and claims. It is signed by nobody.
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
    let certified = area::certified(std::slice::from_ref(&run))?;
    let info = &run.state.info;
    refuse_changes(&run)?;
    let models = certified.models.iter().map(|model| Hashed::of(&model.role, absolute(&model.path)));
    let data = info.data.keys().map(|path| Hashed::of(path, input(path, &info.recipe_folder)));
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
    let mut text = serde_json::to_string_pretty(&certificate)
        .map_err(|e| Error::plain(format!("the certificate cannot be written: {e}")))?;
    text.push('\n');
    write_atomic(&out, text.as_bytes())?;
    if context.json {
        let told = json!({ "certificate": out, "passed": certificate.passed, "check": certificate.check });
        context.out.json_line(&told)?;
    } else {
        context.out.line(format_args!("certificate  {}", out.display()))?;
        context.out.line(format_args!("check it     {}", certificate.check))?;
    }
    Ok(Exit::Done)
}

/// A model or a file as a recipe names it.
fn input(path: &str, folder: &Path) -> PathBuf {
    absolute(&RecipePath::from(path).resolve(folder))
}

/// Refuses a run whose recipe, models or data are no longer what it worked with.
fn refuse_changes(run: &FinishedRun) -> Result<(), Error> {
    let info = &run.state.info;
    let mut changed = Vec::new();
    for (path, before) in info.model.iter().chain(&info.data) {
        let path = input(path, &info.recipe_folder);
        if !path.exists() || content_hash(&path)? != *before {
            changed.push(path);
        }
    }
    if run.state.recipe.as_ref().is_some_and(|before| *before != text_hash(&run.recipe)) {
        changed.push(run.dir.join("recipe.toml"));
    }
    let Some(first) = changed.first() else { return Ok(()) };
    Err(Error::told(
        format!("{} is no longer what the run worked with", first.display()),
        "put the old one back; what was measured on it cannot be certified otherwise",
    )
    .about(Topic::Changed))
}

fn read(file: &Path) -> Result<Certificate, Error> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::read(file, e))?;
    let damaged = |e: serde_json::Error| Error::plain(format!("{}: no certificate: {e}", file.display()));
    let value: Value = serde_json::from_str(&text).map_err(damaged)?;
    match value["certificate"].as_u64() {
        Some(layout) if layout != u64::from(LAYOUT) => Err(Error::told(
            format!("{}: a certificate of layout {layout}, and not {LAYOUT}", file.display()),
            "check it with the version of amend that wrote it",
        )),
        _ => serde_json::from_value(value).map_err(damaged),
    }
}

/// A line of what was checked.
#[derive(Serialize)]
struct Checked {
    what: String,
    found: String,
    holds: bool,
}

impl Checked {
    /// What was found, and where it differs from what was certified.
    fn of(what: impl Into<String>, same: &str, difference: Option<String>) -> Self {
        let holds = difference.is_none();
        Checked { what: what.into(), found: difference.unwrap_or_else(|| same.to_owned()), holds }
    }
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
    let inconsistency = inconsistency(&certificate)?;
    let is_one = inconsistency.is_none();
    checked.push(Checked::of("what is measured again", "the certified models and data", inconsistency));
    let readable = checked.iter().all(|one| one.found != "missing");
    if !hashes_only && readable && is_one {
        checked.extend(measured_again(&certificate, file, context)?);
    } else if !readable {
        context.console.warn("nothing was measured again, because something is missing");
    }
    let holds = checked.iter().all(|one| one.holds);
    let told = if context.json {
        context.out.json_line(&json!({ "certificate": file, "holds": holds, "checked": checked }))
    } else {
        let text = told(&checked).to_terminal(table::width());
        let verdict = if holds { "holds ✓" } else { "does not hold ✗" };
        context.out.text(&text).and_then(|()| context.out.line(format_args!("\ncertificate  {verdict}")))
    };
    heard(told)?;
    Ok(if holds { Exit::Done } else { Exit::Negative })
}

/// Why the recipes that measure again would measure something else than what is certified; nothing where they would not.
fn inconsistency(certificate: &Certificate) -> Result<Option<String>, Error> {
    let seeds = certificate.figures.as_array().map_or(0, Vec::len);
    if certificate.again.is_empty() || seeds != certificate.again.len() {
        return Ok(Some(format!("figures of {seeds} seeds, and {} recipes", certificate.again.len())));
    }
    let paths = |all: &[Hashed]| -> BTreeSet<PathBuf> { all.iter().map(|one| one.path.clone()).collect() };
    let (mut models, mut data) = (BTreeSet::new(), BTreeSet::new());
    for text in &certificate.again {
        let path = certificate.recipe_folder.join("recipe.toml");
        let plan = area::read(RecipeSource { path, text: text.clone() }, &[])?;
        let named = |inputs: &[amend_learn::area::Input]| -> Vec<PathBuf> {
            inputs.iter().map(|input| absolute(&input.resolve(&certificate.recipe_folder))).collect()
        };
        models.extend(named(&plan.models));
        data.extend(named(&plan.data));
        // How the models were made is said by the recipe, and what is measured on them has to be what it says.
        let own = ["seed", "seeds", "save", "model", "compare"];
        let differ = differences(&[&certificate.recipe, text])
            .map_err(|(_, problem)| Error::plain(format!("the certified recipe: {}", problem.message)))?;
        let is_own = |key: &str| {
            own.iter().any(|own| {
                key == *own || key.starts_with(&format!("{own}.")) || key.starts_with(&format!("{own}["))
            })
        };
        if let Some(other) = differ.iter().find(|difference| !is_own(&difference.key)) {
            return Ok(Some(format!("`{}` differs from the recipe's", other.key)));
        }
    }
    let other = |what: &str, named: &BTreeSet<PathBuf>, certified: &BTreeSet<PathBuf>| {
        let odd = named.symmetric_difference(certified).next()?;
        Some(format!("{what} {} is either measured or certified, and not both", odd.display()))
    };
    Ok(other("the model", &models, &paths(&certificate.models))
        .or_else(|| other("the file", &data, &paths(&certificate.data))))
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

/// Runs the recipes that measure everything again, in a folder beside the certificate that goes once they are done: a check that is
/// interrupted goes on where it was.
fn measured_again(certificate: &Certificate, file: &Path, context: &Context) -> Result<Vec<Checked>, Error> {
    let workers = Workers::listen(&context.console)?;
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".check");
    let scratch = file.with_file_name(name);
    std::fs::create_dir_all(&scratch).map_err(|e| Error::io(&scratch, "cannot create", e))?;
    let mut runs = Vec::new();
    for (index, recipe) in certificate.again.iter().enumerate() {
        context.console.note(&format!("measuring again, {} of {}", index + 1, certificate.again.len()));
        let (text, out) = (scratch.join(format!("{index}.toml")), scratch.join(index.to_string()));
        let is_same = std::fs::read_to_string(&text).is_ok_and(|before| before == *recipe);
        let begun = read_state(&out).ok().filter(|_| is_same).map(|state| state.status);
        let arguments: Vec<OsString> = match begun {
            Some(Status::Done) => Vec::new(),
            Some(_) => vec!["resume".into(), out.clone().into()],
            None => {
                if out.exists() {
                    std::fs::remove_dir_all(&out).map_err(|e| Error::io(&out, "cannot remove", e))?;
                }
                write_atomic(&text, recipe.as_bytes())?;
                let base = certificate.recipe_folder.clone().into();
                ["run".into(), text.into(), "--base".into(), base, "--out".into(), out.clone().into()].into()
            }
        };
        let ended =
            if arguments.is_empty() { Ended::Well } else { workers.run(&arguments, &context.flags)? };
        match ended {
            Ended::Well => runs.push(FinishedRun::open(&out, String::new())?),
            Ended::Stopped => {
                return Err(Error::Interrupted(format!("amend certify --check {}", shell::path(file))));
            }
            Ended::Badly => {
                return Err(Error::told(
                    "the run that measures again failed; its error stands above",
                    format!("{} is left of it", scratch.display()),
                )
                .about(Topic::Changed));
            }
        }
    }
    let now = area::certified(&runs)?;
    let mut checked = Vec::new();
    let seeds = certificate.figures.as_array().map_or(&[][..], Vec::as_slice);
    for (before, now) in seeds.iter().zip(now.figures.as_array().map_or(&[][..], Vec::as_slice)) {
        let what = format!("figures and attacks of seed {}", before["seed"]);
        checked.push(Checked::of(what, "the same, every number", difference(before, now, "")));
    }
    let claims = [(&certificate.claims, &now.claims), (&json!(certificate.passed), &json!(now.passed))];
    let differ = claims.iter().find_map(|(before, now)| difference(before, now, "claims"));
    checked.push(Checked::of("claims", "the same", differ));
    if certificate.programs.last() != Some(&this_program()) {
        context.console.note("checked by another version of amend than the run was made by");
    }
    std::fs::remove_dir_all(&scratch).map_err(|e| Error::io(&scratch, "cannot remove", e))?;
    Ok(checked)
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
