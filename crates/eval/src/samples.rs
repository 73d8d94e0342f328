//! The file of an evaluation's samples: appended to item by item, read again by whoever goes on.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use amend_learn::{Error, Result};
use amend_run::file::write_atomic;
use amend_run::folder::lock;
use amend_run::stored;
use serde_json::{Map, Value, json};

use crate::item::{Item, Items, Sample};
use crate::request::Answer;

/// What is evaluated: written first, and compared by whoever goes on.
const EVALUATION: &str = "evaluation.json";

/// The task that made the samples in this file, where a note beside it says so.
pub fn task_of(samples: &Path) -> Option<String> {
    let text = std::fs::read(samples.with_file_name(EVALUATION)).ok()?;
    let evaluation: Value = serde_json::from_slice(&text).ok()?;
    let task = &evaluation["task"];
    task.as_str().or_else(|| task["name"].as_str()).map(str::to_owned)
}
/// One line per item that was answered.
const SAMPLES: &str = "samples.jsonl";
/// In [`EVALUATION`]: how many items there are.
const ITEMS: &str = "items";

/// The samples of one evaluation in a folder, which is locked as a run's is. A process that is killed loses the line it
/// was writing, no more.
#[derive(Debug)]
pub struct SampleLog {
    path: PathBuf,
    file: File,
    answered: HashMap<[String; 2], Sample>,
    /// Held open for the lock alone.
    _lock: File,
}

impl SampleLog {
    /// Starts in the folder `dir`, which must exist, or goes on with what is there. Answers depend on `made_with`
    /// (task, model, precision) and on the data; both are written down, the data as hashes.
    ///
    /// # Errors
    /// Where another process works on the folder, or it holds samples of something else; a damaged line before the
    /// last; an item that is answered twice; a file that cannot be read or written.
    pub fn open(dir: &Path, made_with: &Map<String, Value>, data: &Items) -> Result<Self> {
        let lock = lock(dir)?;
        let mut evaluation = made_with.clone();
        evaluation.insert("data".to_owned(), json!(data.sha256));
        evaluation.insert(ITEMS.to_owned(), data.items.len().into());
        let path = dir.join(SAMPLES);
        let (samples, whole) = read(&path)?;
        let said = dir.join(EVALUATION);
        match evaluation_in(&said)? {
            Some(before) => check_same(&said, &before, &evaluation)?,
            None if samples.is_empty() => write_evaluation(&said, &evaluation)?,
            None => {
                let path = path.display();
                return Err(Error::samples(format!(
                    "{path}: samples of another evaluation, without its {EVALUATION}; choose another folder"
                )));
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| failed("cannot write", &path, e))?;
        file.set_len(whole).map_err(|e| failed("cannot write", &path, e))?;
        let answered = samples.into_iter().map(|s| ([s.item.set.clone(), s.item.id.clone()], s)).collect();
        Ok(SampleLog { path, file, answered, _lock: lock })
    }

    /// Whether the folder `dir` holds an evaluation.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(EVALUATION).exists()
    }

    /// Whether a file holds samples, judged by its first line, or is that of an evaluation which has none yet.
    pub fn is_one(path: &Path) -> bool {
        let mut line = String::new();
        let read = File::open(path).and_then(|file| BufReader::new(file).read_line(&mut line));
        read.is_ok() && (parse(line.as_bytes()).is_ok() || beside(path).is_some_and(|path| path.exists()))
    }

    /// Refuses samples that were answered before and are of none of these items.
    ///
    /// # Errors
    /// Where there is one; names it.
    pub fn check(&self, items: &[Item]) -> Result<()> {
        let items: HashMap<_, &Item> = items.iter().map(|item| ([&item.set, &item.id], item)).collect();
        let foreign = |item: &&Item| items.get(&[&item.set, &item.id]).is_none_or(|known| known != item);
        let answered = self.answered.values().map(|sample| &sample.item);
        match answered.filter(foreign).min_by_key(|item| (&item.set, &item.id)) {
            None => Ok(()),
            Some(Item { set, id, .. }) => Err(Error::samples(format!(
                "{}: item {id} of set {set:?} is not in the data, or not as it stands here; choose another folder",
                self.path.display()
            ))),
        }
    }

