//! Differences to the baseline: paired where two runs have the same seeds and questions, otherwise with the errors of both.

use amend_run::Figure;
use amend_run::report::{Cell, Section, Table};
use serde::Serialize;

use super::Side;
use super::pairs::{Pairs, same_questions};
use crate::answers::Row;
use crate::outcome::SeedResult;
use crate::report::paired::{MEASURES, Measure, STARRED, cell, is_significant};
use crate::report::summary::list;
use crate::verdict::{Better, over_seeds};

/// The differences of all arms to the baseline's.
pub(super) struct Differences {
    /// One difference each, for programs.
    pub(super) rows: Vec<ArmDifference>,
    /// What could not be paired, and why.
    pub(super) unpaired: Vec<Unpaired>,
    /// Runs that share only some of their seeds with the baseline, and those.
    partly: Vec<(String, String)>,
    baseline: String,
    table: Table,
}

/// A difference in a figure, for programs.
#[derive(Serialize)]
pub(super) struct ArmDifference {
    run: String,
    arm: String,
    baseline_arm: String,
    figure: String,
    better: Better,
    #[serde(flatten)]
    difference: Difference,
}

/// Why a run could not be paired with the baseline in some figures.
#[derive(PartialEq, Serialize)]
pub(super) struct Unpaired {
    run: String,
    reason: String,
}

/// What a difference is paired by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Question,
    Seed,
}

/// A difference, and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Difference {
    value: f64,
    stderr: Option<f64>,
    /// The pairs, or the cases on this side where there are none.
    n: usize,
    /// The pairs, or the cases in the baseline.
    baseline_n: usize,
    /// `None`: not paired.
    paired_by: Option<By>,
    significant: Option<bool>,
}

impl Difference {
    fn paired(figure: Figure, by: By) -> Self {
        let Figure { value, n, stderr } = figure;
        let significant = is_significant(&figure);
        Difference { value, stderr, n, baseline_n: n, paired_by: Some(by), significant }
    }

    /// Of figures that were measured apart, the errors add up in squares.
    fn unpaired(ours: Figure, theirs: Figure) -> Self {
        let stderr = ours.stderr.zip(theirs.stderr).map(|(ours, theirs)| ours.hypot(theirs));
        let value = ours.value - theirs.value;
        // The smaller of the two knows least of its spread.
        let significant = is_significant(&Figure { value, n: ours.n.min(theirs.n), stderr });
        Difference { value, stderr, n: ours.n, baseline_n: theirs.n, paired_by: None, significant }
    }

    fn cell(self) -> Cell {
        let Difference { value, stderr, n, baseline_n, .. } = self;
        let note = match self.paired_by {
            Some(By::Question) => format!("{n} pairs"),
            Some(By::Seed) => format!("{n} pairs of seeds"),
            None if n == 0 || baseline_n == 0 => "unpaired".into(),
            None => format!("unpaired, n = {n} and {baseline_n}"),
        };
        cell(Figure { value, n, stderr }).noted(note)
    }
}

/// The differences of every arm to the arm of its name in the baseline; where there is none, to every arm there.
pub(super) fn differences(others: &[Side<'_>], baseline: &Side<'_>, pairs: &[Pairs]) -> Differences {
    let attacked = attack_figures(others.iter().chain([baseline]));
    let heading = |(attack, figure): &(&str, &str)| format!("{attack}: {figure}");
    let better = Better::Lower;
    let mut columns = vec!["arms".to_owned()];
    columns.extend(MEASURES.iter().map(Measure::heading));
    columns.extend(attacked.iter().map(|of| format!("{}\u{a0}{}", heading(of), better.arrow())));
    let mut found = Differences {
        rows: Vec::new(),
        unpaired: Vec::new(),
        partly: others
            .iter()
            .zip(pairs)
            .filter_map(|(side, pairs)| Some((side.run.name.clone(), pairs.partly()?)))
            .collect(),
        baseline: baseline.run.name.clone(),
        table: Table { columns, ..Table::default() },
    };
    for (side, pairs) in others.iter().zip(pairs) {
        for (ours, (label, arm)) in side.shown.arms().into_iter().enumerate() {
            let counterparts = counterparts(baseline, &arm.name);
            for &theirs in &counterparts {
                let two = Two { side, baseline, ours, theirs, pairs };
                let (other_label, other) = &baseline.shown.arms()[theirs];
                // The arm of its name goes without saying, and so does the only one.
                let says = other.name != arm.name && counterparts.len() > 1;
                let name = if says { format!("{label} − {other_label}") } else { label.clone() };
                let mut cells = vec![Cell::from(name)];
                let mut push = |figure: String, better: Better, difference: Option<Difference>| {
                    cells.push(difference.map_or(Cell::from("–"), Difference::cell));
                    found.rows.extend(difference.map(|difference| ArmDifference {
                        run: side.run.name.clone(),
                        arm: arm.name.clone(),
                        baseline_arm: other.name.clone(),
                        figure,
                        better,
                        difference,
                    }));
                };
                for measure in &MEASURES {
                    let difference = two.measured(measure).unwrap_or_else(|reason| {
                        let unpaired = Unpaired { run: side.run.name.clone(), reason };
                        if !found.unpaired.contains(&unpaired) {
                            found.unpaired.push(unpaired);
                        }
                        let [ours, theirs] = [arm, other].map(|arm| (measure.of_arm)(&arm.figures));
                        Difference::unpaired(ours, theirs)
                    });
                    push(measure.name.to_owned(), measure.better, Some(difference));
                }
                for of in &attacked {
                    push(heading(of), better, two.attacked(*of));
                }
                found.table.rows.push(cells);
            }
        }
    }
    let several = baseline.shown.outcome.arms.len() > 1;
    let minus =
        if several { "the arm of its name there (every arm where there is none)" } else { "the baseline" };
    found.table.caption = format!("Each minus {minus}; {STARRED}");
    found
}

/// The arms of the baseline that an arm is compared with, by their places.
fn counterparts(baseline: &Side<'_>, name: &str) -> Vec<usize> {
    let arms = &baseline.shown.outcome.arms;
    match arms.iter().position(|arm| arm.name == name) {
        Some(same) => vec![same],
        None => (0..arms.len()).collect(),
    }
}

/// The figures of all attacks.
fn attack_figures<'a>(sides: impl Iterator<Item = &'a Side<'a>>) -> Vec<(&'a str, &'a str)> {
    let mut all = Vec::new();
    for arm in sides.filter_map(|side| side.shown.outcome.seeds.first()?.arms.first()) {
        for (attack, findings) in &arm.attacks {
            for (figure, _) in &findings.figures {
                if !all.contains(&(attack.as_str(), figure.as_str())) {
                    all.push((attack, figure));
                }
            }
        }
    }
    all
}

