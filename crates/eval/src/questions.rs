//! Asking a model the questions of a data set: likelihoods of right and wrong answers, and what it says.

use amend_engine::generate::GenerateOptions;
use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Model, Result, SCORING_TOKENS};
use amend_learn::Encoder;
use amend_run::{Figure, Record};
use serde::{Deserialize, Serialize};

use crate::scorers::{
    ExtractionMode, Rouge, exact_memorization, extraction_strength, length_normalised, multiple_choice,
    true_is_better, truth_ratio,
};
use crate::stats::harmonic_mean;
use crate::tofu::{AnswerLoss, Measured, TofuItem};

/// How thoroughly to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Asking {
    /// Ask only the first so many records; `None` asks all.
    pub limit: Option<usize>,
    /// Let the model answer freely (for ROUGE and samples), at most this many tokens; 0 skips it.
    pub max_new_tokens: usize,
}

impl Default for Asking {
    fn default() -> Self {
        // TOFU's protocol: the first 300 of every set, 200 new tokens.
        Asking { limit: Some(300), max_new_tokens: 200 }
    }
}

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

/// A model with its tokenizer, ready to be asked.
pub struct Subject<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How records become tokens.
    pub encoder: &'a Encoder<'a>,
}

impl Subject<'_> {
    /// Asks the records. Documents have no question: they are only scored.
    pub fn ask(&self, records: &[Record], asking: &Asking) -> Result<Vec<Answered>> {
        let records = &records[..asking.limit.unwrap_or(records.len()).min(records.len())];
        let mut examples = Vec::new();
        let mut variants = Vec::new();
        for record in records {
            let replies = Replies::of(record);
            examples.push(self.cut(self.encoder.encode(record)?));
            for reply in replies.paraphrased.into_iter().chain(replies.perturbed.iter().map(String::as_str)) {
                examples.push(self.cut(self.encoder.reply(record, reply)?));
            }
            variants.push((replies.paraphrased.is_some(), replies.perturbed.len()));
        }
        let losses = self.losses(&examples)?;
        let (mut own, mut at) = (Vec::new(), 0);
        for (paraphrased, perturbed) in &variants {
            own.push(at);
            at += 1 + usize::from(*paraphrased) + perturbed;
        }
        let answers: Vec<Example> = own.iter().map(|&i| examples[i].clone()).collect();
        let matches = self.model.top_choices(&answers, SCORING_TOKENS)?;
        let generations = self.generations(records, asking)?;
        let mut out = Vec::with_capacity(records.len());
        for (i, ((record, matches), generation)) in records.iter().zip(matches).zip(generations).enumerate() {
            let (paraphrased, perturbed) = variants[i];
            let first_wrong = own[i] + 1 + usize::from(paraphrased);
            out.push(Answered {
                question: question_of(record),
                measured: Measured {
                    prompt: self.encoder.prompt_text(record),
                    answer: answer_of(record),
                    generation,
                    answer_loss: losses[own[i]],
                    paraphrased_loss: paraphrased.then(|| losses[own[i] + 1]),
                    perturbed_losses: losses[first_wrong..first_wrong + perturbed].to_vec(),
                },
                matches,
            });
        }
        Ok(out)
    }

    /// Mean probability of the right answers alone, length-normalised: the cheap figure for stopping rules.
    pub fn mean_probability(&self, examples: &[Example]) -> Result<f64> {
        let losses = self.losses(examples)?;
        let sum: f64 = losses.iter().map(|l| (-l.mean()).exp()).sum();
        Ok(sum / losses.len().max(1) as f64)
    }

    fn cut(&self, mut example: Example) -> Example {
        example.truncate(self.model.spec().context);
        example
    }

    fn losses(&self, examples: &[Example]) -> Result<Vec<AnswerLoss>> {
        let logprobs = self.model.score(examples, SCORING_TOKENS)?;
        let loss = |lp: &Vec<f32>| AnswerLoss {
            nll: -lp.iter().map(|&l| f64::from(l)).sum::<f64>(),
            tokens: lp.len() as u64,
        };
        Ok(logprobs.iter().map(loss).collect())
    }

    fn generations(&self, records: &[Record], asking: &Asking) -> Result<Vec<String>> {
        if asking.max_new_tokens == 0 {
            return Ok(vec![String::new(); records.len()]);
        }
        let context = self.model.spec().context;
        let (mut prompts, mut asked) = (Vec::new(), Vec::new());
        for (i, record) in records.iter().enumerate() {
            let prompt = self.encoder.prompt(record)?;
            if !matches!(record, Record::Text(_)) && !prompt.is_empty() && prompt.len() < context {
                prompts.push(prompt);
                asked.push(i);
            }
        }
        let options = GenerateOptions {
            max_new_tokens: asking.max_new_tokens,
            stop_ids: self.tokenizer.eos_ids().to_vec(),
            ..Default::default()
        };
        let mut texts = vec![String::new(); records.len()];
        let answers = self.model.generate(&prompts, &options)?;
        for (record, answer) in asked.into_iter().zip(answers.into_iter().flatten()) {
            texts[record] = self.tokenizer.decode(&answer.ids, true)?.trim().to_owned();
        }
        Ok(texts)
    }
}

struct Replies<'r> {
    paraphrased: Option<&'r str>,
    perturbed: &'r [String],
}

impl<'r> Replies<'r> {
    fn of(record: &'r Record) -> Self {
        match record {
            Record::Question { paraphrased_answer, perturbed_answer, .. } => {
                Replies { paraphrased: paraphrased_answer.as_deref(), perturbed: perturbed_answer }
            }
            _ => Replies { paraphrased: None, perturbed: &[] },
        }
    }
}

fn question_of(record: &Record) -> String {
    match record {
        Record::Question { question, .. } => question.clone(),
        Record::PromptCompletion { prompt, .. } => prompt.clone(),
        Record::Messages(messages) => {
            messages.iter().rev().find(|m| m.role == "user").map_or(String::new(), |m| m.content.clone())
        }
        Record::Text(text) => text.chars().take(80).collect(),
    }
}

fn answer_of(record: &Record) -> String {
    match record {
        Record::Question { answer, .. } => answer.clone(),
        Record::PromptCompletion { completion, .. } => completion.clone(),
        Record::Messages(messages) => messages.last().map_or(String::new(), |m| m.content.clone()),
        Record::Text(text) => text.clone(),
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
        let truth =
            true_is_better(&ratios).ok().map(|m| Figure { value: m.value, n: m.n, stderr: m.standard_error });
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

/// The items of TOFU's official log.
pub fn tofu_items(answered: &[Answered]) -> Vec<TofuItem> {
    answered.iter().enumerate().map(|(i, a)| TofuItem::from_measurements(i, &a.measured)).collect()
}
