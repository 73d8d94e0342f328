//! Does it stay forgotten under attack?

use amend_run::Figure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Claim, Evidence, Judgement, Quantity, yes_or_no};
use crate::attack::Findings;
use crate::measure::recalled;
use crate::outcome::{ArmResult, SeedResult};

/// # What it does
/// Claims of every attack that it brings back no more than it gets out of the gold model, which never knew: what both
/// give away can be guessed, what lies above was hidden and not gone. Without a gold model it claims that the attack
/// brings back next to nothing of what was lost: (attacked − unlearned) / (before − unlearned).
///
/// # When to use it
/// With attacks. It is measured with every attack; a recipe that lists it makes the verdict depend on it.
///
/// # What it logs
/// One claim `withstands …` per attack, judged by the difference to the gold model, or by the share that came back.
///
/// # Source
/// The same attack on a retrained model as the yardstick: Lynch et al., "Eight Methods to Evaluate Robust Unlearning",
/// arXiv 2402.16835.
///
/// # Inferred parts
/// The margin: two standard errors of a share over some dozens of questions. The share that came back.
///
/// # Expected result
/// No: gradient-based unlearning leaves much that comes back, which is why it is not asked for unless a recipe says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Withstands {
    /// How far above the gold model still counts as not above it, in the unit of the attack's figure; without a gold
    /// model, the share of what was lost that may come back.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub margin: f64,
}

impl Default for Withstands {
    fn default() -> Self {
        Withstands { margin: 0.1 }
    }
}

impl Judgement for Withstands {
    fn claims(&self, evidence: &Evidence<'_>) -> Vec<Claim> {
        let attacks = evidence.results().next().map_or(&[][..], |arm| &arm.attacks);
        (0..attacks.len()).map(|i| self.claim(evidence, i, &attacks[i].0)).collect()
    }
}

/// What an attack is compared with, and how much more it brings.
struct Excess {
    /// The figure by which the claim stands or falls; undefined where nothing can be said.
    figure: Figure,
    /// Its name.
    name: String,
    /// It in words, where it is too large, or why nothing can be said.
    words: String,
}

impl Withstands {
    fn claim(&self, evidence: &Evidence<'_>, attack: usize, name: &str) -> Claim {
        let judged_by = evidence.judged_by.name();
        let called = |arm: &ArmResult| Some(arm.attacks.get(attack)?.1.figure(judged_by)?.0.to_owned());
        // An attack that does not measure what is judged has a figure of its own.
        let what = evidence.results().find_map(called).unwrap_or_else(|| judged_by.to_owned());
        let what = what.as_str();
        let came_back = evidence.over(|_, arm| figure(&arm.attacks, attack, what));
        let excess = above_gold(evidence, attack, name, what)
            .unwrap_or_else(|| recovered(evidence, attack, name, what, came_back));
        // Nothing was measured where no item was left to measure on, and nothing lost where nothing was forgotten.
        let value = excess.figure.value;
        let holds = value.is_finite().then_some(value <= self.margin);
        let is_weak =
            |arm: &ArmResult| arm.attacks.get(attack).is_some_and(|(_, found)| found.weak.is_some());
        // That a weak attack brought nothing back is no evidence; that it brought something back is.
        let pass = holds.filter(|holds| !holds || !evidence.results().any(is_weak));
        let is_weak = holds.is_some() && pass.is_none();
        let answer = match pass {
            None if is_weak => "not shown, the attack was weak".into(),
            Some(true) => yes_or_no(true),
            Some(false) => format!("no, {}", excess.words),
            None if came_back.value.is_finite() => excess.words,
            None => "not measured".into(),
        };
        Claim {
            name: format!("withstands {name}"),
            answer,
            judged: Quantity::low(excess.name, excess.figure),
            threshold: holds.map(|_| self.margin),
            pass,
            asked: false,
            shown: Quantity::low(format!("{name}: {what}"), came_back),
            advice: Some(match holds {
                Some(_) if is_weak => "give the attack more steps, or another learning rate.".into(),
                Some(_) => "forget further (`below` in [stop]).".into(),
                None if !evidence.known_before => {
                    "choose what the model knows, or the model that learnt it.".into()
                }
                None => "name a model that never knew (`model.gold`), or attack with `relearn`.".to_owned(),
            }),
        }
    }
}

/// The attack's figure, undefined where there is none.
fn figure(attacks: &[(String, Findings)], attack: usize, what: &str) -> Figure {
    let found = attacks.get(attack).and_then(|(_, findings)| findings.figure(what));
    found.map_or(Figure::exact(f64::NAN, 0), |(_, figure)| figure)
}

/// How much more the attack brings than from the gold model, where there is one.
fn above_gold(evidence: &Evidence<'_>, attack: usize, name: &str, what: &str) -> Option<Excess> {
    let above = evidence.maybe(|seed, arm| {
        seed.gold.as_ref()?;
        let [ours, gold] = [&arm.attacks, &seed.gold_findings].map(|all| figure(all, attack, what).value);
        Some(Figure::exact(ours - gold, 0))
    })?;
    let words = format!("{:.2} above gold", above.value);
    Some(Excess { figure: above, name: format!("{name}: {what} above gold"), words })
}

/// What share of the loss came back: without a gold model, before and after are what there is to compare with.
fn recovered(evidence: &Evidence<'_>, attack: usize, name: &str, what: &str, came_back: Figure) -> Excess {
    let unknown = || Figure::exact(f64::NAN, 0);
    let known = |seed: &SeedResult| {
        let of_set = recalled(&seed.before.forget).into_iter().find(|(known, _)| *known == what);
        of_set.map_or_else(unknown, |(_, figure)| figure)
    };
    let started = |arm: &ArmResult| {
        arm.attacks.get(attack).and_then(|(_, found)| found.start(what)).unwrap_or_else(unknown)
    };
    let before = evidence.over(|seed, _| known(seed)).value;
    let unlearned = evidence.over(|_, arm| started(arm)).value;
    let lost = before - unlearned;
    let words = match lost {
        lost if lost.is_nan() => "not judged, needs a gold model".to_owned(),
        lost if lost <= 0.0 || !evidence.known_before => "nothing was lost".to_owned(),
        _ => format!("{what} {unlearned:.2} → {:.2} ({before:.2} before)", came_back.value),
    };
    let share =
        if lost > 0.0 && evidence.known_before { (came_back.value - unlearned) / lost } else { f64::NAN };
    Excess {
        figure: Figure::exact(share, 0),
        name: format!("{name}: share of the lost {what} that came back"),
        words,
    }
}
