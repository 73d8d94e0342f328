//! The TOFU benchmark (Maini et al. 2024, arXiv 2401.06121): its questions, its figures, and its official logs,
//! which are read and written.
//!
//! There are four sets: retain, real authors, world facts, forget. [`TofuLog::read`] takes the
//! file that the official scripts call `eval_log_aggregated.json`; [`aggregate`] gives the summary.

mod aggregate;
mod error;
mod item;
mod log;

use std::path::{Path, PathBuf};

use amend_learn::{Error, Result};
use amend_run::records::Row;
use amend_run::{Dataset, Figure, Record, nearest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use aggregate::{SetScores, TofuRow, TofuScores, aggregate, rows};
pub use error::TofuLogError;
pub use item::{AnswerLoss, Measured, TofuItem};
pub use log::{TofuLog, TofuSet};

use super::Task;
use crate::item::{Item, Items, Sample, Scores};
use crate::questions::{self, Answered};
use crate::request::{Answer, Request};
use crate::summary::Summary;

/// # What it does
/// Asks the benchmark's questions about fictitious authors, real authors and the world: how likely the right answer
/// is, the same answer in other words and each of the wrong ones, and what the model says by itself.
///
/// # When to use it
/// After unlearning authors of the benchmark: is it forgotten, and is the rest still there? Give the log of a model
/// that never saw the forget set (`--retain-log`) to have forget quality.
///
/// # What it logs
/// `model_utility`, the harmonic mean of nine scores; `forget_quality`, the p-value of a two-sample
/// Kolmogorov–Smirnov test of the forget set's truth ratios against the reference model's, with its logarithm to
/// base 10 and its statistic. For each set: `probability`, exp(−loss per token) of the right answer, among the wrong
/// ones for real authors and world facts; `rouge_l_recall` and `rouge1_recall` of what the model says;
/// `truth_ratio`, the mean of min(R, 1/R) on the forget set and of max(0, 1 − R) elsewhere, where R is how likely
/// wrong answers are by the right one, each by the geometric mean of its tokens. Each item logs the same and ln R.
///
/// # Source
/// Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs, arXiv 2401.06121, and its official scripts.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// The official logs of Phi-1.5 (5 epochs, all authors) come to a model utility of 0.522, and to a forget quality of
/// 2.2e-16 against the model without a tenth of the authors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tofu {
    /// Which authors were to be forgotten: `forget01`, `forget05` or `forget10`.
    #[schemars(extend("examples" = SPLITS))]
    pub split: String,
    /// Questions asked of each set at most; the first ones.
    #[schemars(range(min = 1))]
    pub limit: usize,
    /// Most tokens of what the model says; 0 asks for no text, and leaves out ROUGE, model utility and the official log.
    pub max_new_tokens: usize,
}

/// The forget sets of the benchmark.
const SPLITS: [&str; 3] = ["forget01", "forget05", "forget10"];

impl Default for Tofu {
    fn default() -> Self {
        // The benchmark's protocol.
        Tofu { split: "forget10".into(), limit: 300, max_new_tokens: 200 }
    }
}

impl Task for Tofu {
    /// Reads `<split>_perturbed.json`, `retain_perturbed.json`, `real_authors_perturbed.json` and
    /// `world_facts_perturbed.json`.
    fn items(&self, data: &Path) -> Result<Items> {
        self.check_split(data)?;
        let mut all = Items::default();
        for set in TofuSet::ALL {
            let stem = if set == TofuSet::Forget { &self.split } else { set.name() };
            let file = questions_of(stem);
            let dataset = Dataset::read(&[data.join(&file)])?;
            all.sha256.insert(file, dataset.sha256());
            for (index, record) in dataset.records.into_iter().take(self.limit).enumerate() {
                let (set, id) = (set.name().to_owned(), index.to_string());
                all.items.push(Item { set, id, row: record.into() });
            }
        }
        Ok(all)
    }

    fn requests(&self, item: &Item) -> Result<Vec<Request>> {
        Ok(questions::requests(&record(item)?, self.max_new_tokens))
    }

    fn score(&self, item: &Item, answers: &[Answer]) -> Result<Scores> {
        Ok(TofuRow::of(&tofu_item(item, answers)?, set(item)?).scores())
    }

