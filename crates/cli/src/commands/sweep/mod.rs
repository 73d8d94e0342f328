//! `amend sweep`: one recipe at every point of a grid, and the point to take.

mod swept;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use amend_run::clock::now;
use amend_run::file::text_hash;
use amend_run::folder::{is_in_use, read_state};
use amend_run::frontier::Pick;
use amend_run::sweep::{Axis, Point, PointState, Sweep, SweepError, recipe_of};
use amend_run::{RecipeSource, shell};
use clap::Args;
use serde_json::json;

use super::run::{parse_seeds, with_seeds};
use crate::app::Exit;
use crate::area;
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::interrupt::{Ended, Workers};
use crate::progress::duration;
use crate::running::{base_of, compact, own_folder};
use crate::{args, completing};
use swept::Swept;

const EXAMPLES: &str = "\
Examples:
  amend sweep recipe.toml --over optimizer.lr=1e-5,3e-5,1e-4 --seeds 3
  amend sweep recipe.toml --over unlearn.forget=npo,simnpo --over \\
      unlearn.retain_weight=1,2,5 --pick budget --budget 0.98 --out sweeps/tofu
  amend sweep sweeps/tofu            goes on, or lends a hand

Every point is a run of its own in DIR/points, which amend resume, report and
compare know. The page DIR/sweep.html has all of them, the frontier and the
point to take. Several processes, also of machines that see the same folder,
may work on one sweep: each takes points that nobody has.
Exit codes: 0 a point was picked or others still work, 1 none is eligible, 2
error (also where a point failed), 130 interrupted.";

/// Run a recipe at every point of a grid
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SweepArgs {
    /// The recipe, or the folder of a sweep to go on with
    #[arg(value_name = "RECIPE|DIR")]
    what: PathBuf,
    /// A key of the recipe and the values that it is to have; given several times, every combination is run
    #[arg(long, value_name = "KEY=V1,V2,…", add = completing::settings())]
    over: Vec<Axis>,
    /// Change one value of the recipe at all points, such as `unlearn.batch_size=16`; may be given several times
    #[arg(long, value_name = "KEY=VALUE", add = completing::settings())]
    set: Vec<String>,
    /// Repeat every point with so many seeds, or with those of a list such as 1,7,42
    #[arg(long, value_name = "N", value_parser = parse_seeds)]
    seeds: Option<String>,
    /// Folder of the sweep, which must not exist [default: sweeps/NAME-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Which point to take: of those that forgot as much as they were to, the one that keeps most (matched), or of those
    /// that keep enough, the one that forgot most (budget)
    #[arg(long, value_name = "HOW", default_value = "matched", value_parser = ["matched", "budget"])]
    pick: String,
    /// The share that has to be kept, with --pick budget [default: 0.95]
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    budget: Option<f64>,
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a share from 0 to 1".into()),
    }
}

pub(crate) fn execute(args: SweepArgs, context: &mut Context) -> Result<Exit, Error> {
    let pick = match (args.pick.as_str(), args.budget) {
        ("budget", share) => Pick::Budget(share.unwrap_or(0.95)),
        (_, None) => Pick::Matched,
        (_, Some(_)) => {
            return Err(Error::told(
                "--budget says nothing without --pick budget",
                "add it, or leave --budget out",
            ));
        }
    };
    let (dir, sweep) = if args.what.is_dir() { go_on(args)? } else { begin(args, context)? };
    let workers = Workers::listen(&context.console)?;
    let failed = work(&dir, &sweep, &workers, context)?;
    let Swept { open, picked } = swept::tell(&dir, &sweep, pick, &failed, context)?;
    match (failed.as_slice(), open, picked) {
        ([], 0, false) => Ok(Exit::Negative),
        ([], ..) => Ok(Exit::Done),
        ([first, ..], ..) => {
            let (count, name) = (failed.len(), &first.name);
            let message =
                format!("{count} of the sweep's points failed, {name} first; its error stands above");
            let hint = format!("`amend sweep {}` tries them again", shell::path(&dir));
            Err(Error::told(message, hint).about(Topic::Point))
        }
    }
}

/// The sweep that is there. What it consists of cannot be changed any more.
fn go_on(args: SweepArgs) -> Result<(PathBuf, Sweep), Error> {
    let SweepArgs { what, over, set, seeds, out, .. } = args;
    let sweep = Sweep::read(&what)?;
    if !over.is_empty() || !set.is_empty() || seeds.is_some() || out.is_some() {
        return Err(Error::told(
            "a sweep goes on as it began: --over, --set, --seeds and --out are for a new one",
            "leave them out, or begin another sweep with the recipe",
        ));
    }
    Ok((what, sweep))
}

