//! A sweep: one recipe run at every point of a grid, in a folder that several processes may work on.
//!
//! ```text
//! sweeps/lr/
//! ├── sweep.json     the grid, and where relative paths of the recipe start
//! ├── recipe.toml    the recipe, as it was given
//! ├── points/        a run folder for every point
//! └── claims/        a file for every point, locked by the process that works on it
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::file::{FileError, at, text_hash, write_atomic};
use crate::folder::{RunState, Status, read_state};
use crate::shell;

/// Most points of a sweep. More are a mistake sooner than a plan.
const MOST: usize = 10_000;

/// Why a sweep was refused.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The grid makes no sense; in one sentence.
    #[error("{0}")]
    Grid(String),
    /// A new sweep was sent to a folder that holds something.
    #[error("{} exists; go on with it (`amend sweep {}`), or choose another --out", .0.display(), shell::path(.0))]
    Exists(PathBuf),
    /// The folder holds no sweep.
    #[error("{} is not a sweep: {reason}", path.display())]
    NotASweep {
        /// The folder.
        path: PathBuf,
        /// What is missing or damaged.
        reason: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl SweepError {
    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            SweepError::Grid(_) => "invalid-argument",
            SweepError::Exists(_) => "output-exists",
            SweepError::NotASweep { .. } => "folder-no-sweep",
            SweepError::File(e) => e.code(),
        }
    }
}

/// One key of a recipe with the values that it is to have, each as `--set` reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// The dotted key.
    pub key: String,
    /// Its values, at least one.
    pub values: Vec<String>,
}

/// `optimizer.lr=1e-5,1e-4`; commas within brackets, braces and quotes belong to a value.
impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write KEY=VALUE,VALUE,… such as optimizer.lr=1e-5,1e-4";
        let (key, values) = text.split_once('=').ok_or(example)?;
        let values: Vec<String> =
            at_commas(values).into_iter().map(|value| value.trim().to_owned()).collect();
        if key.trim().is_empty() || values.iter().any(String::is_empty) {
            return Err(format!("a value is empty; {example}"));
        }
        if let Some(twice) = (1..values.len()).find(|&i| values[..i].contains(&values[i])) {
            return Err(format!("{} stands twice", values[twice]));
        }
        Ok(Axis { key: key.trim().to_owned(), values })
    }
}

/// The parts of a text between commas that are in no brackets and no quotes.
fn at_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth, mut quote) = (Vec::new(), 0, 0usize, None);
    for (place, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(&text[begin..place]);
                begin = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// A point of the grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its run folder's name: its number and its values.
    pub name: String,
    /// The value on every axis.
    pub values: Vec<String>,
    /// What it sets, beside what all points set.
    pub sets: Vec<String>,
}

/// What a sweep is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Where relative paths of the recipe start.
    pub recipe_folder: PathBuf,
    /// What every point sets.
    pub sets: Vec<String>,
    /// The grid.
    pub axes: Vec<Axis>,
    /// The command that began it.
    pub command: Vec<String>,
    /// SHA-256 of the recipe's copy.
    pub recipe: String,
}

/// How far a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointState {
    /// Its run has ended.
    Done,
    /// There is something left to do: from the beginning, or from where its run was interrupted or failed.
    Open {
        /// Whether there is a run to go on with.
        begun: bool,
    },
}

impl Sweep {
    /// Every point, the last axis running fastest.
    pub fn points(&self) -> Vec<Point> {
        let mut all: Vec<Vec<String>> = vec![Vec::new()];
        for axis in &self.axes {
            let further = |point: &Vec<String>| -> Vec<Vec<String>> {
                axis.values.iter().map(|value| [&point[..], std::slice::from_ref(value)].concat()).collect()
            };
            all = all.iter().flat_map(further).collect();
        }
        let digits = all.len().to_string().len();
        let point = |(index, values): (usize, Vec<String>)| {
            let words: Vec<String> = values.iter().map(|value| plain(value)).collect();
            Point {
                name: format!("{:0digits$}-{}", index + 1, words.join("-")),
                sets: self
                    .axes
                    .iter()
                    .zip(&values)
                    .map(|(axis, value)| format!("{}={value}", axis.key))
                    .collect(),
                values,
            }
        };
        all.into_iter().enumerate().map(point).collect()
    }

