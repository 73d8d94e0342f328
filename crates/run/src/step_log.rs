//! Files of rows in a run folder: one JSON object per logged step, in the order in which they were logged.
//! `metrics.jsonl` holds a row per step, `trajectories.jsonl` what was sampled in it.
//!
//! Two runs of the same recipe write the same bytes, so rows never hold times. Each row is written with one call
//! and kept by the system even if the process is killed; a machine that loses power may tear the last row, which
//! is dropped on reopening.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::file::{FileError, at, write_atomic};

/// What every step of a stage measured.
pub const METRICS: &str = "metrics.jsonl";

/// What a step sampled, where it samples: a row per trajectory.
pub const TRAJECTORIES: &str = "trajectories.jsonl";

/// What can go wrong with a file of rows.
#[derive(Debug, thiserror::Error)]
pub enum StepLogError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A row in the middle of the file is not a row.
    #[error("{}:{line}: not a row of a run ({reason}); the file was changed by something else", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong with the line.
        reason: String,
    },
    /// The caller logged something that is not a set of named values.
    #[error("cannot log these values at {stage} step {step}: {reason}")]
    Values {
        /// Stage being logged.
        stage: String,
        /// Step being logged.
        step: u64,
        /// What is wrong with them.
        reason: String,
    },
}

impl StepLogError {
    /// What programs know the error by; it does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            StepLogError::File(e) => e.code(),
            StepLogError::Row { .. } => "run-damaged",
            StepLogError::Values { .. } => "invalid-argument",
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct StepRow {
    /// The stage of the run: "forget", "relearn".
    pub stage: String,
    /// The step within the stage.
    pub step: u64,
    /// The logged values in their order; null stands for NaN and infinities.
    #[serde(flatten)]
    pub values: Map<String, Value>,
}

/// Who is told what becomes of the rows of a file, so as to keep something else in step with it.
pub trait RowListener: Send {
    /// The row is in the file.
    ///
    /// # Errors
    /// Where the listener cannot write what it keeps.
    fn logged(&mut self, row: &StepRow) -> Result<(), FileError>;

    /// The file has gone back: of `stage`, what was logged after `step` is no longer there (`None`: nothing of it is).
    /// `kept` is what the file holds now.
    ///
    /// # Errors
    /// As [`RowListener::logged`].
    fn rewound(&mut self, stage: &str, step: Option<u64>, kept: &[StepRow]) -> Result<(), FileError>;
}

/// Appends rows to a file.
pub struct StepLog {
    path: PathBuf,
    /// Opened with the first row: a run that logs none of a kind has no such file.
    file: Option<File>,
    listeners: Vec<Box<dyn RowListener>>,
}

impl StepLog {
    /// Opens the file `name` in the run folder `dir`, repairing a torn last row where it is there.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or a row before the last is damaged.
    pub fn open(dir: &Path, name: &str) -> Result<Self, StepLogError> {
        let path = dir.join(name);
        let bytes = read_if_present(&path)?;
        let whole = whole_rows(&path, &bytes)?;
        let kept: usize = whole.iter().map(|(line, _)| line.len() + 1).sum();
        if kept != bytes.len() {
            write_atomic(&path, &join(whole.iter().map(|(line, _)| *line)))?;
        }
        Ok(Self { file: None, path, listeners: Vec::new() })
    }

    /// From now on `listener` is told of every row.
    pub fn listen(&mut self, listener: Box<dyn RowListener>) {
        self.listeners.push(listener);
    }

    /// Appends `{"stage": …, "step": …, <values>}`. `values` is anything that serialises to named values: a
    /// struct, a map, `serde_json::json!({…})`. NaN and infinities become null.
    ///
    /// # Errors
    /// Where `values` is not a set of names, names `stage` or `step` again, or the file cannot be written.
    pub fn append(&mut self, stage: &str, step: u64, values: &impl Serialize) -> Result<(), StepLogError> {
        self.append_all(stage, [(step, values)])
    }

    /// Appends several rows of a stage, each a step and its values, with one call: a process that is killed leaves
    /// all of them or none.
    ///
    /// # Errors
    /// As [`StepLog::append`]. Of values that are refused nothing is written; a disk that is full may take a part.
    pub fn append_all(
        &mut self,
        stage: &str,
        rows: impl IntoIterator<Item = (u64, impl Serialize)>,
    ) -> Result<(), StepLogError> {
        let (lines, rows) = lines(stage, rows)?;
        let file = match self.file.take() {
            Some(file) => file,
            None => append_to(&self.path)?,
        };
        self.file.insert(file).write_all(lines.as_bytes()).map_err(at("write", &self.path))?;
        self.tell(&rows)
    }

    /// Appends several rows of a stage, of which all are on the disk when this returns, and none where it fails or the
    /// machine does. The whole file is replaced: this is for files of few rows.
    ///
    /// # Errors
    /// As [`StepLog::append`]; nothing is written then.
    pub fn append_whole(
        &mut self,
        stage: &str,
        rows: impl IntoIterator<Item = (u64, impl Serialize)>,
    ) -> Result<(), StepLogError> {
        let (lines, rows) = lines(stage, rows)?;
        self.replace(&[&read_if_present(&self.path)?, lines.as_bytes()].concat())?;
        self.tell(&rows)
    }

