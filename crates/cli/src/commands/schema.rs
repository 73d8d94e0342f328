//! `amend schema`: the JSON schema of recipes.

use clap::Args;

use crate::app::Exit;
use crate::area::{self, AREAS};
use crate::completing;
use crate::context::Context;
use crate::error::{Error, Topic};

const EXAMPLES: &str = "\
Examples:
  amend schema > recipe.schema.json     for editors that check recipes
  amend schema npo                      the options of one method";

/// Print the JSON schema of a recipe, or of one method's options
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SchemaArgs {
    /// An area or a method [default: unlearn]
    #[arg(add = completing::schemas())]
    method: Option<String>,
}

pub(crate) fn execute(args: SchemaArgs, context: &mut Context) -> Result<Exit, Error> {
    let schema = match &args.method {
        None => (AREAS[0].schema)(),
        Some(name) if AREAS.iter().any(|area| area.name == *name) => (area::find(name)?.schema)(),
        Some(name) => match area::methods_called(name)?.as_slice() {
            [only] => only.schema().to_value(),
            several => {
                let all: Vec<_> = several.iter().map(|m| format!("{}/{}", m.slot(), m.name())).collect();
                return Err(Error::told(
                    format!("several methods are called {name}"),
                    format!("choose one: {}", all.join(", ")),
                )
                .about(Topic::Name));
            }
        },
    };
    // A schema is JSON whether or not JSON was asked for.
    context.out.json_document(&schema)?;
    Ok(Exit::Done)
}