    fn aggregate(&self, samples: &[Sample], reference: Option<&[Sample]>) -> Summary {
        let scores = aggregate(&rows_of(samples), reference.map(rows_of).as_deref());
        let mut summary = Summary::default();
        summary.add("model_utility", scores.model_utility);
        match scores.forget_quality {
            Ok(test) => {
                let exact = |value| Ok(Figure::exact(value, test.n + test.m));
                summary.add("forget_quality", exact(test.p_value));
                summary.add("forget_quality_log10", exact(test.log10_p));
                summary.add("forget_quality_statistic", exact(test.statistic));
            }
            Err(reason) => summary.add("forget_quality", Err(reason)),
        }
        for (set, scores) in scores.sets {
            let name = |figure: &str| format!("{}/{figure}", set.name());
            match scores {
                Ok(scores) => {
                    summary.add(name("probability"), Ok(scores.probability));
                    summary.add(name("rouge_l_recall"), scores.rouge_l_recall);
                    scores
                        .rouge1_recall
                        .into_iter()
                        .for_each(|mean| summary.add(name("rouge1_recall"), Ok(mean)));
                    summary.add(name("truth_ratio"), Ok(scores.truth_ratio));
                }
                Err(reason) => summary.add(set.name(), Err(reason)),
            }
        }
        summary
    }

    fn uses_reference(&self) -> bool {
        true
    }

    fn read_log(&self, path: &Path) -> Result<Vec<Sample>> {
        let log = TofuLog::read(path).map_err(|e| Error::samples(e.to_string()))?;
        let sample = |row: TofuRow| Sample {
            scores: row.scores(),
            item: Item { set: row.set.name().to_owned(), id: row.index, row: Row::new() },
            answers: Vec::new(),
        };
        Ok(rows(&log).into_iter().map(sample).collect())
    }

    fn write_log(&self, samples: &[Sample], dir: &Path) -> Result<Option<PathBuf>> {
        let mut log = TofuLog::default();
        for sample in samples {
            let item = tofu_item(&sample.item, &sample.answers)?;
            if item.generated_text.is_none() {
                // The format has no place for an item without text.
                return Ok(None);
            }
            log.set_mut(set(&sample.item)?).get_or_insert_default().push(item);
        }
        let path = dir.join("log.json");
        log.write(&path).map_err(|e| Error::samples(e.to_string()))?;
        Ok(Some(path))
    }
}

impl Tofu {
    /// Fails where the folder has no file of the split but others that could be one.
    fn check_split(&self, data: &Path) -> Result<()> {
        if data.join(questions_of(&self.split)).exists() {
            return Ok(());
        }
        let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(QUESTIONS).filter(|split| TofuSet::named(split).is_none()).map(str::to_owned)
        });
        let mut splits: Vec<String> = names.collect();
        if splits.is_empty() {
            return Ok(());
        }
        splits.sort();
        let near = nearest(&self.split, splits.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("did you mean {near}? "));
        Err(Error::invalid(format!(
            "{}: there is no split called {}; {near}The folder has: {}",
            data.display(),
            self.split,
            splits.join(", ")
        )))
    }
}

/// What follows the name of a split, or of another set, in the name of the file with its questions.
const QUESTIONS: &str = "_perturbed.json";

fn questions_of(set: &str) -> String {
    format!("{set}{QUESTIONS}")
}

/// The items of the official log.
pub fn tofu_items(answered: &[Answered]) -> Vec<TofuItem> {
    answered
        .iter()
        .enumerate()
        .map(|(i, a)| TofuItem::from_measurements(&i.to_string(), &a.measured))
        .collect()
}

fn tofu_item(item: &Item, answers: &[Answer]) -> Result<TofuItem> {
    let answered = questions::answered(&record(item)?, answers)?;
    if answered.measured.perturbed_losses.is_empty() {
        let Item { set, id, .. } = item;
        return Err(Error::invalid(format!(
            "question {id} of set {set} has no wrong answers (`perturbed_answer`)"
        )));
    }
    Ok(TofuItem::from_measurements(&item.id, &answered.measured))
}

fn record(item: &Item) -> Result<Record> {
    let Item { set, id, row } = item;
    Record::try_from(row.clone()).map_err(|e| Error::invalid(format!("question {id} of set {set}: {e}")))
}

fn set(item: &Item) -> Result<TofuSet> {
    TofuSet::named(&item.set).ok_or_else(|| {
        Error::invalid(match item.set.as_str() {
            "" => "these samples name no set, so they are none of TOFU's; another --task may have made them"
                .to_owned(),
            set => format!("TOFU has no set called {set}"),
        })
    })
}

/// The rows of samples; those of unknown sets, which no figure is about, are left out.
fn rows_of(samples: &[Sample]) -> Vec<TofuRow> {
    let row = |sample: &Sample| {
        Some(TofuRow {
            set: TofuSet::named(&sample.item.set)?,
            index: sample.item.id.clone(),
            probability: sample.score("probability"),
            rouge_l_recall: sample.score("rouge_l_recall"),
            rouge1_recall: sample.score("rouge1_recall"),
            log_truth_ratio: sample.score("log_truth_ratio"),
            truth_ratio: sample.score("truth_ratio"),
        })
    };
    samples.iter().filter_map(row).collect()
}
