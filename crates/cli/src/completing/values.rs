//! Words that the program knows: methods, areas, tasks and their options.

use std::ffi::OsStr;

use amend_run::Method;
use amend_run::recipe::{Key, keys};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use serde_json::Value;

use crate::area::AREAS;
use crate::commands::first_sentence;

/// Areas.
pub(crate) fn areas() -> ArgValueCandidates {
    ArgValueCandidates::new(every_area)
}

/// Templates of recipes.
pub(crate) fn templates() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let all = AREAS.iter().flat_map(|area| area.starters);
        all.map(|starter| candidate(starter.name, starter.summary)).collect()
    })
}

/// Keys of recipes, and the values that one of them is known to have: `stop.watch=probability`.
pub(crate) fn settings() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let current = current.to_string_lossy();
        AREAS.iter().flat_map(|area| settings_of(&(area.schema)(), &current)).collect()
    })
}

fn settings_of(schema: &Value, current: &str) -> Vec<CompletionCandidate> {
    let mut candidates = Vec::new();
    let begun = current.split('=').next().unwrap_or_default();
    for Key { path, summary, values } in keys(schema) {
        let Some(path) = at_place_of(begun, &path) else { continue };
        match current.split_once('=') {
            None if path.starts_with(current) => candidates.push(candidate(&format!("{path}="), &summary)),
            Some((key, begun)) if key == path => {
                let values = values.iter().filter(|value| value.starts_with(begun));
                candidates.extend(values.map(|value| candidate(&format!("{path}={value}"), &summary)));
            }
            _ => {}
        }
    }
    candidates
}

/// A key with the places in lists that have been typed (`attack.1.name` for `attack.0.name`). None for what is within a list
/// that nobody has come to: there may be nothing in it.
fn at_place_of(typed: &str, key: &str) -> Option<String> {
    let mut typed = typed.split('.');
    let place = |part: &str| match (part, typed.next()) {
        ("0", Some("")) => Some("0".to_owned()),
        ("0", typed) => typed.filter(|typed| typed.parse::<usize>().is_ok()).map(str::to_owned),
        (part, _) => Some(part.to_owned()),
    };
    let parts: Option<Vec<String>> = key.split('.').map(place).collect();
    Some(parts?.join("."))
}

/// Methods, and slots, whose methods are listed.
pub(crate) fn methods() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let mut slots: Vec<&str> = registered().iter().map(|method| method.slot()).collect();
        slots.dedup();
        let slot = |slot: &str| candidate(slot, &format!("every method of the slot {slot}"));
        slots.into_iter().map(slot).chain(every_method()).collect()
    })
}

/// What has a schema: areas and methods.
pub(crate) fn schemas() -> ArgValueCandidates {
    ArgValueCandidates::new(|| every_area().into_iter().chain(every_method()).collect())
}

/// Tasks of an evaluation.
pub(crate) fn tasks() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let tasks = amend_eval::task::tasks().iter();
        tasks.map(|task| candidate(task.name(), &first_sentence(&task.doc()))).collect()
    })
}

/// Options of the task on the command line, and the values that one of them is known to have: `split=forget10`.
pub(crate) fn task_options() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let current = current.to_string_lossy();
        options_of(chosen_task(std::env::args().collect()).as_deref(), &current)
    })
}

fn registered() -> Vec<&'static dyn Method> {
    AREAS.iter().flat_map(|area| (area.methods)()).collect()
}

fn every_area() -> Vec<CompletionCandidate> {
    AREAS.iter().map(|area| candidate(area.name, area.summary)).collect()
}

/// Every method by the shortest name that is its alone.
fn every_method() -> Vec<CompletionCandidate> {
    let all = registered();
    let name = |method: &&dyn Method| match all.iter().filter(|m| m.name() == method.name()).count() {
        1 => method.name().to_owned(),
        _ => format!("{}/{}", method.slot(), method.name()),
    };
    all.iter().map(|method| candidate(&name(method), &first_sentence(&method.doc()))).collect()
}

fn candidate(value: &str, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(help.to_owned().into()))
}

/// The value of `--task` among the words that a shell asks about.
fn chosen_task(words: Vec<String>) -> Option<String> {
    let mut words = words.into_iter().skip_while(|word| word != "--");
    let word = words.find(|word| word == "--task" || word.starts_with("--task="))?;
    match word.split_once('=') {
        Some((_, task)) => Some(task.to_owned()),
        None => words.next(),
    }
}

fn options_of(task: Option<&str>, current: &str) -> Vec<CompletionCandidate> {
    let tasks = amend_eval::task::tasks().iter();
    let mut candidates = Vec::new();
    for task in tasks.filter(|known| task.is_none_or(|task| task == known.name())) {
        let schema = task.schema().to_value();
        for (name, option) in schema["properties"].as_object().into_iter().flatten() {
            let does = option["description"].as_str().unwrap_or_default();
            match current.split_once('=') {
                None if name.starts_with(current) => candidates.push(candidate(&format!("{name}="), does)),
                Some((key, begun)) if key == name => {
                    let values = known_values(option).filter(|value| value.starts_with(begun));
                    candidates.extend(values.map(|value| candidate(&format!("{name}={value}"), does)));
                }
                _ => {}
            }
        }
    }
    candidates
}

/// The values that an option's schema names.
pub(crate) fn known_values(option: &Value) -> impl Iterator<Item = &str> {
    let named = ["enum", "examples"].into_iter().filter_map(|key| option[key].as_array());
    named.flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(candidates: Vec<CompletionCandidate>) -> Vec<String> {
        candidates.iter().map(|c| c.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn options_are_those_of_the_task() {
        assert!(values(options_of(Some("tofu"), "")).contains(&"split=".to_owned()));
        assert_eq!(values(options_of(Some("tofu"), "split=forget0")), ["split=forget01", "split=forget05"]);
        assert_eq!(values(options_of(Some("wikitext"), "split=")), [""; 0]);
        assert_eq!(values(options_of(None, "spl")), ["split="]);
        let words = |line: &str| line.split(' ').map(str::to_owned).collect();
        assert_eq!(chosen_task(words("amend -- amend eval --task tofu --set")).as_deref(), Some("tofu"));
        assert_eq!(chosen_task(words("amend -- amend eval --task=tofu")).as_deref(), Some("tofu"));
        assert_eq!(chosen_task(words("amend -- amend eval --set")), None);
    }

    #[test]
    fn what_is_in_a_list_is_offered_to_who_has_come_to_it() {
        assert_eq!(at_place_of("unlearn.at", "unlearn.attack.0.name"), None);
        assert_eq!(at_place_of("unlearn.attack.", "unlearn.attack.0.name").unwrap(), "unlearn.attack.0.name");
        assert_eq!(
            at_place_of("unlearn.attack.2.n", "unlearn.attack.0.name").unwrap(),
            "unlearn.attack.2.name"
        );
        assert_eq!(at_place_of("", "stop.below").unwrap(), "stop.below");
    }

    #[test]
    fn every_method_that_is_offered_is_known() {
        for name in values(every_method()) {
            assert_eq!(crate::area::methods_called(&name).unwrap().len(), 1, "{name}");
        }
    }
}
