//! From a log to the benchmark's figures: model utility and forget quality.

use serde::{Deserialize, Serialize};

use super::{TofuItem, TofuLog, TofuSet};
use crate::scorers::{log_truth_ratio, multiple_choice};
use crate::stats::{KsTest, Mean, harmonic_mean, ks_two_sample};

/// One item's scores, the evidence behind every mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TofuRow {
    /// Set the item belongs to.
    pub set: TofuSet,
    /// The item's key in the log.
    pub index: String,
    /// exp(−mean loss of the right answer); among the given choices in multiple-choice sets.
    pub probability: f64,
    /// ROUGE-L recall of the generation.
    pub rouge_l_recall: f64,
    /// R = wrong/correct, see [`crate::scorers::truth_ratio`]; may be infinite for a damaged model.
    pub truth_ratio: f64,
    /// What enters the set's mean: min(R, 1/R) on the forget set, max(0, 1 − R) elsewhere.
    pub truth_ratio_score: f64,
}

/// A set's three scores, each the mean over its items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SetScores {
    /// Probability of the right answer.
    pub probability: Mean,
    /// ROUGE-L recall.
    pub rouge_l_recall: Mean,
    /// ROUGE-1 recall, where the log has it. It is no part of the model utility.
    pub rouge1_recall: Option<Mean>,
    /// Aggregated truth ratio: on the forget set 1 means that right and wrong answers are equally
    /// likely, elsewhere 1 means that wrong ones are impossible.
    pub truth_ratio: Mean,
}

/// The benchmark's figures. What cannot be computed is null and says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TofuScores {
    /// Harmonic mean of the nine scores of retain, real authors and world facts. Its standard error
    /// is first-order (delta method), with the three scores of one set correlated as measured; `n`
    /// counts the items of the three sets.
    pub model_utility: Option<Mean>,
    /// Why there is no model utility.
    pub model_utility_reason: Option<String>,
    /// Kolmogorov–Smirnov test of the forget set's truth ratios against the retain-only model's;
    /// its `p_value` is what the benchmark calls forget quality.
    pub forget_quality: Option<KsTest>,
    /// Why there is no forget quality.
    pub forget_quality_reason: Option<String>,
    /// Authors to be remembered.
    pub retain: Option<SetScores>,
    /// Authors who exist.
    pub real_authors: Option<SetScores>,
    /// Common knowledge.
    pub world_facts: Option<SetScores>,
    /// Authors to be forgotten.
    pub forget: Option<SetScores>,
    /// Sets that are in the log and yet have no scores, with the reason.
    pub notes: Vec<String>,
}

/// Scores a log; `retain` is the log of a model trained without the forget set.
pub fn aggregate(log: &TofuLog, retain: Option<&TofuLog>) -> TofuScores {
    let mut notes = Vec::new();
    let mut scores = |set| {
        let (scores, reason) = settle(set_scores(log, set)?);
        notes.extend(reason);
        scores
    };
    let (retain_scores, real_authors) = (scores(TofuSet::Retain), scores(TofuSet::RealAuthors));
    let (world_facts, forget) = (scores(TofuSet::WorldFacts), scores(TofuSet::Forget));
    let (model_utility, model_utility_reason) = settle(model_utility(log));
    let (forget_quality, forget_quality_reason) = settle(forget_quality(log, retain));
    TofuScores {
        model_utility,
        model_utility_reason,
        forget_quality,
        forget_quality_reason,
        retain: retain_scores,
        real_authors,
        world_facts,
        forget,
        notes,
    }
}

/// Every item of a log, scored.
pub fn rows(log: &TofuLog) -> Vec<TofuRow> {
    TofuSet::ALL.into_iter().flat_map(|set| set_rows(log, set)).collect()
}

fn settle<T>(result: Result<T, String>) -> (Option<T>, Option<String>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(reason) => (None, Some(reason)),
    }
}

fn set_rows(log: &TofuLog, set: TofuSet) -> Vec<TofuRow> {
    log.set(set).unwrap_or_default().iter().map(|item| row(item, set)).collect()
}

fn row(item: &TofuItem, set: TofuSet) -> TofuRow {
    let probability = if set.is_multiple_choice() {
        multiple_choice(item.avg_gt_loss, &item.average_perturb_loss)
    } else {
        (-item.avg_gt_loss).exp()
    };
    let truth_ratio = log_ratio(item).exp();
    let truth_ratio_score = match set {
        _ if truth_ratio.is_nan() => truth_ratio,
        TofuSet::Forget => truth_ratio.min(1.0 / truth_ratio),
        _ => (1.0 - truth_ratio).max(0.0),
    };
    TofuRow {
        set,
        index: item.index.clone(),
        probability,
        rouge_l_recall: item.rouge_l_recall,
        truth_ratio,
        truth_ratio_score,
    }
}

