//! `amend new`: a commented recipe to start from.

use clap::Args;

use crate::app::Exit;
use crate::area;
use crate::completing;
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Example:
  amend new unlearn > recipe.toml";

/// Print a commented recipe
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NewArgs {
    /// The area: unlearn
    #[arg(value_name = "METHOD", add = completing::areas())]
    area: String,
}

pub(crate) fn execute(args: NewArgs, context: &mut Context) -> Result<Exit, Error> {
    let area = area::find(&args.area)?;
    if context.json {
        context.out.json_line(&serde_json::json!({ "method": area.name, "recipe": area.starter }))?;
    } else {
        context.out.text(area.starter)?;
    }
    Ok(Exit::Done)
}
