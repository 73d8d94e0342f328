//! Slot `verdict`: what is asked of the result.

mod above_gold;
mod evidence;
mod forgotten;
mod kept;

use amend_run::{Figure, slot};
use serde::{Deserialize, Serialize};

pub use above_gold::AboveGold;
pub(crate) use evidence::over_seeds;
pub use evidence::{Evidence, JudgedBy};
pub use forgotten::Forgotten;
pub use kept::Kept;

/// Answers one question about an arm, from everything that was measured.
pub trait Judgement {
    /// The claims, over all seeds. Their number is the same for all arms of a run.
    fn claims(&self, evidence: &Evidence<'_>) -> Vec<Claim>;
}

/// An answered question, with what the answer rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The question: `forgotten?`.
    pub question: String,
    /// The answer in a few words: `yes`.
    pub answer: String,
    /// The figure that the answer rests on.
    pub judged: Quantity,
    /// What it was compared with.
    pub threshold: Option<f64>,
    /// Whether things are as they should be; `None` where nothing can be said.
    pub pass: Option<bool>,
    /// Whether a positive verdict needs it.
    pub decides: bool,
    /// A figure that tells a reader how things stand, beside the answer.
    pub shown: Quantity,
    /// What to do where it does not hold.
    pub advice: Option<String>,
}

/// A figure with its name and its direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantity {
    /// What it is: `retain accuracy`.
    pub name: String,
    /// Its value.
    pub figure: Figure,
    /// Which way is better.
    pub better: Better,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The lower the better.
    Lower,
    /// The higher the better.
    Higher,
}

impl Quantity {
    /// A figure that should be low.
    pub fn low(name: impl Into<String>, figure: Figure) -> Self {
        Quantity { name: name.into(), figure, better: Better::Lower }
    }

    /// A figure that should be high.
    pub fn high(name: impl Into<String>, figure: Figure) -> Self {
        Quantity { name: name.into(), figure, better: Better::Higher }
    }

    /// The name with an arrow in the better direction, for the heading of a column.
    pub fn heading(&self) -> String {
        let arrow = match self.better {
            Better::Lower => '↓',
            Better::Higher => '↑',
        };
        format!("{} {arrow}", self.name)
    }

    /// How good it is, to be compared with others of its name: the larger the better, undefined ones last.
    pub(crate) fn goodness(&self) -> f64 {
        match self.better {
            _ if self.figure.value.is_nan() => f64::NEG_INFINITY,
            Better::Lower => -self.figure.value,
            Better::Higher => self.figure.value,
        }
    }
}

/// Yes or no.
fn yes_or_no(yes: bool) -> String {
    if yes { "yes".into() } else { "no".into() }
}

slot! {
    /// What is asked of the result.
    pub slot Verdict("unlearn", "verdict"): dyn Judgement {
        "forgotten" => Forgotten,
        "kept" => Kept,
        "above-gold" => AboveGold,
    }
}

impl Verdict {
    /// Every question there is, as a recipe asks them that says nothing.
    pub(crate) fn all() -> Vec<Verdict> {
        vec![
            Verdict::Forgotten(Forgotten::default()),
            Verdict::Kept(Kept::default()),
            Verdict::AboveGold(AboveGold::default()),
        ]
    }
}
