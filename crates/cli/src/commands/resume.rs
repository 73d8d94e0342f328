//! `amend resume`: go on where a run stopped.

use std::path::PathBuf;

use clap::Args;

use super::run::CheckpointArgs;
use crate::app::Exit;
use crate::context::Context;
use crate::error::Error;
use crate::listening::TensorBoardArgs;
use crate::running;

const EXAMPLES: &str = "\
Example:
  amend resume runs/recipe-20260301T120000Z

Takes the recipe as the run folder has it and goes on from the last checkpoint.
The results are those of a run that was never interrupted. Model and data must
not have changed in the meantime.";

/// Go on with an interrupted run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ResumeArgs {
    /// The run folder
    #[arg(value_name = "DIR")]
    run: PathBuf,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
    #[command(flatten)]
    board: TensorBoardArgs,
}

pub(crate) fn execute(args: ResumeArgs, context: &mut Context) -> Result<Exit, Error> {
    running::resume(&args.run, args.checkpoints.every(), &args.board, context)
}