    /// Refuses a grid with a key that stands twice, that is also set at all points, or of more points than anybody means.
    ///
    /// # Errors
    /// [`SweepError::Grid`], which says what.
    pub fn check(&self) -> Result<(), SweepError> {
        let key = |i: usize| self.axes[i].key.as_str();
        if let Some(twice) = (1..self.axes.len()).find(|&i| (0..i).any(|j| key(j) == key(i))) {
            return Err(SweepError::Grid(format!(
                "two axes set `{}`; give all its values at once",
                key(twice)
            )));
        }
        let is_set = |axis: &&Axis| {
            self.sets.iter().any(|set| set.split('=').next().map(str::trim) == Some(axis.key.as_str()))
        };
        if let Some(axis) = self.axes.iter().find(is_set) {
            return Err(SweepError::Grid(format!(
                "`{0}` is an axis and set at all points, too; leave one of them out",
                axis.key
            )));
        }
        let points = self.axes.iter().fold(1usize, |points, axis| points.saturating_mul(axis.values.len()));
        if points > MOST {
            return Err(SweepError::Grid(format!("the grid has {points} points; {MOST} are the most")));
        }
        Ok(())
    }

    /// Begins a sweep of this recipe in `dir`, which must not exist or be empty.
    ///
    /// # Errors
    /// Where the grid makes no sense, the folder holds something, or a file cannot be written.
    pub fn create(&self, dir: &Path, recipe: &str) -> Result<(), SweepError> {
        self.check()?;
        let is_empty = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
        if dir.exists() && !is_empty(dir) {
            return Err(SweepError::Exists(dir.to_path_buf()));
        }
        for folder in [points_of(dir), claims_of(dir)] {
            fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        }
        write_atomic(&recipe_of(dir), recipe.as_bytes())?;
        let path = dir.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(|e| at("write", &path)(e.into()))?;
        Ok(write_atomic(&path, (text + "\n").as_bytes())?)
    }

    /// Reads the sweep in `dir`.
    ///
    /// # Errors
    /// [`SweepError::NotASweep`] where there is none or it is damaged.
    pub fn read(dir: &Path) -> Result<Self, SweepError> {
        let refuse = |reason: String| SweepError::NotASweep { path: dir.to_path_buf(), reason };
        let text = fs::read_to_string(dir.join(FILE)).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => refuse(format!("it has no {FILE}")),
            _ => refuse(format!("{FILE} cannot be read: {e}")),
        })?;
        let sweep: Self =
            serde_json::from_str(&text).map_err(|e| refuse(format!("{FILE} is damaged: {e}")))?;
        match fs::read_to_string(recipe_of(dir)) {
            Ok(recipe) if text_hash(&recipe) == sweep.recipe => {}
            Ok(_) => {
                return Err(refuse("its recipe.toml was changed by something else since it began".into()));
            }
            Err(e) => return Err(refuse(format!("its recipe.toml cannot be read: {e}"))),
        }
        sweep.check()?;
        Ok(sweep)
    }
}

const FILE: &str = "sweep.json";

/// The recipe of the sweep in a folder.
pub fn recipe_of(dir: &Path) -> PathBuf {
    dir.join("recipe.toml")
}

fn points_of(dir: &Path) -> PathBuf {
    dir.join("points")
}

fn claims_of(dir: &Path) -> PathBuf {
    dir.join("claims")
}

impl Point {
    /// Its run folder in that of the sweep.
    pub fn folder(&self, dir: &Path) -> PathBuf {
        points_of(dir).join(&self.name)
    }

    /// How far it is.
    pub fn state(&self, dir: &Path) -> PointState {
        match read_state(&self.folder(dir)) {
            Ok(RunState { status: Status::Done, .. }) => PointState::Done,
            Ok(_) => PointState::Open { begun: true },
            Err(_) => PointState::Open { begun: false },
        }
    }

