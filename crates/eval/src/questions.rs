//! Questions about records: likelihoods of right and wrong answers, and what a model says by itself.

use amend_learn::{Error, Result};
use amend_run::records::{text_of, texts_of};
use amend_run::{Content, Figure, Record};
use serde::{Deserialize, Serialize};

use crate::request::{Answer, Answerer, Generation, Request};
use crate::scorers::{
    ExtractionMode, Rouge, exact_memorization, extraction_strength, length_normalised, multiple_choice,
    true_is_better, truth_ratio,
};
use crate::stats::harmonic_mean;
use crate::tofu::{AnswerLoss, Measured};

/// A record and what the model made of it.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The question as a person reads it.
    pub question: String,
    /// Likelihoods and generation.
    pub measured: Measured,
    /// For every token of the right answer, whether it was the model's first choice there.
    pub matches: Vec<bool>,
}

/// What is asked about a record: how likely its answer is, where the record has them also its
/// `paraphrased_answer` and every `perturbed_answer`, and last what the model says by itself. A document has no question
/// that it could answer, so of that only the likelihood.
pub fn requests(record: &Record, max_new_tokens: usize) -> Vec<Request> {
    let mut requests = vec![Request::Likelihood(record.content.clone())];
    if let Content::Question { question, .. } = &record.content {
        let reply =
            |answer: &str| Content::Question { question: question.clone(), answer: answer.to_owned() };
        let Replies { paraphrased, perturbed } = Replies::of(record);
        requests.extend(paraphrased.into_iter().chain(perturbed).map(reply).map(Request::Likelihood));
    }
    if has_question(&record.content) {
        requests.push(Request::Generation(Generation { content: record.content.clone(), max_new_tokens }));
    }
    requests
}

fn has_question(content: &Content) -> bool {
    !matches!(content, Content::Text(_))
}

/// What the answers to a record's [`requests`] say.
///
/// # Errors
/// Answers that are not those of the requests.
pub fn answered(record: &Record, answers: &[Answer]) -> Result<Answered> {
    let Replies { paraphrased, perturbed } = Replies::of(record);
    let is_asked = has_question(&record.content);
    let expected = 1 + usize::from(is_asked) + usize::from(paraphrased.is_some()) + perturbed.len();
    let question = question_of(&record.content);
    let (prompt, generation, likelihoods) = match answers.split_last() {
        _ if !is_asked && answers.len() == expected => (record.content.prompt(), "", answers),
        Some((Answer::Written(written), rest)) if is_asked && answers.len() == expected => {
            (written.prompt.as_str(), written.text.as_str(), rest)
        }
        _ => {
            let found = answers.len();
            let last = if is_asked { ", a text the last" } else { "" };
            return Err(Error::invalid(format!(
                "{question:?} has {found} answers, not the {expected} that were asked for{last}"
            )));
        }
    };
    let wrong_kind = || Error::invalid(format!("{question:?}: an answer is no likelihood"));
    let likelihoods = likelihoods.iter().map(|answer| answer.likelihood().ok_or_else(wrong_kind));
    let likelihoods = likelihoods.collect::<Result<Vec<_>>>()?;
    let losses: Vec<AnswerLoss> = likelihoods.iter().map(|l| AnswerLoss::of(&l.logprobs)).collect();
    let first_wrong = 1 + usize::from(paraphrased.is_some());
    Ok(Answered {
        question,
        measured: Measured {
            prompt: prompt.to_owned(),
            answer: answer_of(&record.content),
            generation: generation.to_owned(),
            answer_loss: losses[0],
            paraphrased_loss: paraphrased.map(|_| losses[1]),
            perturbed_losses: losses[first_wrong..].to_vec(),
        },
        matches: likelihoods[0].greedy.clone(),
    })
}

/// Asks about records, all at a time.
///
/// # Errors
/// A record that cannot be put to the model, or a model that fails.
pub fn ask(records: &[Record], max_new_tokens: usize, answerer: &dyn Answerer) -> Result<Vec<Answered>> {
    let asked: Vec<Vec<Request>> = records.iter().map(|record| requests(record, max_new_tokens)).collect();
    let answers = answerer.answer(&asked.concat())?;
    let mut rest = answers.as_slice();
    let answered = |(record, asked): (&Record, &Vec<Request>)| {
        let own;
        (own, rest) = rest.split_at(asked.len().min(rest.len()));
        answered(record, own)
    };
    records.iter().zip(&asked).map(answered).collect()
}

struct Replies<'r> {
    paraphrased: Option<&'r str>,
    perturbed: Vec<&'r str>,
}