/// ln R; NaN, which every statistic reports as such, for an item without perturbed answers.
fn log_ratio(item: &TofuItem) -> f64 {
    log_truth_ratio(item.avg_paraphrased_loss, &item.average_perturb_loss).unwrap_or(f64::NAN)
}

/// The three columns that are averaged: probability, ROUGE-L recall, truth-ratio score.
fn score_columns(rows: &[TofuRow]) -> [Vec<f64>; 3] {
    [
        rows.iter().map(|row| row.probability).collect(),
        rows.iter().map(|row| row.rouge_l_recall).collect(),
        rows.iter().map(|row| row.truth_ratio_score).collect(),
    ]
}

/// `None` for a set that is not in the log.
fn set_scores(log: &TofuLog, set: TofuSet) -> Option<Result<SetScores, String>> {
    let items = log.set(set)?;
    let [probability, rouge, ratio] = score_columns(&set_rows(log, set));
    let mean = |column: &[f64]| {
        Mean::of(column).map_err(|error| format!("not computable from the set `{}`: {error}", set.key()))
    };
    let rouge1: Option<Vec<f64>> = items.iter().map(|item| item.rouge1_recall).collect();
    let scores = || {
        Ok(SetScores {
            probability: mean(&probability)?,
            rouge_l_recall: mean(&rouge)?,
            rouge1_recall: rouge1.map(|column| mean(&column)).transpose()?,
            truth_ratio: mean(&ratio)?,
        })
    };
    Some(scores())
}

/// Harmonic mean H of the nine means x_c, with its first-order standard error.
///
/// ∂H/∂x_c = H²/(9 x_c²); per item the three scores of a set are first joined with these weights,
/// so that their correlation is in the variance, and the three independent sets add up.
fn model_utility(log: &TofuLog) -> Result<Mean, String> {
    let mut sets = Vec::new();
    for set in [TofuSet::Retain, TofuSet::RealAuthors, TofuSet::WorldFacts] {
        if log.set(set).is_none() {
            return Err(format!("not computable: the log has no set `{}`", set.key()));
        }
        let columns = score_columns(&set_rows(log, set));
        let mut means = Vec::new();
        for column in &columns {
            let mean = Mean::of(column)
                .map_err(|error| format!("not computable from the set `{}`: {error}", set.key()))?;
            means.push(mean.value);
        }
        sets.push((columns, means));
    }
    let means: Vec<f64> = sets.iter().flat_map(|(_, means)| means.clone()).collect();
    let utility = harmonic_mean(&means).unwrap_or(0.0);
    let n = sets.iter().map(|(columns, _)| columns[0].len()).sum();
    let variance: Option<f64> = sets
        .iter()
        .map(|(columns, means)| {
            let weights: Vec<f64> = means.iter().map(|x| utility.powi(2) / (9.0 * x * x)).collect();
            let joined: Vec<f64> = (0..columns[0].len())
                .map(|i| columns.iter().zip(&weights).map(|(column, w)| w * column[i]).sum())
                .collect();
            Some(Mean::of(&joined).ok()?.standard_error?.powi(2))
        })
        .sum();
    // At a score of zero the harmonic mean has no derivative, hence no first-order error.
    let standard_error = variance.map(f64::sqrt).filter(|_| utility > 0.0);
    Ok(Mean { value: utility, standard_error, n })
}

/// The test compares ln R, which orders items as R and as the official aggregator's 1/R do, without
/// the ties that overflow would make.
fn forget_quality(log: &TofuLog, retain: Option<&TofuLog>) -> Result<KsTest, String> {
    let ratios = |log: &TofuLog, whose: &str| match log.set(TofuSet::Forget) {
        Some(items) => Ok(items.iter().map(log_ratio).collect::<Vec<f64>>()),
        None => Err(format!("not computable: {whose} log has no set `{}`", TofuSet::Forget.key())),
    };
    let Some(retain) = retain else {
        return Err("not computable: needs the retain model's log (--retain-log)".to_owned());
    };
    let (unlearned, retained) = (ratios(log, "the model's")?, ratios(retain, "the retain model's")?);
    ks_two_sample(&unlearned, &retained).map_err(|error| format!("not computable: {error}"))
}
