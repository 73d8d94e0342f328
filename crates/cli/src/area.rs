//! The areas whose recipes can be run, and what is found by a name among them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use amend_learn::area::{Area, Certified, Compared, Found, Input, Plan, Standings};
use amend_run::comparison::FinishedRun;
use amend_run::file::content_hash;
use amend_run::recipe::Fault;
use amend_run::{Method, RecipeError, RecipeSource, nearest};
use serde_json::Value;

use crate::error::{Error, Topic};
use crate::open;

/// Every area.
pub(crate) const AREAS: &[Area] = &[amend_unlearn::AREA, amend_edit::AREA];

/// The recipe that `amend attack` fills in.
pub(crate) const ATTACK: &str = amend_unlearn::ATTACK;

/// The recipe that `amend demo` runs.
pub(crate) const DEMO: &str = amend_unlearn::DEMO;

/// The content of what a recipe reads, by path as the recipe says it.
pub(crate) struct Inputs {
    /// SHA-256 of every model.
    pub(crate) models: BTreeMap<String, String>,
    /// SHA-256 of every data file.
    pub(crate) data: BTreeMap<String, String>,
    /// How many records every data file has.
    pub(crate) records: BTreeMap<String, usize>,
}

/// Reads a recipe of whatever area it names.
pub(crate) fn read(source: RecipeSource, sets: &[String]) -> Result<Plan, Error> {
    if !sets.iter().any(|set| set.trim_start().starts_with("method")) {
        refuse_unknown_method(&source, sets)?;
    }
    Ok((area_of(&source.text).plan)(source, sets)?)
}

/// Fails where a recipe names no area there is: what an area's schema would say of it is about another area's keys.
fn refuse_unknown_method(source: &RecipeSource, sets: &[String]) -> Result<(), Error> {
    // What is no TOML is for the parser to say.
    let Ok(document) = source.text.parse::<toml_edit::DocumentMut>() else { return Ok(()) };
    let names: Vec<&str> = AREAS.iter().map(|area| area.name).collect();
    let all = names.join(", ");
    let named = document.get("method");
    let (fault, message, hint) = match named.map(|named| named.as_str()) {
        Some(Some(name)) if names.contains(&name) => return Ok(()),
        // That it is no text is for the schema to say.
        Some(None) => return Ok(()),
        Some(Some(name)) => {
            let near = nearest(name, names.iter().copied()).map(|near| format!("did you mean {near:?}? "));
            let hint = format!("{}valid values: {all}", near.unwrap_or_default());
            (Fault::UnknownValue, format!("unknown value {name:?} for `method`"), hint)
        }
        None => (
            Fault::MissingKey,
            "`method` is missing".to_owned(),
            format!("add `method = \"…\"`, one of {all}"),
        ),
    };
    Err(Error::from(RecipeError::at(source, sets, "method", (fault, message, Some(&hint)))))
}

/// Reads the results of a finished run again. `recipe` is the resolved one.
pub(crate) fn read_results(results: Value, recipe: &str, dir: &Path) -> Result<Found, Error> {
    Ok((area_of(recipe).read_results)(results, dir)?)
}

/// Puts runs of one area side by side; the others are compared with the first.
pub(crate) fn compare(runs: &[FinishedRun]) -> Result<Compared, Error> {
    let methods: Vec<String> = runs.iter().map(|run| toml_method(&run.recipe).unwrap_or_default()).collect();
    if let Some((run, method)) = runs.iter().zip(&methods).find(|(_, method)| **method != methods[0]) {
        return Err(Error::told(
            format!(
                "{} is a run of `{}`, and {} one of `{method}`: they have no figures in common",
                runs[0].dir.display(),
                methods[0],
                run.dir.display()
            ),
            "compare runs of one method",
        ));
    }
    let first = runs.first().map_or("", |run| run.recipe.as_str());
    Ok((area_of(first).compare)(runs)?)
}

/// What every arm of these runs of one area reached, and what it gave up for that.
pub(crate) fn standings(runs: &[FinishedRun]) -> Result<Standings, Error> {
    let first = runs.first().map_or("", |run| run.recipe.as_str());
    Ok((area_of(first).standings)(runs)?)
}

/// What can be certified of a run, or of runs of its seeds one by one.
pub(crate) fn certified(runs: &[FinishedRun]) -> Result<Certified, Error> {
    let first = runs.first().map_or("", |run| run.recipe.as_str());
    Ok((area_of(first).certified)(runs)?)
}

/// What a recipe reads, models and data.
///
/// # Errors
/// Where something cannot be read. What is missing or damaged is found here, before anything is written.
pub(crate) fn inputs(plan: &Plan, base: &Path) -> Result<Inputs, Error> {
    for model in &plan.models {
        model.check("model", base, plan)?;
        open::check_model(&model.resolve(base)).map_err(|e| e.within(plan.place_of(&model.key)))?;
    }
    let mut records = BTreeMap::new();
    for data in &plan.data {
        data.check("file", base, plan)?;
        let read = data.check_data(base, plan).map_err(|e| match &e {
            // The file's own line says more than the recipe's.
            amend_learn::Error::Records(of_file) if of_file.line.is_none() => {
                Error::from(e).within(plan.place_of(&data.key))
            }
            _ => Error::from(e),
        })?;
        records.insert(data.path.to_string(), read);
    }
    let hash = |input: &Input| Ok((input.path.to_string(), content_hash(&input.resolve(base))?));
    let all = |inputs: &[Input]| inputs.iter().map(hash).collect::<Result<BTreeMap<_, _>, Error>>();
    Ok(Inputs { models: all(&plan.models)?, data: all(&plan.data)?, records })
}

