//! `amend check`: what a recipe would do, and whether it can.

use std::path::PathBuf;

use amend_run::RecipeSource;
use clap::Args;

use crate::app::Exit;
use crate::completing;
use crate::context::Context;
use crate::error::Error;
use crate::running;

const EXAMPLES: &str = "\
Examples:
  amend check recipe.toml
  amend check recipe.toml --set optimizer.lr=1e-4 --json

Everything that can be known before computing is checked: keys and their ranges,
models, data, lengths, layers and targets, memory. A few steps are taken to time
them; nothing is written. `amend run` begins with the same check. Times and
memory are estimates; an arm that reaches its aim early takes less.";

/// Check a recipe and say what its run will take
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The recipe, a TOML file
    recipe: PathBuf,
    /// Change one value of the recipe, such as `unlearn.batch_size=16`; may be given several times
    #[arg(long, value_name = "KEY=VALUE", add = completing::settings())]
    set: Vec<String>,
}

pub(crate) fn execute(args: CheckArgs, context: &mut Context) -> Result<Exit, Error> {
    running::check(RecipeSource::read(&args.recipe)?, &args.set, None, context)
}
