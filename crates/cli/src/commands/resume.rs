//! `amend resume`: go on where a run stopped.

use std::path::PathBuf;

use clap::Args;

use super::run::CheckpointArgs;
use crate::app::Exit;
use crate::completing;
use crate::context::Context;
use crate::error::Error;
use crate::listening::TensorBoardArgs;
use crate::resuming;

const EXAMPLES: &str = "\
Examples:
  amend resume runs/recipe-20260301T120000Z
  amend resume runs/recipe-20260301T120000Z --set optimizer.lr=1e-5

Takes the recipe as the run folder has it and goes on from the last checkpoint.
The results are those of a run that was never interrupted. Model and data must
not have changed in the meantime. What --set changes must not have been done
yet; a stage that was in progress and depends on it begins anew.";

/// Go on with an interrupted run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ResumeArgs {
    /// The run folder
    #[arg(value_name = "DIR", add = completing::unfinished_runs())]
    run: PathBuf,
    /// Change one value of the recipe, where that changes nothing that was done; may be given several times
    #[arg(long, value_name = "KEY=VALUE", add = completing::settings())]
    set: Vec<String>,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
    #[command(flatten)]
    board: TensorBoardArgs,
}

pub(crate) fn execute(args: ResumeArgs, context: &mut Context) -> Result<Exit, Error> {
    resuming::resume(&args.run, &args.set, args.checkpoints.every(), &args.board, context)
}