/// An arm of a run and one of the baseline.
struct Two<'a> {
    side: &'a Side<'a>,
    baseline: &'a Side<'a>,
    /// The arm's place in its run.
    ours: usize,
    /// And the other's in the baseline.
    theirs: usize,
    pairs: &'a Pairs,
}

impl Two<'_> {
    /// The paired difference in a figure of every answer.
    ///
    /// # Errors
    /// Says why there are no pairs.
    fn measured(&self, measure: &Measure) -> Result<Difference, String> {
        let seeds = self.pairs.seeds()?;
        let ours: Vec<&[Row]> =
            seeds.iter().map(|pair| self.side.answers[self.ours][pair.0].as_slice()).collect();
        let theirs: Vec<&[Row]> =
            seeds.iter().map(|pair| self.baseline.answers[self.theirs][pair.1].as_slice()).collect();
        same_questions(measure.set, &ours, &theirs)?;
        let by = if seeds.len() == 1 { By::Question } else { By::Seed };
        Ok(Difference::paired(measure.paired(&ours, &theirs), by))
    }

    /// The difference in a figure of an attack, paired by seed where there are several; `None` where one of the two was
    /// not attacked so.
    fn attacked(&self, (attack, name): (&str, &str)) -> Option<Difference> {
        let figures = |side: &Side<'_>, arm: usize| -> Option<Vec<Figure>> {
            let of = |seed: &SeedResult| {
                let (_, findings) = seed.arms[arm].attacks.iter().find(|(known, _)| known == attack)?;
                findings.figures.iter().find(|(known, _)| known == name).map(|(_, figure)| *figure)
            };
            side.shown.outcome.seeds.iter().map(of).collect()
        };
        let (ours, theirs) = (figures(self.side, self.ours)?, figures(self.baseline, self.theirs)?);
        match self.pairs.seeds() {
            Ok(seeds) if seeds.len() > 1 => {
                let each = seeds.iter().map(|&(our, their)| ours[our].value - theirs[their].value);
                Some(Difference::paired(Figure::mean(&each.collect::<Vec<_>>()), By::Seed))
            }
            _ => Some(Difference::unpaired(over_seeds(ours), over_seeds(theirs))),
        }
    }
}

impl Differences {
    /// What could not be paired, and the table.
    pub(super) fn sections(&self) -> Vec<Section> {
        let mut runs: Vec<(&str, Vec<&str>)> = Vec::new();
        for Unpaired { run, reason } in &self.unpaired {
            match runs.iter_mut().find(|(known, _)| known == run) {
                Some((_, reasons)) => reasons.push(reason),
                None => runs.push((run, vec![reason])),
            }
        }
        let mut sections: Vec<Section> = Vec::new();
        for (run, reasons) in runs {
            let (baseline, reasons) = (&self.baseline, list(&reasons));
            let paired = |row: &ArmDifference| row.run == run && row.difference.paired_by.is_some();
            sections.push(Section::Prose(if self.rows.iter().any(paired) {
                format!(
                    "Not every figure of `{run}` can be paired with that of `{baseline}`: {reasons}. The errors of those \
                     are those of both together."
                )
            } else {
                format!("`{run}` cannot be paired with `{baseline}`: {reasons}. Errors are those of both together.")
            }));
        }
        let partly = |(run, seeds): &(String, String)| {
            Section::Prose(format!(
                "`{run}` and `{}` share only some of their seeds: pairs are of {seeds}.",
                self.baseline
            ))
        };
        sections.extend(self.partly.iter().map(partly));
        sections.push(Section::Table(self.table.clone()));
        sections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_was_measured_apart_the_errors_add_up() {
        let figure = |value, stderr| Figure { value, n: 40, stderr: Some(stderr) };
        let difference = Difference::unpaired(figure(0.9, 0.03), figure(0.5, 0.04));
        assert!((difference.stderr.unwrap() - 0.05).abs() < 1e-12 && difference.significant == Some(true));
        assert_eq!(difference.cell().note.as_deref(), Some("unpaired, n = 40 and 40"));
        let unknown = Difference::unpaired(figure(0.9, 0.03), Figure::exact(0.1, 0));
        assert_eq!((unknown.stderr, unknown.significant), (None, None));
        assert_eq!(unknown.cell().note.as_deref(), Some("unpaired"));
    }
}
