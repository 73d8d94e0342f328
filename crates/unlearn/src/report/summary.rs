//! What stands at the top: the comparison, how to read it, and what the verdict rests on.

use amend_run::Figure;
use amend_run::report::{Cell, Table};

use crate::outcome::{ArmOutcome, Outcome};
use crate::premise;
use crate::verdict::Claim;

/// What was there before, and when the arms stopped.
pub(super) fn introduction(outcome: &Outcome) -> String {
    let arms: Vec<_> = outcome.arms.iter().map(|arm| format!("`{}`", arm.name)).collect();
    let seeds = match outcome.seeds.len() {
        1 => "one seed; ± is the standard error over questions".to_owned(),
        n => format!("{n} seeds; ± is the standard error over seeds"),
    };
    if outcome.audit {
        return format!(
            "{} was asked and attacked as it is ({seeds}): {} of the forget questions answered word for word. What it was \
             like before it forgot, this run does not know; name that model with `--before` to see what was lost.",
            list(&arms),
            percent(&outcome.forget_accuracy_before),
        );
    }
    format!(
        "Before: {} of the forget questions and {} of the retain questions answered word for word. Unlearning by {} \
         was to stop at {} ({seeds}).",
        percent(&outcome.forget_accuracy_before),
        percent(&outcome.retain_accuracy_before),
        list(&arms),
        outcome.aim,
    )
}

/// Arm by arm, every claim with its answer and the figure beside it; those that nobody asked for say so.
pub(super) fn comparison(outcome: &Outcome) -> Table {
    let claims = outcome.arms.first().map_or(&[][..], |arm| &arm.claims);
    let question = |claim: &Claim| match claim.asked {
        true => claim.question(),
        false => format!("({})", claim.question()),
    };
    let mut columns = vec!["arm".to_owned()];
    columns.extend(claims.iter().flat_map(|claim| [question(claim), claim.shown.heading()]));
    columns.push("steps".to_owned());
    let row = |arm: &ArmOutcome| {
        let mut row = vec![Cell::from(arm.name.as_str())];
        row.extend(arm.claims.iter().flat_map(|claim| [answer(claim), Cell::from(claim.shown.figure)]));
        row.push(Cell::from(arm.figures.steps));
        row
    };
    let beside = claims.iter().any(|claim| !claim.asked);
    let caption = match beside {
        true => "What was asked for, and in brackets what was only measured",
        false => "What was asked for",
    };
    Table { caption: caption.into(), columns, rows: outcome.arms.iter().map(row).collect() }
}

fn answer(claim: &Claim) -> Cell {
    let cell = Cell::from(claim.answer.as_str());
    match claim.pass {
        Some(true) => cell.good(),
        Some(false) => cell.bad(),
        None => cell,
    }
}

/// The verdict in words: what was asked for and who passed, then what else does not hold.
pub(super) fn verdict(outcome: &Outcome) -> Vec<String> {
    let mut lines = vec![asked(outcome)];
    let passed: Vec<_> = outcome.arms.iter().filter(|arm| arm.passed).collect();
    let judged = if passed.is_empty() { outcome.arms.iter().collect() } else { passed };
    for arm in judged {
        for claim in arm.fails_beside() {
            let reason = claim.answer.strip_prefix("no, ").map(|why| format!(": {why}")).unwrap_or_default();
            lines.push(format!("Not asked for: `{}` does not hold for `{}`{reason}.", claim.name, arm.name));
        }
    }
    lines
}

fn asked(outcome: &Outcome) -> String {
    let names: Vec<_> =
        outcome.arms.first().map_or(vec![], |arm| arm.asked().map(|claim| claim.name.as_str()).collect());
    if names.is_empty() {
        return "Nothing was asked for; the figures speak for themselves.".into();
    }
    let names = list(&names);
    let passed: Vec<_> =
        outcome.arms.iter().filter(|arm| arm.passed).map(|arm| format!("`{}`", arm.name)).collect();
    match (passed.is_empty(), outcome.arms.len()) {
        (false, _) => format!("Passed by {}: {names}.", list(&passed)),
        (true, 1) => format!("Failed: of what was asked for ({names}) {} holds.", held(outcome)),
        (true, _) => format!("Failed: for no arm all that was asked for ({names}) holds."),
    }
}