/// The area of a recipe. Only an area's own schema can say what is wrong with a recipe, even with its
/// `method`; one that names no area is therefore checked as one of the first.
fn area_of(recipe: &str) -> &'static Area {
    let method = toml_method(recipe);
    AREAS.iter().find(|area| method.as_deref() == Some(area.name)).unwrap_or(&AREAS[0])
}

/// The value of `method` in a recipe, found without reading the rest.
fn toml_method(text: &str) -> Option<String> {
    let top = text.lines().map(str::trim).take_while(|line| !line.starts_with('['));
    let value = top.filter_map(|line| line.strip_prefix("method")?.trim_start().strip_prefix('=')).next()?;
    let value = value.split('#').next().unwrap_or_default().trim();
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// The area of this name.
pub(crate) fn find(name: &str) -> Result<&'static Area, Error> {
    let names = || AREAS.iter().map(|area| area.name);
    AREAS.iter().find(|area| area.name == name).ok_or_else(|| {
        let all = names().collect::<Vec<_>>().join(", ");
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean {near}? There are: {all}"),
            None => format!("there are: {all}"),
        };
        Error::told(format!("there is no area called {name}"), hint).about(Topic::Name)
    })
}

/// Every method of the slot called `wanted`: `forget`, or `unlearn/forget`. None where there is no such slot.
pub(crate) fn methods_of_slot(wanted: &str) -> Vec<&'static dyn Method> {
    let all = AREAS.iter().flat_map(|area| (area.methods)());
    let of = |method: &&dyn Method| {
        wanted == method.slot() || wanted.split_once('/') == Some((method.area(), method.slot()))
    };
    all.filter(of).collect()
}

/// Methods called `wanted`: `npo`, or `forget/npo` where several slots have one of that name.
pub(crate) fn methods_called(wanted: &str) -> Result<Vec<&'static dyn Method>, Error> {
    let all: Vec<_> = AREAS.iter().flat_map(|area| (area.methods)()).collect();
    let called = |method: &&&dyn Method| {
        let (area, slot, name) = (method.area(), method.slot(), method.name());
        [name.to_owned(), format!("{slot}/{name}"), format!("{area}/{slot}/{name}")]
            .iter()
            .any(|n| n == wanted)
    };
    let found: Vec<_> = all.iter().filter(called).copied().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let names = all.iter().flat_map(|method| [method.name(), method.slot()]);
    let hint = match nearest(wanted, names) {
        Some(near) => format!("did you mean {near}? `amend methods` lists them all"),
        None => "`amend methods` lists them all".into(),
    };
    Err(Error::told(format!("there is no method called {wanted}"), hint).about(Topic::Name))
}

/// A path that means the same whatever folder the next command is started in.
pub(crate) fn absolute(folder: &Path) -> PathBuf {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_of_a_recipe_is_found() {
        assert_eq!(toml_method("# hi\nmethod = \"unlearn\" # yes\n[model]\n").as_deref(), Some("unlearn"));
        assert_eq!(toml_method("seed = 1\n[model]\nmethod = \"x\"\n"), None);
    }

    #[test]
    fn names_are_found_and_mistakes_are_corrected() {
        assert!(find("unlearn").is_ok());
        let Err(Error::Told { hint, .. }) = find("unlern").map(|_| ()) else { panic!() };
        assert!(hint.is_some_and(|h| h.contains("did you mean unlearn?")));
        assert!(!methods_called("npo").unwrap().is_empty());
        assert_eq!(methods_called("combine/sago").unwrap().len(), 1);
        let slot = methods_of_slot("combine");
        assert!(slot.len() > 1 && slot.iter().all(|method| method.slot() == "combine"));
        assert_eq!(methods_of_slot("unlearn/combine").len(), slot.len());
        assert!(methods_of_slot("npo").is_empty());
        let Err(Error::Told { hint, .. }) = methods_called("sagoo").map(|_| ()) else { panic!() };
        assert!(hint.is_some_and(|h| h.contains("did you mean sago?")));
    }

    #[test]
    fn slots_that_hold_lists_are_known() {
        let area = find("unlearn").unwrap();
        let mut slots: Vec<&str> = (area.methods)().iter().map(|method| method.slot()).collect();
        slots.dedup();
        let (lists, single): (Vec<_>, Vec<_>) = slots.into_iter().partition(|slot| area.is_list(slot));
        assert_eq!(lists, ["attack", "verdict"]);
        assert_eq!(single, ["forget", "retain", "combine", "where", "guard"]);
    }

    #[test]
    fn the_recipes_carried_along_are_valid() {
        let plan = |name: &str, text: &str| {
            let source = RecipeSource { path: name.into(), text: text.to_owned() };
            read(source, &[]).map(|plan| plan.resolved).map_err(|e| e.to_string())
        };
        assert!(plan("demo.toml", DEMO).unwrap().contains("seed"));
        for area in AREAS {
            for starter in area.starters {
                plan(starter.name, starter.text).unwrap();
            }
        }
    }
}
