//! What stands at the top: the comparison, how to read it, and what the verdict rests on.

use amend_run::report::{Cell, Table};
use amend_run::{Figure, in_short};

use crate::outcome::{ArmOutcome, Outcome};
use crate::premise;
use crate::verdict::{Better, Claim, Quantity};

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
        "Before: {} of the forget questions{} answered word for word. {}",
        percent(&outcome.forget_accuracy_before),
        match outcome.retain_accuracy_before.value.is_finite() {
            true => format!(" and {} of the retain questions", percent(&outcome.retain_accuracy_before)),
            false => String::new(),
        },
        match outcome.opened() {
            true => format!(
                "What is said of {} was measured on models that forgot elsewhere ({seeds}).",
                list(&arms)
            ),
            false => format!("Unlearning by {} was to stop at {} ({seeds}).", list(&arms), outcome.aim),
        },
    )
}

/// Arm by arm, every claim with its answer and the figures beside it; those that nobody asked for say so. Arms, under
/// names that tell them apart, may be of several runs, of which not all claim the same. `shown` makes a figure a cell.
pub(super) fn claims_of(arms: &[(String, &ArmOutcome)], shown: fn(Figure) -> Cell) -> Table {
    let claims = || arms.iter().flat_map(|(_, arm)| &arm.claims);
    // A claim has one answer, and a figure beside it under every name that a run has for that.
    let mut kinds: Vec<(&Claim, Vec<&Quantity>)> = Vec::new();
    for claim in claims() {
        match kinds.iter_mut().find(|(known, _)| known.name == claim.name) {
            None => kinds.push((claim, vec![&claim.shown])),
            Some((_, beside)) if beside.iter().all(|q| q.name != claim.shown.name) => {
                beside.push(&claim.shown)
            }
            Some(_) => {}
        }
    }
    let is_asked = |name: &str| claims().any(|claim| claim.name == name && claim.asked);
    let bracketed = |text: String, asked: bool| if asked { text } else { format!("({text})") };
    let mut columns = vec!["arm".to_owned()];
    for (claim, beside) in &kinds {
        columns.push(bracketed(claim.question(), is_asked(&claim.name)));
        columns.extend(beside.iter().map(|quantity| quantity.heading()));
    }
    columns.push("steps".to_owned());
    let absent = || Cell::from("–");
    let row = |(name, arm): &(String, &ArmOutcome)| {
        let mut row = vec![Cell::from(name.as_str())];
        for (kind, beside) in &kinds {
            let claim = arm.claims.iter().find(|claim| claim.name == kind.name);
            row.push(claim.map_or_else(absent, |claim| {
                let cell = answer(claim);
                // The heading says it where nobody asked.
                let text = bracketed(cell.text.clone(), claim.asked || !is_asked(&claim.name));
                Cell { text, ..cell }
            }));
            let of = |quantity: &&Quantity| claim.filter(|claim| claim.shown.name == quantity.name);
            row.extend(beside.iter().map(|q| of(q).map_or_else(absent, |claim| shown(claim.shown.figure))));
        }
        row.push(shown(arm.figures.steps));
        row
    };
    let caption = match claims().any(|claim| !claim.asked) {
        true => "What was asked for, and in brackets what was only measured",
        false => "What was asked for",
    };
    let is_common = |claim: &Claim| {
        let others = claims().filter(|other| other.name == claim.name);
        others
            .map(|other| (&other.judged.name, other.threshold))
            .all(|of| of == (&claim.judged.name, claim.threshold))
    };
    let rules: Vec<String> =
        kinds.iter().filter(|(claim, _)| is_common(claim)).filter_map(|(claim, _)| rule(claim)).collect();
    let caption =
        if rules.is_empty() { caption.to_owned() } else { format!("{caption}: {}", rules.join("; ")) };
    Table { caption, columns, rows: arms.iter().map(row).collect() }
}

