//! Slot `verdict`: what is asked of the result.

mod evidence;
mod forgotten;
mod kept;
mod withstands;

use amend_run::{Figure, slot};
use serde::{Deserialize, Serialize};

pub(crate) use evidence::over_seeds;
pub use evidence::{Evidence, JudgedBy};
pub use forgotten::Forgotten;
pub use kept::Kept;
pub(crate) use kept::{KNOWN, LEARNT};
pub use withstands::Withstands;

/// Makes claims about an arm, from everything that was measured.
pub trait Judgement {
    /// The claims, over all seeds. Their number is the same for all arms of a run; there are none where nothing was
    /// done that they would rest on.
    fn claims(&self, evidence: &Evidence<'_>) -> Vec<Claim>;
}

/// Something that would be good if it were so, whether it is, and what that rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// What is claimed of the model: `forgotten`, `withstands relearn`.
    pub name: String,
    /// Whether it holds, in a few words: `yes`, or `no` and why.
    pub answer: String,
    /// The figure that this rests on.
    pub judged: Quantity,
    /// What it was compared with.
    pub threshold: Option<f64>,
    /// Whether it holds; `None` where nothing can be said.
    pub pass: Option<bool>,
    /// Whether the recipe asks for it. What it does not ask for was measured all the same, and decides nothing.
    #[serde(default)]
    pub asked: bool,
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

impl Better {
    /// An arrow in this direction.
    pub fn arrow(self) -> char {
        match self {
            Better::Lower => '↓',
            Better::Higher => '↑',
        }
    }
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
        format!("{}\u{a0}{}", self.name, self.better.arrow())
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

impl Claim {
    /// What is claimed as a question, for the heading of a column: `forgotten?`.
    pub fn question(&self) -> String {
        format!("{}?", self.name)
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
        "withstands" => Withstands,
    }
}

impl Verdict {
    /// What a recipe asks for that says nothing.
    pub(crate) fn asked_by_default() -> Vec<Verdict> {
        vec![Verdict::Forgotten(Forgotten::default()), Verdict::Kept(Kept::default())]
    }

    /// What else can be said, and is not asked for.
    pub(crate) fn beside(asked: &[Verdict]) -> Vec<Verdict> {
        let mut all = Verdict::asked_by_default();
        all.push(Verdict::Withstands(Withstands::default()));
        all.retain(|verdict| asked.iter().all(|asked| asked.name() != verdict.name()));
        all
    }

    /// The claims about an arm: first those that are asked for, then the others.
    pub(crate) fn claims(asked: &[Verdict], evidence: &Evidence<'_>) -> Vec<Claim> {
        let of = |verdict: &Verdict| verdict.filler().claims(evidence);
        let asked_for = asked.iter().flat_map(of).map(|claim| Claim { asked: true, ..claim });
        let mut beside = Verdict::beside(asked);
        // Without a before, neither forgetting nor keeping can be seen, and an attack has only a gold model to be compared
        // with.
        let has_gold = evidence.seeds.iter().all(|seed| seed.gold.is_some());
        beside.retain(|verdict| !evidence.audit || has_gold && matches!(verdict, Verdict::Withstands(_)));
        asked_for.chain(beside.iter().flat_map(of)).collect()
    }
}
