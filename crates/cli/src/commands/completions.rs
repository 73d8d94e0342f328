//! `amend completions`: what makes a shell complete the command line.

use clap::Args;
use clap_complete::Shell;

use crate::app::Exit;
use crate::completing;
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples, each a line of the shell's own start-up file:
  source <(amend completions bash)       ~/.bashrc
  source <(amend completions zsh)        ~/.zshrc, after compinit
  amend completions fish | source        ~/.config/fish/config.fish

The script asks amend itself, which offers commands and flags, methods, areas,
tasks and their options, run folders, models.";

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn execute(args: CompletionsArgs, context: &mut Context) -> Result<Exit, Error> {
    let shell = args.shell.to_string();
    let script = completing::script(&shell)?;
    match context.json {
        true => context.out.json_document(&serde_json::json!({ "shell": shell, "script": script }))?,
        false => context.out.text(&script)?,
    }
    Ok(Exit::Done)
}
