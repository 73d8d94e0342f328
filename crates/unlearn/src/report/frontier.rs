//! What arms forgot against what they kept.

use std::collections::BTreeSet;

use amend_learn::area::Standings;
use amend_run::Figure;
use amend_run::comparison::FinishedRun;
use amend_run::frontier::Standing;

use super::comparison::figures;
use crate::outcome::{ArmOutcome, Outcome};
use crate::verdict::Claim;

/// Every arm of every run: how far the watched figure came down, and which share of the retain figure is left.
pub(crate) fn standings(runs: &[(&FinishedRun, Outcome)]) -> Standings {
    let several = runs.iter().any(|(_, outcome)| outcome.arms.len() > 1);
    let mut arms: Vec<(String, &ArmOutcome)> = Vec::new();
    let mut all = Vec::new();
    for (place, (run, outcome)) in runs.iter().enumerate() {
        for arm in &outcome.arms {
            let name = if several { format!("{}: {}", run.name, arm.name) } else { run.name.clone() };
            let forgotten = claim(arm, "forgotten");
            all.push(Standing {
                name: name.clone(),
                run: place,
                group: if several { arm.name.clone() } else { String::new() },
                passed: arm.passed,
                reached: forgotten.is_some_and(|claim| claim.pass == Some(true)),
                // Who never knew has forgotten nothing, and what was learnt along the way was not kept.
                changed: forgotten
                    .filter(|_| outcome.known_before)
                    .map_or(unknown(), |claim| claim.judged.figure),
                kept: claim(arm, "kept")
                    .filter(|claim| claim.pass.is_some())
                    .map_or(unknown(), |claim| share_kept(claim, outcome)),
            });
            arms.push((name, arm));
        }
    }
    let mut aims = arms.iter().map(|(_, arm)| claim(arm, "forgotten").and_then(|claim| claim.threshold));
    let aim = aims.next().flatten().filter(|first| aims.all(|aim| aim == Some(*first)));
    let judged = |name: &str| {
        let names = arms.iter().filter_map(|(_, arm)| Some(claim(arm, name)?.judged.name.clone()));
        let names: BTreeSet<String> = names.collect();
        let first = names.first().cloned().unwrap_or_else(|| name.to_owned());
        (first, (names.len() > 1).then(|| names.into_iter().collect::<Vec<_>>().join(" and ")))
    };
    let ((changed, of_changed), (kept, of_kept)) = (judged("forgotten"), judged("kept"));
    let incomparable = of_changed.or(of_kept).map(|names| {
        format!(
            "These points are judged by different figures ({names}), which cannot be compared: none is taken."
        )
    });
    Standings { changed, aim, kept, incomparable, table: figures(&arms), all }
}

fn claim<'a>(arm: &'a ArmOutcome, name: &str) -> Option<&'a Claim> {
    arm.claims.iter().find(|claim| claim.name == name)
}

/// The share that is left; of one seed, with the error that the questions leave to it.
fn share_kept(claim: &Claim, outcome: &Outcome) -> Figure {
    let (share, after) = (claim.judged.figure, claim.shown.figure);
    if outcome.seeds.len() > 1 || share.value == 0.0 {
        return share;
    }
    let before = after.value / share.value;
    Figure { stderr: after.stderr.map(|error| error / before), n: after.n, ..share }
}

fn unknown() -> Figure {
    Figure::exact(f64::NAN, 0)
}
