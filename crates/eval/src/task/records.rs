//! One's own records.

use std::collections::BTreeMap;
use std::path::Path;

use amend_learn::{Conversation, Error, Result};
use amend_run::records::{Filter, Row};
use amend_run::{Content, Dataset, Figure, Record};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::item::{Item, Items, Sample, Scores};
use crate::questions::{answered, requests};
use crate::request::{Answer, Request};
use crate::scorers::{leak, word_for_word};
use crate::stats::ratio_of_sums;
use crate::summary::Summary;

/// # What it does
/// Measures a model on a file of one's own, in any layout that recipes take: questions and answers, prompts and
/// completions, chats, or texts. Every answer's likelihood is taken, and a free answer is asked for.
///
/// # When to use it
/// To see what a model knows of something before or after it was changed, without writing a recipe.
///
/// # What it logs
/// Of every record: `logprob` of the answer (nats, summed over its tokens, end token included), its `tokens`,
/// `probability` = exp(logprob/tokens), `accuracy` (1 where every token is the model's first choice), and of free answers
/// `rouge_l_recall` and `leak`, the share of the right answer's content words that they say; with wrong answers in
/// `perturbed_answer` also `choice`, the probability of the right one among them. The figures are the means, and
/// `perplexity` = exp(−Σ logprob / Σ tokens). Of texts there are likelihoods alone.
///
/// # Source
/// The measures are those of Maini et al. 2024, TOFU, arXiv 2401.06121, as `amend run` reports them.
///
/// # Inferred parts
/// `leak`.
///
/// # Expected result
/// The same figures as the report of a run has of the same records and model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Records {
    /// Which of the records: `author = "Ann Lee"`. Absent: all.
    pub r#where: Option<Filter>,
    /// Records asked at most; the first ones. Absent: all.
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Most tokens of a free answer; 0 asks for none.
    pub max_new_tokens: usize,
}

impl Default for Records {
    fn default() -> Self {
        Records { r#where: None, limit: None, max_new_tokens: 64 }
    }
}

impl Task for Records {
    fn items(&self, data: &Path) -> Result<Items> {
        let set = Dataset::read(&[data])?;
        let name = data.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sha256 = BTreeMap::from([(name, set.sha256())]);
        let refused = |reason: String| Error::invalid(format!("{}: {reason}", data.display()));
        let speechless = |record: &Record| match &record.content {
            Content::Messages(turns) => Conversation::of(turns).answer.is_none(),
            _ => false,
        };
        if let Some(index) = set.records.iter().position(speechless) {
            return Err(refused(format!("record {}: the assistant says nothing", index + 1)));
        }
        let mut records = set.records;
        if let Some(filter) = &self.r#where {
            let [meant, _] = filter.split(records).map_err(refused)?;
            records = meant;
        }
        records.truncate(self.limit.unwrap_or(usize::MAX));
        let item = |(index, record): (usize, Record)| Item {
            set: String::new(),
            id: index.to_string(),
            row: record.into(),
        };
        Ok(Items { items: records.into_iter().enumerate().map(item).collect(), sha256 })
    }

    fn requests(&self, item: &Item) -> Result<Vec<Request>> {
        Ok(requests(&record(&item.row)?, self.max_new_tokens))
    }

    fn score(&self, item: &Item, answers: &[Answer]) -> Result<Scores> {
        let answered = answered(&record(&item.row)?, answers)?;
        let measured = &answered.measured;
        let mut scores = Scores::from([
            ("logprob".to_owned(), -measured.answer_loss.nll),
            ("tokens".to_owned(), measured.answer_loss.tokens as f64),
            ("probability".to_owned(), measured.answer_loss.probability()),
        ]);
        let said = measured.generation.as_deref();
        for (name, score) in [
            ("accuracy", word_for_word(&answered.matches)),
            ("rouge_l_recall", measured.rouge().map(|rouge| rouge.rouge_l.recall)),
            ("leak", said.and_then(|said| leak(&answered.question, &measured.answer, said))),
            ("choice", measured.choice()),
        ] {
            scores.extend(score.map(|score| (name.to_owned(), score)));
        }
        Ok(scores)
    }