/// What decides about a claim: `forgotten` by forget probability ≤ 0.259.
fn rule(claim: &Claim) -> Option<String> {
    let sign = match claim.judged.better {
        Better::Lower => '≤',
        Better::Higher => '≥',
    };
    let threshold = claim.threshold.filter(|threshold| threshold.is_finite())?;
    Some(format!("`{}` by {} {sign}\u{a0}{}", claim.name, claim.judged.name, in_short(threshold)))
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
    let passed: Vec<_> = outcome.arms.iter().filter(|arm| arm.passed == Some(true)).collect();
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
    let passed: Vec<_> = outcome
        .arms
        .iter()
        .filter(|arm| arm.passed == Some(true))
        .map(|arm| format!("`{}`", arm.name))
        .collect();
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
pub(super) fn list(names: &[impl AsRef<str>]) -> String {
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// What to do next: how far the arms get through what is asked for, and which of those that get equally far stands
/// best at the next claim.
pub(super) fn reading(outcome: &Outcome) -> String {
    let furthest = outcome.arms.iter().map(ArmOutcome::held).max().unwrap_or(0);
    let asked = outcome.arms.first().map_or(0, |arm| arm.asked().count());
    let Some(next) = asked.checked_sub(1).map(|last| furthest.min(last)) else { return String::new() };
    let mut contenders: Vec<(&ArmOutcome, &Claim)> =
        outcome.arms.iter().filter_map(|arm| Some((arm, arm.asked().nth(next)?))).collect();
    contenders.retain(|(arm, _)| arm.held() >= next);
    let Some((best, claim)) =
        contenders.iter().max_by(|a, b| a.1.shown.goodness().total_cmp(&b.1.shown.goodness()))
    else {
        return String::new();
    };
    let mut said = Vec::new();
    // What somebody else's model would have needed is nothing that can be done here.
    if furthest < asked && !outcome.opened() {
        let advice = claim.advice.as_deref().unwrap_or_default();
        said.push(format!("To get `{}`: {advice}", claim.name));
    }
    if let Some(unmatched) = unmatched(contenders.iter().map(|(arm, _)| (arm.name.as_str(), *arm))) {
        said.push(format!(
            "{unmatched}: look more often (`check_every = 1` in [stop]), or give an arm a learning rate of its own (`lr` in \
             [[compare]])."
        ));
        return said.join(" ");
    }
    let rivals = contenders.iter().filter(|(_, c)| c.shown.goodness() == claim.shown.goodness()).count();
    // A claim that nothing can be said of puts nobody before anybody.
    let is_judged = claim.pass.is_some() && claim.shown.goodness().is_finite();
    if outcome.arms.len() > 1 && rivals == 1 && is_judged {
        let (name, shown) = (&best.name, &claim.shown);
        said.push(format!(
            "Of those that get so far, `{name}` stands best: {} {}.",
            shown.name,
            in_short(shown.figure.value)
        ));
    }
    said.join(" ")
}

/// The claim about forgetting, where it is among those made.
fn claim_of_forgetting(arm: &ArmOutcome) -> Option<&Claim> {
    arm.claims.iter().find(|claim| claim.name == "forgotten")
}

/// Where arms that forgot did not end at the same watched figure: between which two this is worst, without a full stop.
/// Arms come with what they are called.
pub(super) fn unmatched<'a>(arms: impl Iterator<Item = (&'a str, &'a ArmOutcome)> + Clone) -> Option<String> {
    let forgot = |(name, arm): (&'a str, &'a ArmOutcome)| {
        let claim = claim_of_forgetting(arm).filter(|claim| claim.pass == Some(true))?;
        Some((name, &claim.judged))
    };
    let watched = &arms.clone().find_map(forgot)?.1.name;
    // What different figures ended at cannot be compared in any case.
    let same = arms.filter_map(forgot).filter(|(_, judged)| judged.name == *watched);
    let [lowest, highest] = premise::unmatched(same.map(|(name, judged)| (name, judged.figure.value)))?;
    Some(format!(
        "The arms did not end at the same forgetting ({watched} {} for `{}`, {} for `{}`), so what they keep cannot be \
         compared as it stands",
        in_short(lowest.1),
        lowest.0,
        in_short(highest.1),
        highest.0,
    ))
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