impl<'r> Replies<'r> {
    fn of(record: &'r Record) -> Self {
        match &record.content {
            Content::Question { .. } => Replies {
                paraphrased: text_of(&record.fields, "paraphrased_answer"),
                perturbed: texts_of(&record.fields, "perturbed_answer"),
            },
            _ => Replies { paraphrased: None, perturbed: Vec::new() },
        }
    }
}

/// The question as it is shown; of a document, its beginning.
fn question_of(content: &Content) -> String {
    match content {
        Content::Text(text) => text.chars().take(80).collect(),
        _ => content.prompt().to_owned(),
    }
}

fn answer_of(content: &Content) -> String {
    match content {
        Content::Question { answer, .. } => answer.clone(),
        Content::PromptCompletion { completion, .. } => completion.clone(),
        Content::Messages(messages) => messages.last().map_or(String::new(), |m| m.content.clone()),
        Content::Text(text) => text.clone(),
    }
}

/// The figures of one set of questions, each with n and standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetFigures {
    /// exp(−NLL/|y|) of the right answer, end token included.
    pub probability: Figure,
    /// Share of answers the model gives word for word: every token its first choice, the end included.
    pub accuracy: Figure,
    /// ROUGE-1 recall of the free answer, stemmed; null where none was generated.
    pub rouge1_recall: Option<Figure>,
    /// ROUGE-L recall of the free answer, stemmed; null where none was generated.
    pub rouge_l_recall: Option<Figure>,
    /// Probability of the right answer among the wrong ones, each length-normalised and in the same
    /// frame; null where the data has no wrong answers.
    pub choice: Option<Figure>,
    /// Mean max(0, 1 − R) of the truth ratio R; null where the data has no wrong answers.
    pub truth_ratio: Option<Figure>,
    /// Share of the answer's tokens that are the model's first choice.
    pub exact_memorization: Figure,
    /// 1 − k/T, k the shortest prefix from which the model completes the answer by itself.
    pub extraction_strength: Figure,
    /// Harmonic mean of probability, ROUGE-L recall and truth ratio; null where one is missing.
    pub utility: Option<f64>,
}

impl SetFigures {
    /// Summarises what a model answered.
    pub fn of(answered: &[Answered]) -> Self {
        let mean = |values: Vec<f64>| Figure::mean(&values);
        let each = |f: &dyn Fn(&Answered) -> Option<f64>| mean(answered.iter().filter_map(f).collect());
        let some = |figure: Figure| (figure.n > 0).then_some(figure);
        let rouge = Rouge { stem: true };
        let said: Vec<_> = answered
            .iter()
            .filter(|_| answered.iter().any(|a| !a.measured.generation.is_empty()))
            .map(|a| rouge.score(&a.measured.answer, &a.measured.generation))
            .collect();
        let probability =
            each(&|a| length_normalised(a.measured.answer_loss.nll, a.measured.answer_loss.tokens as usize));
        let rouge_l_recall = some(mean(said.iter().map(|s| s.rouge_l.recall).collect()));
        let ratios: Vec<f64> = answered.iter().filter_map(|a| ratio(&a.measured)).collect();
        let truth = true_is_better(&ratios).ok();
        let utility = match (&rouge_l_recall, &truth) {
            (Some(rouge), Some(truth)) => harmonic_mean(&[probability.value, rouge.value, truth.value]),
            _ => None,
        };
        SetFigures {
            probability,
            accuracy: each(&|a| Some(f64::from(u8::from(a.matches.iter().all(|&m| m))))),
            rouge1_recall: some(mean(said.iter().map(|s| s.rouge1.recall).collect())),
            rouge_l_recall,
            choice: some(each(&|a| choice(&a.measured))),
            truth_ratio: truth,
            exact_memorization: each(&|a| exact_memorization(&a.matches)),
            // The end token tells nothing about what was memorised.
            extraction_strength: each(&|a| {
                let text = &a.matches[..a.matches.len().saturating_sub(1)];
                extraction_strength(text, ExtractionMode::Compat)
            }),
            utility,
        }
    }
}

/// The truth ratio R of an item, where it has wrong answers.
pub fn ratio(measured: &Measured) -> Option<f64> {
    let wrong: Vec<f64> = measured.perturbed_losses.iter().map(AnswerLoss::mean).collect();
    truth_ratio(measured.paraphrased_loss.unwrap_or(measured.answer_loss).mean(), &wrong)
}

fn choice(measured: &Measured) -> Option<f64> {
    let wrong: Vec<f64> = measured.perturbed_losses.iter().map(AnswerLoss::mean).collect();
    let right = measured.paraphrased_loss.unwrap_or(measured.answer_loss).mean();
    (!wrong.is_empty()).then(|| multiple_choice(right, &wrong))
}