    fn aggregate(&self, samples: &[Sample], _reference: Option<&[Sample]>) -> Summary {
        let of = |name: &str| -> Vec<f64> {
            samples.iter().filter_map(|sample| sample.scores.get(name).copied()).collect()
        };
        let mut summary = Summary::default();
        for name in ["probability", "accuracy", "rouge_l_recall", "leak", "choice"] {
            let scores = of(name);
            if !scores.is_empty() {
                summary.add(name, Ok(Figure::mean(&scores)));
            }
        }
        let nats: Vec<f64> = of("logprob").iter().map(|logprob| -logprob).collect();
        let perplexity = ratio_of_sums(&nats, &of("tokens")).map(|per_token| {
            let value = per_token.value.exp();
            Figure { value, stderr: per_token.stderr.map(|stderr| value * stderr), ..per_token }
        });
        summary.add("perplexity", perplexity.map_err(|e| format!("not computable: {e}")));
        summary
    }
}

fn record(row: &Row) -> Result<Record> {
    Record::try_from(row.clone()).map_err(Error::invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Likelihood, Written};

    fn sample(task: &Records, row: &str, logprobs: &[f32], said: Option<&str>) -> Sample {
        let row: Row = serde_json::from_str(row).unwrap();
        let item = Item { set: String::new(), id: "0".into(), row };
        let greedy = vec![true; logprobs.len()];
        let mut answers = vec![Answer::Likelihood(Likelihood { logprobs: logprobs.to_vec(), greedy })];
        answers.extend(
            said.map(|said| Answer::Written(Written { prompt: "Who?".into(), text: Some(said.to_owned()) })),
        );
        let scores = task.score(&item, &answers).unwrap();
        Sample { item, answers, scores }
    }

    #[test]
    fn figures_of_known_answers() {
        let task = Records::default();
        let question = r#"{"question": "Who wrote Faust?", "answer": "Goethe of Weimar"}"#;
        let samples = [
            sample(&task, question, &[-1.0, -2.0], Some("It was Goethe.")),
            sample(&task, r#"{"text": "a b"}"#, &[-3.0], None),
        ];
        assert_eq!(samples[0].score("leak"), 0.5, "Goethe, but not Weimar");
        let summary = task.aggregate(&samples, None);
        let figure = |name: &str| summary.figure(name).unwrap();
        assert!((figure("perplexity").value - 2f64.exp()).abs() < 1e-12);
        assert_eq!((figure("accuracy").value, figure("accuracy").n, figure("leak").n), (1.0, 2, 1));
        assert!((figure("probability").value - ((-1.5f64).exp() + (-3.0f64).exp()) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn files_of_any_layout_are_items_and_a_choice_of_them_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts.jsonl");
        let line = |who: &str| {
            format!("{{\"prompt\": \"{who} is\", \"completion\": \" old\", \"who\": \"{who}\"}}\n")
        };
        std::fs::write(&path, ["Ann", "Bob", "Cid"].map(line).concat()).unwrap();
        let ids = |task: &Records| task.items(&path).map(|items| items.items.len());
        assert_eq!(ids(&Records::default()).unwrap(), 3);
        assert_eq!(ids(&Records { limit: Some(2), ..Records::default() }).unwrap(), 2);
        let choose = |text: &str| Records { r#where: Some(text.parse().unwrap()), ..Records::default() };
        assert_eq!(ids(&choose("who = Bob")).unwrap(), 1);
        let error = ids(&choose("who = Eve")).unwrap_err().to_string();
        assert!(error.contains("facts.jsonl") && error.contains("Ann, Bob, Cid"), "{error}");
    }
}
