//! What arms forgot against what they kept.

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
                changed: forgotten.map_or(unknown(), |claim| claim.judged.figure),
                kept: claim(arm, "kept").map_or(unknown(), |claim| share_kept(claim, outcome)),
            });
            arms.push((name, arm));
        }
    }
    let mut aims = arms.iter().map(|(_, arm)| claim(arm, "forgotten").and_then(|claim| claim.threshold));
    let aim = aims.next().flatten().filter(|first| aims.all(|aim| aim == Some(*first)));
    let judged = |name: &str| {
        let mut names = arms.iter().filter_map(|(_, arm)| Some(claim(arm, name)?.judged.name.clone()));
        names.next().unwrap_or_else(|| name.to_owned())
    };
    Standings { changed: judged("forgotten"), aim, kept: judged("kept"), table: figures(&arms), all }
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
