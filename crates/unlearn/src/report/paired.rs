//! Differences of what was measured of two arms, question by question or seed by seed.

use amend_eval::scorers::word_for_word;
use amend_eval::stats::chance_limit;
use amend_run::Figure;
use amend_run::report::Cell;

use crate::answers::Row;
use crate::outcome::ArmFigures;
use crate::verdict::Better;

/// A figure that every answer has, and an arm over all seeds.
pub(super) struct Measure {
    /// What it is called.
    pub(super) name: &'static str,
    /// The set whose answers have it.
    pub(super) set: &'static str,
    /// Which way is better.
    pub(super) better: Better,
    /// It, of one answer.
    pub(super) of_answer: fn(&Row) -> Option<f64>,
    /// It, of an arm.
    pub(super) of_arm: fn(&ArmFigures) -> Figure,
}

pub(super) const MEASURES: [Measure; 4] = [
    Measure {
        name: "forget: probability",
        set: "forget",
        better: Better::Lower,
        of_answer: |row| row.probability,
        of_arm: |arm| arm.forget_probability,
    },
    Measure {
        name: "forget: accuracy",
        set: "forget",
        better: Better::Lower,
        of_answer: accuracy,
        of_arm: |arm| arm.forget_accuracy,
    },
    Measure {
        name: "retain: probability",
        set: "retain",
        better: Better::Higher,
        of_answer: |row| row.probability,
        of_arm: |arm| arm.retain_probability,
    },
    Measure {
        name: "retain: accuracy",
        set: "retain",
        better: Better::Higher,
        of_answer: accuracy,
        of_arm: |arm| arm.retain_accuracy,
    },
];

/// What is said of differences with a star.
pub(super) const STARRED: &str = "* where chance alone makes one in twenty as large (t test)";

fn accuracy(row: &Row) -> Option<f64> {
    word_for_word(&row.answers.first()?.likelihood()?.greedy)
}

impl Measure {
    /// Its name with an arrow in the better direction.
    pub(super) fn heading(&self) -> String {
        format!("{}\u{a0}{}", self.name, self.better.arrow())
    }

    /// The mean difference of two arms, given the answers of each, seed by seed: paired by question where there is one
    /// seed, otherwise by seed.
    pub(super) fn paired(&self, ours: &[&[Row]], theirs: &[&[Row]]) -> Figure {
        let of_seed = |(ours, theirs): (&&[Row], &&[Row])| -> Vec<f64> {
            // Set by set: of another set, one run may have more answers than the other.
            let of_set = |row: &&Row| row.set == self.set;
            let both = ours.iter().filter(of_set).zip(theirs.iter().filter(of_set));
            let same = both.filter(|(a, b)| a.index == b.index);
            same.filter_map(|(a, b)| Some((self.of_answer)(a)? - (self.of_answer)(b)?)).collect()
        };
        let mut seeds: Vec<Vec<f64>> = ours.iter().zip(theirs).map(of_seed).collect();
        match seeds.len() {
            1 => Figure::mean(&seeds.remove(0)),
            _ => Figure::mean(&seeds.iter().map(|seed| Figure::mean(seed).value).collect::<Vec<_>>()),
        }
    }
}

/// So many values that are all the same can be told from chance: of fewer the signs alone agree by chance too often.
const ENOUGH_ALIKE: usize = 6;

/// Whether a difference of `n` values is more than chance would make of it; unknown where it has no standard error, and
/// where all of a few values are the same: how far chance moves them did not show.
pub(super) fn is_significant(difference: &Figure) -> Option<bool> {
    let shows = |error: &f64| *error > 0.0 || difference.value == 0.0 || difference.n >= ENOUGH_ALIKE;
    let error = difference.stderr.filter(shows)?;
    Some(difference.value.abs() > chance_limit(difference.n) * error)
}

/// A difference with its sign, starred where it is significant.
pub(super) fn cell(difference: Figure) -> Cell {
    let mut cell = Cell::from(difference);
    if difference.value > 0.0 {
        cell.text.insert(0, '+');
    }
    if is_significant(&difference) == Some(true) {
        cell.starred = true;
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: usize, probability: f64) -> Row {
        Row::tried("retain", index, probability)
    }

    /// Questions differ far more from each other than arms do: only pairs show the difference.
    #[test]
    fn a_difference_is_that_of_the_same_questions() {
        let ours: Vec<Row> = (0..10).map(|i| row(i, 0.1 * i as f64 + 0.01)).collect();
        let theirs: Vec<Row> = (0..10).map(|i| row(i, 0.1 * i as f64 + 0.0001 * (i % 2) as f64)).collect();
        let difference = MEASURES[2].paired(&[&ours], &[&theirs]);
        assert!((difference.value - 0.00995).abs() < 1e-9 && difference.n == 10, "{difference}");
        assert!(difference.stderr.unwrap() < 1e-4);
        let cell = cell(difference);
        assert!(cell.text.starts_with('+') && cell.starred, "{}", cell.text);
    }

    /// 0.1 and 0.3 more: 0.2 on the average, with a standard error of 0.1, of which two seeds know next to nothing.
    #[test]
    fn of_several_seeds_the_seeds_are_the_pairs() {
        let [low, high] = [[row(0, 0.5), row(1, 0.7)], [row(0, 0.4), row(1, 0.6)]];
        let [ours, theirs] = [[row(0, 0.6), row(1, 0.8)], [row(0, 0.6), row(1, 1.0)]];
        let difference = MEASURES[2].paired(&[&ours, &theirs], &[&low, &high]);
        assert!((difference.value - 0.2).abs() < 1e-12 && difference.n == 2, "{difference}");
        assert!((difference.stderr.unwrap() - 0.1).abs() < 1e-12, "{difference}");
        assert_eq!(is_significant(&difference), Some(false));
        assert_eq!(is_significant(&Figure { n: 40, ..difference }), Some(false), "2.0 against 2.02");
        assert_eq!(is_significant(&Figure { n: 100, ..difference }), Some(true));
        assert_eq!(is_significant(&Figure::exact(1.0, 0)), None);
        let same = Figure { value: -0.686, n: 2, stderr: Some(0.0) };
        assert_eq!((is_significant(&same), cell(same).starred), (None, false));
        assert_eq!(is_significant(&Figure { n: 40, ..same }), Some(true));
    }
}
