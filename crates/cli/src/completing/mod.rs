//! What a shell offers for a word of the command line. Its script asks this program, which knows what there is.

mod bash;
mod paths;
mod values;

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::env::{Elvish, Fish, Powershell, Shells, Zsh};

use crate::area::absolute;
use crate::args::Cli;
use crate::error::Error;
use bash::Bash;

pub(crate) use paths::{models, runs, unfinished_runs};
pub(crate) use values::{areas, known_values, methods, schemas, settings, task_options, tasks, templates};

/// The variable by which a shell's script asks for candidates: it holds the shell's name.
const ASKED: &str = "AMEND_COMPLETE";

/// Every shell that has a script.
const SHELLS: Shells<'static> = Shells(&[&Bash, &Elvish, &Fish, &Powershell, &Zsh]);

/// Answers a shell that asks for candidates, and ends the process. Does nothing where none asks.
pub(crate) fn answer_shell() {
    if std::env::var_os(ASKED).is_some() {
        CompleteEnv::with_factory(Cli::command).var(ASKED).shells(SHELLS).complete();
    }
}

/// The script by which `shell` asks this program.
pub(crate) fn script(shell: &str) -> Result<String, Error> {
    let unknown = || Error::plain(format!("there is no script for {shell}"));
    // By its name where it was called by its name: the script outlives an update that moves the file.
    let called = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let program = if called.components().count() > 1 { absolute(&called) } else { called };
    let mut script = Vec::new();
    SHELLS
        .completer(shell)
        .ok_or_else(unknown)?
        .write_registration(ASKED, "amend", "amend", &program.to_string_lossy(), &mut script)
        .map_err(Error::Output)?;
    let script = String::from_utf8_lossy(&script).into_owned();
    match UNQUOTED.iter().find(|(name, ..)| *name == shell) {
        Some((_, typed, meant)) => Ok(script.replace(typed, meant)),
        None => Ok(script),
    }
}

/// What zsh's and fish's scripts hand over as it was typed, and how to hand it over as the program would get it: a folder's
/// name with a space in it is otherwise a name with a backslash.
const UNQUOTED: [(&str, &str, &str); 2] = [
    ("zsh", r#""${words[@]}""#, r#""${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}""#),
    ("fish", "(commandline --current-token)", "(commandline --current-token | string unescape)"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_hand_over_what_is_meant() {
        for (shell, typed, meant) in UNQUOTED {
            let script = script(shell).unwrap();
            assert!(script.contains(meant) && !script.contains(typed), "{script}");
        }
    }
}
