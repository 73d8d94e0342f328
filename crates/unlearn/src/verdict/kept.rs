//! Was the rest kept?

use amend_run::Figure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Claim, Evidence, Judgement, Quantity, yes_or_no};

/// # What it does
/// Claims that enough of what was to stay is left: the retain accuracy after unlearning, as a share of the one before.
/// Where answers are too long to be given word for word (accuracy below one half before), probability takes the place
/// of accuracy. Where the model hardly knew the retain set before, or learnt it on the way, nothing is claimed.
///
/// # When to use it
/// Always.
///
/// # What it logs
/// The claim `kept`, judged by the share that is left.
///
/// # Source
/// Careful comparisons choose models whose utility is at least 95 % of what it was, and among those the one that forgot
/// most.
///
/// # Inferred parts
/// When there was something to keep: a figure of 0.1 before, and no more than half as much again after.
///
/// # Expected result
/// Yes with `sago` where `sum` fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kept {
    /// Share of the retain figure that must be left.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
}

/// Below this figure before unlearning there was nothing to keep.
pub(crate) const KNOWN: f64 = 0.1;

/// Above this share the retain set was learnt along the way, and what is left cannot be told from what is new.
pub(crate) const LEARNT: f64 = 1.5;

impl Default for Kept {
    fn default() -> Self {
        Kept { share: 0.95 }
    }
}

impl Judgement for Kept {
    fn claims(&self, evidence: &Evidence<'_>) -> Vec<Claim> {
        let judged_by = evidence.judged_by;
        let left = evidence.over(|seed, arm| {
            let [after, before] = [&arm.after, &seed.before].map(|s| judged_by.figure(&s.retain).value);
            Figure::exact(after / before.max(1e-12), 0)
        });
        let before = evidence.over(|seed, _| judged_by.figure(&seed.before.retain)).value;
        let kept = left.value >= self.share;
        let (answer, pass) = if !left.value.is_finite() {
            ("not measured".into(), None)
        } else if before < KNOWN {
            ("nothing to keep".into(), None)
        } else if left.value > LEARNT {
            (format!("learnt, {:.0} %", 100.0 * left.value), None)
        } else {
            (yes_or_no(kept), Some(kept))
        };
        vec![Claim {
            name: "kept".into(),
            answer,
            judged: Quantity::high(format!("share of retain {} left", judged_by.name()), left),
            threshold: Some(self.share),
            pass,
            asked: false,
            shown: Quantity::high(
                format!("retain {}", judged_by.name()),
                evidence.over(|_, arm| judged_by.figure(&arm.after.retain)),
            ),
            advice: Some(
                "lower the learning rate, look more often, or give more and closer retain data.".into(),
            ),
        }]
    }
}
