//! What an area is to whoever runs its recipes.
//!
//! An area's crate gives one [`Area`], which is nearly all that is known of it outside (beside it stand recipes that some
//! commands fill in): a new area is a crate, and a line in the command's list. Its functions are compiled in its own crate,
//! once, because none of them is generic.

use std::path::{Path, PathBuf};

use amend_run::comparison::FinishedRun;
use amend_run::frontier::Standing;
use amend_run::method::Method;
use amend_run::recipe::{Fault, Starter};
use amend_run::records::{Chosen, Filter, ReadOptions, Rows};
use amend_run::report::{Card, Section, Table};
use amend_run::{Dataset, Forecast, Progress, RecipeError, RecipePath, RecipeSource, Report, Run, RunFolder};
use serde_json::Value;

use crate::{Error, Result};

/// An area of work: unlearning, for example.
pub struct Area {
    /// What recipes call it: `method = "unlearn"`.
    pub name: &'static str,
    /// What it is for, in a line.
    pub summary: &'static str,
    /// Commented recipes, the usual one first.
    pub starters: &'static [Starter],
    /// Everything that fills its slots, in the order data flows.
    pub methods: fn() -> Vec<&'static dyn Method>,
    /// JSON schema of its recipes.
    pub schema: fn() -> Value,
    /// Reads a recipe, with `--set` overrides applied.
    pub plan: fn(RecipeSource, &[String]) -> Result<Plan>,
    /// Reads the results of a finished run, which is in this folder, again.
    pub read_results: fn(Value, &Path) -> Result<Found>,
    /// Puts runs side by side; the others are compared with the first.
    pub compare: fn(&[FinishedRun]) -> Result<Compared>,
    /// Says what every arm of every run gave up for what it reached.
    pub standings: fn(&[FinishedRun]) -> Result<Standings>,
    /// Says what can be certified of a run, or of runs of its seeds one by one.
    pub certified: fn(&[FinishedRun]) -> Result<Certified>,
}

impl Area {
    /// Whether a slot holds a list of fillers, going by the schema.
    pub fn is_list(&self, slot: &str) -> bool {
        let schema = (self.schema)();
        // `{"$ref": "#/$defs/Slots"}`, the section in which the area's slots are.
        let slots = &schema["properties"][self.name];
        let slots = slots["$ref"].as_str().and_then(|place| schema.pointer(place.strip_prefix('#')?));
        slots.is_some_and(|slots| slots["properties"][slot]["type"] == "array")
    }
}

