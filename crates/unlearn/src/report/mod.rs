//! The report of a run: the comparison a person understands first, then the evidence. It is written over claims,
//! figures, curves and answers, and knows no attack and no verdict by name.

mod answers;
mod card;
mod comparison;
mod components;
mod curves;
mod differences;
mod energies;
mod exchanges;
mod figures;
mod frontier;
mod methods;
mod paired;
mod summary;

pub(crate) use card::cards;

use std::path::Path;

use amend_learn::Result;
use amend_run::Report;
use amend_run::report::{Cell, Section};
use amend_run::step_log::{METRICS, StepLog, StepRow};

use crate::attack::Findings;
use crate::outcome::{ArmOutcome, Outcome};

pub(crate) use comparison::comparison;
pub(crate) use frontier::standings;

/// Makes the report of the run in `dir`.
pub fn report(outcome: &Outcome, dir: &Path) -> Result<Report> {
    let run = Shown::alone(outcome, dir)?;
    let alone = std::slice::from_ref(&run);
    let mut report = Report::new(if outcome.opened() { "Attack report" } else { "Unlearning report" });
    for premise in &outcome.premises {
        report.warning(premise.as_str());
    }
    for line in summary::verdict(outcome) {
        report.prose(line);
    }
    report.prose(summary::introduction(outcome));
    if outcome.arms.iter().any(|arm| !arm.claims.is_empty()) {
        report.push(Section::Table(summary::claims_of(&run.arms(), Cell::from)));
    }
    if outcome.audit {
        // Where nothing is claimed, the figures are what there is to say.
        report.push(Section::Table(figures::before_after(outcome)));
        for attack in Attacked::all(alone) {
            report.prose(format!("`{}`: {}", attack.name, attack.reading()));
            report.push(Section::Table(figures::findings(&attack)));
        }
    }
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
    for (heading, mut plots) in
        [("While forgetting", curves::progress(alone)), ("Gradient geometry", curves::geometry(alone))]
    {
        // Models that forgot elsewhere leave no curves.
        plots.retain(|plot| !plot.series.is_empty());
        if !plots.is_empty() {
            report.heading(heading);
            report.sections.extend(plots.into_iter().map(Section::Plot));
        }
    }
    for attack in Attacked::all(alone) {
        report.heading(format!("Attack: {}", attack.name));
        report.prose(attack.reading());
        report.push(Section::Table(figures::findings(&attack)));
        if let Some(components) = components::of_attack(&attack) {
            report.push(Section::Table(components));
        }
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
        if let Some(missing) = answers::missing(outcome, seed, dir) {
            report.warning(missing);
        }
        if let Some(all) = answers::all(outcome, seed, dir)? {
            report.heading(format!("What they say{note}"));
            report.push(Section::Answers(all));
        }
        if !outcome.audit {
            report.heading(format!("What changed{note}"));
            report.push(Section::Table(figures::changes(seed)));
            if let Some(energies) = energies::of_layers(seed) {
                report.heading(format!("Where the adapter writes{note}"));
                report.push(Section::Table(energies));
            }
        }
    }
    Ok(report)
}

/// A run as a report shows it, alone or beside others.
struct Shown<'a> {
    outcome: &'a Outcome,
    /// What it is called beside others.
    name: Option<&'a str>,
    /// Whether its arms are called by their own names, too.
    names_arms: bool,
    /// What it logged.
    rows: Vec<StepRow>,
}

impl<'a> Shown<'a> {
    /// The only run of a report.
    fn alone(outcome: &'a Outcome, dir: &Path) -> Result<Self> {
        Ok(Shown { outcome, name: None, names_arms: true, rows: StepLog::read(dir, METRICS)? })
    }

    /// What an arm of it is called.
    fn arm_label(&self, arm: &str) -> String {
        match self.name {
            None => arm.to_owned(),
            Some(run) if self.names_arms => format!("{run} · {arm}"),
            Some(run) => run.to_owned(),
        }
    }

    /// Its arms with what they are called.
    fn arms(&self) -> Vec<(String, &'a ArmOutcome)> {
        self.outcome.arms.iter().map(|arm| (self.arm_label(&arm.name), arm)).collect()
    }
}

/// What a part is called that runs have in common: without their names, where there is no other.
fn together(is_one: bool, runs: &[&str], part: &str) -> String {
    if is_one { part.to_owned() } else { format!("{} · {part}", runs.join(", ")) }
}

/// What one attack brought to light on every model, seed by seed.
struct Attacked<'a> {
    name: &'a str,
    /// The arms, and the gold models at the end.
    models: Vec<(String, Vec<&'a Findings>)>,
}

impl<'a> Attacked<'a> {
    /// The attacks of runs, in their order.
    fn all(runs: &[Shown<'a>]) -> Vec<Self> {
        let mut names: Vec<&str> = Vec::new();
        for arm in runs.iter().filter_map(|run| run.outcome.seeds.first()?.arms.first()) {
            let new = arm.attacks.iter().map(|(name, _)| name.as_str()).filter(|name| !names.contains(name));
            let new: Vec<&str> = new.collect();
            names.extend(new);
        }
        let on_models = |name: &str| {
            // Runs that have the same gold model under the same attack have one curve of it.
            let mut gold: Vec<(Vec<&str>, Vec<&Findings>)> = Vec::new();
            for run in runs {
                let Some(found) = on_gold(run, name) else { continue };
                match gold.iter_mut().find(|(_, known)| *known == found) {
                    Some((of, _)) => of.extend(run.name),
                    None => gold.push((run.name.into_iter().collect(), found)),
                }
            }
            let is_one = gold.len() == 1;
            let label = |of: &[&str]| together(is_one, of, "gold");
            let arms = runs.iter().flat_map(|run| on_arms(run, name));
            arms.chain(gold.into_iter().map(|(of, found)| (label(&of), found))).collect()
        };
        names.into_iter().map(|name| Attacked { name, models: on_models(name) }).collect()
    }

    /// How its findings are to be read.
    fn reading(&self) -> &'a str {
        self.models.first().and_then(|(_, seeds)| seeds.first()).map_or("", |findings| &findings.reading)
    }
}

fn of_attack<'a>(all: &'a [(String, Findings)], attack: &str) -> Option<&'a Findings> {
    all.iter().find(|(name, _)| name == attack).map(|(_, findings)| findings)
}

/// What an attack found out about the arms of a run.
fn on_arms<'a>(run: &Shown<'a>, attack: &str) -> Vec<(String, Vec<&'a Findings>)> {
    let seeds = &run.outcome.seeds;
    let arms = run.arms().into_iter().enumerate();
    let found = |(index, (label, _)): (usize, (String, _))| {
        let of_seeds = seeds.iter().map(|seed| of_attack(&seed.arms[index].attacks, attack));
        Some((label, of_seeds.collect::<Option<Vec<_>>>()?))
    };
    arms.filter_map(found).collect()
}

/// What an attack found out about the gold model of a run, where there is one.
fn on_gold<'a>(run: &Shown<'a>, attack: &str) -> Option<Vec<&'a Findings>> {
    run.outcome.seeds.iter().map(|seed| of_attack(&seed.gold_findings, attack)).collect()
}
