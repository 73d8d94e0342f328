//! What a relearning attack found out.

use amend_eval::stats::{highest_stretch, mean_height};
use amend_run::{Figure, in_short};

use super::Relearn;
use crate::attack::{Curve, Findings};
use crate::minor::Component;

/// Something that is watched on the way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// What it is called in the metrics.
    pub(super) key: &'static str,
    /// What its figure is called.
    pub(super) name: &'static str,
    /// Whether it is a share of items.
    is_share: bool,
}

impl Seen {
    pub(super) const ACCURACY: Seen = Seen { key: "test_accuracy", name: "accuracy", is_share: true };
    pub(super) const PROBABILITY: Seen =
        Seen { key: "test_probability", name: "probability", is_share: false };
    pub(super) const RENORMALISED: Seen =
        Seen { key: "test_renormalised", name: "renormalised probability", is_share: false };
}

pub(super) type Points = Vec<(f64, f64)>;

/// What is to be said of an attacker that hardly learnt even T: whose mean probability of it stayed below one half, and
/// below twice what it was and one tenth. That is seen at the end, while what came back is the best of the way.
pub(super) fn weakness(before: f64, after: f64) -> Option<String> {
    (after < 0.5 && after < (2.0 * before).max(0.1)).then(|| {
        format!(
            "the mean probability of the answers it trained on went from {} to {}",
            in_short(before),
            in_short(after)
        )
    })
}

impl Relearn {
    /// Of what was seen on the way, from before the attack on, of so many items.
    pub(super) fn findings(&self, seen: Vec<(&'static Seen, Points)>, n: usize) -> Findings {
        // An attacker keeps the best model of the way. Where nothing was measured, nothing is known of it.
        let largest = |points: &Points| points.iter().map(|p| p.1).reduce(f64::max).unwrap_or(f64::NAN);
        let best = |(what, points): &(&'static Seen, Points)| {
            let figure = match largest(points) {
                best if best.is_nan() => Figure::exact(best, 0),
                best if what.is_share => Figure::share((best * n as f64).round() as usize, n),
                best => Figure::exact(best, n),
            };
            (what.name.to_owned(), figure)
        };
        let mut figures: Vec<(String, Figure)> = seen.iter().map(best).collect();
        for (what, points) in &seen {
            let heights: Vec<f64> = points.iter().map(|point| point.1).collect();
            let smoothed = highest_stretch(&heights, self.window);
            let rebound = smoothed.zip(heights.first()).map(|(highest, start)| highest - start);
            let height = mean_height(points);
            for (of, value) in [("smoothed", smoothed), ("rebound", rebound), ("mean height", height)] {
                figures.push((format!("{}, {of}", what.name), Figure::exact(value.unwrap_or(f64::NAN), n)));
            }
        }
        let (reading, title) = self.on.reading();
        let curve = |(what, points): (&'static Seen, Points)| Curve {
            title: format!("{title}: {}", what.name),
            x: "fine-tuning step".into(),
            y: what.name.into(),
            points,
        };
        Findings { reading, figures, curves: seen.into_iter().map(curve).collect(), ..Findings::default() }
    }
}

/// Components over their numbers: how far they were moved, and how much of it came back.
pub(super) fn component_curves(components: &[Component]) -> Vec<Curve> {
    let curve = |title: &str, y: &str, of: &dyn Fn(&Component) -> Option<f64>| Curve {
        title: title.into(),
        x: "component (0 is the mean)".into(),
        y: y.into(),
        points: components
            .iter()
            .filter_map(|component| Some((component.index as f64, of(component).filter(|y| y.is_finite())?)))
            .collect(),
    };
    let all = [
        curve("Components of hidden states: their share of the variance", "explained variance", &|c| {
            c.explained
        }),
        curve("Components of hidden states: how far forgetting moved them", "change", &|c| {
            Some(c.change.value)
        }),
        curve("Components of hidden states: how much of that relearning undid", "recovery", &|c| {
            Some(c.recovery.value)
        }),
    ];
    all.into_iter().filter(|curve| !curve.points.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_the_way_counts() {
        let seen = vec![
            (&Seen::ACCURACY, vec![(0.0, 0.25), (5.0, 0.75), (10.0, 0.5)]),
            (&Seen::PROBABILITY, vec![(0.0, 0.1)]),
        ];
        let found = Relearn { window: 2, ..Relearn::default() }.findings(seen, 4);
        assert_eq!(found.figures[0].1, Figure::share(3, 4));
        assert_eq!(found.figures[1].1, Figure::exact(0.1, 4));
        let of = |name: &str| found.figures.iter().find(|(known, _)| known == name).unwrap().1.value;
        assert_eq!((of("accuracy, smoothed"), of("accuracy, mean height")), (0.625, 0.5625));
        assert_eq!((of("accuracy, rebound"), of("probability, rebound")), (0.375, 0.0));
        assert_eq!((of("probability, smoothed"), of("probability, mean height")), (0.1, 0.1));
    }

    #[test]
    fn who_learns_nothing_attacks_weakly() {
        assert!(weakness(0.05, 0.06).unwrap().contains("from 0.050 to 0.060"));
        // Of next to nothing the double is next to nothing.
        assert!(weakness(0.0, 0.0).is_some() && weakness(1e-9, 3e-9).is_some());
        assert!(weakness(0.05, 0.1).is_none() && weakness(0.4, 0.5).is_none());
    }

    /// An attack of which nothing is known once counted as one that brought nothing back.
    #[test]
    fn an_attack_without_a_point_found_nothing_out() {
        let seen = vec![(&Seen::ACCURACY, Vec::new()), (&Seen::PROBABILITY, Vec::new())];
        let found = Relearn::default().findings(seen, 0);
        assert!(found.figures.iter().all(|(_, figure)| figure.value.is_nan()), "{:?}", found.figures);
    }

    /// Ten items in batches of four are gone through in three steps.
    #[test]
    fn an_epoch_is_as_many_steps_as_go_through_everything() {
        let attack = Relearn { epochs: Some(5), batch_size: 4, ..Relearn::default() };
        let length = attack.length(10);
        assert_eq!((length.steps, length.every), (15, 3));
        let length = attack.length(2);
        assert_eq!((length.steps, length.every), (5, 1));
        let length = Relearn::default().length(10);
        assert_eq!((length.steps, length.every), (50, 5));
    }
}
