//! What an audit found out.

use amend_eval::Summary;
use amend_interpret::Head;
use serde::{Deserialize, Serialize};

use crate::asking::Answered;
use crate::estimate::Estimate;
use crate::inside::{Cut, Moved};
use crate::prefix::Prefix;

/// Everything that an audit found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// How many facts were asked for.
    pub cases: usize,
    /// How many of them have a new object: the others are to be forgotten.
    pub rewritten: usize,
    /// What was asked for.
    pub options: Options,
    /// What every kind of prefix brings back.
    pub prefixes: Vec<Brought>,
    /// What edits are worth on their own prompts, before and after; nothing where nothing was rewritten.
    pub standard: Option<[Summary; 2]>,
    /// What was seen inside where attacks succeeded; nothing where none did.
    pub inside: Option<Inside>,
    /// Every case with what both models made of its probes.
    pub answers: Vec<CaseAnswers>,
    /// What has to be known before the figures are read.
    pub premises: Vec<String>,
}

/// What can be chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Seed of control objects, of what is taken out at random, and of intervals.
    pub seed: u64,
    /// Heads that are taken out: those that say most of the old object. Absent: a fiftieth of all, at least two.
    pub heads: Option<usize>,
    /// Share of a head's singular vectors that are taken out, at least one; from 0 to a half.
    pub share: f64,
    /// How often as many heads, or vectors, are drawn at random.
    pub draws: usize,
    /// Most cases that are looked into.
    pub inside: usize,
    /// Layers behind which states are swapped; absent: all.
    pub layers: Option<Vec<usize>>,
    /// Most tokens that a model writes to the edits' own prompts; with 0 it is not asked to.
    pub max_new_tokens: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 0, heads: None, share: 0.1, draws: 5, inside: 40, layers: None, max_new_tokens: 10 }
    }
}

/// What a kind of prefix brings back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Brought {
    /// The prefix.
    pub prefix: Prefix,
    /// How many probes there are.
    pub probes: usize,
    /// Before the change.
    pub before: Rates,
    /// After it.
    pub after: Rates,
    /// After it, with a prefix about another object, whose return counts: what copying does by itself.
    pub control: Rates,
    /// By how much more often the old object is said than without a prefix.
    pub over_none: Option<Estimate>,
    /// By how much more often it is said than the other object of the control.
    pub over_control: Option<Estimate>,
}

/// Shares of a case's probes, as means over cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// OM: what the model writes begins with the old object.
    pub says: Option<Estimate>,
    /// OP: the old object is likelier than the new one.
    pub likelier: Option<Estimate>,
    /// The same by the mean log-probability of a token.
    pub likelier_by_length: Option<Estimate>,
    /// Probability of the old object.
    pub probability: Option<Estimate>,
}

/// A case with everything that was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseAnswers {
    /// What it goes by.
    pub id: String,
    /// Its subject.
    pub subject: String,
    /// Its old object.
    pub old: String,
    /// Its new object, where there is one.
    pub new: Option<String>,
    /// The control's object, where there is one.
    pub control: Option<String>,
    /// Its probes.
    pub probes: Vec<ProbeAnswers>,
}

/// A probe with what both models made of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeAnswers {
    /// Its prefix.
    pub prefix: Prefix,
    /// Whether it is the control's.
    pub control: bool,
    /// Whether it counts for what the models say, and for what is likelier.
    pub counts: [bool; 2],
    /// Prefix and prompt.
    pub text: String,
    /// Before the change.
    pub before: Answered,
    /// After it.
    pub after: Answered,
}

/// What was seen where an attack succeeded: the model says the old object behind a prefix, and not without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inside {
    /// In how many cases one did.
    pub succeeded: usize,
    /// How many of them were looked into.
    pub looked: usize,
    /// Without the prefix.
    pub clean: Objects,
    /// With it.
    pub attacked: Objects,
    /// States of the attacked run in the clean one, behind one layer at a time.
    pub swaps: Vec<Swapped>,
    /// Layer by layer at the subject's last token: −log of the new object's probability under the lens, clean and attacked.
    pub inhibition: Option<[Vec<Estimate>; 2]>,
    /// The same for the old object.
    pub absence: [Vec<Estimate>; 2],
    /// Layer by layer at the last token of the attacked run: by how much attention, and the feed-forward, raise the old object's
    /// probability under the lens.
    pub modules: [Vec<Estimate>; 2],
    /// Probability of the old object under the lens where it reads one head alone: `[layer][head]`.
    pub heads: Vec<Vec<Estimate>>,
    /// The heads that say most of it, the first one first.
    pub selected: Vec<Selected>,
    /// Singular vectors that were kept of each.
    pub vectors: usize,
    /// What is left where parts are taken out.
    pub cuts: Vec<CutOut>,
}

/// Probabilities of both objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objects {
    /// Of the old one.
    pub old: Option<Estimate>,
    /// Of the new one, in cases that have one.
    pub new: Option<Estimate>,
}

/// What is said where states of the attacked run are put into the clean one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Swapped {
    /// At which tokens.
    pub moved: Moved,
    /// Behind which layers.
    pub layers: Vec<usize>,
    /// Probabilities, layer by layer.
    pub objects: Vec<Objects>,
}

/// A head that says much of the old object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selected {
    /// The head.
    pub head: Head,
    /// Probability of the old object under the lens.
    pub attribution: Option<Estimate>,
    /// DSR: share of cases in which the old object is among the first fifteen tokens of what the kept vectors alone add.
    pub decoded: Option<Estimate>,
}

/// What is left where a part is taken out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CutOut {
    /// The part.
    pub cut: Cut,
    /// Probabilities of both objects in the attacked run.
    pub objects: Objects,
    /// Probability of what followed by rights in prompts about others, which should not move.
    pub others: Option<Estimate>,
}
