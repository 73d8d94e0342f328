//! What answers give away: what attacks share that only ask.

use amend_engine::Model;
use amend_engine::generate::{GenerateOptions, Sampling};
use amend_eval::questions::{answer_of, question_of};
use amend_eval::scorers::{content_words, leaked};
use amend_learn::{Error, Result};
use amend_run::{Content, Figure, Record};

use crate::context::Context;
use crate::data::Sets;
use crate::measure::subject;
use crate::recipe::UnlearnRecipe;

/// Questions shown of an attack that asks.
pub(super) const SAMPLES: usize = 8;

/// A question about the forget set whose answer has words to give away.
pub(super) struct Question<'c> {
    /// The record.
    pub(super) record: &'c Record,
    /// What is asked, as a person reads it.
    pub(super) asked: String,
    /// The right answer.
    pub(super) answer: String,
    /// The content words of the answer.
    pub(super) words: Vec<String>,
}

impl Question<'_> {
    /// The share of the answer's content words that a text says.
    pub(super) fn leak(&self, said: &str) -> f64 {
        leaked(&self.words, said).len() as f64 / self.words.len() as f64
    }
}

/// Refuses recipes whose forget set has no questions, or that let no model answer.
pub(super) fn check(attack: &str, sets: &Sets, recipe: &UnlearnRecipe) -> Result<()> {
    if recipe.eval.max_new_tokens == 0 {
        return Err(Error::conflict_at(
            "unlearn.attack",
            format!(
                "attack = \"{attack}\" reads what models write, and [eval] `max_new_tokens` is 0; allow some tokens, or leave the \
             attack out"
            ),
        ));
    }
    if sets.forget_eval.iter().all(|record| matches!(record.content, Content::Text(_))) {
        return Err(Error::conflict_at(
            "unlearn.attack",
            format!(
                "attack = \"{attack}\" asks questions, but the forget set has only documents; give records with questions \
             (`forget_eval` in [data]), or leave the attack out"
            ),
        ));
    }
    Ok(())
}

/// The questions about the forget set as it is measured.
pub(super) fn questions<'c>(context: &'c Context<'_>) -> Vec<Question<'c>> {
    let question = |record: &'c Record| {
        let (asked, answer) = (question_of(&record.content), answer_of(&record.content));
        let words = content_words(&asked, &answer);
        let is_question = !matches!(record.content, Content::Text(_)) && !words.is_empty();
        is_question.then_some(Question { record, asked, answer, words })
    };
    context.measured_forget().iter().filter_map(question).collect()
}

/// What a model writes after prompts of tokens, of each so many samples; `None` where the context has no room.
pub(super) fn write(
    model: &Model,
    context: &Context<'_>,
    prompts: &[Vec<u32>],
    samples: usize,
    sampling: Sampling,
) -> Result<Vec<Option<Vec<String>>>> {
    let max_new_tokens = context.evaluation.max_new_tokens;
    let options = GenerateOptions { max_new_tokens, samples, sampling, ..Default::default() };
    subject(model, context).continued(prompts, options)
}

/// Mean over the questions that were asked.
pub(super) fn mean(leaks: impl Iterator<Item = Option<f64>>) -> Figure {
    Figure::mean(&leaks.flatten().collect::<Vec<_>>())
}
