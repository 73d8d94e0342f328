//! What stands at the top: the comparison, how to read it, and what the verdict rests on.

use amend_run::Figure;
use amend_run::report::{Cell, Table};

use crate::outcome::{ArmOutcome, Outcome};
use crate::verdict::Claim;

/// What was there before, and when the arms stopped.
pub(super) fn introduction(outcome: &Outcome) -> String {
    let arms: Vec<_> = outcome.arms.iter().map(|arm| format!("`{}`", arm.name)).collect();
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

/// Arm by arm, every question with its answer and the figure beside it.
pub(super) fn comparison(outcome: &Outcome) -> Table {
    let questions = outcome.arms.first().map_or(&[][..], |arm| &arm.claims);
    let mut columns = vec!["arm".to_owned()];
    columns.extend(questions.iter().flat_map(|claim| [claim.question.clone(), claim.shown.heading()]));
    columns.push("steps".to_owned());
    let row = |arm: &ArmOutcome| {
        let mut row = vec![Cell::from(arm.name.as_str())];
        row.extend(arm.claims.iter().flat_map(|claim| [answer(claim), Cell::from(claim.shown.figure)]));
        row.push(Cell::from(arm.figures.steps));
        row
    };
    let mut asked: Vec<String> = Vec::new();
    for claim in questions {
        let mut question = claim.question.clone();
        if let Some(first) = question.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        if !asked.contains(&question) {
            asked.push(question);
        }
    }
    Table { caption: asked.join(" "), columns, rows: outcome.arms.iter().map(row).collect() }
}

fn answer(claim: &Claim) -> Cell {
    let cell = Cell::from(claim.answer.as_str());
    match claim.pass {
        Some(true) => cell.good(),
        Some(false) => cell.bad(),
        None => cell,
    }
}

/// What the comparison comes to, in words: how far the arms get through the questions that decide, and which of those
/// that get equally far stands best at the next.
pub(super) fn reading(outcome: &Outcome) -> String {
    let held = |arm: &ArmOutcome| deciding(arm).take_while(|claim| claim.pass == Some(true)).count();
    let furthest = outcome.arms.iter().map(held).max().unwrap_or(0);
    let asked = outcome.arms.first().map_or(0, |arm| deciding(arm).count());
    if asked == 0 {
        return "Nothing was asked that decides; the figures speak for themselves.".into();
    }
    let next = furthest.min(asked - 1);
    let mut contenders: Vec<(&ArmOutcome, &Claim)> =
        outcome.arms.iter().filter_map(|arm| Some((arm, deciding(arm).nth(next)?))).collect();
    contenders.retain(|(arm, _)| held(arm) >= next);
    let Some((best, claim)) =
        contenders.iter().max_by(|a, b| a.1.shown.goodness().total_cmp(&b.1.shown.goodness()))
    else {
        return String::new();
    };
    let advice = claim.advice.as_deref().unwrap_or_default();
    let verdict = match (furthest == asked, claim.answer.as_str()) {
        (true, _) if outcome.arms.len() == 1 => "Everything that decides holds.".to_owned(),
        (true, _) => {
            let positive = outcome.arms.iter().filter(|arm| arm.positive);
            let names: Vec<_> = positive.map(|arm| format!("`{}`", arm.name)).collect();
            format!("Everything that decides holds for {}.", names.join(", "))
        }
        (false, "no") => format!("No arm gets past `{}`: {advice}", claim.question),
        (false, _) => advice.to_owned(),
    };
    let rivals = contenders.iter().filter(|(_, c)| c.shown.goodness() == claim.shown.goodness()).count();
    if outcome.arms.len() == 1 || rivals > 1 || !claim.shown.goodness().is_finite() {
        return verdict;
    }
    let (name, shown) = (&best.name, &claim.shown);
    format!(
        "{verdict} Of those that get so far, `{name}` stands best: {} {:.3}.",
        shown.name, shown.figure.value
    )
}

fn deciding(arm: &ArmOutcome) -> impl Iterator<Item = &Claim> {
    arm.claims.iter().filter(|claim| claim.decides)
}

/// Every claim with the figure it rests on and what that was compared with.
pub(super) fn claims(outcome: &Outcome) -> Table {
    let columns = ["arm", "question", "answer", "judged by", "value", "threshold", "decides"];
    let row = |name: &str, claim: &Claim| {
        vec![
            Cell::from(name),
            Cell::from(claim.question.as_str()),
            answer(claim),
            Cell::from(claim.judged.heading()),
            Cell::from(claim.judged.figure),
            claim.threshold.map_or(Cell::from("–"), |t| Cell::from(Figure::exact(t, 0))),
            Cell::from(if claim.decides { "yes" } else { "no" }),
        ]
    };
    let rows = outcome.arms.iter().flat_map(|arm| arm.claims.iter().map(|claim| row(&arm.name, claim)));
    Table {
        caption: "A verdict is positive where every claim of an arm that decides holds".into(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn percent(figure: &Figure) -> String {
    format!("{:.0} %", 100.0 * figure.value)
}
