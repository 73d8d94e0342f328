//! Arms of one run against each other, question by question.

use std::path::Path;

use amend_learn::Result;
use amend_run::report::{Cell, Table};

use super::paired::{MEASURES, Measure, STARRED, cell};
use crate::answers::{Row, of_arm};
use crate::outcome::Outcome;

/// The differences between every two arms: paired by question, or by seed where there are several; `None` where there is
/// one arm, or no answers were kept.
pub(super) fn between_arms(outcome: &Outcome, dir: &Path) -> Result<Option<Table>> {
    let arms = &outcome.arms;
    let of = |arm: &crate::outcome::ArmOutcome| of_arm(dir, outcome, &arm.name);
    let answers: Vec<Vec<Vec<Row>>> = arms.iter().map(of).collect::<Result<_>>()?;
    if arms.len() < 2 || answers.iter().flatten().any(Vec::is_empty) {
        return Ok(None);
    }
    let seeds = |arm: usize| -> Vec<&[Row]> { answers[arm].iter().map(Vec::as_slice).collect() };
    let mut rows = Vec::new();
    for first in 0..arms.len() {
        for second in first + 1..arms.len() {
            let mut row = vec![Cell::from(format!("{} − {}", arms[first].name, arms[second].name))];
            row.extend(MEASURES.iter().map(|measure| cell(measure.paired(&seeds(first), &seeds(second)))));
            rows.push(row);
        }
    }
    let by = if outcome.seeds.len() == 1 { "question" } else { "seed" };
    Ok(Some(Table {
        caption: format!("Differences between arms, paired by {by}; {STARRED}"),
        columns: std::iter::once("arms".to_owned()).chain(MEASURES.iter().map(Measure::heading)).collect(),
        rows,
    }))
}
