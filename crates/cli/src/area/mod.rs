//! The areas whose recipes can be run. All that the command knows of one is in the file of its name.

mod unlearn;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use amend_engine::checkpoint::Checkpoint;
use amend_engine::tokenizer::Tokenizer;
use amend_run::file::content_hash;
use amend_run::report::Section;
use amend_run::{Dataset, Method, RecipePath, RecipeSource, Report, Run, nearest};
use serde_json::Value;

use crate::error::{Error, Topic};

/// An area as the command line sees it.
pub(crate) struct Area {
    /// What recipes call it: `method = "unlearn"`.
    pub(crate) name: &'static str,
    /// What it is for, in a line.
    pub(crate) summary: &'static str,
    /// A commented recipe.
    pub(crate) starter: &'static str,
    /// Everything that fills its slots, in the order data flows.
    pub(crate) methods: fn() -> Vec<&'static dyn Method>,
    /// JSON schema of its recipes.
    pub(crate) schema: fn() -> Value,
    plan: fn(RecipeSource, &[String]) -> Result<Plan, Error>,
    read_results: fn(Value, &Path) -> Result<Found, Error>,
}

impl Area {
    /// Whether a slot holds a list of fillers, going by the schema.
    pub(crate) fn is_list(&self, slot: &str) -> bool {
        let schema = (self.schema)();
        // `{"$ref": "#/$defs/Slots"}`, the section in which the area's slots are.
        let slots = &schema["properties"][self.name];
        let slots = slots["$ref"].as_str().and_then(|place| schema.pointer(place.strip_prefix('#')?));
        slots.is_some_and(|slots| slots["properties"][slot]["type"] == "array")
    }
}

/// Every area.
pub(crate) const AREAS: &[Area] = &[unlearn::AREA];

/// The recipe that `amend demo` runs.
pub(crate) const DEMO: &str = unlearn::DEMO;

/// The work of a run, given the folder that relative paths start at.
type Work = Box<dyn FnOnce(&Path, &mut Run<'_>) -> Result<Found, Error>>;

/// A recipe that was read, checked and can be run.
pub(crate) struct Plan {
    /// The recipe with every default written out.
    pub(crate) resolved: String,
    /// Its seed.
    pub(crate) seed: u64,
    /// Model folders it reads.
    pub(crate) models: Vec<RecipePath>,
    /// Data files it reads.
    pub(crate) data: Vec<RecipePath>,
    /// What to do.
    pub(crate) work: Work,
}

/// What a run found out.
pub(crate) struct Found {
    /// Whether what the recipe asks for holds.
    pub(crate) passed: bool,
    /// Every figure, for results.json.
    pub(crate) results: Value,
    /// The whole report.
    pub(crate) report: Report,
}

impl Found {
    /// Reads the results of a finished run again. `recipe` is the resolved one.
    pub(crate) fn read(results: Value, recipe: &str, dir: &Path) -> Result<Self, Error> {
        (area_of(recipe).read_results)(results, dir)
    }

    /// What stands before the report's first heading: the verdict and what it rests on.
    pub(crate) fn summary(&self) -> Report {
        let before = |section: &&Section| !matches!(section, Section::Heading(_));
        let sections = self.report.sections.iter().take_while(before).cloned().collect();
        Report { title: self.report.title.clone(), sections }
    }
}

impl Plan {
    /// Reads a recipe of whatever area it names.
    pub(crate) fn read(source: RecipeSource, sets: &[String]) -> Result<Self, Error> {
        (area_of(&source.text).plan)(source, sets)
    }

    /// Content hashes of everything the recipe reads, models and data, by path as the recipe says it.
    ///
    /// # Errors
    /// Where something cannot be read. What is missing or damaged is found here, before anything is written.
    pub(crate) fn hashes(&self, base: &Path) -> Result<[BTreeMap<String, String>; 2], Error> {
        for model in &self.models {
            let dir = model.resolve(base);
            // Reads the headers of the weights, not the weights.
            Checkpoint::open(&dir)?;
            Tokenizer::open(&dir)?;
        }
        for data in &self.data {
            Dataset::read(&[data.resolve(base)]).map_err(amend_learn::Error::from)?;
        }
        let hash = |path: &RecipePath| Ok((path.to_string(), content_hash(&path.resolve(base))?));
        let all = |paths: &[RecipePath]| paths.iter().map(hash).collect::<Result<BTreeMap<_, _>, Error>>();
        Ok([all(&self.models)?, all(&self.data)?])
    }
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
    let hint = match nearest(wanted, all.iter().map(|method| method.name())) {
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
            Plan::read(source, &[]).map(|plan| plan.resolved).map_err(|e| e.to_string())
        };
        assert!(plan("demo.toml", DEMO).unwrap().contains("seed"));
        for area in AREAS {
            plan(area.name, area.starter).unwrap();
        }
    }
}
