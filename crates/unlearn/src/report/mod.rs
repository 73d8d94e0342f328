//! The report of a run: the comparison a person understands first, then the evidence. It is written over claims,
//! figures, curves and answers, and knows no attack and no verdict by name.

mod curves;
mod exchanges;
mod figures;
mod summary;

use std::path::Path;

use amend_learn::Result;
use amend_run::Report;
use amend_run::report::Section;
use amend_run::step_log::{METRICS, StepLog};

use crate::attack::Findings;
use crate::outcome::{Outcome, SeedResult};

/// Makes the report of the run in `dir`; `command` is what reproduces it.
pub fn report(outcome: &Outcome, dir: &Path, command: &str) -> Result<Report> {
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
    report.heading("What the verdict rests on");
    report.push(Section::Table(summary::claims(outcome)));
    if let Some(seed) = outcome.seeds.first() {
        let note = match outcome.seeds.len() {
            1 => String::new(),
            n => format!(" (seed {} of {n})", seed.seed),
        };
        report.heading(format!("Before and after{note}"));
        report.push(Section::Table(figures::before_after(seed)));
        report.heading(format!("While forgetting{note}"));
        for plot in curves::progress(outcome, seed, &rows) {
            report.push(Section::Plot(plot));
        }
        report.heading(format!("Gradient geometry{note}"));
        for plot in curves::geometry(outcome, seed, &rows) {
            report.push(Section::Plot(plot));
        }
        for attack in Attacked::all(seed) {
            report.heading(format!("Attack: {}{note}", attack.name));
            report.prose(attack.models.first().map_or("", |(_, findings)| &findings.reading));
            report.push(Section::Table(figures::findings(&attack)));
            for plot in curves::findings(&attack) {
                report.push(Section::Plot(plot));
            }
            if let Some(said) = exchanges::findings(&attack) {
                report.push(Section::Exchanges(said));
            }
        }
        report.heading("What they say");
        report.push(Section::Exchanges(exchanges::before_after(seed)));
        report.heading("What changed");
        report.push(Section::Table(figures::changes(seed)));
    }
    report.heading("How to reproduce");
    report.command("The same recipe and seed give the same numbers.", command);
    Ok(report)
}

/// What one attack brought to light on every model.
struct Attacked<'a> {
    name: &'a str,
    /// The arms, and the gold model at the end.
    models: Vec<(&'a str, &'a Findings)>,
}

impl<'a> Attacked<'a> {
    /// The attacks of a seed, in their order.
    fn all(seed: &'a SeedResult) -> Vec<Self> {
        let names =
            seed.arms.first().map_or(&[][..], |arm| &arm.attacks).iter().map(|(name, _)| name.as_str());
        let on_models = |i: usize| {
            let arms = seed.arms.iter().map(|arm| (arm.name.as_str(), &arm.attacks));
            let all = arms.chain(std::iter::once(("gold", &seed.gold_findings)));
            all.filter_map(|(model, attacks)| Some((model, &attacks.get(i)?.1))).collect()
        };
        names.enumerate().map(|(i, name)| Attacked { name, models: on_models(i) }).collect()
    }
}
