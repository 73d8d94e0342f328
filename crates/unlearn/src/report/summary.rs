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

/// What the comparison comes to, in words. An arm is as good as the number of deciding claims that hold, one after the
/// other; among those that get equally far, the next claim's figure tells them apart.
pub(super) fn reading(outcome: &Outcome) -> String {
    let questions: Vec<&Claim> = deciding(outcome.arms.first()).collect();
    let held = |arm: &ArmOutcome| deciding(Some(arm)).take_while(|claim| claim.pass == Some(true)).count();
    let furthest = outcome.arms.iter().map(held).max().unwrap_or(0);
    let (Some(last), Some(shown)) =
        (questions.len().checked_sub(1), questions.get(furthest).or(questions.last()))
    else {
        return "No claim was asked for that decides; the figures speak for themselves.".into();
    };
    if furthest < last {
        let advice = shown.advice.as_deref().unwrap_or_default();
        return match shown.answer.as_str() {
            "no" => format!("No arm gets past `{}`: {advice}", shown.question),
            _ => advice.to_owned(),
        };
    }
    // All that is left to ask is the last question; among several arms its figure is what they are compared by.
    let contenders: Vec<&ArmOutcome> = outcome.arms.iter().filter(|arm| held(arm) >= last).collect();
    let goodness =
        |arm: &ArmOutcome| deciding(Some(arm)).nth(last).map_or(f64::NAN, |claim| claim.shown.goodness());
    let Some(best) = contenders.iter().copied().max_by(|a, b| goodness(a).total_cmp(&goodness(b))) else {
        return String::new();
    };
    let short = match (best.positive, deciding(Some(best)).nth(last)) {
        (false, Some(claim)) => {
            format!(" That is less than asked for: {}", claim.advice.as_deref().unwrap_or_default())
        }
        _ => String::new(),
    };
    let unrivalled = contenders.iter().filter(|arm| goodness(arm) == goodness(best)).count() == 1;
    match deciding(Some(best)).nth(last) {
        Some(claim) if outcome.arms.len() > 1 && unrivalled => {
            let before: Vec<_> =
                questions[..last].iter().map(|claim| format!("`{}`", claim.question)).collect();
            let among = if before.is_empty() {
                String::new()
            } else {
                format!("Of the arms that hold {}, ", before.join(" and "))
            };
            let name = &best.name;
            format!(
                "{among}`{name}` stands best at `{}`: {} {:.3}.{short}",
                claim.question, claim.shown.name, claim.shown.figure.value
            )
        }
        _ if best.positive => "All that was asked for holds.".into(),
        _ => short.trim_start().to_owned(),
    }
}

fn deciding(arm: Option<&ArmOutcome>) -> impl Iterator<Item = &Claim> {
    arm.into_iter().flat_map(|arm| &arm.claims).filter(|claim| claim.decides)
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
