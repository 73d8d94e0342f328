//! The report of a run: the comparison a person understands first, then the evidence.

use std::path::Path;

use amend_learn::Result;
use amend_run::report::{Cell, Plot, Sample, Samples, Section, Series, Table};
use amend_run::rows::{METRICS, Row, Rows};
use amend_run::{Figure, Report};
use serde_json::Value;

use crate::measure::Snapshot;
use crate::outcome::{JudgedBy, Outcome, SeedResult, Verdict};

/// Questions shown in the report.
const SAMPLES: usize = 8;
/// Tensors shown in the table of changes.
const CHANGES: usize = 8;

/// Makes the report of the run in `dir`; `command` is what reproduces it.
pub fn report(outcome: &Outcome, dir: &Path, command: &str) -> Result<Report> {
    let rows = Rows::read(dir, METRICS)?;
    let mut report = Report::new("Unlearning report");
    report.prose(introduction(outcome));
    report.push(Section::Table(comparison(outcome)));
    report.prose(reading(outcome));
    if let Some(seed) = outcome.seeds.first() {
        let note = match outcome.seeds.len() {
            1 => String::new(),
            n => format!(" (seed {} of {n})", seed.seed),
        };
        report.heading(format!("Before and after{note}"));
        report.push(Section::Table(before_after(seed)));
        report.heading(format!("While forgetting{note}"));
        for plot in progress_plots(outcome, seed, &rows) {
            report.push(Section::Plot(plot));
        }
        report.heading(format!("Gradient geometry{note}"));
        for plot in geometry_plots(outcome, seed, &rows) {
            report.push(Section::Plot(plot));
        }
        if seed.arms.iter().any(|a| a.curve.is_some()) {
            report.heading(format!("Relearning attack{note}"));
            report.prose(
                "Each model is fine-tuned on one half of the forgotten items; the curve shows the other \
                 half, which the attacker never sees. What lies above the gold model was hidden, not gone.",
            );
            report.push(Section::Plot(relearn_plot(outcome.judged_by, seed)));
        }
        report.heading("What they say");
        report.push(Section::Samples(samples(seed)));
        report.heading("What changed");
        report.push(Section::Table(changes(seed)));
    }
    report.heading("How to reproduce");
    report.command("The same recipe and seed give the same numbers.", command);
    Ok(report)
}

fn introduction(outcome: &Outcome) -> String {
    let arms: Vec<_> = outcome.verdicts.iter().map(|v| format!("`{}`", v.name)).collect();
    let seeds = match outcome.seeds.len() {
        1 => "one seed; ± is the standard error over questions".to_owned(),
        n => format!("{n} seeds; ± is the standard error over seeds"),
    };
    format!(
        "Before: {} of the forget questions and {} of the retain questions answered word for word. Each of {} \
         stopped at {} ({seeds}).",
        percent(&outcome.forget_accuracy_before),
        percent(&outcome.retain_accuracy_before),
        arms.join(", "),
        outcome.aim,
    )
}

/// The judged figure of an arm on the retain set.
fn retained<'v>(outcome: &Outcome, v: &'v Verdict) -> &'v Figure {
    match outcome.judged_by {
        JudgedBy::Accuracy => &v.retain_accuracy,
        JudgedBy::Probability => &v.retain_probability,
    }
}

fn reading(outcome: &Outcome) -> String {
    if !outcome.known_before {
        return "There was nothing to forget: the aim was met before the first step. Is this the model that learnt \
                the forget set? A lower `below` in [stop] asks for more."
            .into();
    }
    let forgot: Vec<_> = outcome.verdicts.iter().filter(|v| v.forgotten).collect();
    let best = forgot.iter().max_by(|a, b| retained(outcome, a).value.total_cmp(&retained(outcome, b).value));
    let Some(best) = best else {
        return "No arm reached the aim within its steps: raise `max_steps` or the learning rate.".into();
    };
    let top = retained(outcome, best).value;
    let unrivalled = forgot.iter().filter(|v| retained(outcome, v).value == top).count() == 1;
    let enough = match best.kept {
        true => "",
        false => " That is less than asked for.",
    };
    if outcome.verdicts.len() > 1 && unrivalled {
        let name = outcome.judged_by.name();
        return format!(
            "At matched forgetting `{}` keeps the most: retain {name} {top:.3}.{enough}",
            best.name
        );
    }
    if best.kept { "Forgotten, and the rest is kept.".into() } else { format!("Forgotten.{enough}") }
}

