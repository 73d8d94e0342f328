//! A run from its folder to its exit code, whatever its recipe asks for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use amend_learn::area::{Found, Plan};
use amend_run::clock::now;
use amend_run::file::write_atomic;
use amend_run::folder::{is_in_use, is_untouched, read_state};
use amend_run::report::Section;
use amend_run::sweep::Sweep;
use amend_run::{FolderError, Program, RecipeSource, Run, RunError, RunFolder, RunInfo, Status, Stop, shell};
use serde_json::json;

use crate::app::Exit;
use crate::area::{self, Inputs, absolute};
use crate::context::Context;
use crate::error::Error;
use crate::listening::{self, TensorBoardArgs};
use crate::logged::Logged;
use crate::output::heard;
use crate::{args, events, interrupt, progress, prospect, provenance, table};

/// Where a new run goes.
pub(crate) struct Place {
    /// Its folder, where it is not chosen here.
    pub(crate) out: Option<PathBuf>,
    /// Whether a run that is there is replaced.
    pub(crate) overwrite: bool,
    /// Where relative paths of its recipe start, where that is not the recipe's folder.
    pub(crate) base: Option<PathBuf>,
}

impl Place {
    /// Whether a run that is in `dir` is to go.
    fn replaces(&self, dir: &Path) -> bool {
        self.overwrite && read_state(dir).is_ok()
    }

    /// Refuses to replace a run that somebody works on, or that the new one reads from.
    fn check(&self, dir: &Path, reads: impl Iterator<Item = PathBuf>) -> Result<(), Error> {
        if !self.replaces(dir) {
            return Ok(());
        }
        let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| absolute(path));
        if let Some(path) = reads.map(|path| whole(&path)).find(|path| path.starts_with(whole(dir))) {
            return Err(Error::told(
                format!("{} is read by the recipe and lies in the folder to be overwritten", path.display()),
                "choose another --out",
            ));
        }
        if is_in_use(dir) { Err(FolderError::Locked { path: dir.to_path_buf() }.into()) } else { Ok(()) }
    }

    /// Makes room for a run in `dir`: an earlier one goes, and nothing else ever does.
    fn clear(&self, dir: &Path) -> Result<(), Error> {
        if !self.replaces(dir) {
            return Ok(());
        }
        std::fs::remove_dir_all(dir).map_err(|e| Error::io(dir, "cannot remove", e))
    }
}

/// Starts a new run.
pub(crate) fn start(
    source: RecipeSource,
    sets: &[String],
    place: Place,
    checkpoint_every: Duration,
    board: &TensorBoardArgs,
    context: &mut Context,
) -> Result<Exit, Error> {
    let name = source.path.file_stem().map_or("run".into(), |stem| stem.to_string_lossy().into_owned());
    let base = place.base.as_deref().map_or_else(|| base_of(source.folder()), absolute);
    let plan = area::read(source, sets)?;
    let Inputs { models: model, data, records } = area::inputs(&plan, &base)?;
    let info = RunInfo {
        program: this_program(),
        seed: plan.seed,
        command: args::typed(),
        recipe_folder: base.clone(),
        model,
        data,
        records,
    };
    let dir = place.out.clone().unwrap_or_else(|| own_folder("runs", &format!("{name}-{}", compact(&now()))));
    place.check(&dir, plan.models.iter().chain(&plan.data).map(|path| path.resolve(&base)))?;
    if place.replaces(&dir) {
        // What is there goes only for something that can be run.
        plan.forecast(&base, context.progress.as_ref())?;
    }
    place.clear(&dir)?;
    let existed = dir.exists();
    // From here on a signal leaves a run that can be resumed, or none.
    let stop = interrupt::stop_asked_for(&context.console, &dir)?;
    let folder = RunFolder::create(&dir, &plan.resolved, info)?;
    if context.console.events() {
        events::run(&context.console, &folder);
    } else {
        context.console.note(&format!("run folder: {}", dir.display()));
    }
    let exit = carry_out(plan, &base, folder, checkpoint_every, (board, stop), context);
    if matches!(&exit, Err(e) if !matches!(e, Error::Interrupted(_))) && is_untouched(&dir) {
        // Everything in there was written by this function a moment ago. The user is left with the error.
        let _ = std::fs::remove_dir_all(&dir);
        if existed {
            let _ = std::fs::create_dir(&dir);
        }
    }
    exit
}

