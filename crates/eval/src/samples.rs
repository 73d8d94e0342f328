//! The file of an evaluation's samples: appended to item by item, read again by whoever goes on.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use amend_learn::{Error, Result};
use amend_run::file::write_atomic;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::item::{Item, Sample};
use crate::request::Answer;

/// What is evaluated: written first, and compared by whoever goes on.
const EVALUATION: &str = "evaluation.json";
/// One line per item that was answered.
const SAMPLES: &str = "samples.jsonl";

/// The samples of one evaluation in a folder. A process that is killed loses the line it was writing, no more.
#[derive(Debug)]
pub struct SampleLog {
    path: PathBuf,
    file: File,
    answered: HashMap<[String; 2], Sample>,
}

impl SampleLog {
    /// Starts in the folder `dir`, which must exist, or goes on with what is there. `evaluation` says everything
    /// that answers depend on: task, model, data, precision.
    ///
    /// # Errors
    /// Where the folder holds samples of something else; a damaged line before the last; a file that cannot be
    /// read or written.
    pub fn open(dir: &Path, evaluation: &Map<String, Value>) -> Result<Self> {
        check_evaluation(&dir.join(EVALUATION), evaluation)?;
        let path = dir.join(SAMPLES);
        let (samples, whole) = read(&path)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| failed("cannot write", &path, e))?;
        file.set_len(whole).map_err(|e| failed("cannot write", &path, e))?;
        let answered = samples.into_iter().map(|s| ([s.item.set.clone(), s.item.id.clone()], s)).collect();
        Ok(SampleLog { path, file, answered })
    }

    /// Whether the folder `dir` holds an evaluation.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(EVALUATION).exists()
    }

    /// Whether a file holds samples, judged by its first line.
    pub fn is_one(path: &Path) -> bool {
        let mut line = String::new();
        let read = File::open(path).and_then(|file| BufReader::new(file).read_line(&mut line));
        read.is_ok() && serde_json::from_str::<Sample>(&line).is_ok()
    }

    /// What was answered about an item before.
    ///
    /// # Errors
    /// Where it was another item of the same name.
    pub fn take(&mut self, item: &Item) -> Result<Option<Vec<Answer>>> {
        match self.answered.remove(&[item.set.clone(), item.id.clone()]) {
            Some(sample) if sample.item != *item => Err(Error::invalid(format!(
                "{}: item {} of set {:?} is not the one in the data; choose another folder",
                self.path.display(),
                item.id,
                item.set
            ))),
            sample => Ok(sample.map(|sample| sample.answers)),
        }
    }

    /// How many items were answered before and not yet taken.
    pub fn len(&self) -> usize {
        self.answered.len()
    }

    /// Whether nothing is left to be taken.
    pub fn is_empty(&self) -> bool {
        self.answered.is_empty()
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn append(&mut self, sample: &Sample) -> Result<()> {
        let line = line(sample)?;
        self.file.write_all(line.as_bytes()).map_err(|e| failed("cannot write", &self.path, e))
    }

    /// Writes samples into the folder `dir` at once, those of a log for example.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(dir: &Path, samples: &[Sample]) -> Result<()> {
        let lines = samples.iter().map(line).collect::<Result<String>>()?;
        Ok(write_atomic(&dir.join(SAMPLES), lines.as_bytes())?)
    }

    /// The samples that a file holds; none where it is not there. A torn last line is left out.
    ///
    /// # Errors
    /// A damaged line before the last; a file that cannot be read.
    pub fn read(path: &Path) -> Result<Vec<Sample>> {
        Ok(read(path)?.0)
    }
}

fn line(sample: &Sample) -> Result<String> {
    let text = serde_json::to_string(sample);
    Ok(text.map_err(|e| Error::invalid(format!("item {} cannot be written: {e}", sample.item.id)))? + "\n")
}

/// The samples, and the bytes that they take.
fn read(path: &Path) -> Result<(Vec<Sample>, u64)> {
    let text = match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|e| failed("cannot read", path, e))?,
    };
    let (mut samples, mut whole) = (Vec::new(), 0);
    for (number, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let end = whole + line.len();
        match serde_json::from_slice(line) {
            Ok(sample) if line.ends_with(b"\n") => samples.push(sample),
            _ if end == text.len() => break,
            Ok(_) => {}
            Err(e) => {
                let place = format!("{}:{}", path.display(), number + 1);
                return Err(Error::invalid(format!(
                    "{place}: this is no sample: {e}; choose another folder"
                )));
            }
        }
        whole = end;
    }
    Ok((samples, whole as u64))
}

fn check_evaluation(path: &Path, evaluation: &Map<String, Value>) -> Result<()> {
    let before = match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut text = pretty(evaluation)?;
            text.push('\n');
            return Ok(write_atomic(path, text.as_bytes())?);
        }
        read => read.map_err(|e| failed("cannot read", path, e))?,
    };
    let before: Map<String, Value> = serde_json::from_slice(&before)
        .map_err(|e| Error::invalid(format!("{}: {e}; choose another folder", path.display())))?;
    let names = before.keys().chain(evaluation.keys());
    match names.into_iter().find(|name| before.get(*name) != evaluation.get(*name)) {
        None => Ok(()),
        Some(name) => {
            let said = |map: &Map<String, Value>| map.get(name).map_or("none".to_owned(), Value::to_string);
            Err(Error::invalid(format!(
                "{}: the samples in this folder were made with another {name}: {} and not {}; choose another folder",
                path.display(),
                said(&before),
                said(evaluation)
            )))
        }
    }
}

fn pretty(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map_err(|e| Error::invalid(format!("{EVALUATION} cannot be written: {e}")))
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    amend_engine::Error::io(path, action, source).into()
}
