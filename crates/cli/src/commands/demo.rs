//! `amend demo`: the whole product in a minute.

use amend_run::RecipeSource;
use clap::Args;

use super::run::{self, HowArgs};
use crate::app::Exit;
use crate::area::DEMO;
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  amend demo
  amend demo --seeds 3 --json

Makes a small model that knows some fictitious people, makes it forget a few of
them in several ways, attacks the results, and compares them with a model that
never knew those few. Needs no downloads.";

/// Show everything on a model made on the spot
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    how: HowArgs,
}

pub(crate) fn execute(args: DemoArgs, context: &mut Context) -> Result<Exit, Error> {
    run::start(RecipeSource { path: "demo.toml".into(), text: DEMO.to_owned() }, None, args.how, context)
}
