//! The record sets of a run: from files, or from a world made on the spot.

use std::path::Path;

use amend_engine::Rng;
use amend_eval::world::{Split, World, WorldConfig, jsonl};
use amend_learn::{Conversation, Error, Result};
use amend_run::file::write_atomic;
use amend_run::{Content, Dataset, RecipePath, Record, Run, overlap};

use crate::recipe::Data;

/// What is forgotten, kept, measured and attacked with.
#[derive(Debug, Clone, Default)]
pub struct Sets {
    /// To be forgotten.
    pub forget: Vec<Record>,
    /// To be kept.
    pub retain: Vec<Record>,
    /// The forget set as it is measured.
    pub forget_eval: Vec<Record>,
    /// The retain set as it is measured.
    pub retain_eval: Vec<Record>,
    /// Questions about real authors.
    pub real_authors: Option<Vec<Record>>,
    /// Questions about the world.
    pub world_facts: Option<Vec<Record>>,
    /// Half T of the forget set: what a relearning attacker has.
    pub attack: Vec<Record>,
    /// Half V: what the attacker wants back.
    pub attack_test: Vec<Record>,
}

impl Sets {
    /// Reads or makes the sets of one seed.
    pub fn prepare(run: &mut Run<'_>, data: &Data, base: &Path, seed: u64) -> Result<Self> {
        let sets = match (&data.world, &data.forget, &data.retain) {
            (Some(world), None, None) => Self::from_world(run, world, seed)?,
            (None, Some(forget), Some(retain)) => Self::from_files(run, data, forget, retain, base, seed)?,
            (Some(_), ..) => {
                return Err(Error::conflict(
                    "[data]: give either `world` or `forget` and `retain`, not both",
                ));
            }
            _ => {
                return Err(Error::conflict(
                    "[data]: `forget` and `retain` are needed: the files of what to forget and what to keep",
                ));
            }
        };
        let same = overlap(&sets.forget, &sets.retain).len();
        if same > 0 {
            run.progress.note(&format!(
                "warning: {same} records are in both the forget and the retain set; they pull both ways"
            ));
        }
        Ok(sets)
    }

    fn from_files(
        run: &Run<'_>,
        data: &Data,
        forget: &RecipePath,
        retain: &RecipePath,
        base: &Path,
        seed: u64,
    ) -> Result<Self> {
        let read = |path: &RecipePath| -> Result<Vec<Record>> {
            let set = read_answered(&path.resolve(base))?;
            run.progress.note(&format!("{path}: {}", set.reading));
            Ok(set.records)
        };
        let optional = |path: &Option<RecipePath>| path.as_ref().map(read).transpose();
        let (forget, retain) = (read(forget)?, read(retain)?);
        let (attack, attack_test) = halves(&forget, seed);
        Ok(Sets {
            forget_eval: optional(&data.forget_eval)?.unwrap_or_else(|| forget.clone()),
            retain_eval: optional(&data.retain_eval)?.unwrap_or_else(|| retain.clone()),
            real_authors: optional(&data.real_authors)?,
            world_facts: optional(&data.world_facts)?,
            forget,
            retain,
            attack,
            attack_test,
        })
    }

    /// Makes the world, writes it into the run folder and reads it back, so that a run on one's own
    /// files can start from what the demo wrote.
    fn from_world(run: &Run<'_>, config: &WorldConfig, seed: u64) -> Result<Self> {
        let config = WorldConfig { seed, ..config.clone() };
        let world = World::generate(config).map_err(|e| Error::conflict(format!("[data.world]: {e}")))?;
        let dir = run.folder.path().join("data").join(format!("seed{seed}"));
        std::fs::create_dir_all(&dir).map_err(|e| amend_engine::Error::io(&dir, "cannot create", e))?;
        let keep = |name: &str, records: Vec<amend_eval::world::FactRecord>| -> Result<Vec<Record>> {
            let path = dir.join(name);
            let text = jsonl(&records).map_err(|e| Error::invalid(e.to_string()))?;
            write_atomic(&path, text.as_bytes())?;
            Ok(Dataset::read(&[path])?.records)
        };
        let forget = keep("forget.jsonl", world.records(Split::Forget))?;
        let retain = keep("retain.jsonl", world.records(Split::Retain))?;
        let split = world.relearn_split(seed);
        Ok(Sets {
            attack: keep("attack.jsonl", world.records_of_facts(&split.attack))?,
            attack_test: keep("attack_test.jsonl", world.records_of_facts(&split.test))?,
            forget_eval: forget.clone(),
            retain_eval: retain.clone(),
            forget,
            retain,
            ..Default::default()
        })
    }

    /// All text of forget and retain set, in order: what a tokenizer is trained on.
    pub fn texts(&self) -> Vec<String> {
        self.retain.iter().chain(&self.forget).flat_map(record_texts).collect()
    }
}

/// The records of a file, each of which has an answer that can be forgotten, kept or measured.
fn read_answered(file: &Path) -> Result<Dataset> {
    let set = Dataset::read(&[file])?;
    let is_unanswered = |record: &Record| match &record.content {
        Content::Messages(turns) => Conversation::of(turns).answer.is_none(),
        Content::Question { .. } | Content::PromptCompletion { .. } | Content::Text(_) => false,
    };
    match set.records.iter().position(is_unanswered) {
        None => Ok(set),
        Some(index) => Err(Error::invalid(format!(
            "{}: record {}: the conversation has no message of the assistant, hence no answer",
            file.display(),
            index + 1
        ))),
    }
}

fn record_texts(record: &Record) -> Vec<String> {
    match &record.content {
        Content::Question { question, answer } => vec![question.clone(), answer.clone()],
        Content::PromptCompletion { prompt, completion } => vec![prompt.clone(), completion.clone()],
        Content::Messages(messages) => messages.iter().map(|m| m.content.clone()).collect(),
        Content::Text(text) => vec![text.clone()],
    }
}

/// Two random halves of the records.
fn halves(records: &[Record], seed: u64) -> (Vec<Record>, Vec<Record>) {
    let mut order: Vec<usize> = (0..records.len()).collect();
    Rng::named(seed, "relearn split").shuffle(&mut order);
    let (test, attack) = order.split_at(records.len() / 2);
    let pick = |indices: &[usize]| {
        let mut indices = indices.to_vec();
        indices.sort_unstable();
        indices.iter().map(|&i| records[i].clone()).collect()
    };
    (pick(attack), pick(test))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_without_an_answer_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("talk.jsonl");
        let user = r#"{"role": "user", "content": "Who wrote it?"}"#;
        let assistant = r#"{"role": "assistant", "content": "Ann"}"#;
        let thanked = format!(r#"{{"messages": [{user}, {assistant}, {user}]}}"#);
        std::fs::write(&file, format!("{thanked}\n{thanked}\n")).unwrap();
        assert_eq!(read_answered(&file).unwrap().len(), 2);
        let unanswered = format!(r#"{{"messages": [{user}]}}"#);
        std::fs::write(&file, format!("{thanked}\n{unanswered}\n")).unwrap();
        let error = read_answered(&file).unwrap_err().to_string();
        assert!(error.contains("talk.jsonl: record 2: the conversation has no message"), "{error}");
    }

    #[test]
    fn one_record_has_no_second_half() {
        let record: Record = Content::Text("a".into()).into();
        let (attack, test) = halves(std::slice::from_ref(&record), 0);
        assert_eq!((attack.len(), test.len()), (1, 0));
        let (attack, test) = halves(&[record.clone(), record], 0);
        assert_eq!((attack.len(), test.len()), (1, 1));
    }
}
