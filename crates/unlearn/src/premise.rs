//! What an experiment takes for granted, and whether it may: a model that never knew cannot forget, one that learns the
//! retain set along the way does not keep it, and an attacker that learns nothing brings nothing back.

use amend_run::in_short;

use crate::attack::Findings;
use crate::outcome::{ArmOutcome, SeedResult};
use crate::recipe::UnlearnRecipe;
use crate::verdict::{JudgedBy, KNOWN, LEARNT, over_seeds};

/// Who gives away less than this share of the content words of answers can hardly be said to know them: as much is guessed.
const GIVEN_AWAY: f64 = 0.2;

/// What is wrong with the premises, each in a sentence or two, the most serious first.
pub(crate) fn broken(
    recipe: &UnlearnRecipe,
    seeds: &[SeedResult],
    judged_by: JudgedBy,
    arms: &[ArmOutcome],
) -> Vec<String> {
    let what = judged_by.name();
    let mut all = Vec::new();
    let known = |seed: &&SeedResult| seed.watched_before.value > recipe.stop.aim(seed.gold.as_ref());
    if let Some(seed) = seeds.iter().find(|seed| !known(seed)) {
        all.push(format!(
            "There was nothing to forget: before the first step the forget {} was {}, and the aim is {}. Is this \
             the model that learnt the forget set?",
            recipe.stop.watch.name(),
            in_short(seed.watched_before.value),
            in_short(recipe.stop.aim(seed.gold.as_ref()))
        ));
    }
    if all.is_empty() {
        all.extend(hardly_known(seeds));
    }
    let kept = over_seeds(seeds.iter().map(|seed| judged_by.figure(&seed.before.retain)).collect());
    if kept.value < KNOWN {
        all.push(format!(
            "There was nothing to keep: before the first step the retain {what} was {}. A retain set that the \
             model knows shows whether it is kept.",
            in_short(kept.value)
        ));
        return all;
    }
    for arm in arms {
        let share = judged_by.figure_of(arm).value / kept.value;
        if share > LEARNT {
            all.push(format!(
                "`{}` learnt the retain set along the way (retain {what} {:.0} % of what it was), so that what was \
                 kept cannot be told from what is new.",
                arm.name,
                100.0 * share
            ));
        }
    }
    all
}

/// What is to be said of a model that could hardly say what it was to forget. Of one that had nothing to forget, that is
/// said already.
fn hardly_known(seeds: &[SeedResult]) -> Option<String> {
    let leaks: Option<Vec<_>> = seeds.iter().map(|seed| seed.before.forget.leak).collect();
    let leak = over_seeds(leaks?);
    (leak.value < GIVEN_AWAY).then(|| {
        format!(
            "The model hardly knew what it was to forget: before the first step it gave away {:.0} % of the answers' content \
             words. What falls is how readily it talks about such things, rather than what it knows.",
            100.0 * leak.value
        )
    })
}

/// Attacks that were too weak to show much, each in a sentence or two.
pub(crate) fn weak_attacks(seeds: &[SeedResult]) -> Vec<String> {
    let sentence = |(attack, models): (&str, String)| {
        format!(
            "The attack `{attack}` was weak: {models}. What it does not bring back a stronger one may: try another learning rate, \
             or more steps."
        )
    };
    clauses(seeds, &|found| found.weak.as_deref()).into_iter().map(sentence).collect()
}

/// What attacks have to say of models before any verdict.
pub(crate) fn noted(seeds: &[SeedResult]) -> Vec<String> {
    let sentence = |(attack, models): (&str, String)| format!("The attack `{attack}` found {models}.");
    clauses(seeds, &|found| found.note.as_deref()).into_iter().map(sentence).collect()
}

/// By attack, what is to be said of each model, as it was with the first seed in which it was to be said.
fn clauses<'a>(
    seeds: &'a [SeedResult],
    clause: &dyn Fn(&'a Findings) -> Option<&'a str>,
) -> Vec<(&'a str, String)> {
    let mut all: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
    for seed in seeds {
        let arms = seed.arms.iter().map(|arm| (arm.name.as_str(), &arm.attacks));
        for (model, findings) in arms.chain([("gold", &seed.gold_findings)]) {
            for (attack, found) in findings {
                let Some(clause) = clause(found) else { continue };
                let place = all.iter().position(|(known, _)| known == attack).unwrap_or_else(|| {
                    all.push((attack, Vec::new()));
                    all.len() - 1
                });
                let models = &mut all[place].1;
                if models.iter().all(|(known, _)| *known != model) {
                    models.push((model, clause));
                }
            }
        }
    }
    let joined = |models: Vec<(&str, &str)>| {
        let each: Vec<String> =
            models.iter().map(|(model, clause)| format!("on `{model}` {clause}")).collect();
        each.join("; ")
    };
    all.into_iter().map(|(attack, models)| (attack, joined(models))).collect()
}

/// Where arms that forgot ended too far apart to be compared at matched forgetting: the two furthest of these, arms with
/// the figures they ended at.
pub(crate) fn unmatched<'a>(ends: impl Iterator<Item = (&'a str, f64)>) -> Option<[(&'a str, f64); 2]> {
    /// Figures that differ by less than this factor, or by less than this, are as good as equal.
    const FACTOR: f64 = 2.0;
    const DIFFERENCE: f64 = 0.02;
    let mut ends: Vec<_> = ends.collect();
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (&lowest, &highest) = (ends.first()?, ends.last()?);
    let apart = highest.1 - lowest.1 > DIFFERENCE && highest.1 > FACTOR * lowest.1;
    apart.then_some([lowest, highest])
}

#[cfg(test)]
mod tests {
    use super::unmatched;

    #[test]
    fn arms_far_apart_are_not_matched() {
        let ends = [("sum", 0.004), ("pcgrad", 0.05), ("sago", 0.08)];
        assert_eq!(unmatched(ends.into_iter()), Some([("sum", 0.004), ("sago", 0.08)]));
        // Close together, close to zero, alone.
        for ends in
            [&[("sum", 0.06), ("sago", 0.08)][..], &[("sum", 0.0001), ("sago", 0.01)], &[("sum", 0.004)], &[]]
        {
            assert!(unmatched(ends.iter().copied()).is_none(), "{ends:?}");
        }
    }
}
