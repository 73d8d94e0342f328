//! Questions about records: likelihoods of right and wrong answers, and what a model says by itself.

use amend_learn::{Conversation, Error, Result};
use amend_run::records::{text_of, texts_of};
use amend_run::{Content, Figure, Record};
use serde::{Deserialize, Serialize};

use crate::request::{Answer, Answerer, Generation, Request};
use crate::scorers::{
    ExtractionMode, closer_to_one, exact_memorization, extraction_strength, leak, true_is_better,
    word_for_word,
};
use crate::stats::{harmonic_mean, mean};
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
/// Answers that are not those of the requests, or of which no token was scored.
pub fn answered(record: &Record, answers: &[Answer]) -> Result<Answered> {
    let Replies { paraphrased, perturbed } = Replies::of(record);
    let is_asked = has_question(&record.content);
    let expected = 1 + usize::from(is_asked) + usize::from(paraphrased.is_some()) + perturbed.len();
    let question = question_of(&record.content);
    let (prompt, generation, likelihoods) = match answers.split_last() {
        _ if !is_asked && answers.len() == expected => (record.content.prompt(), None, answers),
        Some((Answer::Written(written), rest)) if is_asked && answers.len() == expected => {
            (written.prompt.as_str(), written.text.clone(), rest)
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
    let unscored = || Error::invalid(format!("{question:?}: no token of an answer was scored"));
    let losses = likelihoods.iter().map(|l| AnswerLoss::of(&l.logprobs).ok_or_else(unscored));
    let losses = losses.collect::<Result<Vec<_>>>()?;
    let first_wrong = 1 + usize::from(paraphrased.is_some());
    Ok(Answered {
        question,
        measured: Measured {
            prompt: prompt.to_owned(),
            answer: answer_of(&record.content),
            generation,
            answer_loss: losses[0],
            paraphrased_loss: paraphrased.map(|_| losses[1]),
            perturbed_losses: losses[first_wrong..].to_vec(),
        },
        matches: likelihoods[0].greedy.clone(),
    })
}

/// The answers to the [`requests`] about every record, asked all at a time.
///
/// # Errors
/// A record that cannot be put to the model, or a model that fails.
pub fn answers(
    records: &[Record],
    max_new_tokens: usize,
    answerer: &dyn Answerer,
) -> Result<Vec<Vec<Answer>>> {
    let asked: Vec<Vec<Request>> = records.iter().map(|record| requests(record, max_new_tokens)).collect();
    let mut answers = answerer.answer(&asked.concat())?.into_iter();
    Ok(asked.iter().map(|asked| answers.by_ref().take(asked.len()).collect()).collect())
}

/// Asks about records, all at a time.
///
/// # Errors
/// A record that cannot be put to the model, or a model that fails.
pub fn ask(records: &[Record], max_new_tokens: usize, answerer: &dyn Answerer) -> Result<Vec<Answered>> {
    let answers = answers(records, max_new_tokens, answerer)?;
    records.iter().zip(&answers).map(|(record, answers)| answered(record, answers)).collect()
}

/// What may be answered to a record's question besides its own answer.
#[derive(Debug, Clone)]
pub struct Replies<'r> {
    /// The right answer in other words.
    pub paraphrased: Option<&'r str>,
    /// Wrong answers in the frame of the paraphrase.
    pub perturbed: Vec<&'r str>,
}

impl<'r> Replies<'r> {
    /// Those of a record; only questions have any.
    pub fn of(record: &'r Record) -> Self {
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
pub fn question_of(content: &Content) -> String {
    match content {
        Content::Text(text) => text.chars().take(80).collect(),
        Content::Messages(messages) => Conversation::of(messages).question().to_owned(),
        Content::Question { .. } | Content::PromptCompletion { .. } => content.prompt().to_owned(),
    }
}

/// The right answer; of a document, all of it.
pub fn answer_of(content: &Content) -> String {
    match content {
        Content::Question { answer, .. } => answer.clone(),
        Content::PromptCompletion { completion, .. } => completion.clone(),
        Content::Messages(messages) => Conversation::of(messages).answer.unwrap_or_default().to_owned(),
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
    /// Share of the right answer's content words that the free answer gives away; null where none was generated.
    pub leak: Option<Figure>,
    /// Probability of the right answer among the wrong ones, each length-normalised and in the same
    /// frame; null where the data has no wrong answers.
    pub choice: Option<Figure>,
    /// Mean min(R, 1/R) of the truth ratio R, 1 where wrong answers are as likely as right ones: the truth ratio
    /// that TOFU states of its forget set; null where the data has no wrong answers.
    pub closer_to_one: Option<Figure>,
    /// Mean max(0, 1 − R), 1 where wrong answers are impossible: the truth ratio that TOFU states of all other
    /// sets; null where the data has no wrong answers.
    pub true_is_better: Option<Figure>,
    /// Share of the answer's tokens that are the model's first choice.
    pub exact_memorization: Figure,
    /// 1 − k/T, k the shortest prefix from which the model completes the answer by itself.
    pub extraction_strength: Figure,
    /// Harmonic mean of probability, ROUGE-L recall and `true_is_better`; null where one is missing.
    pub utility: Option<f64>,
}

impl SetFigures {
    /// Summarises what a model answered.
    pub fn of(answered: &[Answered]) -> Self {
        let each = |f: &dyn Fn(&Answered) -> Option<f64>| {
            Figure::mean(&answered.iter().filter_map(f).collect::<Vec<_>>())
        };
        let some = |figure: Figure| (figure.n > 0).then_some(figure);
        let ratios: Vec<f64> =
            answered.iter().filter_map(|a| Some(a.measured.log_truth_ratio()?.exp())).collect();
        // There is none where a model that diverged leaves one undefined.
        let ratio = |score: fn(f64) -> f64| mean(&ratios.iter().copied().map(score).collect::<Vec<_>>()).ok();
        let probability = each(&|a| Some(a.measured.answer_loss.probability()));
        let rouge_l_recall = some(each(&|a| Some(a.measured.rouge()?.rouge_l.recall)));
        let true_is_better = ratio(true_is_better);
        let utility = match (&rouge_l_recall, &true_is_better) {
            (Some(rouge), Some(truth)) => harmonic_mean(&[probability.value, rouge.value, truth.value]),
            _ => None,
        };
        SetFigures {
            probability,
            accuracy: each(&|a| word_for_word(&a.matches)),
            rouge1_recall: some(each(&|a| Some(a.measured.rouge()?.rouge1.recall))),
            rouge_l_recall,
            leak: some(each(&|a| leak(&a.question, &a.measured.answer, a.measured.generation.as_deref()?))),
            choice: some(each(&|a| a.measured.choice())),
            closer_to_one: ratio(closer_to_one),
            true_is_better,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(generation: Option<&str>, losses: [f64; 3]) -> Answered {
        let [right, paraphrase, wrong] = losses.map(|nll| AnswerLoss { nll, tokens: 1 });
        Answered {
            question: "Who?".into(),
            measured: Measured {
                prompt: "Who?".into(),
                answer: "Ann".into(),
                generation: generation.map(str::to_owned),
                answer_loss: right,
                paraphrased_loss: Some(paraphrase),
                perturbed_losses: vec![wrong],
            },
            matches: vec![true, false],
        }
    }

    #[test]
    fn a_model_that_says_nothing_has_a_rouge_of_zero_and_one_that_was_not_asked_has_none() {
        let silent = SetFigures::of(&[answered(Some(""), [1.0; 3]), answered(Some(""), [1.0; 3])]);
        assert_eq!(silent.rouge_l_recall, Some(Figure::mean(&[0.0, 0.0])));
        assert_eq!((silent.rouge1_recall, silent.utility), (silent.rouge_l_recall, Some(0.0)));
        let unasked = SetFigures::of(&[answered(None, [1.0; 3])]);
        assert_eq!((unasked.rouge_l_recall, unasked.rouge1_recall, unasked.utility), (None, None, None));
    }

    /// Right and wrong answers that are impossible alike are equally likely, however small the numbers.
    #[test]
    fn truth_ratios_of_a_damaged_model_are_those_of_the_benchmark() {
        let damaged = answered(Some("Ann"), [60.0, 60.0, 60.0]);
        let figures = SetFigures::of(std::slice::from_ref(&damaged));
        assert_eq!(figures.closer_to_one.map(|f| f.value), Some(1.0));
        assert_eq!(figures.true_is_better.map(|f| f.value), Some(0.0));
        assert_eq!(damaged.measured.log_truth_ratio(), Some(0.0));
    }

    #[test]
    fn an_answer_of_which_nothing_was_scored_is_refused() {
        let record = Record::from(Content::Question { question: "Who?".into(), answer: "Ann".into() });
        let written = Answer::Written(crate::Written { prompt: "Who?".into(), text: None });
        let answers = [Answer::Likelihood(crate::Likelihood::default()), written];
        let error = super::answered(&record, &answers).unwrap_err().to_string();
        assert!(error.contains("\"Who?\": no token of an answer was scored"), "{error}");
    }
}
