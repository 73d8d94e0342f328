//! From a log to the benchmark's figures: model utility and forget quality.

use amend_run::Figure;

use super::{TofuItem, TofuLog, TofuSet};
use crate::item::Scores;
use crate::scorers::{closer_to_one, log_truth_ratio, multiple_choice, true_is_better};
use crate::stats::{KsTest, harmonic_mean, ks_two_sample, mean};

/// One item's scores, the evidence behind every mean.
#[derive(Debug, Clone, PartialEq)]
pub struct TofuRow {
    /// Set the item belongs to.
    pub set: TofuSet,
    /// The item's key in the log.
    pub index: String,
    /// exp(−mean loss of the right answer); among the given choices in multiple-choice sets.
    pub probability: f64,
    /// ROUGE-L recall of the generation; NaN where no text was asked for.
    pub rouge_l_recall: f64,
    /// ROUGE-1 recall of the generation; NaN where the log does not have it.
    pub rouge1_recall: f64,
    /// ln R of [`log_truth_ratio`], whose R may be beyond a number for a damaged model; NaN without wrong answers.
    pub log_truth_ratio: f64,
    /// What enters the set's mean: min(R, 1/R) on the forget set, max(0, 1 − R) elsewhere.
    pub truth_ratio: f64,
}

/// A set's scores, each the mean over its items.
#[derive(Debug, Clone, PartialEq)]
pub struct SetScores {
    /// Probability of the right answer.
    pub probability: Figure,
    /// ROUGE-L recall, or why there is none: no text was asked for.
    pub rouge_l_recall: Result<Figure, String>,
    /// ROUGE-1 recall, where every item has it. It is no part of the model utility.
    pub rouge1_recall: Option<Figure>,
    /// Aggregated truth ratio: on the forget set 1 means that right and wrong answers are equally
    /// likely, elsewhere 1 means that wrong ones are impossible.
    pub truth_ratio: Figure,
}

/// The benchmark's figures. What cannot be computed says why.
#[derive(Debug, Clone, PartialEq)]
pub struct TofuScores {
    /// Harmonic mean of the nine scores of retain, real authors and world facts. Its standard error
    /// is first-order (delta method), with the three scores of one set correlated as measured; `n`
    /// counts the items of the three sets.
    pub model_utility: Result<Figure, String>,
    /// Kolmogorov–Smirnov test of the forget set's truth ratios against the retain-only model's;
    /// its `p_value` is what the benchmark calls forget quality.
    pub forget_quality: Result<KsTest, String>,
    /// The sets that have items, in the official order.
    pub sets: Vec<(TofuSet, Result<SetScores, String>)>,
}

impl TofuScores {
    /// The scores of a set, where it has items and they can be computed.
    pub fn set(&self, set: TofuSet) -> Option<&SetScores> {
        self.sets.iter().find(|(other, _)| *other == set)?.1.as_ref().ok()
    }
}

impl TofuRow {
    /// Scores what the log says of an item.
    pub fn of(item: &TofuItem, set: TofuSet) -> Self {
        let probability = if set.is_multiple_choice() {
            multiple_choice(item.avg_gt_loss, &item.average_perturb_loss)
        } else {
            (-item.avg_gt_loss).exp()
        };
        // NaN, which every statistic reports as such, for an item without wrong answers.
        let log_ratio =
            log_truth_ratio(item.avg_paraphrased_loss, &item.average_perturb_loss).unwrap_or(f64::NAN);
        let ratio = log_ratio.exp();
        let truth_ratio = match set {
            TofuSet::Forget => closer_to_one(ratio),
            TofuSet::Retain | TofuSet::RealAuthors | TofuSet::WorldFacts => true_is_better(ratio),
        };
        TofuRow {
            set,
            index: item.index.clone(),
            probability,
            rouge_l_recall: item.rouge_l_recall,
            rouge1_recall: item.rouge1_recall.unwrap_or(f64::NAN),
            log_truth_ratio: log_ratio,
            truth_ratio,
        }
    }

