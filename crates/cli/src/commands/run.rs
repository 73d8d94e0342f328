//! `amend run`: what a recipe describes.

use std::path::PathBuf;
use std::time::Duration;

use amend_run::RecipeSource;
use clap::Args;

use crate::app::Exit;
use crate::completing;
use crate::context::Context;
use crate::error::Error;
use crate::listening::TensorBoardArgs;
use crate::running;

const EXAMPLES: &str = "\
Examples:
  amend new unlearn > recipe.toml && amend run recipe.toml
  amend run recipe.toml --set unlearn.combine=pcgrad --out runs/pcgrad
  amend run recipe.toml --seeds 5 --json
  amend run recipe.toml --dry-run        what it would take

The run folder holds recipe.toml (every default written out), run.json,
metrics.jsonl, log.txt, the model, results.json and report.html, which opens in
a browser without a network. Ctrl-C stops within a second or so and keeps what
is done; `amend resume` goes on with the same bits as if nothing had happened.
Exit codes: 0 all that the recipe asks for holds, 1 it does not, 2
error, 130 interrupted.";

/// Run a recipe
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The recipe, a TOML file
    recipe: PathBuf,
    /// Folder that relative paths of the recipe start at [default: the recipe's own]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    base: Option<PathBuf>,
    #[command(flatten)]
    how: HowArgs,
}

/// What a run and a demo have in common.
#[derive(Debug, Args)]
pub(super) struct HowArgs {
    /// Change one value of the recipe, such as `unlearn.batch_size=16`; may be given several times
    #[arg(long, value_name = "KEY=VALUE", add = completing::settings())]
    set: Vec<String>,
    /// Repeat everything with so many seeds, or with those of a list such as 1,7,42; figures are then means over seeds
    #[arg(long, value_name = "N", value_parser = parse_seeds)]
    seeds: Option<String>,
    /// Say what the run would take, as `amend check` does, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Run folder, which must not exist [default: runs/NAME-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the run that is in the folder, if there is one and nobody works on it
    #[arg(long, requires = "out")]
    overwrite: bool,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
    #[command(flatten)]
    board: TensorBoardArgs,
}

/// When a run writes down how far it got.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// Seconds between two checkpoints of a training stage; more where writing one takes so long that they would
    /// take over a tenth of the time. Has no influence on results
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0, value_parser = parse_seconds, allow_negative_numbers = true)]
    checkpoint_every: f64,
}

impl CheckpointArgs {
    pub(crate) fn every(&self) -> Duration {
        Duration::from_secs_f64(self.checkpoint_every)
    }
}

/// A number of seeds, or a list of them, as recipes write it.
pub(super) fn parse_seeds(text: &str) -> Result<String, String> {
    if !text.contains(',') {
        return crate::args::parse_count(text).map(|count| count.to_string());
    }
    let seeds: Result<Vec<u64>, _> = text.split(',').map(|seed| seed.trim().parse()).collect();
    let seeds = seeds.map_err(|_| "give whole numbers with commas between them, such as 1,7,42")?;
    if let Some(twice) = (1..seeds.len()).find(|&i| seeds[..i].contains(&seeds[i])) {
        return Err(format!("seed {} stands twice", seeds[twice]));
    }
    Ok(format!("{seeds:?}"))
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds, from 0 (as often as possible) to 86400".into()),
    }
}

pub(crate) fn execute(args: RunArgs, context: &mut Context) -> Result<Exit, Error> {
    start(RecipeSource::read(&args.recipe)?, args.base, args.how, context)
}

pub(super) fn start(
    source: RecipeSource,
    base: Option<PathBuf>,
    how: HowArgs,
    context: &mut Context,
) -> Result<Exit, Error> {
    let sets = with_seeds(how.set, how.seeds)?;
    if how.dry_run {
        return running::check(source, &sets, base.as_deref(), context);
    }
    let place = running::Place { out: how.out, overwrite: how.overwrite, base };
    running::start(source, &sets, place, how.checkpoints.every(), &how.board, context)
}

/// What is set, with how many seeds there are to be.
pub(super) fn with_seeds(mut sets: Vec<String>, seeds: Option<String>) -> Result<Vec<String>, Error> {
    let says_seeds = |set: &&String| set.split('=').next().is_some_and(|key| key.trim() == "seeds");
    if let (Some(_), Some(set)) = (&seeds, sets.iter().find(says_seeds)) {
        return Err(Error::told(
            format!("--seeds and --set {set} both say how many seeds"),
            "leave one of them out",
        ));
    }
    sets.extend(seeds.map(|seeds| format!("seeds={seeds}")));
    Ok(sets)
}
