//! The command line.

use clap::{ArgAction, Args, Parser};

use crate::commands::Command;

/// Version and the commit it was built from.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("AMEND_COMMIT"), ")");

const EXAMPLES: &str = "\
Start here:
  amend demo                         a small model forgets, with the evidence
  amend doctor                       what this machine can do
  amend score DIR --text 'The sky is blue.'
  amend new unlearn > recipe.toml    a commented recipe
  amend check recipe.toml            whether it can be run, and what that takes
  amend run recipe.toml              the run it describes
  amend methods                      what a recipe can choose from

Data goes to standard output, messages and progress to standard error.
NO_COLOR is honoured. Exit codes: 0 done, 1 done with a negative verdict,
2 error, 130 interrupted.";

/// Change a trained language model, and prove the change.
///
/// Everything works on Hugging Face model folders and GGUF files, without Python or a network. The same command
/// with the same seed gives the same numbers, whatever the number of threads or the batch size.
#[derive(Debug, Parser)]
#[command(name = "amend", version = VERSION, after_help = EXAMPLES, max_term_width = 100)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Flags of every command")]
pub(crate) struct GlobalArgs {
    /// Print data as JSON; messages, progress and errors too, as one JSON object a line on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Threads to compute with, at most one per core [default: all cores]. Has no influence on results
    #[arg(long, global = true, value_name = "N", value_parser = parse_threads)]
    pub(crate) threads: Option<usize>,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print what is being done; again for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Show no progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

/// A number of things of which there must be at least one.
pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err("give a whole number of at least 1".into()),
    }
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=4096) => Ok(threads),
        _ => Err("give a number from 1 to 4096".into()),
    }
}

impl GlobalArgs {
    /// The same flags as arguments, for another process.
    pub(crate) fn as_arguments(&self) -> Vec<String> {
        let GlobalArgs { json, threads, quiet, verbose, no_progress } = self;
        let mut all = Vec::new();
        all.extend(threads.map(|threads| format!("--threads={threads}")));
        for (is_given, flag) in [(json, "--json"), (quiet, "--quiet"), (no_progress, "--no-progress")] {
            all.extend(is_given.then(|| flag.to_owned()));
        }
        all.extend(std::iter::repeat_n("--verbose".to_owned(), usize::from(*verbose)));
        all
    }
}

/// What was typed, where a word is no UTF-8 with a mark for what cannot be shown.
pub(crate) fn typed() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn another_process_gets_the_flags_of_every_command() {
        let words = "amend doctor --json --threads 2 -vv --no-progress";
        let given = Cli::try_parse_from(words.split(' ')).unwrap().global;
        let again = ["amend".to_owned(), "doctor".to_owned()].into_iter().chain(given.as_arguments());
        let taken = Cli::try_parse_from(again).unwrap().global;
        assert_eq!(format!("{given:?}"), format!("{taken:?}"));
    }
}
