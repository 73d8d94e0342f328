//! What was to change against what was to stay: where many attempts lie, which of them no other one beats, and which to take.

use serde::Serialize;

use crate::Figure;
use crate::report::{Plot, Series};

/// An attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// What it is called.
    pub name: String,
    /// The place of its run among those that were looked at.
    pub run: usize,
    /// What attempts of one kind share; they are drawn as one curve.
    pub group: String,
    /// Whether all that was asked of it holds; nothing where nothing was asked.
    pub passed: Option<bool>,
    /// Whether it changed as much as it was to.
    pub reached: bool,
    /// What was to come down.
    pub changed: Figure,
    /// What was to stay, as a share of what it was before.
    pub kept: Figure,
}

/// How one attempt is picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pick {
    /// At matched change: of those that changed as much as they were to, the one that keeps most.
    Matched,
    /// On a budget: of those that keep at least so much, the one that changed most.
    Budget(f64),
}

impl Pick {
    /// The attempt that is to be taken, and those that may be as good: within twice the errors of both, taken together as if
    /// they were independent, or without an error. Attempts that answer the same questions differ by less than that, so
    /// these are too many rather than too few. `None` where no attempt is eligible.
    pub fn of(self, all: &[Standing]) -> Option<(usize, Vec<usize>)> {
        // The larger the better, with its error.
        let merit = |one: &Standing| match self {
            Pick::Matched => (one.reached, one.kept.value, one.kept.stderr),
            Pick::Budget(least) => (one.kept.value >= least, -one.changed.value, one.changed.stderr),
        };
        let eligible: Vec<usize> = (0..all.len())
            .filter(|&i| {
                let (eligible, value, _) = merit(&all[i]);
                eligible && value.is_finite()
            })
            .collect();
        // Of equals, the first.
        let best =
            eligible.iter().copied().rev().max_by(|&a, &b| merit(&all[a]).1.total_cmp(&merit(&all[b]).1))?;
        let (_, value, error) = merit(&all[best]);
        let alike = |&i: &usize| {
            let (_, other, other_error) = merit(&all[i]);
            let spread = error.zip(other_error).map_or(f64::INFINITY, |(a, b)| a.hypot(b));
            i != best && (value - other).abs() <= 2.0 * spread
        };
        Some((best, eligible.iter().copied().filter(alike).collect()))
    }
}

/// The attempts that no other one beats: none changed as much or more and kept more, or kept as much and changed more.
pub fn efficient(all: &[Standing]) -> Vec<usize> {
    let measured = |one: &Standing| one.changed.value.is_finite() && one.kept.value.is_finite();
    let beats = |one: &Standing, other: &Standing| {
        let (a, b) = ((one.changed.value, one.kept.value), (other.changed.value, other.kept.value));
        measured(one) && a.0 <= b.0 && a.1 >= b.1 && a != b
    };
    let unbeaten = |&i: &usize| measured(&all[i]) && !all.iter().any(|other| beats(other, &all[i]));
    (0..all.len()).filter(unbeaten).collect()
}

/// Draws the attempts, group by group, and joins those that no other one beats.
pub fn plot(all: &[Standing], changed: &str, kept: &str, aim: Option<f64>) -> Plot {
    let place = |one: &Standing| (one.changed.value, one.kept.value);
    let aim = aim.map_or_else(String::new, |aim| format!(" (aim: at most {})", crate::in_short(aim)));
    let title = format!("{changed}{aim} against {kept}");
    let mut plot = Plot::new(title, format!("{changed} ↓"), format!("{kept} ↑"));
    let mut edge: Vec<(f64, f64)> = efficient(all).into_iter().map(|i| place(&all[i])).collect();
    edge.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    plot = plot.with(Series::new("beaten by none", edge));
    let mut groups: Vec<&str> = all.iter().map(|one| one.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        // Points that are not finite stand between them, so that they are not joined.
        let of = all.iter().filter(|one| one.group == group);
        let points = of.flat_map(|one| [place(one), (f64::NAN, f64::NAN)]).collect();
        plot = plot.with(Series::new(group, points));
    }
    plot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(changed: f64, kept: f64, reached: bool) -> Standing {
        let figure = |value| Figure { value, n: 10, stderr: Some(0.01) };
        Standing {
            name: String::new(),
            run: 0,
            group: "g".into(),
            passed: None,
            reached,
            changed: figure(changed),
            kept: figure(kept),
        }
    }

    #[test]
    fn what_is_beaten_is_not_on_the_frontier() {
        let all = [
            at(0.1, 0.9, true),
            at(0.1, 0.8, true),
            at(0.05, 0.7, true),
            at(0.2, 0.9, false),
            at(f64::NAN, 1.0, true),
        ];
        assert_eq!(efficient(&all), [0, 2]);
        let twins = [at(0.1, 0.9, true), at(0.1, 0.9, true)];
        assert_eq!(efficient(&twins), [0, 1], "equals do not beat each other");
    }

    #[test]
    fn matched_forgetting_and_a_budget_pick_differently() {
        let all = [at(0.09, 0.8, true), at(0.05, 0.6, true), at(0.3, 0.99, false), at(0.08, 0.79, true)];
        assert_eq!(Pick::Matched.of(&all), Some((0, vec![3])));
        assert_eq!(Pick::Budget(0.5).of(&all), Some((1, vec![])));
        assert_eq!(Pick::Budget(0.95).of(&all), Some((2, vec![])));
        assert_eq!(Pick::Budget(1.1).of(&all), None);
        assert_eq!(Pick::Matched.of(&[at(0.5, 1.0, false)]), None);
    }

    #[test]
    fn every_attempt_is_drawn_and_the_frontier_is_joined() {
        let all = [at(0.2, 0.9, true), at(0.1, 0.5, true)];
        let plot = plot(&all, "forget probability", "retain share", Some(0.1));
        assert_eq!(plot.series[0].points, [(0.1, 0.5), (0.2, 0.9)]);
        assert_eq!(plot.series[1].points.iter().filter(|(x, _)| x.is_finite()).count(), 2);
        assert!(plot.to_svg(720, 400).contains("beaten by none"));
    }
}
