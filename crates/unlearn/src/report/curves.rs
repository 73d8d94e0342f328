//! Curves over steps: what was logged while forgetting, and what attacks brought back.

use amend_run::Figure;
use amend_run::report::{Plot, Series};
use amend_run::step_log::StepRow;
use serde_json::Value;

use super::{Attacked, Shown, together};
use crate::arm::RETAIN_LOOK;
use crate::attack::{Curve, Findings};
use crate::outcome::SeedResult;
use crate::stages::Stages;
use crate::stop::Watched;

/// How forgetting went: the watched figure down to its aim, what was kept meanwhile, and the two losses. Arms begin at
/// step 0, with what was measured before; of several seeds the curve is their mean, the band a standard error.
pub(super) fn progress(runs: &[Shown<'_>]) -> Vec<Plot> {
    let all: Vec<&Shown<'_>> = runs.iter().collect();
    let mut plots: Vec<Plot> = watched(&all).into_iter().map(|watched| forgetting(&all, watched)).collect();
    // Whole sets are measured before and after, the first of the retain set meanwhile: a curve of that alone.
    let part = format!("accuracy on the first {RETAIN_LOOK} of the retain set");
    let retained = of_arms(&all, ["Retained knowledge", &part], "retain_accuracy", &|_| None);
    let before = |run: &Shown<'_>| mean(run, &|seed| Some(seed.before.retain.accuracy.value));
    plots.push(with_levels(retained, &all, "before", &before).holding([0.0, 1.0]));
    if all.iter().any(|run| run.outcome.watched != Watched::Accuracy) {
        let before = |run: &Shown<'_>| mean(run, &|seed| Some(seed.before.forget.accuracy.value));
        let titles = ["Forget accuracy", "forget accuracy"];
        plots.push(of_arms(&all, titles, "forget_accuracy", &before).holding([0.0, 1.0]));
    }
    plots.push(of_arms(&all, ["Retain loss", "nats per token"], "loss_retain", &|_| None));
    plots.push(of_arms(&all, ["Forget objective", "nats"], "loss_forget", &|_| None));
    // Only where retention is a constraint.
    let dual = of_arms(&all, ["Dual variable of the retain constraint", "λ"], "dual", &|_| None);
    plots.extend((!dual.series.is_empty()).then_some(dual));
    plots
}

/// The figures that runs watch.
fn watched(runs: &[&Shown<'_>]) -> Vec<Watched> {
    let mut all = Vec::new();
    for run in runs {
        if !all.contains(&run.outcome.watched) {
            all.push(run.outcome.watched);
        }
    }
    all
}

/// A watched figure of the runs that watch it, with its aim, and the gold model's where that is another.
fn forgetting(runs: &[&Shown<'_>], watched: Watched) -> Plot {
    let runs: Vec<&Shown<'_>> = runs.iter().copied().filter(|run| run.outcome.watched == watched).collect();
    let before = |run: &Shown<'_>| mean(run, &|seed| Some(seed.watched_before.value));
    let aim = |run: &Shown<'_>| mean(run, &|seed| Some(seed.arms.first()?.unlearned.aim));
    let gold = |run: &Shown<'_>| {
        let gold = mean(run, &|seed| Some(watched.measured(seed.gold.as_ref()?)?.value))?;
        aim(run).is_none_or(|aim| (aim - gold).abs() > NEAR).then_some(gold)
    };
    let titles = ["Forgetting", &format!("forget {}", watched.name())];
    let plot = of_arms(&runs, titles, "forget_watched", &before);
    let plot = with_levels(plot, &runs, "aim", &aim);
    with_levels(plot, &runs, "gold", &gold).holding([0.0, 1.0])
}

/// What the two gradients looked like to each other.
pub(super) fn geometry(runs: &[Shown<'_>]) -> Vec<Plot> {
    let all: Vec<&Shown<'_>> = runs.iter().collect();
    let plot = |titles, key| of_arms(&all, titles, key, &|_| None);
    vec![
        plot(["Forget against retain gradient", "cosine"], "cos_forget_retain").holding([-1.0, 1.0]),
        plot(["Update against retain gradient", "cosine"], "cos_update_retain").holding([-1.0, 1.0]),
        plot(["Coordinates whose signs differ", "share"], "conflict").holding([0.0, 1.0]),
        plot(["Coordinates in which the update opposes the retain gradient", "share"], "opposed")
            .holding([0.0, 1.0]),
        plot(["Overlap of the adapter with the retain space", "ROL"], "loss_rol").holding([0.0]),
    ]
}

/// What an attack brought back, one plot per title, over all seeds.
pub(super) fn findings(attack: &Attacked<'_>) -> Vec<Plot> {
    let Some(first) = attack.models.first().and_then(|(_, seeds)| seeds.first()) else { return Vec::new() };
    let plot = |curve: &Curve| {
        let of_models = attack.models.iter().filter_map(|(name, seeds)| {
            let points = |findings: &&Findings| {
                let same = findings.curves.iter().find(|c| c.title == curve.title)?;
                Some(same.points.clone())
            };
            let points: Option<Vec<_>> = seeds.iter().map(points).collect();
            points.map(|points| over_seeds(name, &points))
        });
        of_models.fold(Plot::new(&curve.title, &curve.x, &curve.y), Plot::with).holding([0.0])
    };
    first.curves.iter().map(plot).collect()
}

/// Levels as near as this are one.
const NEAR: f64 = 1e-9;

/// The mean over the seeds of a run; nothing where a seed has none.
fn mean(run: &Shown<'_>, read: &dyn Fn(&SeedResult) -> Option<f64>) -> Option<f64> {
    let values: Option<Vec<f64>> = run.outcome.seeds.iter().map(read).collect();
    values.map(|values| Figure::mean(&values).value).filter(|value| value.is_finite())
}

/// The plot with the levels of runs, one for all that have the same.
fn with_levels(
    plot: Plot,
    runs: &[&Shown<'_>],
    name: &str,
    level: &dyn Fn(&Shown<'_>) -> Option<f64>,
) -> Plot {
    let mut levels: Vec<(f64, Vec<&str>)> = Vec::new();
    for run in runs {
        let Some(level) = level(run) else { continue };
        match levels.iter_mut().find(|(known, _)| (known - level).abs() <= NEAR) {
            Some((_, names)) => names.extend(run.name),
            None => levels.push((level, run.name.into_iter().collect())),
        }
    }
    let is_one = levels.len() == 1;
    let label = |names: &[&str]| together(is_one, names, name);
    levels.iter().fold(plot, |plot, (level, names)| plot.with_level(label(names), *level))
}

/// Logged values of every arm over its steps: of one seed as they are, of several their mean with its standard error.
fn of_arms(
    runs: &[&Shown<'_>],
    [title, y]: [&str; 2],
    key: &str,
    before: &dyn Fn(&Shown<'_>) -> Option<f64>,
) -> Plot {
    let mut plot = Plot::new(title, "step", y);
    for run in runs {
        let seeds = &run.outcome.seeds;
        for arm in &run.outcome.arms {
            let of_seed = |seed: &SeedResult| {
                series(&run.rows, &Stages::of(seed.seed, seeds.len()).unlearn(&arm.name), key)
            };
            let of_seeds: Vec<Vec<(f64, f64)>> = seeds.iter().map(of_seed).collect();
            let mut curve = over_seeds(&run.arm_label(&arm.name), &of_seeds);
            if curve.points.is_empty() {
                continue;
            }
            if let Some(before) = before(run) {
                curve.points.insert(0, (0.0, before));
                if let Some(band) = &mut curve.band {
                    band.insert(0, (before, before));
                }
            }
            plot = plot.with(curve);
        }
    }
    plot
}

/// One curve of several seeds: their mean at every step that any of them logged. A seed that ended earlier stays at its
/// last value, which its model kept.
fn over_seeds(name: &str, seeds: &[Vec<(f64, f64)>]) -> Series {
    if let [only] = seeds {
        return Series::new(name, only.clone());
    }
    let mut steps: Vec<f64> = seeds.iter().flatten().map(|point| point.0).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    let at = |seed: &Vec<(f64, f64)>, step: f64| {
        let until = seed.partition_point(|point| point.0 <= step);
        until.checked_sub(1).map(|last| seed[last].1)
    };
    let (mut points, mut band) = (Vec::new(), Vec::new());
    for step in steps {
        let values: Option<Vec<f64>> = seeds.iter().map(|seed| at(seed, step)).collect();
        let Some(values) = values else { continue };
        let Figure { value, stderr, .. } = Figure::mean(&values);
        let error = stderr.unwrap_or(0.0);
        points.push((step, value));
        band.push((value - error, value + error));
    }
    Series::new(name, points).with_band(band)
}

/// The values of one metric over the steps of a stage.
fn series(rows: &[StepRow], stage: &str, key: &str) -> Vec<(f64, f64)> {
    let value = |row: &StepRow| row.values.get(key).and_then(Value::as_f64);
    rows.iter().filter(|r| r.stage == stage).filter_map(|r| Some((r.step as f64, value(r)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::over_seeds;

    #[test]
    fn a_curve_over_seeds_is_their_mean_with_its_error() {
        let seeds = [vec![(1.0, 0.8), (2.0, 0.4)], vec![(1.0, 0.6), (2.0, 0.2), (3.0, 0.0)]];
        let curve = over_seeds("sago", &seeds);
        let means: Vec<f64> = curve.points.iter().map(|point| (point.1 * 1e9).round() / 1e9).collect();
        // The first seed had ended at step 2.
        assert_eq!(means, [0.7, 0.3, 0.2]);
        let (low, high) = curve.band.unwrap()[0];
        assert!((high - low - 0.2).abs() < 1e-12, "twice the standard error of 0.8 and 0.6");
        assert_eq!(over_seeds("one", &seeds[..1]).band, None);
    }
}
