//! What a model answered to the questions of an evaluation, kept as it comes: an interrupted evaluation goes on where it
//! was, a report can show everything, and programs can read it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use amend_eval::Answer;
use amend_eval::questions::Answered;
use amend_eval::scorers::{content_words, leaked};
use amend_learn::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, SeedResult};
use crate::stages::Stages;

/// Folder of a run in which there is a file per evaluation.
const FOLDER: &str = "answers";

/// One question, and what a model made of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The set it belongs to: `forget`, `retain`, …
    pub(crate) set: String,
    /// Its place there.
    pub(crate) index: usize,
    /// What was asked.
    pub(crate) question: String,
    /// The right answer.
    pub(crate) expected: String,
    /// What the model says; null where it was not asked for text.
    pub(crate) answer: Option<String>,
    /// Content words of the right answer that it says.
    pub(crate) leaked: Vec<String>,
    /// exp(−NLL/|y|) of the right answer.
    pub(crate) probability: Option<f64>,
    /// Everything it was asked, answer by answer, to the bit.
    pub(crate) answers: Vec<Answer>,
}

impl Row {
    /// Question `index` of a set.
    pub(crate) fn new(set: &str, index: usize, answered: &Answered, answers: Vec<Answer>) -> Self {
        let Answered { question, measured, .. } = answered;
        let content = content_words(question, &measured.answer);
        let said = measured.generation.as_deref().unwrap_or_default();
        let probability = measured.answer_loss.probability();
        Row {
            set: set.to_owned(),
            index,
            question: question.clone(),
            expected: measured.answer.clone(),
            answer: measured.generation.clone(),
            leaked: leaked(&content, said).into_iter().map(str::to_owned).collect(),
            probability: probability.is_finite().then_some(probability),
            answers,
        }
    }
}

#[cfg(test)]
impl Row {
    /// A row of which nothing is known but a probability.
    pub(crate) fn tried(set: &str, index: usize, probability: f64) -> Self {
        Row {
            set: set.to_owned(),
            index,
            question: String::new(),
            expected: String::new(),
            answer: None,
            leaked: Vec::new(),
            probability: Some(probability),
            answers: Vec::new(),
        }
    }
}

/// The file of one evaluation.
pub(crate) struct AnswerLog {
    path: PathBuf,
    file: File,
    /// Rows of before that have not been taken, in order.
    kept: std::vec::IntoIter<Row>,
}

impl AnswerLog {
    /// Opens `answers/NAME.jsonl` in a run folder. A line that was being written when the process ended is cut off.
    pub(crate) fn open(run: &Path, name: &str) -> Result<Self> {
        let dir = run.join(FOLDER);
        std::fs::create_dir_all(&dir).map_err(|e| amend_engine::Error::io(&dir, "cannot create", e))?;
        let path = file(run, name);
        let (rows, whole) = parse(&path)?;
        let failed = |e| amend_engine::Error::io(&path, "cannot write", e);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        Ok(AnswerLog { path, file, kept: rows.into_iter() })
    }

    /// How many questions were answered before.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// What was answered before to question `index` of a set, where questions are asked in the same order.
    pub(crate) fn take(&mut self, set: &str, index: usize) -> Option<Vec<Answer>> {
        let next = self.kept.as_slice().first()?;
        let same = next.set == set && next.index == index;
        if same { self.kept.next().map(|row| row.answers) } else { None }
    }

    /// Adds what was answered to one question.
    pub(crate) fn append(&mut self, row: &Row) -> Result<()> {
        let line = serde_json::to_string(row);
        let line = line.map_err(|e| Error::invalid(format!("an answer cannot be written: {e}")))? + "\n";
        let failed = |e| amend_engine::Error::io(&self.path, "cannot write", e);
        Ok(self.file.write_all(line.as_bytes()).map_err(failed)?)
    }
}

/// The answers of an evaluation; none where it kept none.
pub(crate) fn read(run: &Path, name: &str) -> Result<Vec<Row>> {
    Ok(parse(&file(run, name))?.0)
}

/// Whether the file of an evaluation is there.
pub(crate) fn was_kept(run: &Path, name: &str) -> bool {
    file(run, name).exists()
}

/// Removes what an evaluation kept, if it kept anything.
pub(crate) fn forget(run: &Path, name: &str) -> Result<()> {
    let path = file(run, name);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(amend_engine::Error::io(&path, "cannot remove", e).into())
        }
        _ => Ok(()),
    }
}

/// The answers of an arm, seed by seed; none for a seed of which none were kept.
pub(crate) fn of_arm(run: &Path, outcome: &Outcome, arm: &str) -> Result<Vec<Vec<Row>>> {
    let of_seed = |seed: &SeedResult| read(run, &Stages::of(seed.seed, outcome.seeds.len()).eval(arm));
    outcome.seeds.iter().map(of_seed).collect()
}

fn file(run: &Path, name: &str) -> PathBuf {
    run.join(FOLDER).join(format!("{name}.jsonl"))
}

/// The rows of a file and the bytes they take, a torn last line left out.
fn parse(path: &Path) -> Result<(Vec<Row>, usize)> {
    // Bytes and not text: a line may be torn within a character.
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(e) => return Err(amend_engine::Error::io(path, "cannot read", e).into()),
    };
    let (mut rows, mut whole) = (Vec::new(), 0);
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    for (number, line) in lines.enumerate() {
        rows.push(serde_json::from_slice(line).map_err(|e| {
            amend_engine::Error::format(path, format!("line {}: this is no answer: {e}", number + 1))
        })?);
        whole += line.len();
    }
    Ok((rows, whole))
}