/// The work of a run, given the folder that relative paths start at.
pub type Work = Box<dyn FnOnce(&Path, &mut Run<'_>) -> Result<Found>>;

/// What can be known of a run before it computes, given the folder that relative paths start at.
pub type Look = Box<dyn Fn(&Path, &dyn Progress) -> Result<Forecast>>;

/// Names the stages that a run of the recipe that is given has not done and would now do otherwise. Fails where it has done
/// one that would have been another.
pub type Revise = Box<dyn Fn(RecipeSource, &RunFolder) -> Result<Vec<String>>>;

/// A recipe that was read, checked and can be run.
pub struct Plan {
    /// The recipe with every default written out.
    pub resolved: String,
    /// Its seed.
    pub seed: u64,
    /// The recipe as it was given, for errors that point at it.
    pub source: RecipeSource,
    /// The overrides with which it was read.
    pub sets: Vec<String>,
    /// Model folders it reads.
    pub models: Vec<Input>,
    /// Data files it reads.
    pub data: Vec<Input>,
    /// What doing it will take; asked for by [`Plan::forecast`].
    pub look: Look,
    /// Fails where an interrupted run of the recipe that stands in its folder may not go on with this one.
    pub may_revise: Revise,
    /// Makes it ready to do so: clears away what it would now do otherwise.
    pub revise: Revise,
    /// What to do; done by [`Plan::carry_out`].
    pub work: Work,
}

impl Plan {
    /// What doing it will take, given the folder that relative paths start at.
    ///
    /// # Errors
    /// What the work would fail with, as far as it can be known; what the recipe is to blame for points at its line.
    pub fn forecast(&self, base: &Path, progress: &dyn Progress) -> Result<Forecast> {
        (self.look)(base, progress).map_err(|e| placed(e, &self.source, &self.sets))
    }

    /// Does it.
    ///
    /// # Errors
    /// Whatever it fails with; what the recipe is to blame for points at its line.
    pub fn carry_out(self, base: &Path, run: &mut Run<'_>) -> Result<Found> {
        let Plan { work, source, sets, .. } = self;
        work(base, run).map_err(|e| placed(e, &source, &sets))
    }

    /// Where the recipe says what stands under a key: `forget.toml:3:8: model.path`, or the `--set` that does.
    pub fn place_of(&self, key: &str) -> String {
        let error = RecipeError::at(&self.source, &self.sets, key, (Fault::Invalid, key.to_owned(), None));
        format!("{}: {}", error.place(), error.message)
    }

    /// An error of the recipe's at what it says under a key.
    fn refused(&self, key: &str, fault: Fault, message: String, hint: Option<&str>) -> Error {
        RecipeError::at(&self.source, &self.sets, key, (fault, message, hint)).into()
    }
}

/// An error that knows the key of a recipe that is to blame points at its line from now on.
fn placed(error: Error, source: &RecipeSource, sets: &[String]) -> Error {
    match error {
        Error::Conflict { key: Some(key), message } => {
            RecipeError::at(source, sets, &key, (Fault::Conflict, message, None)).into()
        }
        other => other,
    }
}

/// A file or folder that a recipe names.
pub struct Input {
    /// The dotted key under which it does: `data.forget`.
    pub key: String,
    /// What it says there.
    pub path: RecipePath,
    /// The key of the choice among its records with that choice, where not all are meant.
    pub choice: Option<(String, Filter)>,
    /// Whether its rows are the area's own to read, and no records.
    is_rows: bool,
}

impl Input {
    /// A model's folder.
    pub fn model(key: impl Into<String>, path: &RecipePath) -> Self {
        Input { key: key.into(), path: path.clone(), choice: None, is_rows: false }
    }

    /// A file of rows with columns of their own.
    pub fn rows(key: &str, chosen: &Chosen) -> Self {
        Input { is_rows: true, ..Input::records(key, chosen) }
    }

    /// A file of records.
    pub fn records(key: &str, chosen: &Chosen) -> Self {
        let choice = chosen.filter().map(|filter| (format!("{key}.where"), filter.clone()));
        let key = if choice.is_some() { format!("{key}.path") } else { key.to_owned() };
        Input { key, path: chosen.path().clone(), choice, is_rows: false }
    }

    /// The path to open, given the folder that relative ones start at.
    pub fn resolve(&self, base: &Path) -> PathBuf {
        self.path.resolve(base)
    }

    /// Looks whether there is anything at the path. `what` says what should be: "model".
    ///
    /// # Errors
    /// Where there is nothing; points at the recipe's line.
    pub fn check(&self, what: &str, base: &Path, plan: &Plan) -> Result<()> {
        let path = self.resolve(base);
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        let Input { key, path: said, .. } = self;
        let from = if path == Path::new(said.as_str()) {
            String::new()
        } else {
            format!(" ({} was looked for)", path.display())
        };
        let message = format!("`{key}` = \"{said}\": there is no such {what}{from}");
        let hint = "relative paths start at the recipe's folder";
        Err(plan.refused(key, Fault::MissingFile, message, Some(hint)))
    }

    /// Reads a file of records or rows, and looks whether the choice means any of them. Returns how many there are.
    ///
    /// # Errors
    /// Where it cannot be read; where the choice asks for a field that none has, or for what none holds: that points at the
    /// recipe's line.
    pub fn check_data(&self, base: &Path, plan: &Plan) -> Result<usize> {
        let path = self.resolve(base);
        let (count, split) = if self.is_rows {
            let rows = Rows::read(&[path], &ReadOptions::default())?.rows;
            (rows.len(), self.choice.as_ref().map(|(_, filter)| filter.split_rows(rows).map(|_| ())))
        } else {
            let records = Dataset::read(&[path])?.records;
            (records.len(), self.choice.as_ref().map(|(_, filter)| filter.split(records).map(|_| ())))
        };
        if let (Some(Err(e)), Some((key, _))) = (split, &self.choice) {
            return Err(plan.refused(key, Fault::Invalid, format!("`{key}`: {}: {e}", self.path), None));
        }
        Ok(count)
    }
}

/// What a run found out.
pub struct Found {
    /// Whether what the recipe asks for holds; nothing where it asks for nothing.
    pub passed: Option<bool>,
    /// Every figure, for results.json.
    pub results: Value,
    /// The whole report.
    pub report: Report,
    /// What is to stand beside the models that it keeps.
    pub cards: Vec<Card>,
    /// Folders that the run is not to keep once it has ended.
    pub superfluous: Vec<PathBuf>,
}

impl Found {
    /// What stands before the report's first heading: the verdict and what it rests on.
    pub fn summary(&self) -> Report {
        let before = |section: &&Section| !matches!(section, Section::Heading(_));
        let sections = self.report.sections.iter().take_while(before).cloned().collect();
        Report { title: self.report.title.clone(), sections }
    }
}

/// What arms of several runs reached and what they gave up for it.
#[derive(Clone, Debug)]
pub struct Standings {
    /// What was to come down.
    pub changed: String,
    /// Where to, where that is the same for all.
    pub aim: Option<f64>,
    /// What was to stay.
    pub kept: String,
    /// Why they cannot be compared, where they cannot.
    pub incomparable: Option<String>,
    /// Every arm of every run.
    pub all: Vec<Standing>,
    /// Their claims and figures, a row for each.
    pub table: Table,
}

/// What can be certified of a run, without a question or an answer of its data.
#[derive(Clone, Debug)]
pub struct Certified {
    /// Whether what the recipe asks for holds.
    pub passed: Option<bool>,
    /// What was claimed of every arm, and whether it holds.
    pub claims: Value,
    /// Everything that was measured, an item for each seed. The same models give the same, to the bit.
    pub figures: Value,
    /// The models from before and after, by absolute paths, each once.
    pub models: Vec<CertifiedModel>,
    /// For each seed a recipe that measures it all again, whose relative paths start where the run's did.
    pub again: Vec<String>,
}

/// A model that a certificate is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedModel {
    /// What it is.
    pub role: String,
    /// Its folder or file.
    pub path: PathBuf,
}

/// What an area has to say of several of its runs, of which the first is the one that the others are compared with.
#[derive(Clone, Debug)]
pub struct Compared {
    /// What has to be known before anything else, each in a sentence or two.
    pub warnings: Vec<String>,
    /// Figures, claims and differences.
    pub tables: Vec<Section>,
    /// Curves laid over each other.
    pub curves: Vec<Section>,
    /// All figures and differences, for programs.
    pub results: Value,
}