    fn tell(&mut self, rows: &[StepRow]) -> Result<(), StepLogError> {
        for listener in &mut self.listeners {
            rows.iter().try_for_each(|row| listener.logged(row))?;
        }
        Ok(())
    }

    fn replace(&mut self, content: &[u8]) -> Result<(), StepLogError> {
        write_atomic(&self.path, content)?;
        // The old handle still points at the file that was replaced.
        self.file = None;
        Ok(())
    }

    /// Forgets what was logged after the last checkpoint, so that a resumed run's file ends up equal to the file
    /// of a run that was never interrupted. Kept are the rows of `finished` stages, and those of `stage` up to
    /// and including `step` (`None`: the stage starts afresh).
    ///
    /// # Errors
    /// Where the file cannot be read or replaced.
    pub fn rewind(
        &mut self,
        stage: &str,
        step: Option<u64>,
        finished: impl Fn(&str) -> bool,
    ) -> Result<(), StepLogError> {
        let bytes = read_if_present(&self.path)?;
        let mut rows = whole_rows(&self.path, &bytes)?;
        rows.retain(|(_, row)| {
            if row.stage == stage { step.is_some_and(|step| row.step <= step) } else { finished(&row.stage) }
        });
        let kept = join(rows.iter().map(|(line, _)| *line));
        if kept == bytes {
            return Ok(());
        }
        self.replace(&kept)?;
        let rows: Vec<StepRow> = rows.into_iter().map(|(_, row)| row).collect();
        for listener in &mut self.listeners {
            listener.rewound(stage, step, &rows)?;
        }
        Ok(())
    }

    /// All rows of the file `name` in the run folder `dir`; none where nothing was logged yet. A torn last row is
    /// left out.
    ///
    /// # Errors
    /// Where the file cannot be read, or a row before the last is damaged.
    pub fn read(dir: &Path, name: &str) -> Result<Vec<StepRow>, StepLogError> {
        let path = dir.join(name);
        let bytes = read_if_present(&path)?;
        Ok(whole_rows(&path, &bytes)?.into_iter().map(|(_, row)| row).collect())
    }
}

/// Rows as lines of the file, and as they will be read.
fn lines(
    stage: &str,
    rows: impl IntoIterator<Item = (u64, impl Serialize)>,
) -> Result<(String, Vec<StepRow>), StepLogError> {
    rows.into_iter().map(|(step, values)| line(stage, step, &values)).collect()
}

/// A row as a line of the file, and as it will be read.
fn line(stage: &str, step: u64, values: &impl Serialize) -> Result<(String, StepRow), StepLogError> {
    let refuse = |reason: String| StepLogError::Values { stage: stage.to_owned(), step, reason };
    // Through text and not `to_value`: an f32 of 0.1 stays 0.1.
    let values = serde_json::to_string(values).map_err(|e| refuse(e.to_string()))?;
    let names: Map<String, Value> =
        serde_json::from_str(&values).map_err(|_| refuse("they are not named".into()))?;
    if let Some(taken) = ["stage", "step"].into_iter().find(|name| names.contains_key(*name)) {
        return Err(refuse(format!("the name `{taken}` is taken")));
    }
    let separator = if names.is_empty() { "" } else { "," };
    let line = format!("{{\"stage\":{},\"step\":{step}{separator}{}\n", Value::from(stage), &values[1..]);
    Ok((line, StepRow { stage: stage.to_owned(), step, values: names }))
}

/// Listeners have no form that could be shown.
impl std::fmt::Debug for StepLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepLog").field("path", &self.path).finish_non_exhaustive()
    }
}

fn read_if_present(path: &Path) -> Result<Vec<u8>, FileError> {
    match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(at("read", path)),
    }
}

fn append_to(path: &Path) -> Result<File, FileError> {
    OpenOptions::new().create(true).append(true).open(path).map_err(at("write", path))
}

fn join<'l>(lines: impl Iterator<Item = &'l [u8]>) -> Vec<u8> {
    lines.flat_map(|line| [line, b"\n"].concat()).collect()
}