/// The folder in `runs/`, or in another one, of a run called so, or the next one where there is one: two may begin in one second.
pub(crate) fn own_folder(among: &str, name: &str) -> PathBuf {
    let first = Path::new(among).join(name);
    let further = (2..).map(|i| Path::new(among).join(format!("{name}-{i}")));
    std::iter::once(first.clone()).chain(further).find(|dir| !dir.exists()).unwrap_or(first)
}

/// Where a recipe's relative paths start: at its folder, or, where it is that of a run or a sweep, where theirs did.
pub(crate) fn base_of(folder: &Path) -> PathBuf {
    let of_run = || Some(read_state(folder).ok()?.info.recipe_folder);
    let of_sweep = || Some(Sweep::read(folder).ok()?.recipe_folder);
    of_run().or_else(of_sweep).unwrap_or_else(|| absolute(folder))
}

/// Says what a run would take, without one.
pub(crate) fn check(
    source: RecipeSource,
    sets: &[String],
    base: Option<&Path>,
    context: &mut Context,
) -> Result<Exit, Error> {
    let base = base.map_or_else(|| base_of(source.folder()), absolute);
    let recipe = source.path.clone();
    let plan = area::read(source, sets)?;
    area::inputs(&plan, &base)?;
    let forecast = plan.forecast(&base, context.progress.as_ref())?;
    prospect::show(&recipe, &forecast, context)?;
    Ok(Exit::Done)
}

pub(crate) fn this_program() -> Program {
    Program { version: env!("CARGO_PKG_VERSION").into(), commit: env!("AMEND_COMMIT").into() }
}

/// `2026-03-01T12:00:00Z` as part of a folder's name.
pub(crate) fn compact(time: &str) -> String {
    time.replace(['-', ':'], "")
}

pub(crate) fn carry_out(
    plan: Plan,
    base: &Path,
    mut folder: RunFolder,
    checkpoint_every: Duration,
    (board, stop): (&TensorBoardArgs, Stop),
    context: &mut Context,
) -> Result<Exit, Error> {
    let dir = folder.path().to_path_buf();
    let log = match board.note(&mut folder).and_then(|()| begin(&folder)) {
        Ok(begun) => begun,
        Err(e) => {
            folder.fail(&e);
            return Err(e);
        }
    };
    let listener = Logged::new(context.progress.as_ref(), log);
    let mut run = Run::new(folder, &listener, stop)?;
    run.checkpoint_every = checkpoint_every;
    let found =
        listening::attach(&mut run, &context.console).and_then(|()| Ok(plan.carry_out(base, &mut run)?));
    let mut folder = run.into_folder();
    folder.end();
    let took = folder.state().took().unwrap_or_default();
    let finished = found.and_then(|mut found| {
        provenance::add(&mut found.report, &dir, folder.state())?;
        for card in &mut found.cards {
            provenance::add_to_card(&mut card.report, &dir, folder.state())?;
            card.write()?;
        }
        write_found(&dir, &found)?;
        folder.log(&format!("done after {}", progress::duration(took)))?;
        Ok(found)
    });
    match finished {
        Ok(found) => {
            let names = found.superfluous.iter().filter_map(|dir| Some(dir.file_name()?.to_string_lossy()));
            let names: Vec<_> = names.collect();
            if !names.is_empty() {
                let told = format!("not kept, as `save` says: {}", names.join(", "));
                folder.log(&told)?;
                context.console.note(&told);
            }
            folder.finish(Status::Done)?;
            for unwanted in &found.superfluous {
                // The results stand; what could not be removed takes room and nothing else.
                if let Err(e) = std::fs::remove_dir_all(unwanted) {
                    context.console.warn(&format!("{}: cannot remove: {e}", unwanted.display()));
                }
            }
            heard(tell(&dir, &found, took, context))?;
            Ok(if found.passed == Some(false) { Exit::Negative } else { Exit::Done })
        }
        Err(Error::Stopped) => {
            let logged = folder.log("interrupted");
            folder.finish(Status::Interrupted)?;
            logged?;
            Err(Error::Interrupted(format!("amend resume {}", shell::path(&dir))))
        }
        Err(e) => {
            folder.fail(&e);
            if read_state(&dir).is_err() {
                context
                    .console
                    .note(&format!("{} is no run folder any more: nothing is left of it", dir.display()));
            } else if !is_untouched(&dir) {
                context.console.note(&format!(
                    "what was done is kept; once the cause is gone: amend resume {}",
                    shell::path(&dir)
                ));
            }
            Err(e)
        }
    }
}

