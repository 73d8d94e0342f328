//! Relearning: can a little fine-tuning bring back what was forgotten?

mod findings;
mod learning;

use amend_engine::{Example, Model};
use amend_learn::work::{Work, mean_tokens, tokens};
use amend_learn::{Descent, Error, FineTuning, Optimizer, Result, train};
use amend_run::Run;
use amend_run::step_log::{METRICS, StepLog, StepRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use learning::{Learning, Learns, On};

use super::{Attacker, Findings, Target};
use crate::context::Context;
use crate::data::Sets;
use crate::measure::{Choice, ask, choices, mean_probability, mean_renormalised, share_exact};
use crate::minor::{Compared, Component, compare};
use crate::recipe::UnlearnRecipe;
use findings::{Seen, component_curves, weakness};
use learning::{Length, Split};

/// Questions of V put to the attacked model.
const SAMPLES: usize = 4;

/// # What it does
/// Fine-tunes the unlearned model on one half T of the forgotten items and watches the other half V, which
/// it never sees: cross-entropy, AdamW, all weights. What returns on V was hidden, not gone. With `on` it learns something
/// else: the very items that are watched, or text that has nothing to do with them. It may learn whole texts (`learns`), with
/// the weights of feed-forwards alone (`weights`) or of the first blocks (`early_layers`), epoch by epoch (`epochs`).
///
/// # When to use it
/// Always, when weights are to be published. The gold model under the same attack shows how much of V can
/// be guessed from T alone; only what lies above that was left behind. `on = "unrelated"` is what happens to a model that is
/// merely used: whatever comes back needed no attacker. `on = "same"` brings everything back in the end, of any model; what
/// counts is whether it comes sooner than to the gold model. `components` says which components of the hidden states of V
/// unlearning had moved, and which of them relearning moves back.
///
/// # What it logs
/// `loss`: cross-entropy on the step's items of T, in nats per token. At every look, on all of V: `test_accuracy`, the
/// share of answers that are word for word the model's first choice, and `test_probability`, the mean of their
/// length-normalised probabilities; with `choice` also `test_renormalised`, the mean of
/// P(right) / (P(right) + Σ P(wrong)) with P the probability of a whole answer: whether V is known, however answers are worded.
/// Figures are the largest of the way; the largest mean of `window` looks, which no single look makes; the rebound, by which
/// that is above what it was before the attack; and the mean height of the whole curve, its area divided by its width.
///
/// The report calls an attack weak whose attacker hardly learnt T itself: mean probability below 0.5 at the end, and below
/// the larger of 0.1 and twice what it was. Of unrelated text it says nothing: it is not there to be learnt.
///
/// # Source
/// Spec of relearning attacks: Hu et al., arXiv 2406.13356; Lynch et al., arXiv 2402.16835; the split of the
/// facts, rebound and components as in arXiv 2605.11685, whose attacker learns plain text for 100 epochs with the weights of
/// feed-forwards and smooths over 10.
///
/// # Inferred parts
/// The split by seed where the data names none (`attack` and `attack_test` in `[data]`); learning rate, number of steps and
/// window are choices; AdamW where that paper has plain gradient descent. Unrelated text is `unrelated` in `[data]`, otherwise
/// the retain set. Components are compared at the end of the attack, on as many items of V as models are measured on.
///
/// # Expected result
/// Much of what gradient-based unlearning hid comes back within tens of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Relearn {
    /// What the attacker learns from.
    pub on: On,
    /// What of a record it learns: `answer` or `text`.
    pub learns: Learns,
    /// Which weights learn: `all` or `mlp`.
    pub weights: Learning,
    /// Only weights of the first blocks learn, so many of them; default: of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub early_layers: Option<usize>,
    /// Steps of fine-tuning.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// How often all of T is gone through, in place of `steps`; V is then looked at after every time, in place of `every`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub epochs: Option<u64>,
    /// Items per step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Steps between two looks at V.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// Looks over which a curve is smoothed before its largest value is taken.
    #[schemars(range(min = 1))]
    pub window: usize,
    /// Whether the right answer's probability is also watched renormalised over right and wrong ones, where V has wrong ones.
    pub choice: bool,
    /// Which components of hidden states are compared before and after: `{ layer = 2, k = 16 }`; default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<Compared>,
    /// The optimiser.
    pub optimizer: Optimizer,
}

impl Default for Relearn {
    fn default() -> Self {
        Relearn {
            on: On::default(),
            learns: Learns::default(),
            weights: Learning::default(),
            early_layers: None,
            steps: 50,
            epochs: None,
            batch_size: 16,
            every: 5,
            window: 3,
            choice: false,
            components: None,
            optimizer: Optimizer::default(),
        }
    }
}

impl Attacker for Relearn {
    fn check(&self, sets: &Sets, _recipe: &UnlearnRecipe) -> Result<()> {
        let found = sets.forget.len();
        match self.on {
            On::Disjoint if sets.attack.is_empty() || sets.attack_test.is_empty() => Err(Error::conflict_at(
                "unlearn.attack",
                format!(
                    "attack = \"relearn\" learns one half of the forget set and is measured on the other, but the set \
                         has {found} record; give it at least 2, or leave the attack out"
                ),
            )),
            On::Unrelated if sets.unrelated.as_ref().unwrap_or(&sets.retain).is_empty() => {
                Err(Error::conflict_at(
                    "unlearn.attack",
                    "attack = \"relearn\" with `on = \"unrelated\"` learns from the retain set, which has no record; name \
                     `unrelated` or `retain` in [data], or leave the attack out",
                ))
            }
            On::Disjoint | On::Same | On::Unrelated => Ok(()),
        }
    }