    /// What was answered about an item before.
    pub fn take(&mut self, item: &Item) -> Option<Vec<Answer>> {
        Some(self.answered.remove(&[item.set.clone(), item.id.clone()])?.answers)
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

    /// The samples that a file holds; none where it is not there.
    ///
    /// # Errors
    /// An evaluation that is not finished, going by what lies beside its samples; a damaged line before the last; an
    /// item that is answered twice; a file that cannot be read.
    pub fn read(path: &Path) -> Result<Vec<Sample>> {
        let (samples, _) = read(path)?;
        let evaluation = beside(path).map(|path| evaluation_in(&path)).transpose()?.flatten();
        let asked = evaluation.as_ref().and_then(|evaluation| evaluation.get(ITEMS)?.as_u64());
        match asked.filter(|&asked| (samples.len() as u64) < asked) {
            None => Ok(samples),
            Some(asked) => Err(Error::samples(format!(
                "{}: {} of {asked} items are answered; go on with the evaluation by the command that began it, or copy \
                 the file elsewhere for figures of these items alone",
                path.display(),
                samples.len()
            ))),
        }
    }
}

/// Where it says what these samples were made with, if they are those of an evaluation.
fn beside(samples: &Path) -> Option<PathBuf> {
    (samples.file_name()? == SAMPLES).then(|| samples.with_file_name(EVALUATION))
}

fn parse(line: &[u8]) -> serde_json::Result<Sample> {
    stored::from_value(serde_json::from_slice(line)?)
}

fn line(sample: &Sample) -> Result<String> {
    let text = serde_json::to_string(sample);
    Ok(text.map_err(|e| Error::samples(format!("item {} cannot be written: {e}", sample.item.id)))? + "\n")
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
        match parse(line) {
            Ok(sample) if line.ends_with(b"\n") => samples.push(sample),
            _ if end == text.len() => break,
            Ok(_) => {}
            Err(e) => {
                let place = format!("{}:{}", path.display(), number + 1);
                return Err(Error::samples(format!(
                    "{place}: this is no sample: {e}; choose another folder"
                )));
            }
        }
        whole = end;
    }
    check_answered_once(path, &samples)?;
    Ok((samples, whole as u64))
}

/// An item that is answered twice would count twice in every figure. Two evaluations that wrote to one folder at the same
/// time leave such files.
fn check_answered_once(path: &Path, samples: &[Sample]) -> Result<()> {
    let mut names = HashSet::new();
    match samples.iter().position(|sample| !names.insert((&sample.item.set, &sample.item.id))) {
        None => Ok(()),
        Some(index) => {
            let Item { set, id, .. } = &samples[index].item;
            let set = if set.is_empty() { String::new() } else { format!(" of set {set}") };
            Err(Error::samples(format!(
                "{}:{}: item {id}{set} is answered a second time; remove one of the two lines, or evaluate \
                 into another folder",
                path.display(),
                index + 1
            )))
        }
    }
}

/// What an evaluation was made with; none where the file is not there.
fn evaluation_in(path: &Path) -> Result<Option<Map<String, Value>>> {
    match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => serde_json::from_slice(&read.map_err(|e| failed("cannot read", path, e))?)
            .map_err(|e| Error::samples(format!("{}: {e}; choose another folder", path.display()))),
    }
}

fn write_evaluation(path: &Path, evaluation: &Map<String, Value>) -> Result<()> {
    let mut text = serde_json::to_string_pretty(evaluation)
        .map_err(|e| Error::samples(format!("{EVALUATION} cannot be written: {e}")))?;
    text.push('\n');
    Ok(write_atomic(path, text.as_bytes())?)
}

fn check_same(path: &Path, before: &Map<String, Value>, now: &Map<String, Value>) -> Result<()> {
    let Some((name, before, now)) = difference(before, now) else { return Ok(()) };
    let differ = match (before, now) {
        (Some(before), Some(now)) => format!("another {name}: {before} and not {now}"),
        (Some(before), None) => format!("{name}: {before}, which is not asked for now"),
        (None, now) => format!("out {name}, which is now {}", now.map(Value::to_string).unwrap_or_default()),
    };
    Err(Error::samples(format!(
        "{}: the samples in this folder were made with{}{differ}; choose another folder",
        path.display(),
        if before.is_some() { " " } else { "" }
    )))
}

/// The first value in which two objects differ, by its path.
fn difference<'v>(
    one: &'v Map<String, Value>,
    other: &'v Map<String, Value>,
) -> Option<(String, Option<&'v Value>, Option<&'v Value>)> {
    one.keys().chain(other.keys()).find_map(|name| match (one.get(name), other.get(name)) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            difference(one, other).map(|(inner, one, other)| (format!("{name}.{inner}"), one, other))
        }
        (one, other) => (one != other).then(|| (name.clone(), one, other)),
    })
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    amend_engine::Error::io(path, action, source).into()
}