/// The first line of the log, which is then open.
fn begin(folder: &RunFolder) -> Result<File, Error> {
    folder.log(&format!("amend {}, {}", crate::args::VERSION, folder.state().machine))?;
    Ok(folder.open_log()?)
}

fn write_found(dir: &Path, found: &Found) -> Result<(), Error> {
    amend_run::write_results(dir, &found.results)?;
    write_report(dir, found)
}

/// Writes report.html; its plots to `figures/`, as pictures and as their points; its tables to `tables/`.
pub(crate) fn write_report(dir: &Path, found: &Found) -> Result<(), Error> {
    write_atomic(&dir.join("report.html"), found.report.to_html().as_bytes())?;
    let mut heading = "summary";
    let mut names: Vec<String> = Vec::new();
    for section in &found.report.sections {
        match section {
            Section::Heading(text) => heading = text,
            Section::Plot(plot) => {
                let figures = folder(dir, "figures")?;
                let name = own_name(&plot.title, &mut names);
                write_atomic(&figures.join(format!("{name}.svg")), plot.to_svg(720, 400).as_bytes())?;
                write_atomic(&figures.join(format!("{name}.csv")), plot.to_csv().as_bytes())?;
            }
            Section::Table(table) => {
                let path = folder(dir, "tables")?.join(own_name(heading, &mut names)).with_extension("csv");
                write_atomic(&path, table.to_csv().as_bytes())?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A folder of the run folder, made where it is not there.
fn folder(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let folder = dir.join(name);
    let made = std::fs::create_dir_all(&folder);
    made.map_err(|e| Error::io(&folder, "cannot create", e))?;
    Ok(folder)
}

/// A file's name after a title: plots of two attacks have one title, a heading has several tables.
fn own_name(title: &str, names: &mut Vec<String>) -> String {
    let name = title.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let earlier = names.iter().filter(|earlier| **earlier == name).count();
    names.push(name.clone());
    if earlier == 0 { name } else { format!("{name}-{}", earlier + 1) }
}

/// The command that started a run, as one would type it.
pub(crate) fn command_line(arguments: &[String]) -> String {
    let words = arguments.iter().skip(1).map(|argument| shell::word(argument));
    std::iter::once("amend".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn tell(dir: &Path, found: &Found, took: Duration, context: &mut Context) -> Result<(), Error> {
    if context.json {
        return context.out.json_line(&json!({
            "folder": dir,
            "report": dir.join("report.html"),
            "passed": found.passed,
            "seconds": took.as_secs_f64(),
            "results": found.results,
        }));
    }
    show_found(dir, found, context)?;
    context.out.line(format_args!("took     {}", progress::duration(took)))
}

/// The summary, the verdict, and where the rest is.
pub(crate) fn show_found(dir: &Path, found: &Found, context: &mut Context) -> Result<(), Error> {
    context.out.text(&found.summary().to_terminal(table::width()))?;
    let verdict = match found.passed {
        Some(true) => "passed ✓",
        Some(false) => "failed ✗",
        None => "nothing was asked for",
    };
    context.out.line(format_args!("\nverdict  {verdict}"))?;
    context.out.line(format_args!("report   {}", dir.join("report.html").display()))
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Folder(e) => e.into(),
            RunError::File(e) => e.into(),
            RunError::Interrupted => Error::Stopped,
            other => Error::Run(other),
        }
    }
}

impl From<amend_learn::Error> for Error {
    fn from(error: amend_learn::Error) -> Self {
        use amend_learn::Error as Learn;
        match error {
            Learn::Engine(e) => e.into(),
            Learn::Run(e) => e.into(),
            Learn::Recipe(e) => Error::Recipe(e),
            other => Error::Learn(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{command_line, compact};

    #[test]
    fn commands_can_be_typed_again() {
        let words = ["/usr/bin/amend", "run", "my recipe.toml", "--set", "a.b=it's"].map(str::to_owned);
        assert_eq!(command_line(&words), r"amend run 'my recipe.toml' --set 'a.b=it'\''s'");
    }

    #[test]
    fn times_can_be_folder_names() {
        assert_eq!(compact("2026-03-01T12:00:00Z"), "20260301T120000Z");
    }
}
