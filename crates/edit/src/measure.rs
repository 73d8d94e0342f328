//! Measuring a model on all edits: what it says before, what it says after.

use amend_engine::Model;
use amend_engine::tokenizer::Tokenizer;
use amend_eval::rewrite::Rewrites;
use amend_eval::{Item, Items, Sample, SampleLog, Subject, evaluate};
use amend_learn::{RecordEncoder, Result};
use amend_run::{Activity, Progress, Run, Silent};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Folder of a run in which every measurement has a folder of samples.
const FOLDER: &str = "answers";

/// How all models of a run are asked.
pub(crate) struct Asking<'a> {
    pub(crate) task: Rewrites,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) encoder: &'a RecordEncoder<'a>,
    pub(crate) items: &'a [Item],
}

impl Asking<'_> {
    /// Asks a model about all edits, as the stage `name`. Answers are kept as they come, in `answers/NAME/samples.jsonl`,
    /// from which an interrupted measurement goes on.
    pub(crate) fn measured(&self, run: &mut Run<'_>, name: &str, model: &Model) -> Result<Vec<Sample>> {
        let dir = folder(run.folder.path(), name);
        run.once(name, |run| -> Result<()> {
            std::fs::create_dir_all(&dir).map_err(|e| amend_engine::Error::io(&dir, "cannot create", e))?;
            let made_with = Map::from_iter([
                ("stage".to_owned(), Value::from(name)),
                ("max_new_tokens".to_owned(), json!(self.task.max_new_tokens)),
            ]);
            let items = Items { items: self.items.to_vec(), ..Items::default() };
            let mut log = SampleLog::open(&dir, &made_with, &items)?;
            let named = Named { progress: run.progress, name };
            evaluate(&self.task, self.items, &self.subject(model), Some(&mut log), &named, &run.stop)?;
            Ok(())
        })?;
        samples(run.folder.path(), name)
    }

    /// Asks a model about some edits, keeping nothing.
    pub(crate) fn asked(&self, model: &Model, items: &[Item]) -> Result<Vec<Sample>> {
        evaluate(&self.task, items, &self.subject(model), None, &Silent, &amend_run::Stop::default())
    }

    fn subject<'m>(&'m self, model: &'m Model) -> Subject<'m> {
        Subject::new(model, self.tokenizer, self.encoder)
    }
}

/// The samples that a measurement left in a run folder; none where it left none.
pub(crate) fn samples(run: &Path, name: &str) -> Result<Vec<Sample>> {
    SampleLog::read(&folder(run, name).join("samples.jsonl"))
}

/// Writes samples where a measurement of this name would have left them.
pub(crate) fn write_samples(run: &Path, name: &str, samples: &[Sample]) -> Result<()> {
    let dir = folder(run, name);
    std::fs::create_dir_all(&dir).map_err(|e| amend_engine::Error::io(&dir, "cannot create", e))?;
    SampleLog::write(&dir, samples)
}

fn folder(run: &Path, name: &str) -> PathBuf {
    run.join(FOLDER).join(name)
}

/// Tells of an evaluation under the name of its stage.
struct Named<'a> {
    progress: &'a dyn Progress,
    name: &'a str,
}

impl Progress for Named<'_> {
    fn begin(&self, _label: &str, total: u64, unit: &str) -> Box<dyn Activity> {
        self.progress.begin(self.name, total, unit)
    }

    fn note(&self, line: &str) {
        self.progress.note(line);
    }
}
