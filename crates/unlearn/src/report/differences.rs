//! Arms against each other, question by question.

use std::path::Path;

use amend_eval::scorers::word_for_word;
use amend_learn::Result;
use amend_run::Figure;
use amend_run::report::{Cell, Table};

use crate::answers::{Row, read};
use crate::outcome::Outcome;
use crate::stages::Stages;

/// A figure of one answer, and the set whose answers have it.
type Of = (&'static str, &'static str, fn(&Row) -> Option<f64>);

const FIGURES: [Of; 4] = [
    ("forget: probability", "forget", |row| row.probability),
    ("forget: accuracy", "forget", accuracy),
    ("retain: probability", "retain", |row| row.probability),
    ("retain: accuracy", "retain", accuracy),
];

/// Two standard errors, more exactly: beyond this one difference in twenty is chance.
const SIGNIFICANT: f64 = 1.96;

fn accuracy(row: &Row) -> Option<f64> {
    word_for_word(&row.answers.first()?.likelihood()?.greedy)
}

/// The differences between every two arms: paired by question, or by seed where there are several; `None` where there is
/// one arm, or no answers were kept.
pub(super) fn between_arms(outcome: &Outcome, dir: &Path) -> Result<Option<Table>> {
    let arms = &outcome.arms;
    let mut answers: Vec<Vec<Vec<Row>>> = Vec::new();
    for arm in arms {
        let of_seed = |seed: &crate::outcome::SeedResult| {
            read(dir, &Stages::of(seed.seed, outcome.seeds.len()).eval(&arm.name))
        };
        answers.push(outcome.seeds.iter().map(of_seed).collect::<Result<_>>()?);
    }
    if arms.len() < 2 || answers.iter().flatten().any(Vec::is_empty) {
        return Ok(None);
    }
    let mut rows = Vec::new();
    for first in 0..arms.len() {
        for second in first + 1..arms.len() {
            let mut row = vec![Cell::from(format!("{} − {}", arms[first].name, arms[second].name))];
            let difference = |of: &Of| cell(paired(&answers[first], &answers[second], of));
            row.extend(FIGURES.iter().map(difference));
            rows.push(row);
        }
    }
    let by = if outcome.seeds.len() == 1 { "question" } else { "seed" };
    Ok(Some(Table {
        caption: format!(
            "Differences between arms, paired by {by}; * where they are beyond 1.96 standard errors"
        ),
        columns: std::iter::once("arms").chain(FIGURES.iter().map(|of| of.0)).map(str::to_owned).collect(),
        rows,
    }))
}

/// The mean difference of two arms in a figure.
fn paired(ours: &[Vec<Row>], theirs: &[Vec<Row>], (_, set, read): &Of) -> Figure {
    let of_seed = |(ours, theirs): (&Vec<Row>, &Vec<Row>)| -> Vec<f64> {
        let same =
            ours.iter().zip(theirs).filter(|(a, b)| a.set == *set && (&a.set, a.index) == (&b.set, b.index));
        same.filter_map(|(a, b)| Some(read(a)? - read(b)?)).collect()
    };
    let mut seeds: Vec<Vec<f64>> = ours.iter().zip(theirs).map(of_seed).collect();
    match seeds.len() {
        1 => Figure::mean(&seeds.remove(0)),
        _ => Figure::mean(&seeds.iter().map(|seed| Figure::mean(seed).value).collect::<Vec<_>>()),
    }
}

fn cell(difference: Figure) -> Cell {
    let significant = difference.stderr.is_some_and(|error| difference.value.abs() > SIGNIFICANT * error);
    let mut cell = Cell::from(difference);
    if difference.value > 0.0 {
        cell.text.insert(0, '+');
    }
    if significant {
        cell.text.push('*');
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: usize, probability: f64) -> Row {
        Row {
            set: "retain".into(),
            index,
            question: String::new(),
            expected: String::new(),
            answer: None,
            leaked: Vec::new(),
            probability: Some(probability),
            answers: Vec::new(),
        }
    }

    /// Questions differ far more from each other than arms do: only pairs show the difference.
    #[test]
    fn a_difference_is_that_of_the_same_questions() {
        let ours: Vec<Row> = (0..10).map(|i| row(i, 0.1 * i as f64 + 0.01)).collect();
        let theirs: Vec<Row> = (0..10).map(|i| row(i, 0.1 * i as f64 + 0.0001 * (i % 2) as f64)).collect();
        let difference = paired(&[ours], &[theirs], &FIGURES[2]);
        assert!((difference.value - 0.00995).abs() < 1e-9 && difference.n == 10, "{difference}");
        assert!(difference.stderr.unwrap() < 1e-4);
        let cell = cell(difference);
        assert!(cell.text.starts_with('+') && cell.text.ends_with('*'), "{}", cell.text);
    }
}
