//! `amend compare`: finished runs side by side.

use std::fs;
use std::path::{Path, PathBuf};

use amend_run::comparison::FinishedRun;
use amend_run::file::write_atomic;
use amend_run::recipe::Difference;
use amend_run::report::{Cell, Section, Table};
use amend_run::{Report, nearest};
use clap::Args;
use serde_json::json;

use crate::app::Exit;
use crate::area;
use crate::completing;
use crate::context::Context;
use crate::error::Error;
use crate::running::command_line;
use crate::table;

const EXAMPLES: &str = "\
Examples:
  amend compare runs/first runs/second
  amend compare runs/lr-* --baseline runs/lr-1e-5 --out lr.html
  amend compare runs/* --json

What differs in the recipes and in what the runs read, figures and claims of
every arm, and differences to the baseline: paired by question, or by seed
where there are several, wherever model, data and questions are the same. The
page has the curves as well. An earlier comparison in --out is replaced; any
other file is not.";

/// Heading of the page, by which an earlier one is known.
const TITLE: &str = "Comparison of runs";

/// Put finished runs side by side
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompareArgs {
    /// The run folders, two or more
    #[arg(value_name = "RUN", required = true, add = completing::runs())]
    runs: Vec<PathBuf>,
    /// The run that the others are compared with [default: the first]
    #[arg(long, value_name = "RUN", add = completing::runs())]
    baseline: Option<PathBuf>,
    /// Where the page goes
    #[arg(long, value_name = "FILE", default_value = "compare.html")]
    out: PathBuf,
}

pub(crate) fn execute(args: CompareArgs, context: &mut Context) -> Result<Exit, Error> {
    let mut runs = FinishedRun::open_all(&args.runs)?;
    if let Some(wanted) = &args.baseline {
        let place = baseline(&runs, wanted)?;
        runs[..=place].rotate_right(1);
    }
    may_write(&args.out)?;
    let recipes = FinishedRun::recipe_differences(&runs)?;
    let setup = FinishedRun::setup_differences(&runs);
    let compared = area::compare(&runs)?;

    let mut report = Report::new(TITLE);
    for warning in &compared.warnings {
        report.warning(warning.as_str());
    }
    report.heading("What differs");
    if recipes.is_empty() {
        report.prose("The recipes are the same, key by key.");
    } else {
        report.push(Section::Table(side_by_side("recipe", &recipes, &runs)));
    }
    if setup.is_empty() {
        report.prose("Version and machine are the same, and so are the files that were read.");
    } else {
        report.push(Section::Table(side_by_side("besides the recipe", &setup, &runs)));
    }
    report.sections.extend(compared.tables);
    let shown = report.to_terminal(table::width());
    report.sections.extend(compared.curves);
    report.heading("The runs");
    report.push(Section::KeyValues(runs.iter().map(told).collect()));
    write_atomic(&args.out, report.to_html().as_bytes())?;

    if context.json {
        let named = runs.iter().map(|run| json!({ "name": run.name, "folder": run.dir, "state": run.state }));
        context.out.json_line(&json!({
            "page": args.out,
            "baseline": runs[0].name,
            "runs": named.collect::<Vec<_>>(),
            "warnings": compared.warnings,
            "recipes": recipes,
            "setup": setup,
            "results": compared.results,
        }))?;
        return Ok(Exit::Done);
    }
    context.out.text(&shown)?;
    context.out.line(format_args!("\npage     {} (with the curves)", args.out.display()))?;
    Ok(Exit::Done)
}

/// Which of the runs is called so, or lies there.
fn baseline(runs: &[FinishedRun], wanted: &Path) -> Result<usize, Error> {
    let whole = wanted.canonicalize().ok();
    let is_it = |run: &FinishedRun| {
        Path::new(&run.name) == wanted || whole.is_some() && run.dir.canonicalize().ok() == whole
    };
    runs.iter().position(is_it).ok_or_else(|| {
        let names = || runs.iter().map(|run| run.name.as_str());
        let all = names().collect::<Vec<_>>().join(", ");
        let hint = match nearest(&wanted.to_string_lossy(), names()) {
            Some(near) => format!("did you mean {near}? There are: {all}"),
            None => format!("give one of these, by its name or its folder: {all}"),
        };
        Error::told(format!("the baseline {} is not among the runs to compare", wanted.display()), hint)
    })
}

/// Refuses to replace a file that is no earlier comparison.
fn may_write(page: &Path) -> Result<(), Error> {
    let told = |what: &str, hint: &str| Err(Error::told(format!("{} {what}", page.display()), hint));
    if page.is_dir() {
        return told("is a folder", "give --out the file that the page goes to");
    }
    let ours = |text: &str| {
        text.contains("<meta name=\"generator\" content=\"amend\">")
            && text.contains(&format!("<title>{TITLE}</title>"))
    };
    match fs::read_to_string(page) {
        Ok(text) if ours(&text) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        _ => told("exists and is not an earlier comparison", "choose another --out, or remove the file"),
    }
}

/// One row per key, one column per run.
fn side_by_side(what: &str, rows: &[Difference], runs: &[FinishedRun]) -> Table {
    let name = |(index, run): (usize, &FinishedRun)| match index {
        0 => format!("{} (baseline)", run.name),
        _ => run.name.clone(),
    };
    let value = |value: &Option<String>| Cell::from(value.as_deref().map_or_else(|| "–".into(), shortened));
    let row = |row: &Difference| {
        std::iter::once(Cell::from(row.key.as_str())).chain(row.values.iter().map(value)).collect()
    };
    Table {
        caption: String::new(),
        columns: std::iter::once(what.to_owned()).chain(runs.iter().enumerate().map(name)).collect(),
        rows: rows.iter().map(row).collect(),
    }
}

/// Of a hash, as much as tells it from others.
fn shortened(value: &str) -> String {
    const SHOWN: usize = 12;
    let is_hash = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { format!("{}…", &value[..SHOWN]) } else { value.to_owned() }
}

/// A run's name, and where it is, from when, and made by which command.
fn told(run: &FinishedRun) -> (String, String) {
    let command = command_line(&run.state.info.command);
    (run.name.clone(), format!("{}, begun {}, {command}", run.dir.display(), run.state.started))
}
