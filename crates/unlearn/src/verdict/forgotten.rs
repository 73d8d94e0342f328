//! Was it forgotten?

use amend_run::{Figure, in_short};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Claim, Evidence, Judgement, Quantity, yes_or_no};

/// # What it does
/// Claims that unlearning reached its aim in every seed: the watched figure on the forget set came down to the value
/// at which it stops. What was at the aim before the first step was never known and does not count as forgotten.
///
/// # When to use it
/// Always.
///
/// # What it logs
/// The claim `forgotten`, judged by the watched figure, beside the forget set's accuracy (or probability, where answers
/// are too long to be given word for word).
///
/// # Source
/// Our own; matched forgetting as in "Modeling LLM Unlearning as an Asymmetric Two-Task Learning Problem",
/// arXiv 2604.14808.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Yes, where `stop.max_steps` allows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Forgotten {}

impl Judgement for Forgotten {
    fn claims(&self, evidence: &Evidence<'_>) -> Vec<Claim> {
        let forgotten = evidence.known_before && evidence.results().all(|arm| arm.unlearned.reached);
        let aim = evidence.over(|_, arm| Figure::exact(arm.unlearned.aim, 0));
        let watched = evidence.over(|_, arm| arm.unlearned.watched);
        vec![Claim {
            name: "forgotten".into(),
            answer: if evidence.known_before { yes_or_no(forgotten) } else { "never known".into() },
            judged: Quantity::low(format!("forget {}", evidence.stop.watch.name()), watched),
            threshold: Some(aim.value),
            pass: Some(forgotten),
            asked: false,
            // Of the model as it was written.
            shown: Quantity::low(
                format!("forget {}", evidence.stop.watch.name()),
                evidence.over(|_, arm| evidence.stop.watch.measured(&arm.after).unwrap_or(watched)),
            ),
            advice: Some(advice(evidence, watched.value)),
        }]
    }
}

/// What to do where the watched figure did not come down to its aim, going by which way it moved.
fn advice(evidence: &Evidence<'_>, watched: f64) -> String {
    if !evidence.known_before {
        return "choose what the model knows, or the model that learnt it.".into();
    }
    let before = evidence.watched_before();
    if watched > before {
        return format!(
            "the {} moved away from its aim, from {} to {}: lower the learning rate, or give the \
             forget objective more weight.",
            evidence.stop.watch.name(),
            in_short(before),
            in_short(watched)
        );
    }
    "raise `max_steps` or the learning rate.".into()
}