    fn trains(&self, model: &Model) -> usize {
        let mut chosen = model.clone();
        match self.choose(&mut chosen) {
            Ok(()) => chosen.params.count().1,
            // What is wrong is said by `work`.
            Err(_) => 0,
        }
    }

    fn work(&self, context: &Context<'_>) -> Result<Work> {
        self.choose(&mut context.reference.clone())?;
        let Split { learnt, watched, .. } = self.on.split(context);
        let Length { steps, every } = self.length(learnt.len());
        let drawn = self.batch_size.min(learnt.len());
        let looks = (steps.div_ceil(every) as usize).saturating_add(1);
        let mut look = 2 * tokens(watched);
        if self.choice {
            look += self.choices(context)?.iter().map(Choice::tokens).sum::<usize>();
        }
        let mut scored = looks.saturating_mul(look).saturating_add(2 * tokens(learnt));
        if let Some(compared) = &self.components {
            compared.site(context.reference)?;
            scored = scored.saturating_add(3 * tokens(watched) + tokens(&context.forget));
        }
        Ok(Work {
            trained: (steps as usize).saturating_mul(drawn * mean_tokens(learnt)),
            scored,
            written: SAMPLES.saturating_mul(context.evaluation.max_new_tokens),
        })
    }

    fn attack(&self, run: &mut Run<'_>, target: Target<'_>, context: &Context<'_>) -> Result<Findings> {
        let model = target.model;
        let Split { learnt, watched: test, records } = self.on.split(context);
        let Length { steps, every } = self.length(learnt.len());
        let choices = if self.choice { self.choices(context)? } else { Vec::new() };
        let look = |model: &Model| self.look(model, test, &choices);
        let before = look(model)?;
        let own = |model: &Model| Ok::<_, Error>(mean_probability(model, learnt)?.value);
        let own_before = own(model)?;
        let mut attacked = model.clone();
        self.choose(&mut attacked)?;
        let examples = self.learnt(learnt);
        let mut learner = FineTuning {
            descent: Descent::new(&attacked.params, &self.optimizer, steps)?,
            model: attacked,
            examples: &examples,
            batch_size: self.batch_size,
            seed: context.seed,
            purpose: "relearn",
            look: |model: &Model, step: u64| -> Result<Map<String, Value>> {
                let looks = step.is_multiple_of(every) || step == steps;
                let seen = if looks { look(model)? } else { Vec::new() };
                Ok(seen.into_iter().map(|(what, value)| (what.key.to_owned(), json!(value))).collect())
            },
        };
        train(run, steps, &mut learner)?;
        // What was seen on the way is in the metrics, also of the part before an interruption.
        let rows = StepLog::read(run.folder.path(), METRICS)?;
        let stage = run.stage()?;
        let curve = |(what, before): &(&'static Seen, f64)| {
            let seen = rows.iter().filter(|row| row.stage == stage);
            let value = |row: &StepRow| row.values.get(what.key).and_then(Value::as_f64);
            let seen = seen.filter_map(|row| Some((row.step as f64, value(row)?)));
            (*what, std::iter::once((0.0, *before)).chain(seen).filter(|(_, y)| y.is_finite()).collect())
        };
        let own_after = own(&learner.model)?;
        let weak = (self.on != On::Unrelated).then(|| weakness(own_before, own_after)).flatten();
        let samples = ask(&learner.model, context, records, SAMPLES)?;
        let mut found = self.findings(before.iter().map(curve).collect(), test.len());
        found.components = self.components(model, &learner.model, context)?;
        found.curves.extend(component_curves(&found.components));
        Ok(Findings { weak, samples, ..found })
    }
}

impl Relearn {
    /// What is seen of V, measure by measure.
    fn look(&self, model: &Model, test: &[Example], choices: &[Choice]) -> Result<Vec<(&'static Seen, f64)>> {
        let mut seen = vec![
            (&Seen::ACCURACY, share_exact(model, test)?.value),
            (&Seen::PROBABILITY, mean_probability(model, test)?.value),
        ];
        if !choices.is_empty() {
            seen.push((&Seen::RENORMALISED, mean_renormalised(model, choices)?.value));
        }
        Ok(seen)
    }

    /// The questions of V that have wrong answers.
    fn choices(&self, context: &Context<'_>) -> Result<Vec<Choice>> {
        Ok(choices(context.encoder, self.on.split(context).records, usize::MAX)?)
    }

    /// What became of the components of V's states. The gold model has not moved away from the original one: it is another.
    fn components(&self, before: &Model, after: &Model, context: &Context<'_>) -> Result<Vec<Component>> {
        let is_gold = context.gold.is_some_and(|gold| std::ptr::eq(gold, before));
        let Some(compared) = self.components.as_ref().filter(|_| !is_gold) else { return Ok(Vec::new()) };
        let Split { watched, records, .. } = self.on.split(context);
        let positions = |(i, (example, record))| {
            let called = format!("record {} of what the attack watches", i + 1);
            Ok((example, context.tokens_of(example, record, compared.tokens, &called)?))
        };
        let limited = watched.iter().zip(records).take(context.evaluation.limit);
        let looked: Vec<_> = limited.enumerate().map(positions).collect::<Result<_>>()?;
        Ok(compare(compared, context, [before, after], &looked)?)
    }
}