    /// Takes the point, so that no other process does; `None` where one has. It is given back with the file, and by the
    /// system where the process ends in whatever way.
    ///
    /// # Errors
    /// Where the file cannot be made, or the file system knows no locks.
    pub fn claim(&self, dir: &Path) -> Result<Option<File>, SweepError> {
        let path = claims_of(dir).join(&self.name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(at("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(at("lock", &path)(e).into()),
        }
    }
}

/// A value as part of a folder's name.
fn plain(value: &str) -> String {
    const LONGEST: usize = 32;
    let kept = |c: char| if c.is_ascii_alphanumeric() || "._+".contains(c) { c } else { '-' };
    let words: String = value.chars().map(kept).collect();
    let parts: Vec<&str> = words.split('-').filter(|part| !part.is_empty()).collect();
    // A learning rate of 1e-5 is not one of 1e5.
    parts.join("-").chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "method = \"unlearn\"\n";

    fn sweep(axes: &[&str]) -> Sweep {
        let axes = axes.iter().map(|axis| axis.parse().unwrap()).collect();
        Sweep {
            recipe_folder: "/r".into(),
            sets: Vec::new(),
            axes,
            command: Vec::new(),
            recipe: text_hash(RECIPE),
        }
    }

    #[test]
    fn values_are_parted_at_commas_that_are_in_no_value() {
        let axis: Axis = "unlearn.forget = npo, { name = \"simnpo\", beta = 2 },'a,b'".parse().unwrap();
        assert_eq!(axis.key, "unlearn.forget");
        assert_eq!(axis.values, ["npo", "{ name = \"simnpo\", beta = 2 }", "'a,b'"]);
        for (text, part) in [("lr", "KEY=VALUE"), ("lr=", "empty"), ("lr=1,,2", "empty"), ("lr=1,1", "twice")]
        {
            assert!(text.parse::<Axis>().unwrap_err().contains(part), "{text}");
        }
    }

    #[test]
    fn every_point_of_the_grid_comes_once_with_a_name_of_its_own() {
        let points = sweep(&["a=1e-5,1e5", "b=x,{ name = \"y\" },z"]).points();
        assert_eq!(points.len(), 6);
        assert_eq!(points[0].name, "1-1e-5-x");
        assert_eq!(points[4].name, "5-1e5-name-y");
        assert_eq!(points[4].sets, ["a=1e5", "b={ name = \"y\" }"]);
        assert_eq!(sweep(&[]).points().len(), 1, "a recipe alone is one point");
        let long = format!("a={}", "x".repeat(400));
        assert!(sweep(&[&long]).points()[0].name.len() < 60);
    }

    #[test]
    fn a_grid_that_makes_no_sense_is_refused_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("s");
        let twice = sweep(&["a=1", "a=2"]).create(&dir, "").unwrap_err().to_string();
        assert!(twice.contains("two axes set `a`"), "{twice}");
        let numbers: Vec<String> = (0..200).map(|i| i.to_string()).collect();
        let [a, b] = ["a", "b"].map(|key| format!("{key}={}", numbers.join(",")));
        assert!(sweep(&[&a, &b]).create(&dir, "").unwrap_err().to_string().contains("40000 points"));
        assert!(!dir.exists());
    }

    #[test]
    fn a_sweep_is_found_again_and_its_points_are_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("s");
        let written = sweep(&["a=1,2"]);
        written.create(&dir, RECIPE).unwrap();
        assert_eq!(Sweep::read(&dir).unwrap(), written);
        assert!(matches!(written.create(&dir, ""), Err(SweepError::Exists(_))));
        let points = written.points();
        assert_eq!(points[0].state(&dir), PointState::Open { begun: false });
        let claim = points[0].claim(&dir).unwrap();
        assert!(claim.is_some() && points[0].claim(&dir).unwrap().is_none());
        assert!(points[1].claim(&dir).unwrap().is_some());
        drop(claim);
        assert!(points[0].claim(&dir).unwrap().is_some());
        fs::write(recipe_of(&dir), "method = \"other\"").unwrap();
        assert!(Sweep::read(&dir).unwrap_err().to_string().contains("was changed"));
        fs::write(dir.join(FILE), "{").unwrap();
        assert!(Sweep::read(&dir).unwrap_err().to_string().contains("damaged"));
        assert!(Sweep::read(folder.path()).unwrap_err().to_string().contains("no sweep.json"));
    }
}