fn comparison(outcome: &Outcome) -> Table {
    let name = outcome.judged_by.name();
    let mut columns = vec![
        "rule".to_owned(),
        "forgotten?".to_owned(),
        format!("forget {name} ↓"),
        "rest kept?".to_owned(),
        format!("retain {name} ↑"),
    ];
    let attacked = outcome.verdicts.iter().any(|v| v.relearned.is_some());
    if attacked {
        columns.extend(["comes back?".to_owned(), format!("relearnt {name} ↓")]);
    }
    columns.push("steps".to_owned());
    let rows = outcome.verdicts.iter().map(|v| comparison_row(outcome, v, attacked)).collect();
    Table { caption: "Forgotten? Rest kept? Comes back?".into(), columns, rows }
}

fn comparison_row(outcome: &Outcome, v: &Verdict, attacked: bool) -> Vec<Cell> {
    let judge = |good: bool| if good { Cell::from("yes").good() } else { Cell::from("no").bad() };
    let forget = match outcome.judged_by {
        JudgedBy::Accuracy => &v.forget_accuracy,
        JudgedBy::Probability => &v.forget_probability,
    };
    let mut row = vec![
        Cell::from(v.name.as_str()),
        judge(v.forgotten),
        Cell::from(*forget),
        judge(v.kept),
        Cell::from(*retained(outcome, v)),
    ];
    if attacked {
        row.push(match &v.relearned_above_gold {
            // Two standard errors of a share over some dozens of questions.
            Some(above) if above.value <= 0.1 => Cell::from("no more than gold").good(),
            Some(above) => Cell::from(format!("{:+.2} on gold", above.value)).bad(),
            None => Cell::from("no gold model"),
        });
        row.push(v.relearned.map_or(Cell::from("–"), Cell::from));
    }
    row.push(Cell::from(v.steps));
    row
}

fn before_after(seed: &SeedResult) -> Table {
    let mut models: Vec<(&str, &Snapshot)> = vec![("before", &seed.before)];
    models.extend(seed.gold.iter().map(|g| ("gold (never saw it)", g)));
    models.extend(seed.arms.iter().map(|a| (a.name.as_str(), &a.after)));
    let mut columns = vec!["figure".to_owned()];
    columns.extend(models.iter().map(|(name, _)| (*name).to_owned()));
    type Read = fn(&Snapshot) -> Option<Figure>;
    let figures: [(&str, Read); 14] = [
        ("forget: probability", |s| Some(s.forget.probability)),
        ("forget: accuracy", |s| Some(s.forget.accuracy)),
        ("forget: ROUGE-L recall", |s| s.forget.rouge_l_recall),
        ("forget: right among wrong", |s| s.forget.choice),
        ("forget: truth ratio", |s| s.forget.truth_ratio),
        ("forget: extraction strength", |s| Some(s.forget.extraction_strength)),
        ("forget: exact memorisation", |s| Some(s.forget.exact_memorization)),
        ("retain: probability", |s| Some(s.retain.probability)),
        ("retain: accuracy", |s| Some(s.retain.accuracy)),
        ("retain: ROUGE-L recall", |s| s.retain.rouge_l_recall),
        ("retain: truth ratio", |s| s.retain.truth_ratio),
        ("real authors: ROUGE-L recall", |s| s.real_authors.as_ref()?.rouge_l_recall),
        ("world facts: ROUGE-L recall", |s| s.world_facts.as_ref()?.rouge_l_recall),
        ("utility (TOFU's, or the retain set's)", utility),
    ];
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (name, read) in figures {
        if models.iter().any(|(_, s)| read(s).is_some()) {
            let cells = models.iter().map(|(_, s)| read(s).map_or(Cell::from("–"), Cell::from));
            rows.push(std::iter::once(Cell::from(name)).chain(cells).collect());
        }
    }
    if let Some(gold) = &seed.gold {
        let quality =
            |s: &Snapshot| s.forget_quality(gold).map_or("–".to_owned(), |q| format!("{:.2}", q.log10_p));
        let cells = models.iter().map(|(_, s)| Cell::from(quality(s)));
        rows.push(std::iter::once(Cell::from("forget quality, log10 p (0 is best)")).chain(cells).collect());
    }
    Table { caption: "Mean ± standard error over questions".into(), columns, rows }
}

/// TOFU's model utility, or the retain set's alone where the other sets are missing.
fn utility(s: &Snapshot) -> Option<Figure> {
    match &s.model_utility {
        Some(mean) => Some(Figure { value: mean.value, n: mean.n, stderr: mean.standard_error }),
        None => s.retain.utility.map(|u| Figure::exact(u, s.retain.probability.n)),
    }
}

/// The values of one metric over the steps of a stage.
fn series(rows: &[Row], stage: &str, key: &str) -> Vec<(f64, f64)> {
    let value = |row: &Row| row.values.get(key).and_then(Value::as_f64);
    rows.iter().filter(|r| r.stage == stage).filter_map(|r| Some((r.step as f64, value(r)?))).collect()
}

