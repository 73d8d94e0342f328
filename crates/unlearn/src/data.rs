//! The record sets of a run: from files, or from a world made on the spot.

use std::path::Path;

use amend_engine::Rng;
use amend_eval::world::{FactRecord, Split, World, WorldConfig, jsonl};
use amend_learn::{Conversation, Error, Result};
use amend_run::file::write_atomic;
use amend_run::records::{Chosen, Row};
use amend_run::{Content, Dataset, Progress, Record, Run, overlap};

use crate::recipe::UnlearnRecipe;

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
    /// Of the kind of the forget set, and never trained on; empty where nobody gives any.
    pub holdout: Vec<Record>,
    /// What has nothing to do with either set, where the recipe names it.
    pub unrelated: Option<Vec<Record>>,
    /// Half T of the forget set: what a relearning attacker has.
    pub attack: Vec<Record>,
    /// Half V: what the attacker wants back.
    pub attack_test: Vec<Record>,
}

impl Sets {
    /// Reads or makes the sets of one seed, whose files' paths start at `base`.
    pub fn prepare(recipe: &UnlearnRecipe, base: &Path, seed: u64, progress: &dyn Progress) -> Result<Self> {
        let (data, trains) = (&recipe.data, recipe.trains());
        let sets = match (&data.world, &data.forget, &data.retain) {
            (Some(_), None, None) if data.attack.is_some() || data.attack_test.is_some() => {
                return Err(Error::conflict_at(
                    "data",
                    "[data]: a `world` has an attacker's part of its own; remove `attack` and `attack_test`, or give files",
                ));
            }
            (Some(config), None, None) => Self::of_world(&world(config, seed)?, seed)?,
            (None, Some(forget), retain) if retain.is_some() || forget.filter().is_some() || !trains => {
                Self::from_files(recipe, forget, retain.as_ref(), base, seed, progress)?
            }
            (Some(_), ..) => {
                return Err(Error::conflict_at(
                    "data",
                    "[data]: give either `world` or `forget` and `retain`, not both",
                ));
            }
            _ => {
                return Err(Error::conflict_at(
                    "data",
                    "[data]: `forget` and `retain` are needed: the files of what to forget and what to keep (`retain` may \
                     be left out where `forget` has a `where`: then the rest of its file is kept)",
                ));
            }
        };
        Ok(sets)
    }

    fn from_files(
        recipe: &UnlearnRecipe,
        forget: &Chosen,
        retain: Option<&Chosen>,
        base: &Path,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let read = |chosen: &Chosen| -> Result<[Vec<Record>; 2]> {
            let set = read_answered(&chosen.resolve(base))?;
            progress.note(&format!("{}: {}", chosen.path(), set.reading));
            let Some(filter) = chosen.filter() else { return Ok([set.records, Vec::new()]) };
            let parts = filter.split(set.records);
            let parts = parts.map_err(|e| Error::invalid(format!("{}: {e}", chosen.path())))?;
            progress.note(&format!("{chosen}: {} records, {} others", parts[0].len(), parts[1].len()));
            Ok(parts)
        };
        let optional =
            |chosen: &Option<Chosen>| chosen.as_ref().map(|c| read(c).map(|[meant, _]| meant)).transpose();
        let data = &recipe.data;
        let [forget, others] = read(forget)?;
        let retain = match retain {
            Some(retain) => read(retain)?[0].clone(),
            None if others.is_empty() && recipe.trains() => {
                return Err(Error::conflict_at(
                    "data.forget.where",
                    "[data]: `where` of `forget` means every record of its file, so that nothing is left to keep; name a \
                     `retain` file",
                ));
            }
            None => others,
        };
        let (attack, attack_test) = match (optional(&data.attack)?, optional(&data.attack_test)?) {
            (Some(attack), Some(test)) => match overlap(&attack, &test).first() {
                None => (attack, test),
                Some((i, j)) => {
                    return Err(Error::conflict_at(
                        "data.attack_test",
                        format!(
                            "[data]: record {} of `attack_test` is record {} of `attack`; what the attacker learns from cannot show \
                             what it brings back",
                            j + 1,
                            i + 1
                        ),
                    ));
                }
            },
            (None, None) => halves(&forget, seed),
            (given, _) => {
                let (given, missing) =
                    if given.is_some() { ("attack", "attack_test") } else { ("attack_test", "attack") };
                return Err(Error::conflict_at(
                    format!("data.{given}"),
                    format!(
                        "[data]: `{given}` is one part of the forget set, and `{missing}` is missing: the other; give both, \
                         or neither for random halves"
                    ),
                ));
            }
        };
        Ok(Sets {
            forget_eval: optional(&data.forget_eval)?.unwrap_or_else(|| forget.clone()),
            retain_eval: optional(&data.retain_eval)?.unwrap_or_else(|| retain.clone()),
            real_authors: optional(&data.real_authors)?,
            world_facts: optional(&data.world_facts)?,
            holdout: optional(&data.holdout)?.unwrap_or_default(),
            unrelated: optional(&data.unrelated)?,
            forget,
            retain,
            attack,
            attack_test,
        })
    }

