//! Curves over steps: what was logged while forgetting, and what attacks brought back.

use amend_run::report::{Plot, Series};
use amend_run::step_log::StepRow;
use serde_json::Value;

use super::Attacked;
use crate::outcome::{Outcome, SeedResult};
use crate::{tag, unlearning};

/// How forgetting went.
pub(super) fn progress(outcome: &Outcome, seed: &SeedResult, rows: &[StepRow]) -> Vec<Plot> {
    let plot = |titles, keys| of_arms(outcome, seed, rows, titles, keys);
    vec![
        plot(["Retained knowledge", "retain accuracy"], &[("retain_accuracy", "")]),
        plot(["Forgetting", "forget accuracy"], &[("forget_accuracy", "")]),
        plot(["Retain loss", "nats per token"], &[("loss_retain", "")]),
        plot(["Forget objective", "nats"], &[("loss_forget", "")]),
    ]
}

/// What the two gradients looked like to each other.
pub(super) fn geometry(outcome: &Outcome, seed: &SeedResult, rows: &[StepRow]) -> Vec<Plot> {
    let plot = |titles, keys| of_arms(outcome, seed, rows, titles, keys);
    vec![
        plot(["Forget against retain gradient", "cosine"], &[("cos_forget_retain", "")]),
        plot(["Update against retain gradient", "cosine"], &[("cos_update_retain", "")]),
        plot(
            ["Coordinates in conflict", "share"],
            &[("conflict", "signs differ"), ("opposed", "update opposes retain")],
        ),
    ]
}

/// What an attack brought back, one plot per title.
pub(super) fn findings(attack: &Attacked<'_>) -> Vec<Plot> {
    let Some((_, first)) = attack.models.first() else { return Vec::new() };
    let plot = |i: usize| {
        let curve = &first.curves[i];
        let of_models = attack.models.iter().filter_map(|(name, findings)| {
            let same = findings.curves.iter().find(|c| c.title == curve.title)?;
            Some(Series::new(*name, same.points.clone()))
        });
        of_models.fold(Plot::new(&curve.title, &curve.x, &curve.y), Plot::with)
    };
    (0..first.curves.len()).map(plot).collect()
}

/// Logged values of every arm, over its steps.
fn of_arms(
    outcome: &Outcome,
    seed: &SeedResult,
    rows: &[StepRow],
    [title, y]: [&str; 2],
    keys: &[(&str, &str)],
) -> Plot {
    let mut plot = Plot::new(title, "step", y);
    let tag = tag(seed.seed, outcome.seeds.len() as u64);
    for arm in &seed.arms {
        let stage = unlearning(&tag, &arm.name);
        for (key, label) in keys {
            let points = series(rows, &stage, key);
            if !points.is_empty() {
                let name = if label.is_empty() { arm.name.clone() } else { format!("{}: {label}", arm.name) };
                plot = plot.with(Series::new(name, points));
            }
        }
    }
    plot
}

/// The values of one metric over the steps of a stage.
fn series(rows: &[StepRow], stage: &str, key: &str) -> Vec<(f64, f64)> {
    let value = |row: &StepRow| row.values.get(key).and_then(Value::as_f64);
    rows.iter().filter(|r| r.stage == stage).filter_map(|r| Some((r.step as f64, value(r)?))).collect()
}