/// Stage name of an arm's unlearning.
fn stage(outcome: &Outcome, seed: &SeedResult, arm: &str) -> String {
    let tag = if outcome.seeds.len() > 1 { format!("seed{}-", seed.seed) } else { String::new() };
    format!("{tag}{arm}-unlearn")
}

fn plot_of(
    outcome: &Outcome,
    seed: &SeedResult,
    rows: &[Row],
    [title, y]: [&str; 2],
    keys: &[(&str, &str)],
) -> Plot {
    let mut plot = Plot::new(title, "step", y);
    for arm in &seed.arms {
        for (key, label) in keys {
            let points = series(rows, &stage(outcome, seed, &arm.name), key);
            if !points.is_empty() {
                let name = if label.is_empty() { arm.name.clone() } else { format!("{}: {label}", arm.name) };
                plot = plot.with(Series::new(name, points));
            }
        }
    }
    plot
}

fn progress_plots(outcome: &Outcome, seed: &SeedResult, rows: &[Row]) -> Vec<Plot> {
    let plot = |titles, keys| plot_of(outcome, seed, rows, titles, keys);
    vec![
        plot(["Retained knowledge", "retain accuracy"], &[("retain_accuracy", "")]),
        plot(["Forgetting", "forget accuracy"], &[("forget_accuracy", "")]),
        plot(["Retain loss", "nats per token"], &[("loss_retain", "")]),
        plot(["Forget objective", "nats"], &[("loss_forget", "")]),
    ]
}

fn geometry_plots(outcome: &Outcome, seed: &SeedResult, rows: &[Row]) -> Vec<Plot> {
    let plot = |titles, keys| plot_of(outcome, seed, rows, titles, keys);
    vec![
        plot(["Forget against retain gradient", "cosine"], &[("cos_forget_retain", "")]),
        plot(["Update against retain gradient", "cosine"], &[("cos_update_retain", "")]),
        plot(
            ["Coordinates in conflict", "share"],
            &[("conflict", "signs differ"), ("opposed", "update opposes retain")],
        ),
    ]
}

fn relearn_plot(judged_by: JudgedBy, seed: &SeedResult) -> Plot {
    let mut plot = Plot::new("Forgotten items the attacker never saw", "fine-tuning step", judged_by.name());
    let curves = seed
        .arms
        .iter()
        .map(|a| (a.name.as_str(), a.curve.as_ref()))
        .chain(std::iter::once(("gold", seed.gold_curve.as_ref())));
    for (name, curve) in curves {
        let Some(curve) = curve else { continue };
        let values = match judged_by {
            JudgedBy::Accuracy => &curve.accuracy,
            JudgedBy::Probability => &curve.probability,
        };
        let points: Vec<_> = curve.steps.iter().map(|&s| s as f64).zip(values.iter().copied()).collect();
        plot = plot.with(Series::new(name, points));
    }
    plot
}

fn samples(seed: &SeedResult) -> Samples {
    let mut models: Vec<(&str, &Snapshot)> = vec![("before", &seed.before)];
    models.extend(seed.gold.iter().map(|g| ("gold", g)));
    models.extend(seed.arms.iter().map(|a| (a.name.as_str(), &a.after)));
    // The forget set's samples come first, the retain set's after them: half and half.
    let total = seed.before.samples.len();
    let chosen = (0..total).step_by(total.div_ceil(SAMPLES).max(1));
    let samples = chosen.map(|i| {
        let [question, expected, _] = &seed.before.samples[i];
        Sample {
            question: question.clone(),
            expected: Some(expected.clone()),
            answers: models
                .iter()
                .filter_map(|(name, s)| Some(((*name).to_owned(), s.samples.get(i)?[2].clone())))
                .collect(),
        }
    });
    Samples {
        caption: "First questions about what was to be forgotten, then about what was to stay".into(),
        samples: samples.collect(),
    }
}

fn changes(seed: &SeedResult) -> Table {
    let mut columns = vec!["tensor".to_owned()];
    columns.extend(seed.arms.iter().map(|a| format!("{}: ‖ΔW‖/‖W‖", a.name)));
    let first = seed.arms.first().map_or(&[][..], |a| &a.changes);
    let rows = first.iter().take(CHANGES).map(|change| {
        let cells = seed.arms.iter().map(|a| {
            let same = a.changes.iter().find(|c| c.name == change.name);
            same.map_or(Cell::from("–"), |c| Cell::from(Figure::exact(c.relative, 0)))
        });
        std::iter::once(Cell::from(change.name.as_str())).chain(cells).collect()
    });
    Table {
        caption: format!("The {CHANGES} tensors that changed most, of {}", first.len()),
        columns,
        rows: rows.collect(),
    }
}

fn percent(figure: &Figure) -> String {
    format!("{:.0} %", 100.0 * figure.value)
}