    /// The scores by name.
    pub fn scores(&self) -> Scores {
        let named = [
            ("probability", self.probability),
            ("rouge_l_recall", self.rouge_l_recall),
            ("rouge1_recall", self.rouge1_recall),
            ("log_truth_ratio", self.log_truth_ratio),
            ("truth_ratio", self.truth_ratio),
        ];
        named.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// Every item of a log, scored.
pub fn rows(log: &TofuLog) -> Vec<TofuRow> {
    let rows = |set| log.set(set).unwrap_or_default().iter().map(move |item| TofuRow::of(item, set));
    TofuSet::ALL.into_iter().flat_map(rows).collect()
}

/// The figures of scored items; `retain` are those of a model trained without the forget set.
pub fn aggregate(rows: &[TofuRow], retain: Option<&[TofuRow]>) -> TofuScores {
    let present = TofuSet::ALL.into_iter().filter(|set| of_set(rows, *set).next().is_some());
    TofuScores {
        model_utility: model_utility(rows),
        forget_quality: forget_quality(rows, retain),
        sets: present.map(|set| (set, set_scores(rows, set))).collect(),
    }
}

fn of_set(rows: &[TofuRow], set: TofuSet) -> impl Iterator<Item = &TofuRow> {
    rows.iter().filter(move |row| row.set == set)
}

/// The three columns that are averaged: probability, ROUGE-L recall, truth-ratio score.
fn columns(rows: &[TofuRow], set: TofuSet) -> [Vec<f64>; 3] {
    let column = |of: fn(&TofuRow) -> f64| of_set(rows, set).map(of).collect();
    [column(|row| row.probability), column(|row| row.rouge_l_recall), column(|row| row.truth_ratio)]
}

fn mean_of(set: TofuSet, column: &[f64]) -> Result<Figure, String> {
    mean(column).map_err(|error| format!("not computable from the set `{}`: {error}", set.key()))
}

/// ROUGE-L recall of a set. An item without one was asked for no text.
fn rouge_of(set: TofuSet, column: &[f64]) -> Result<Figure, String> {
    match column.iter().filter(|recall| recall.is_nan()).count() {
        0 => mean_of(set, column),
        silent => Err(format!(
            "not computable: {silent} of {} items of the set `{}` were asked for no text (`max_new_tokens`)",
            column.len(),
            set.key()
        )),
    }
}

fn set_scores(rows: &[TofuRow], set: TofuSet) -> Result<SetScores, String> {
    let [probability, rouge, ratio] = columns(rows, set);
    let rouge1: Vec<f64> = of_set(rows, set).map(|row| row.rouge1_recall).collect();
    Ok(SetScores {
        probability: mean_of(set, &probability)?,
        rouge_l_recall: rouge_of(set, &rouge),
        rouge1_recall: mean(&rouge1).ok(),
        truth_ratio: mean_of(set, &ratio)?,
    })
}

/// Harmonic mean H of the nine means x_c, with its first-order standard error.
///
/// ∂H/∂x_c = H²/(9 x_c²); per item the three scores of a set are first joined with these weights,
/// so that their correlation is in the variance, and the three independent sets add up.
fn model_utility(rows: &[TofuRow]) -> Result<Figure, String> {
    let mut sets = Vec::new();
    for set in [TofuSet::Retain, TofuSet::RealAuthors, TofuSet::WorldFacts] {
        if of_set(rows, set).next().is_none() {
            return Err(format!("not computable: the log has no set `{}`", set.key()));
        }
        let columns = columns(rows, set);
        let [probability, rouge, ratio] = &columns;
        let means =
            [mean_of(set, probability)?, rouge_of(set, rouge)?, mean_of(set, ratio)?].map(|f| f.value);
        sets.push((columns, means));
    }
    let means: Vec<f64> = sets.iter().flat_map(|(_, means)| *means).collect();
    let value = harmonic_mean(&means).unwrap_or(0.0);
    let n = sets.iter().map(|(columns, _)| columns[0].len()).sum();
    let variance: Option<f64> = sets
        .iter()
        .map(|(columns, means)| {
            let weights: Vec<f64> = means.iter().map(|x| value.powi(2) / (9.0 * x * x)).collect();
            let joined: Vec<f64> = (0..columns[0].len())
                .map(|i| columns.iter().zip(&weights).map(|(column, w)| w * column[i]).sum())
                .collect();
            Some(mean(&joined).ok()?.stderr?.powi(2))
        })
        .sum();
    // At a score of zero the harmonic mean has no derivative, hence no first-order error.
    let stderr = variance.map(f64::sqrt).filter(|_| value > 0.0);
    Ok(Figure { value, stderr, n })
}

/// The test compares ln R, which orders items as R and as the official aggregator's 1/R do, without
/// the ties that overflow would make.
fn forget_quality(rows: &[TofuRow], retain: Option<&[TofuRow]>) -> Result<KsTest, String> {
    let ratios = |rows: &[TofuRow], whose: &str| {
        let ratios: Vec<f64> = of_set(rows, TofuSet::Forget).map(|row| row.log_truth_ratio).collect();
        match ratios.is_empty() {
            true => Err(format!("not computable: {whose} log has no set `{}`", TofuSet::Forget.key())),
            false => Ok(ratios),
        }
    };
    let Some(retain) = retain else {
        return Err("not computable: needs the retain model's log (--retain-log)".to_owned());
    };
    let (unlearned, retained) = (ratios(rows, "the model's")?, ratios(retain, "the retain model's")?);
    ks_two_sample(&unlearned, &retained).map_err(|error| format!("not computable: {error}"))
}
