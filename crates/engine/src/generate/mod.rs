//! Generation: cached, batched, reproducible.
//!
//! Sequences join the running batch as soon as one ends (continuous batching); samples of one prompt read
//! it once. Because no row's arithmetic depends on its neighbours, and every draw is named by (seed, prompt,
//! sample, token), a prompt's text does not depend on the batch it ran in.

mod batching;
pub mod constraint;
mod sampling;
mod sequence;

pub use constraint::{Constraint, Grammar};
pub use sampling::Sampling;

use crate::models::Model;
use crate::taps::Taps;
use crate::{Error, Result};

/// When and how to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Most new tokens per sequence.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Ids that end a sequence (they are kept in the output).
    pub stop_ids: Vec<u32>,
    /// Sequences running at a time. Has no influence on results.
    pub batch_size: usize,
    /// Samples per prompt.
    pub samples: usize,
    /// What continuations must look like.
    pub constraints: Constraints,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            max_new_tokens: 128,
            sampling: Sampling::default(),
            stop_ids: Vec::new(),
            batch_size: 64,
            samples: 1,
            constraints: Constraints::None,
        }
    }
}

/// Which continuations are constrained. One that is always matches, whatever the budget and the sampling:
/// a stop id is allowed exactly where the answer may end, and tokens only where what is left of
/// `max_new_tokens` and the context suffices to finish. A caller's [`StopRule`] can still cut it short.
#[derive(Debug, Clone, Default)]
pub enum Constraints {
    /// None.
    #[default]
    None,
    /// All, by the same constraint.
    All(Constraint),
    /// Each prompt's by its own, where it has one.
    Prompts(Vec<Option<Constraint>>),
}

impl Constraints {
    fn of(&self, prompt: usize) -> Option<&Constraint> {
        match self {
            Constraints::None => None,
            Constraints::All(constraint) => Some(constraint),
            Constraints::Prompts(each) => each.get(prompt)?.as_ref(),
        }
    }
}

/// What ended a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A stop id.
    Stop,
    /// The limit of new tokens.
    Length,
    /// The model's context.
    Context,
    /// The caller's own rule.
    Rule,
    /// The constraint: the answer is complete, and nothing can follow it.
    Complete,
}

/// One generated continuation.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Index of its prompt.
    pub prompt: usize,
    /// Which sample of that prompt.
    pub sample: usize,
    /// New ids.
    pub ids: Vec<u32>,
    /// Log-probability of each new id under the model, before constraint, temperature and filters.
    pub logprobs: Vec<f32>,
    /// What ended it.
    pub finish: Finish,
}

/// Called after every new token with what was generated; `true` ends that sequence (stop strings).
pub type StopRule<'a> = dyn Fn(&Generated) -> bool + 'a;

impl Model {
    /// Continues every prompt; the results are ordered by prompt, then sample.
    ///
    /// Fails before anything is generated where a prompt is empty or too long, or a constraint has no
    /// answer that fits.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        stop_rule: Option<&StopRule<'_>>,
        taps: &Taps,
    ) -> Result<Vec<Generated>> {
        options.sampling.check()?;
        for (i, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(Error::invalid(format!("prompt {i} is empty; give at least one token")));
            }
            if prompt.len() > self.spec().context {
                return Err(Error::invalid(format!(
                    "prompt {i} has {} tokens; the model's context is {}",
                    prompt.len(),
                    self.spec().context
                )));
            }
        }
        self.check_constraints(prompts, options)?;
        batching::Batching::new(self, prompts, options, stop_rule, taps).run()
    }

    /// Most new tokens of a prompt's continuations. The last one need not fit into the context: nothing
    /// follows it.
    fn budget(&self, prompt: &[u32], options: &GenerateOptions) -> usize {
        options.max_new_tokens.min(self.spec().context + 1 - prompt.len())
    }

    fn check_constraints(&self, prompts: &[Vec<u32>], options: &GenerateOptions) -> Result<()> {
        if let Constraints::Prompts(each) = &options.constraints
            && each.len() != prompts.len()
        {
            return Err(Error::invalid(format!(
                "{} constraints for {} prompts; give one per prompt",
                each.len(),
                prompts.len()
            )));
        }
        let mut checked: Option<&Constraint> = None;
        for (i, prompt) in prompts.iter().enumerate() {
            let Some(constraint) = options.constraints.of(i) else { continue };
            if !checked.is_some_and(|c| c.is_same(constraint)) {
                self.check_vocabulary(constraint, options)?;
                checked = Some(constraint);
            }
            let (least, budget) = (constraint.least_tokens(), self.budget(prompt, options));
            if least > budget {
                let limit = if budget < options.max_new_tokens {
                    "are left of the model's context; shorten the prompt"
                } else {
                    "may be generated; allow more (max_new_tokens)"
                };
                return Err(Error::invalid(format!(
                    "prompt {i}: the shortest answer that the constraint allows takes {least} tokens, but only \
                     {budget} {limit}"
                )));
            }
        }
        Ok(())
    }

    fn check_vocabulary(&self, constraint: &Constraint, options: &GenerateOptions) -> Result<()> {
        let (tokens, rows) = (constraint.vocabulary(), self.spec().vocabulary);
        if tokens > rows {
            return Err(Error::invalid(format!(
                "the constraint is for a tokenizer of {tokens} tokens, the model has {rows}"
            )));
        }
        match options.stop_ids.iter().find(|&&id| constraint.is_text(id)) {
            Some(id) => Err(Error::invalid(format!(
                "stop id {id} is text to the constraint; exclude it when making the token bytes"
            ))),
            None => Ok(()),
        }
    }
}