/// A new sweep, after a look at the recipe of every point.
fn begin(args: SweepArgs, context: &Context) -> Result<(PathBuf, Sweep), Error> {
    let source = RecipeSource::read(&args.what)?;
    let sweep = Sweep {
        recipe_folder: base_of(source.folder()),
        sets: with_seeds(args.set, args.seeds)?,
        axes: args.over,
        command: args::typed(),
        recipe: text_hash(&source.text),
    };
    sweep.check()?;
    for point in sweep.points() {
        area::read(source.clone(), &[&sweep.sets[..], &point.sets].concat())?;
    }
    let name = source.path.file_stem().map_or("sweep".into(), |stem| stem.to_string_lossy().into_owned());
    let dir = args.out.unwrap_or_else(|| own_folder("sweeps", &format!("{name}-{}", compact(&now()))));
    sweep.create(&dir, &source.text)?;
    context.console.note(&format!("sweep folder: {}", dir.display()));
    Ok((dir, sweep))
}

/// Goes through the points once and runs what is open and nobody else's. Gives the points that failed.
fn work(dir: &Path, sweep: &Sweep, workers: &Workers, context: &Context) -> Result<Vec<Point>, Error> {
    let points = sweep.points();
    let mut failed: Vec<Point> = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let Some(_claim) = point.claim(dir)? else { continue };
        // Looked at once it is ours: another process may just have ended with it.
        let PointState::Open { begun } = point.state(dir) else { continue };
        // The run of a sweep that was killed may go on by itself, and somebody may have taken it up by hand.
        if is_in_use(&point.folder(dir)) {
            continue;
        }
        announce(dir, &points, index, context);
        match carry_out(dir, sweep, point, begun, (workers, context))? {
            Ended::Well => {}
            Ended::Badly => {
                context.console.warn(&format!("{} failed; the others go on", point.name));
                failed.push(point.clone());
            }
            Ended::Stopped => return Err(Error::Interrupted(format!("amend sweep {}", shell::path(dir)))),
        }
    }
    Ok(failed)
}

/// Says which point comes, and how long the rest will take, going by those that are done.
fn announce(dir: &Path, points: &[Point], index: usize, context: &Context) {
    let done: Vec<f64> = points
        .iter()
        .filter(|point| point.state(dir) == PointState::Done)
        .filter_map(|point| Some(read_state(&point.folder(dir)).ok()?.took()?.as_secs_f64()))
        .collect();
    let point = &points[index];
    context.console.event(
        "point",
        json!({ "name": point.name, "sets": point.sets, "done": done.len(), "of": points.len() }),
    );
    if !context.console.events() {
        let left = match done.len() {
            0 => String::new(),
            n => {
                let mean = done.iter().sum::<f64>() / n as f64;
                let left = mean * (points.len() - n) as f64;
                format!(", about {} left", duration(std::time::Duration::from_secs_f64(left)))
            }
        };
        let settings =
            if point.sets.is_empty() { "the recipe as it is".into() } else { point.sets.join(", ") };
        let place = format!("point {} of {}: {settings}", index + 1, points.len());
        context.console.note(&format!("{place} ({} done{left})", done.len()));
    }
}

/// Runs a point in a process of its own, so that one which runs out of memory takes nothing with it.
fn carry_out(
    dir: &Path,
    sweep: &Sweep,
    point: &Point,
    begun: bool,
    (workers, context): (&Workers, &Context),
) -> Result<Ended, Error> {
    let folder = point.folder(dir);
    let mut arguments: Vec<OsString> = Vec::new();
    if begun {
        arguments.extend(["resume".into(), folder.into()]);
    } else {
        arguments.extend(["run".into(), recipe_of(dir).into(), "--out".into(), folder.into()]);
        arguments.extend(["--base".into(), sweep.recipe_folder.clone().into()]);
        for set in sweep.sets.iter().chain(&point.sets) {
            arguments.extend(["--set".into(), set.into()]);
        }
    }
    workers.run(&arguments, &context.flags)
}

impl From<SweepError> for Error {
    fn from(error: SweepError) -> Self {
        let code = error.code();
        let hint = match &error {
            SweepError::File(_) | SweepError::Grid(_) => None,
            SweepError::Exists(_) => None,
            SweepError::NotASweep { .. } => {
                Some("give a recipe, or a folder that `amend sweep` has made".to_owned())
            }
        };
        Error::Told { code, message: error.to_string(), hint }
    }
}