/// What holds of that which was asked of a run with one arm.
fn held(outcome: &Outcome) -> String {
    let held = outcome.arms[0].asked().filter(|claim| claim.pass == Some(true));
    let names: Vec<_> = held.map(|claim| claim.name.as_str()).collect();
    if names.is_empty() { "nothing".into() } else { format!("only {}", list(&names)) }
}

/// `a`, `a and b`, `a, b and c`.
fn list(names: &[impl AsRef<str>]) -> String {
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// What to do next: how far the arms get through what is asked for, and which of those that get equally far stands
/// best at the next claim.
pub(super) fn reading(outcome: &Outcome) -> String {
    let held = |arm: &ArmOutcome| arm.asked().take_while(|claim| claim.pass == Some(true)).count();
    let furthest = outcome.arms.iter().map(held).max().unwrap_or(0);
    let asked = outcome.arms.first().map_or(0, |arm| arm.asked().count());
    let Some(next) = asked.checked_sub(1).map(|last| furthest.min(last)) else { return String::new() };
    let mut contenders: Vec<(&ArmOutcome, &Claim)> =
        outcome.arms.iter().filter_map(|arm| Some((arm, arm.asked().nth(next)?))).collect();
    contenders.retain(|(arm, _)| held(arm) >= next);
    let Some((best, claim)) =
        contenders.iter().max_by(|a, b| a.1.shown.goodness().total_cmp(&b.1.shown.goodness()))
    else {
        return String::new();
    };
    let mut said = Vec::new();
    if furthest < asked {
        let advice = claim.advice.as_deref().unwrap_or_default();
        said.push(format!("To get `{}`: {advice}", claim.name));
    }
    if let Some([lowest, highest]) = premise::unmatched(contenders.iter().filter_map(|(arm, _)| ended(arm))) {
        said.push(format!(
            "The arms did not end at the same forgetting ({} {:.3} for `{}`, {:.3} for `{}`), so what they keep cannot be \
             compared as it stands: look more often (`check_every = 1` in [stop]), or give an arm a learning rate of its \
             own (`lr` in [[compare]]).",
            claim_of_forgetting(best).map_or("forget figure", |claim| claim.judged.name.as_str()),
            lowest.1,
            lowest.0,
            highest.1,
            highest.0,
        ));
        return said.join(" ");
    }
    let rivals = contenders.iter().filter(|(_, c)| c.shown.goodness() == claim.shown.goodness()).count();
    if outcome.arms.len() > 1 && rivals == 1 && claim.shown.goodness().is_finite() {
        let (name, shown) = (&best.name, &claim.shown);
        said.push(format!(
            "Of those that get so far, `{name}` stands best: {} {:.3}.",
            shown.name, shown.figure.value
        ));
    }
    said.join(" ")
}

/// The claim about forgetting, where it is among those made.
fn claim_of_forgetting(arm: &ArmOutcome) -> Option<&Claim> {
    arm.claims.iter().find(|claim| claim.name == "forgotten")
}

/// An arm that forgot, and the watched figure at its end.
fn ended(arm: &ArmOutcome) -> Option<(&str, f64)> {
    let claim = claim_of_forgetting(arm).filter(|claim| claim.pass == Some(true))?;
    Some((arm.name.as_str(), claim.judged.figure.value))
}

/// Every claim with the figure it rests on and what that was compared with.
pub(super) fn claims(outcome: &Outcome) -> Table {
    let columns = ["arm", "claim", "holds", "judged by", "value", "threshold", "asked for"];
    let row = |name: &str, claim: &Claim| {
        vec![
            Cell::from(name),
            Cell::from(claim.name.as_str()),
            answer(claim),
            Cell::from(claim.judged.heading()),
            Cell::from(claim.judged.figure),
            claim.threshold.map_or(Cell::from("–"), |t| Cell::from(Figure::exact(t, 0))),
            Cell::from(if claim.asked { "yes" } else { "no" }),
        ]
    };
    let rows = outcome.arms.iter().flat_map(|arm| arm.claims.iter().map(|claim| row(&arm.name, claim)));
    Table {
        caption: "An arm passes where every claim holds that is asked for".into(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn percent(figure: &Figure) -> String {
    format!("{:.0} %", 100.0 * figure.value)
}
