//! All answers of all models, side by side.

use std::path::Path;

use amend_eval::scorers::content_words;
use amend_learn::Result;
use amend_run::report::{AnswerRow, Answers};

use crate::answers::{Row, read, was_kept};
use crate::outcome::{Outcome, SeedResult};
use crate::stages::Stages;

/// What every model of a seed said to every question that was measured; `None` where none was asked for text. What was
/// to be forgotten comes first, and there those questions whose answers give most away.
pub(super) fn all(outcome: &Outcome, seed: &SeedResult, dir: &Path) -> Result<Option<Answers>> {
    let named = Stages::of(seed.seed, outcome.seeds.len());
    let mut stages = Vec::new();
    if !outcome.audit {
        stages.push(("before".to_owned(), "base".to_owned()));
    }
    let before = stages.len();
    stages.extend(seed.arms.iter().map(|arm| (arm.name.clone(), arm.name.clone())));
    stages.extend(seed.gold.iter().map(|_| ("gold".to_owned(), "gold".to_owned())));
    let rows = |(_, stage): &(String, String)| read(dir, &named.eval(stage));
    let all: Vec<Vec<Row>> = stages.iter().map(rows).collect::<Result<_>>()?;
    let Some(first) = all.first() else { return Ok(None) };
    if first.iter().all(|row| row.answer.is_none()) {
        return Ok(None);
    }
    let arms = &all[before..before + seed.arms.len()];
    let mut places: Vec<usize> = (0..first.len()).collect();
    let leaks = |place: usize| {
        let leaked = arms.iter().filter_map(|rows| Some(rows.get(place)?.leaked.len()));
        if first[place].set == FORGET { leaked.max().unwrap_or(0) } else { 0 }
    };
    // Stable: within equals, and in the other sets, the order of the data.
    places.sort_by_key(|&place| (first[place].set != FORGET, std::cmp::Reverse(leaks(place))));
    let said = |rows: &Vec<Row>, place: usize| {
        rows.get(place).and_then(|row| row.answer.clone()).unwrap_or_default()
    };
    let row = |&place: &usize| {
        let Row { set, question, expected, .. } = &first[place];
        AnswerRow {
            set: set.clone(),
            question: question.clone(),
            expected: expected.clone(),
            answers: all.iter().map(|rows| said(rows, place)).collect(),
            marked: if set == FORGET { content_words(question, expected) } else { Vec::new() },
        }
    };
    Ok(Some(Answers {
        caption: "Everything that was answered; of what was to be forgotten, what gives most away comes first, and its \
                  content words are marked"
            .into(),
        models: stages.iter().map(|(name, _)| name.clone()).collect(),
        rows: places.iter().map(row).collect(),
    }))
}

/// What is to be said where answers are gone that the run had kept.
pub(super) fn missing(outcome: &Outcome, seed: &SeedResult, dir: &Path) -> Option<String> {
    let named = Stages::of(seed.seed, outcome.seeds.len());
    let arms = seed.arms.iter().map(|arm| arm.name.as_str());
    let base = (!outcome.audit).then_some("base");
    let gold = seed.gold.as_ref().map(|_| "gold");
    let gone = base.into_iter().chain(arms).chain(gold).filter(|name| !was_kept(dir, &named.eval(name)));
    let gone: Vec<String> = gone.map(|name| format!("`{name}`")).collect();
    (!gone.is_empty()).then(|| {
        format!(
            "The answers of {} are no longer in the run's folder `answers`: something else has removed them. Figures and \
             verdicts rest on them all the same; what they said is not shown.",
            gone.join(", ")
        )
    })
}

/// The set of what was to be forgotten.
const FORGET: &str = "forget";