/// The lines that are whole rows, with what they say. Only the last line may be anything else.
fn whole_rows<'b>(path: &Path, bytes: &'b [u8]) -> Result<Vec<(&'b [u8], StepRow)>, StepLogError> {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = bytes.strip_suffix(b"\n").map_or(lines.len(), |_| lines.len() - 1);
    let mut rows = Vec::with_capacity(last);
    for (index, line) in lines[..last].iter().enumerate() {
        match serde_json::from_slice(line) {
            Ok(row) => rows.push((*line, row)),
            Err(_) if index + 1 == last => break,
            Err(e) => {
                let reason = e.to_string();
                return Err(StepLogError::Row { path: path.to_path_buf(), line: index + 1, reason });
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(dir: &Path) -> String {
        fs::read_to_string(dir.join(METRICS)).unwrap()
    }

    #[test]
    fn rows_hold_what_was_logged() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = StepLog::open(dir.path(), METRICS).unwrap();
        #[derive(Serialize)]
        struct Logged {
            loss: f32,
            norm: f64,
        }
        metrics.append("forget", 1, &Logged { loss: 0.1, norm: f64::NAN }).unwrap();
        metrics.append("forget", 2, &json!({})).unwrap();
        let expected = "{\"stage\":\"forget\",\"step\":1,\"loss\":0.1,\"norm\":null}\n\
                        {\"stage\":\"forget\",\"step\":2}\n";
        assert_eq!(text(dir.path()), expected);
        let rows = StepLog::read(dir.path(), METRICS).unwrap();
        assert_eq!((rows[0].step, &rows[0].values["loss"]), (1, &json!(0.1)));
        assert!(metrics.append("forget", 3, &json!([1])).is_err());
        assert!(metrics.append("forget", 3, &json!({ "step": 1 })).is_err());
        assert_eq!(text(dir.path()), expected, "a refused row leaves nothing behind");
    }

    /// Writes down what it is told.
    #[derive(Clone, Default)]
    struct Told(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

    impl RowListener for Told {
        fn logged(&mut self, row: &StepRow) -> Result<(), FileError> {
            self.0.lock().unwrap().push(format!("{} {} {}", row.stage, row.step, row.values["loss"]));
            Ok(())
        }

        fn rewound(&mut self, stage: &str, step: Option<u64>, kept: &[StepRow]) -> Result<(), FileError> {
            self.0.lock().unwrap().push(format!("{stage} back to {step:?}, {} left", kept.len()));
            Ok(())
        }
    }

    #[test]
    fn listeners_hear_what_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = StepLog::open(dir.path(), METRICS).unwrap();
        let told = Told::default();
        metrics.append("a", 1, &json!({ "loss": 3 })).unwrap();
        metrics.listen(Box::new(told.clone()));
        metrics.append_all("b", [(1, json!({ "loss": 2 })), (2, json!({ "loss": 1 }))]).unwrap();
        assert!(metrics.append("b", 3, &json!([1])).is_err());
        metrics.append_whole("b", [(3, json!({ "loss": 0 }))]).unwrap();
        metrics.rewind("b", Some(3), |_| true).unwrap();
        metrics.rewind("b", Some(1), |_| true).unwrap();
        let expected = ["b 1 2", "b 2 1", "b 3 0", "b back to Some(1), 2 left"];
        assert_eq!(*told.0.lock().unwrap(), expected, "what changes nothing is not told");
    }

    #[test]
    fn a_torn_last_row_is_dropped_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(METRICS);
        let good = "{\"stage\":\"a\",\"step\":1}\n";
        for torn in ["{\"stage\":\"a\",\"st", "\0\0\0\n", "{", "\u{fffd}"] {
            fs::write(&path, format!("{good}{torn}")).unwrap();
            assert_eq!(StepLog::read(dir.path(), METRICS).unwrap().len(), 1, "{torn:?}");
            let mut metrics = StepLog::open(dir.path(), METRICS).unwrap();
            metrics.append("a", 2, &json!({})).unwrap();
            assert_eq!(text(dir.path()), format!("{good}{{\"stage\":\"a\",\"step\":2}}\n"));
        }
        fs::write(&path, "{\"stage\":\"a\",\"step\":1}").unwrap();
        drop(StepLog::open(dir.path(), METRICS).unwrap());
        assert_eq!(text(dir.path()), good, "a whole row that only lacks its newline is kept");
        fs::write(&path, format!("oops\n{good}")).unwrap();
        let error = StepLog::open(dir.path(), METRICS).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl:1:"), "{error}");
    }

    #[test]
    fn a_rewound_and_continued_file_equals_the_uninterrupted_one() {
        let log = |metrics: &mut StepLog, stage: &str, steps: std::ops::RangeInclusive<u64>| {
            for step in steps {
                metrics.append(stage, step, &json!({ "loss": 1.0 / step as f64 })).unwrap();
            }
        };
        let [whole, cut] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut metrics = StepLog::open(whole.path(), METRICS).unwrap();
        log(&mut metrics, "a", 1..=3);
        log(&mut metrics, "b", 1..=6);

        let mut metrics = StepLog::open(cut.path(), METRICS).unwrap();
        log(&mut metrics, "a", 1..=3);
        log(&mut metrics, "b", 1..=5);
        let mut metrics = StepLog::open(cut.path(), METRICS).unwrap();
        metrics.rewind("b", Some(4), |stage| stage == "a").unwrap();
        log(&mut metrics, "b", 5..=6);
        assert_eq!(text(cut.path()), text(whole.path()));

        metrics.rewind("b", None, |stage| stage == "a").unwrap();
        log(&mut metrics, "b", 1..=6);
        assert_eq!(text(cut.path()), text(whole.path()));
        metrics.rewind("a", None, |_| false).unwrap();
        assert_eq!(text(cut.path()), "");
    }
}