    fn of_world(world: &World, seed: u64) -> Result<Self> {
        let [forget, retain, attack, attack_test, holdout] =
            files_of(world, seed).map(|(_, facts)| facts.iter().map(record_of).collect::<Result<Vec<_>>>());
        let (forget, retain) = (forget?, retain?);
        Ok(Sets {
            attack: attack?,
            attack_test: attack_test?,
            holdout: holdout?,
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

/// The world of one seed.
fn world(config: &WorldConfig, seed: u64) -> Result<World> {
    let config = WorldConfig { seed, ..config.clone() };
    World::generate(config).map_err(|e| Error::conflict_at("data.world", format!("[data.world]: {e}")))
}

/// The sets that a world is made into: forget set, retain set, the two halves of the attack, and the holdout.
fn files_of(world: &World, seed: u64) -> [(&'static str, Vec<FactRecord>); 5] {
    let split = world.relearn_split(seed);
    [
        ("forget.jsonl", world.records(Split::Forget)),
        ("retain.jsonl", world.records(Split::Retain)),
        ("attack.jsonl", world.records_of_facts(&split.attack)),
        ("attack_test.jsonl", world.records_of_facts(&split.test)),
        ("holdout.jsonl", world.records(Split::Holdout)),
    ]
}

fn record_of(fact: &FactRecord) -> Result<Record> {
    let row = serde_json::to_value(fact).and_then(serde_json::from_value::<Row>);
    let row = row.map_err(|e| Error::invalid(e.to_string()))?;
    Record::try_from(row).map_err(Error::invalid)
}

/// Writes the world of one seed into the run folder, so that a run on one's own files can start from what the demo
/// used.
pub(crate) fn write_world(run: &Run<'_>, config: &WorldConfig, seed: u64) -> Result<()> {
    let dir = run.folder.path().join("data").join(format!("seed{seed}"));
    std::fs::create_dir_all(&dir).map_err(|e| amend_engine::Error::io(&dir, "cannot create", e))?;
    for (name, facts) in files_of(&world(config, seed)?, seed) {
        // A world may have nobody whom no model is told about.
        if facts.is_empty() {
            continue;
        }
        let text = jsonl(&facts).map_err(|e| Error::invalid(e.to_string()))?;
        write_atomic(&dir.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// The records of a file, each of which has an answer that can be forgotten, kept or measured.
fn read_answered(file: &Path) -> Result<Dataset> {
    let set = Dataset::read(&[file])?;
    let is_unanswered = |record: &Record| match &record.content {
        Content::Messages(turns) => Conversation::of(turns).answer.is_none(),
        Content::Question { .. } | Content::PromptCompletion { .. } | Content::Text(_) => false,
    };
    let says_nothing = |record: &Record| match &record.content {
        Content::Question { answer: text, .. }
        | Content::PromptCompletion { completion: text, .. }
        | Content::Text(text) => text.trim().is_empty(),
        Content::Messages(turns) => {
            Conversation::of(turns).answer.is_some_and(|answer| answer.trim().is_empty())
        }
    };
    if let Some(index) = set.records.iter().position(says_nothing) {
        return Err(Error::invalid(format!(
            "{}: record {}: the answer is empty, so that there is nothing to forget, to keep or to measure; fill it in, or \
             leave the record out",
            file.display(),
            index + 1
        )));
    }
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

    /// Whoever starts from the files that a run wrote has what the run had.
    #[test]
    fn a_world_in_memory_is_the_world_in_its_files() {
        let world = world(&WorldConfig::default(), 3).unwrap();
        let sets = Sets::of_world(&world, 3).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for ((name, facts), held) in files_of(&world, 3).iter().zip([
            &sets.forget,
            &sets.retain,
            &sets.attack,
            &sets.attack_test,
            &sets.holdout,
        ]) {
            let path = folder.path().join(name);
            std::fs::write(&path, jsonl(facts).unwrap()).unwrap();
            assert!(Dataset::read(&[path]).unwrap().records == *held, "{name}");
        }
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
