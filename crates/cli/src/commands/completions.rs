//! `amend completions`: what makes a shell complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::app::Exit;
use crate::args::Cli;
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  amend completions bash > ~/.local/share/bash-completion/completions/amend
  amend completions zsh > ~/.zfunc/_amend
  amend completions fish > ~/.config/fish/completions/amend.fish";

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn execute(args: CompletionsArgs, context: &mut Context) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "amend", &mut script);
    context.out.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
