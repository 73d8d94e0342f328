//! Relearning: can a little fine-tuning bring back what was forgotten?

use amend_engine::{Example, Model};
use amend_learn::{Descent, FineTuning, Optimizer, Result, train};
use amend_run::rows::METRICS;
use amend_run::{Rows, Run};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::measure::{mean_probability, share_exact};

/// # What it does
/// Fine-tunes the unlearned model on one half T of the forgotten items and watches the other half V, which
/// it never sees: cross-entropy, AdamW, all weights. What returns on V was hidden, not gone.
///
/// # When to use it
/// Always, when weights are to be published. The gold model under the same attack shows how much of V can
/// be guessed from T alone; only what lies above that was left behind.
///
/// # What it logs
/// `loss` on T; `test_accuracy` and `test_probability` on V at every look.
///
/// # Source
/// Spec of relearning attacks: Hu et al., arXiv 2406.13356; Lynch et al., arXiv 2402.16835; the split of the
/// facts as in arXiv 2605.11685.
///
/// # Inferred parts
/// The split by seed where the data names none; learning rate and number of steps are choices.
///
/// # Expected result
/// Much of what gradient-based unlearning hid comes back within tens of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Relearn {
    /// Steps of fine-tuning.
    pub steps: u64,
    /// Items per step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Steps between two looks at V.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// The optimiser.
    pub optimizer: Optimizer,
}

impl Default for Relearn {
    fn default() -> Self {
        Relearn { steps: 50, batch_size: 16, every: 5, optimizer: Optimizer::default() }
    }
}

/// What a relearning attack brought back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Steps at which V was looked at, 0 first.
    pub steps: Vec<u64>,
    /// Share of V's answers given word for word.
    pub accuracy: Vec<f64>,
    /// Mean probability of V's answers.
    pub probability: Vec<f64>,
    /// Number of items in V.
    pub n: usize,
}

impl Curve {
    /// The largest accuracy on the way: an attacker keeps the best model.
    pub fn max_accuracy(&self) -> f64 {
        self.accuracy.iter().copied().fold(0.0, f64::max)
    }

    /// The largest probability on the way.
    pub fn max_probability(&self) -> f64 {
        self.probability.iter().copied().fold(0.0, f64::max)
    }
}

/// Attacks `model` as stage `name`: trains on `attack`, looks at `test`.
pub fn relearn(
    run: &mut Run<'_>,
    name: &str,
    options: &Relearn,
    model: &Model,
    attack: &[Example],
    test: &[Example],
    seed: u64,
) -> Result<Curve> {
    run.once(name, |run| {
        let look = |model: &Model| -> Result<(f64, f64)> {
            Ok((share_exact(model, test)?, mean_probability(model, test)?))
        };
        let (accuracy, probability) = look(model)?;
        let mut attacked = model.clone();
        attacked.params.set_trainable(|_| true);
        let mut learner = FineTuning {
            descent: Descent::new(&attacked.params, &options.optimizer, options.steps),
            model: attacked,
            examples: attack,
            batch_size: options.batch_size,
            seed,
            purpose: "relearn",
            look: |model: &Model, step: u64| -> Result<Map<String, Value>> {
                let mut row = Map::new();
                if step.is_multiple_of(options.every) || step == options.steps {
                    let (accuracy, probability) = look(model)?;
                    row.insert("test_accuracy".into(), json!(accuracy));
                    row.insert("test_probability".into(), json!(probability));
                }
                Ok(row)
            },
        };
        train(run, options.steps, &mut learner)?;
        // What was seen on the way is in the metrics, also of the part before an interruption.
        let mut curve =
            Curve { steps: vec![0], accuracy: vec![accuracy], probability: vec![probability], n: test.len() };
        for row in Rows::read(run.folder.path(), METRICS)? {
            let number = |key: &str| row.values.get(key).and_then(Value::as_f64);
            if let (true, Some(accuracy), Some(probability)) =
                (row.stage == name, number("test_accuracy"), number("test_probability"))
            {
                curve.steps.push(row.step);
                curve.accuracy.push(accuracy);
                curve.probability.push(probability);
            }
        }
        Ok(curve)
    })
}
