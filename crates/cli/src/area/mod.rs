//! The areas whose recipes can be run. All that the command knows of one is in the file of its name.

mod unlearn;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use amend_engine::checkpoint::Checkpoint;
use amend_engine::tokenizer::Tokenizer;
use amend_run::comparison::FinishedRun;
use amend_run::file::content_hash;
use amend_run::recipe::{Fault, Starter, span_of};
use amend_run::records::Chosen;
use amend_run::report::{Card, Section};
use amend_run::{
    Dataset, Forecast, Method, Progress, RecipeError, RecipePath, RecipeSource, Report, Run, RunFolder,
    nearest,
};
use serde_json::Value;

use crate::error::{Error, Topic};
use crate::open;

/// An area as the command line sees it.
pub(crate) struct Area {
    /// What recipes call it: `method = "unlearn"`.
    pub(crate) name: &'static str,
    /// What it is for, in a line.
    pub(crate) summary: &'static str,
    /// Commented recipes, the usual one first.
    pub(crate) starters: &'static [Starter],
    /// Everything that fills its slots, in the order data flows.
    pub(crate) methods: fn() -> Vec<&'static dyn Method>,
    /// JSON schema of its recipes.
    pub(crate) schema: fn() -> Value,
    plan: fn(RecipeSource, &[String]) -> Result<Plan, Error>,
    read_results: fn(Value, &Path) -> Result<Found, Error>,
    compare: fn(&[FinishedRun]) -> Result<Compared, Error>,
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

/// The recipe that `amend attack` fills in.
pub(crate) const ATTACK: &str = unlearn::ATTACK;

/// The recipe that `amend demo` runs.
pub(crate) const DEMO: &str = unlearn::DEMO;

/// The work of a run, given the folder that relative paths start at.
type Work = Box<dyn FnOnce(&Path, &mut Run<'_>) -> Result<Found, Error>>;

/// What can be known of a run before it computes, given the folder that relative paths start at.
type Look = Box<dyn Fn(&Path, &dyn Progress) -> Result<Forecast, Error>>;

/// Clears away what a run has begun and would now do otherwise; gives the names of those stages.
type Revise = Box<dyn Fn(RecipeSource, &RunFolder) -> Result<Vec<String>, Error>>;

/// A recipe that was read, checked and can be run.
pub(crate) struct Plan {
    /// The recipe with every default written out.
    pub(crate) resolved: String,
    /// Its seed.
    pub(crate) seed: u64,
    /// The recipe as it was given, for errors that point at it.
    pub(crate) source: RecipeSource,
    /// Model folders it reads.
    pub(crate) models: Vec<Input>,
    /// Data files it reads.
    pub(crate) data: Vec<Input>,
    /// What doing it will take.
    pub(crate) forecast: Look,
    /// Makes an interrupted run of the recipe that stands in its folder ready to go on with this one.
    pub(crate) revise: Revise,
    /// What to do.
    pub(crate) work: Work,
}

/// A file or folder that a recipe names.
pub(crate) struct Input {
    /// The dotted key under which it does: `data.forget`.
    pub(crate) key: String,
    /// What it says there.
    pub(crate) path: RecipePath,
}

impl Input {
    /// A model's folder.
    pub(crate) fn model(key: impl Into<String>, path: &RecipePath) -> Input {
        Input { key: key.into(), path: path.clone() }
    }

    /// A file of records.
    pub(crate) fn records(key: &str, chosen: &Chosen) -> Input {
        let key = if chosen.filter().is_some() { format!("{key}.path") } else { key.to_owned() };
        Input { key, path: chosen.path().clone() }
    }

    /// The path to open, given the folder that relative ones start at.
    pub(crate) fn resolve(&self, base: &Path) -> PathBuf {
        self.path.resolve(base)
    }

    /// Fails where there is nothing at the path, pointing at the recipe's line.
    fn check(&self, what: &str, base: &Path, source: &RecipeSource) -> Result<(), Error> {
        let path = self.resolve(base);
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        let Input { key, path: said } = self;
        let from = if path == Path::new(said.as_str()) {
            String::new()
        } else {
            format!(" ({} was looked for)", path.display())
        };
        Err(Error::from(RecipeError {
            path: source.path.as_path().into(),
            source_text: source.text.as_str().into(),
            // Nowhere where it comes from --set.
            span: span_of(&source.text, key, said.as_str()),
            fault: Fault::MissingFile,
            message: format!("`{key}` = \"{said}\": there is no such {what}{from}").into(),
            hint: Some("relative paths start at the recipe's folder".into()),
            more: Box::new([]),
        }))
    }
}

/// The content of what a recipe reads, by path as the recipe says it.
pub(crate) struct Inputs {
    /// SHA-256 of every model.
    pub(crate) models: BTreeMap<String, String>,
    /// SHA-256 of every data file.
    pub(crate) data: BTreeMap<String, String>,
    /// How many records every data file has.
    pub(crate) records: BTreeMap<String, usize>,
}

/// What a run found out.
pub(crate) struct Found {
    /// Whether what the recipe asks for holds; nothing where it asks for nothing.
    pub(crate) passed: Option<bool>,
    /// Every figure, for results.json.
    pub(crate) results: Value,
    /// The whole report.
    pub(crate) report: Report,
    /// What is to stand beside the models that it keeps.
    pub(crate) cards: Vec<Card>,
    /// Folders that the run is not to keep once it has ended.
    pub(crate) superfluous: Vec<PathBuf>,
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

/// What an area has to say of several of its runs.
pub(crate) struct Compared {
    /// What has to be known before anything else.
    pub(crate) warnings: Vec<String>,
    /// Figures and differences to the first of the runs.
    pub(crate) tables: Vec<Section>,
    /// Curves laid over each other.
    pub(crate) curves: Vec<Section>,
    /// All figures and differences, for programs.
    pub(crate) results: Value,
}

impl Compared {
    /// Puts runs of one area side by side; the others are compared with the first.
    pub(crate) fn of(runs: &[FinishedRun]) -> Result<Self, Error> {
        let methods: Vec<String> =
            runs.iter().map(|run| toml_method(&run.recipe).unwrap_or_default()).collect();
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
        (area_of(first).compare)(runs)
    }
}

impl Plan {
    /// Reads a recipe of whatever area it names.
    pub(crate) fn read(source: RecipeSource, sets: &[String]) -> Result<Self, Error> {
        (area_of(&source.text).plan)(source, sets)
    }

    /// What the recipe reads, models and data.
    ///
    /// # Errors
    /// Where something cannot be read. What is missing or damaged is found here, before anything is written.
    pub(crate) fn inputs(&self, base: &Path) -> Result<Inputs, Error> {
        for model in &self.models {
            model.check("model", base, &self.source)?;
            let dir = model.resolve(base);
            open::refuse_run(&dir)?;
            // Reads the headers of the weights, not the weights.
            Checkpoint::open(&dir)?;
            Tokenizer::open(&dir)?;
        }
        let mut records = BTreeMap::new();
        for data in &self.data {
            data.check("file", base, &self.source)?;
            let read = Dataset::read(&[data.resolve(base)]).map_err(amend_learn::Error::from)?;
            records.insert(data.path.to_string(), read.len());
        }
        let hash = |input: &Input| Ok((input.path.to_string(), content_hash(&input.resolve(base))?));
        let all = |inputs: &[Input]| inputs.iter().map(hash).collect::<Result<BTreeMap<_, _>, Error>>();
        Ok(Inputs { models: all(&self.models)?, data: all(&self.data)?, records })
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
            Plan::read(source, &[]).map(|plan| plan.resolved).map_err(|e| e.to_string())
        };
        assert!(plan("demo.toml", DEMO).unwrap().contains("seed"));
        for area in AREAS {
            for starter in area.starters {
                plan(starter.name, starter.text).unwrap();
            }
        }
    }
}
