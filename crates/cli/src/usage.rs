//! Hints under errors about the command line that only this program can give.

use amend_run::nearest;
use amend_run::recipe::places_of;
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::area::AREAS;
use crate::args::Cli;
use crate::completing::known_values;

/// The commands that take a recipe's keys with `--set`.
const SETTING: [&str; 6] = ["run", "demo", "check", "resume", "attack", "sweep"];

/// The error with what was probably meant. `arguments` are those of the process, its own name left out.
pub(crate) fn hinted(mut usage: clap::Error, arguments: &[String]) -> clap::Error {
    match (usage.kind(), usage.get(ContextKind::InvalidSubcommand), usage.get(ContextKind::InvalidArg)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word)), _) => {
            // Swapped letters are far apart to clap: nothing, or another command, is nearer.
            if let Some(command) = command_like(word) {
                usage.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![command]));
            }
        }
        (ErrorKind::UnknownArgument, _, Some(ContextValue::String(flag))) => {
            let hint = recipe_key(flag, arguments)
                .map(|set| format!("that is a key of the recipe; write '{set}'"))
                .or_else(|| task_option(flag, arguments));
            if let Some(hint) = hint {
                usage.remove(ContextKind::SuggestedArg);
                usage.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
            }
        }
        _ => {}
    }
    usage
}

fn command_like(word: &str) -> Option<String> {
    let cli = Cli::command();
    nearest(word, cli.get_subcommands().map(clap::Command::get_name)).map(str::to_owned)
}

/// `--set seed=3` for `--seed 3`, where recipes have such a key.
fn recipe_key(flag: &str, arguments: &[String]) -> Option<String> {
    if !SETTING.contains(&command(arguments)?) {
        return None;
    }
    let name = flag.strip_prefix("--")?.replace('-', "_");
    let path = AREAS.iter().find_map(|area| places_of(&(area.schema)(), &name).into_iter().next())?;
    Some(format!("--set {path}={}", value_of(flag, arguments)?))
}

/// What to write for `--split forget10`, where tasks have such an option, with the values it is known to have.
fn task_option(flag: &str, arguments: &[String]) -> Option<String> {
    if command(arguments)? != "eval" {
        return None;
    }
    let name = flag.strip_prefix("--")?.replace('-', "_");
    let schemas = amend_eval::task::tasks().iter().map(|task| task.schema().to_value());
    let option = schemas.filter_map(|schema| schema["properties"].get(&name).cloned()).next()?;
    let values: Vec<&str> = known_values(&option).collect();
    let values = if values.is_empty() { String::new() } else { format!(" ({name}: {})", values.join(", ")) };
    let value = value_of(flag, arguments)?;
    Some(format!("that is an option of the task; write '--set {name}={value}'{values}"))
}

/// The command among the arguments.
fn command(arguments: &[String]) -> Option<&str> {
    arguments.iter().map(String::as_str).find(|argument| !argument.starts_with('-'))
}

/// What follows a flag, or stands behind its `=`.
fn value_of<'a>(flag: &str, arguments: &'a [String]) -> Option<&'a str> {
    let mut rest = arguments.iter().skip_while(|argument| argument.split('=').next() != Some(flag));
    match rest.next()?.split_once('=') {
        Some((_, value)) => Some(value),
        None => Some(rest.next().map_or("VALUE", String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn told(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let usage = Cli::try_parse_from(&words).unwrap_err();
        hinted(usage, &words[1..]).render().to_string()
    }

    /// A command that takes `--set` and is not known here would get no hint.
    #[test]
    fn every_command_with_keys_of_a_recipe_is_known() {
        let sets = |command: &&clap::Command| command.get_arguments().any(|a| a.get_long() == Some("set"));
        let cli = Cli::command();
        // The options of `amend eval` are its tasks'.
        let mut all: Vec<&str> = cli.get_subcommands().filter(sets).map(|c| c.get_name()).collect();
        all.retain(|name| *name != "eval");
        all.sort_unstable();
        let mut known = SETTING;
        known.sort_unstable();
        assert_eq!(all, known);
    }

    #[test]
    fn mistyped_commands_are_corrected() {
        for (line, command) in
            [("amend rnu r.toml", "'run'"), ("amend scroe m", "'score'"), ("amend hlep", "'help'")]
        {
            let told = told(line);
            let tip = told.lines().find(|line| line.trim_start().starts_with("tip: "));
            assert!(tip.is_some_and(|tip| tip.contains(command)), "{told}");
        }
        assert!(!told("amend bananas").contains("tip: "));
    }

    #[test]
    fn keys_of_the_recipe_are_set_with_set() {
        for (line, set) in [
            ("amend run r.toml --seed 3", "'--set seed=3'"),
            ("amend --json run r.toml --seed=3", "'--set seed=3'"),
            ("amend demo --lr 1e-4", "'--set optimizer.lr=1e-4'"),
            ("amend run r.toml --max-steps", "'--set stop.max_steps=VALUE'"),
        ] {
            let told = told(line);
            assert!(told.contains(&format!("write {set}")) && !told.contains("'--seeds'"), "{told}");
        }
        let told_split = told("amend eval --task tofu --split forget07");
        assert!(told_split.contains("write '--set split=forget07' (split: forget01, forget05, forget10)"));
        assert!(!told("amend run r.toml --bananas 3").contains("--set b"));
        assert!(!told("amend score m --lr 3").contains("key of the recipe"));
    }
}
