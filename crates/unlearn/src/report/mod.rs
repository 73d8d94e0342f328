//! The report of a run: the comparison a person understands first, then the evidence. It is written over claims,
//! figures, curves and answers, and knows no attack and no verdict by name.

mod answers;
mod card;
mod curves;
mod differences;
mod exchanges;
mod figures;
mod methods;
mod summary;

pub use card::cards;

use std::path::Path;

use amend_learn::Result;
use amend_run::Report;
use amend_run::report::Section;
use amend_run::step_log::{METRICS, StepLog};

use crate::attack::Findings;
use crate::outcome::{Outcome, SeedResult};

/// Makes the report of the run in `dir`.
pub fn report(outcome: &Outcome, dir: &Path) -> Result<Report> {
    let rows = StepLog::read(dir, METRICS)?;
    let mut report = Report::new("Unlearning report");
    for premise in &outcome.premises {
        report.warning(premise.as_str());
    }
    for line in summary::verdict(outcome) {
        report.prose(line);
    }
    report.prose(summary::introduction(outcome));
    report.push(Section::Table(summary::comparison(outcome)));
    report.prose(summary::reading(outcome));
    report.heading("What was done");
    report.push(Section::Table(methods::of_arms(dir)?));
    if outcome.arms.iter().any(|arm| !arm.claims.is_empty()) {
        report.heading("What the verdict rests on");
        report.push(Section::Table(summary::claims(outcome)));
    }
    report.heading(if outcome.audit { "Figures" } else { "Before and after" });
    report.push(Section::Table(figures::before_after(outcome)));
    report.push(Section::Details {
        summary: "What the figures are".into(),
        pairs: figures::explained(outcome),
    });
    if let Some(differences) = differences::between_arms(outcome, dir)? {
        report.push(Section::Table(differences));
    }
    for (heading, mut plots) in [
        ("While forgetting", curves::progress(outcome, &rows)),
        ("Gradient geometry", curves::geometry(outcome, &rows)),
    ] {
        // Models that forgot elsewhere leave no curves.
        plots.retain(|plot| !plot.series.is_empty());
        if !plots.is_empty() {
            report.heading(heading);
            report.sections.extend(plots.into_iter().map(Section::Plot));
        }
    }
    for attack in Attacked::all(&outcome.seeds) {
        report.heading(format!("Attack: {}", attack.name));
        report.prose(attack.reading());
        report.push(Section::Table(figures::findings(&attack)));
        for plot in curves::findings(&attack) {
            report.push(Section::Plot(plot));
        }
        if let Some(said) = exchanges::findings(&attack) {
            report.push(Section::Exchanges(said));
        }
    }
    if let Some(seed) = outcome.seeds.first() {
        // Texts and tensors have no mean.
        let note = match outcome.seeds.len() {
            1 => String::new(),
            n => format!(" (seed {} of {n})", seed.seed),
        };
        // Where no text was asked for, nobody says anything.
        if let Some(all) = answers::all(outcome, seed, dir)? {
            report.heading(format!("What they say{note}"));
            report.push(Section::Answers(all));
        }
        if !outcome.audit {
            report.heading(format!("What changed{note}"));
            report.push(Section::Table(figures::changes(seed)));
        }
    }
    Ok(report)
}

/// What one attack brought to light on every model, seed by seed.
struct Attacked<'a> {
    name: &'a str,
    /// The arms, and the gold model at the end.
    models: Vec<(&'a str, Vec<&'a Findings>)>,
}

impl<'a> Attacked<'a> {
    /// The attacks of a run, in their order.
    fn all(seeds: &'a [SeedResult]) -> Vec<Self> {
        let Some(first) = seeds.first() else { return Vec::new() };
        let names =
            first.arms.first().map_or(&[][..], |arm| &arm.attacks).iter().map(|(name, _)| name.as_str());
        let on_models = |i: usize| {
            let of = |all: &'a [(String, Findings)]| all.get(i).map(|(_, findings)| findings);
            let arm = |index: usize| {
                seeds.iter().map(|seed| of(&seed.arms[index].attacks)).collect::<Option<Vec<_>>>()
            };
            let gold = seeds.iter().map(|seed| of(&seed.gold_findings)).collect::<Option<Vec<_>>>();
            let arms =
                first.arms.iter().enumerate().filter_map(|(index, a)| Some((a.name.as_str(), arm(index)?)));
            arms.chain(gold.map(|gold| ("gold", gold))).collect()
        };
        names.enumerate().map(|(i, name)| Attacked { name, models: on_models(i) }).collect()
    }

    /// How its findings are to be read.
    fn reading(&self) -> &'a str {
        self.models.first().and_then(|(_, seeds)| seeds.first()).map_or("", |findings| &findings.reading)
    }
}
