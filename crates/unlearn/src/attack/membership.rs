//! Membership inference: can one tell that the forget set was trained on?

use amend_engine::{Batch, Example, Graph, Model, SCORING_TOKENS, Taps, Tensor, split_by_tokens};
use amend_eval::scorers::{
    PRIVLEAK_ALARM, deflated_bytes, loss_score, min_k, min_k_plus_plus, privleak, reference_score,
    standardised, token_moments, zlib_score,
};
use amend_eval::stats::{roc_auc, roc_auc_error};
use amend_learn::{Error, Result};
use amend_run::{Content, Figure, Record, Run};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Attacker, Findings, Target};
use crate::context::Context;
use crate::data::Sets;
use crate::recipe::UnlearnRecipe;
use crate::rehearsal::of_asking;
use amend_learn::work::Work;

/// Rows whose distributions over the vocabulary are held at a time.
const ROWS: usize = 128;

/// # What it does
/// Scores the answers of the forget set and of a holdout set that no model was trained on, and asks how well the two can be
/// told apart: the area under the ROC curve of each score, and PrivLeak.
///
/// # When to use it
/// When it must not show that something was ever trained on. An area near ½ is what is wanted; a larger one says that the
/// forget set is still known, a smaller one that it stands out as avoided. Needs `holdout` in `[data]`, of the kind of the
/// forget set; a generated world has one.
///
/// # What it logs
/// `advantage`, the largest |2·AUC − 1| of all scores: 0 where none tells the sets apart, 1 where one always does. Then the AUC
/// of every score, forget items counting as 0 and holdout items as 1, and PrivLeak in percent: negative where too little was
/// forgotten, positive where too much. Beyond ±20 the report says so before the verdict.
///
/// # Source
/// Min-K%: Shi et al., arXiv 2310.16789; Min-K%++: Zhang et al., arXiv 2404.02936; zlib: Carlini et al., arXiv 2012.07805;
/// PrivLeak: Shi et al., "MUSE", arXiv 2407.06460. Standard errors of areas: DeLong et al. 1988.
///
/// # Inferred parts
/// Only answers are scored, as everywhere else; of documents every token. `zlib` compresses the answer alone. `reference`
/// takes off the cross-entropy of the gold model, and is left out where there is none: the model before unlearning knows the
/// members, and would betray them whatever model it is compared with. `grad-norm` is the norm of the gradient of an answer's mean
/// cross-entropy with respect to all weights. PrivLeak compares with the gold model's area, and with ½ where there is none.
///
/// # Expected result
/// Before unlearning areas are near 1. Gradient ascent overshoots: its forget set stands out, with areas near 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Membership {
    /// The scores.
    pub scores: Vec<Score>,
    /// Share of the tokens, the least likely ones, that Min-K% and Min-K%++ look at.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub k: f64,
}

/// A score of a text, the lower the more familiar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// Cross-entropy.
    Loss,
    /// Negative log-likelihood per byte of the compressed text.
    Zlib,
    /// Cross-entropy beyond that of the gold model; left out where there is none.
    Reference,
    /// Norm of the gradient.
    GradNorm,
    /// Min-K%.
    MinK,
    /// Min-K%++.
    MinKPlusPlus,
}

impl Score {
    const ALL: [Score; 6] =
        [Score::Loss, Score::Zlib, Score::Reference, Score::GradNorm, Score::MinK, Score::MinKPlusPlus];

    fn name(self) -> &'static str {
        match self {
            Score::Loss => "loss",
            Score::Zlib => "zlib",
            Score::Reference => "reference",
            Score::GradNorm => "grad-norm",
            Score::MinK => "Min-K%",
            Score::MinKPlusPlus => "Min-K%++",
        }
    }
}

impl Default for Membership {
    fn default() -> Self {
        Membership { scores: Score::ALL.to_vec(), k: 0.4 }
    }
}

impl Attacker for Membership {
    fn check(&self, sets: &Sets, _recipe: &UnlearnRecipe) -> Result<()> {
        if self.scores.is_empty() {
            return Err(Error::conflict_at(
                "unlearn.attack",
                "attack = \"membership\": `scores` names none; give at least one, for example \"min-k\"",
            ));
        }
        if sets.holdout.is_empty() {
            return Err(Error::conflict_at(
                "unlearn.attack",
                "attack = \"membership\" is not computable, it needs a holdout: give [data] `holdout`, records of the kind of the \
                 forget set that no model was trained on (in a generated world, `holdout` people), or leave the attack out",
            ));
        }
        Ok(())
    }

    fn trains(&self, model: &Model) -> usize {
        // The gradient, without moments.
        if self.scores.contains(&Score::GradNorm) { model.params.count().0 } else { 0 }
    }

    fn work(&self, context: &Context<'_>) -> Result<Work> {
        let once = |records: &[Record]| of_asking(context, records, 0);
        let scored = once(context.measured_forget())?.and(once(context.measured_holdout())?).scored;
        let trained = if self.scores.contains(&Score::GradNorm) { scored } else { 0 };
        Ok(Work { trained, scored: 4 * scored, written: 0 })
    }

    fn attack(&self, run: &mut Run<'_>, target: Target<'_>, context: &Context<'_>) -> Result<Findings> {
        let sides = [context.measured_forget(), context.measured_holdout()];
        let sides = sides.map(|records| Texts::of(records, context));
        let [forget, holdout] = sides;
        let (forget, holdout) = (forget?, holdout?);
        let mut bar = run.progress.begin(run.stage()?, self.scores.len() as u64 + 1, "scores");
        let mut areas = Vec::with_capacity(self.scores.len());
        // A model is no reference for itself.
        let known = |score: &&Score| **score != Score::Reference || context.gold.is_some();
        for &score in self.scores.iter().filter(known) {
            let [negatives, positives] =
                [&forget, &holdout].map(|texts| texts.scores(score, self.k, target.model, context));
            areas.push((score, area(&negatives?, &positives?)));
            bar.advance(1, score.name());
        }
        let of_min_k = |model: &Model| -> Result<f64> {
            let [negatives, positives] =
                [&forget, &holdout].map(|texts| texts.scores(Score::MinK, self.k, model, context));
            Ok(area(&negatives?, &positives?).value)
        };
        let ours = of_min_k(target.model)?;
        let baseline = context.gold.map(of_min_k).transpose()?.unwrap_or(0.5);
        bar.advance(1, "PrivLeak");
        bar.finish(&format!("{} and {} texts", forget.examples.len(), holdout.examples.len()));
        Ok(findings(&areas, privleak(ours, baseline), forget.examples.len() + holdout.examples.len()))
    }
}

/// An area under the ROC curve, the forget set's items as negatives.
fn area(negatives: &[f64], positives: &[f64]) -> Figure {
    let n = negatives.len() + positives.len();
    match roc_auc(negatives, positives) {
        Ok(value) => Figure { value, n, stderr: roc_auc_error(negatives, positives) },
        // A model that diverged has no scores.
        Err(_) => Figure::exact(f64::NAN, 0),
    }
}

fn findings(areas: &[(Score, Figure)], privleak: Option<f64>, n: usize) -> Findings {
    let advantage = |(_, area): &(Score, Figure)| Figure {
        value: (2.0 * area.value - 1.0).abs(),
        stderr: area.stderr.map(|error| 2.0 * error),
        ..*area
    };
    let known = areas.iter().map(advantage).filter(|figure| figure.value.is_finite());
    let largest = known.max_by(|a, b| a.value.total_cmp(&b.value)).unwrap_or(Figure::exact(f64::NAN, 0));
    let mut beside: Vec<_> =
        areas.iter().map(|(score, area)| (format!("AUC, {}", score.name()), *area)).collect();
    beside.extend(privleak.map(|value| ("PrivLeak, %".to_owned(), Figure::exact(value, n))));
    let alarming = privleak.filter(|value| value.abs() > PRIVLEAK_ALARM);
    let note = alarming.map(|value| match value > 0.0 {
        true => format!("over-unlearned, PrivLeak {value:.0} %: what was forgotten stands out as avoided"),
        false => {
            format!("under-unlearned, PrivLeak {value:.0} %: what was to be forgotten is still recognised")
        }
    });
    Findings {
        reading: "Can the forget set be told from a holdout set that no model was trained on? An AUC of ½ means no; above it, the \
                  forget set is more familiar, below it, it is conspicuously strange. The advantage is the largest distance \
                  from ½, twice. PrivLeak sets the area of Min-K% against that of the gold model: 0 is as good as never \
                  trained, negative too little forgotten, positive too much."
            .into(),
        figures: vec![("advantage".to_owned(), largest)],
        beside,
        note,
        ..Findings::default()
    }
}

/// Texts to be scored.
struct Texts {
    examples: Vec<Example>,
    /// Bytes of every scored text once it is compressed.
    deflated: Vec<usize>,
}

impl Texts {
    fn of(records: &[Record], context: &Context<'_>) -> Result<Self> {
        let (examples, _) = context.encoder.encode_all(records)?;
        let deflated = records.iter().map(|record| deflated_bytes(&scored_text(&record.content)));
        Ok(Texts { deflated: deflated.collect(), examples })
    }

    /// One score of every text.
    fn scores(&self, score: Score, k: f64, model: &Model, context: &Context<'_>) -> Result<Vec<f64>> {
        let unknown = |value: Option<f64>| value.unwrap_or(f64::NAN);
        if score == Score::GradNorm {
            return self.examples.iter().map(|example| gradient_norm(model, example)).collect();
        }
        if score == Score::MinKPlusPlus {
            let all = standardised_tokens(model, &self.examples)?;
            return Ok(all.iter().map(|z| unknown(min_k_plus_plus(z, k))).collect());
        }
        let ours = logprobs(model, &self.examples)?;
        Ok(match score {
            Score::Reference => {
                let theirs = logprobs(context.gold.unwrap_or(model), &self.examples)?;
                let ce = |tokens: &[f64]| unknown(loss_score(tokens));
                ours.iter().zip(&theirs).map(|(a, b)| reference_score(ce(a), ce(b))).collect()
            }
            Score::Zlib => {
                let nll = |tokens: &[f64]| -tokens.iter().sum::<f64>();
                ours.iter()
                    .zip(&self.deflated)
                    .map(|(a, &bytes)| unknown(zlib_score(nll(a), bytes)))
                    .collect()
            }
            Score::MinK => ours.iter().map(|tokens| unknown(min_k(tokens, k))).collect(),
            _ => ours.iter().map(|tokens| unknown(loss_score(tokens))).collect(),
        })
    }
}

/// The text of which tokens are scored.
fn scored_text(content: &Content) -> String {
    amend_eval::questions::answer_of(content)
}

fn logprobs(model: &Model, examples: &[Example]) -> Result<Vec<Vec<f64>>> {
    let scored = model.score(examples, SCORING_TOKENS)?;
    Ok(scored.iter().map(|tokens| tokens.iter().map(|&l| f64::from(l)).collect()).collect())
}

/// ‖∇‖ of the mean cross-entropy of a text, over all weights.
fn gradient_norm(model: &Model, example: &Example) -> Result<f64> {
    let batch = Batch::new([example])?;
    let mut whole = model.clone();
    whole.params.set_trainable(|_| true);
    Ok(whole.loss_and_gradients(&batch, &Taps::none())?.1.norm())
}

/// Of every scored token of every text, its log-probability less the mean over the vocabulary, in standard deviations.
fn standardised_tokens(model: &Model, examples: &[Example]) -> Result<Vec<Vec<f64>>> {
    let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
    let taps = Taps::none();
    let mut all = vec![Vec::new(); examples.len()];
    for piece in split_by_tokens(&lengths, SCORING_TOKENS)? {
        let batch = Batch::new(&examples[piece.clone()])?;
        let mut g = Graph::inference(&model.params);
        let hidden = model.hidden(&mut g, &batch, &taps)?;
        let tokens: Vec<(usize, u32)> =
            batch.sequence.iter().copied().zip(batch.targets.iter().copied()).collect();
        for (rows, tokens) in batch.rows.chunks(ROWS).zip(tokens.chunks(ROWS)) {
            let logits = model.logits(&mut g, &hidden, &batch.layout, rows, &taps)?;
            for (row, &(sequence, target)) in tokens.iter().enumerate() {
                all[piece.start + sequence].push(standardised_token(logits.value(), row, target));
            }
        }
    }
    Ok(all)
}

fn standardised_token(logits: &Tensor, row: usize, target: u32) -> f64 {
    let width = logits.columns();
    let logits: Vec<f64> =
        logits.f32()[row * width..(row + 1) * width].iter().map(|&l| f64::from(l)).collect();
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = logits.iter().map(|l| (l - top).exp()).sum::<f64>().ln() + top;
    let logprobs: Vec<f64> = logits.iter().map(|l| l - sum).collect();
    standardised(logprobs[target as usize], token_moments(&logprobs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_by_hand() {
        // p = ½, ¼, ¼: the mean of ln p lies halfway between the two.
        let logits = Tensor::from_f32(&[2f32.ln(), 0.0, 0.0], &[1, 3]).unwrap();
        let z = |target| standardised_token(&logits, 0, target);
        assert!((z(0) - 1.0).abs() < 1e-6 && (z(1) + 1.0).abs() < 1e-6 && (z(2) + 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_larger_distance_counts_and_an_alarm_says_which_way() {
        let areas = [(Score::Loss, Figure::exact(0.9, 8)), (Score::MinK, Figure::exact(0.05, 8))];
        let found = |privleak| findings(&areas, Some(privleak), 8);
        assert!((found(0.0).figures[0].1.value - 0.9).abs() < 1e-12);
        assert!(found(20.0).note.is_none() && found(-20.0).note.is_none());
        assert!(found(45.0).note.unwrap().starts_with("over-unlearned, PrivLeak 45 %"));
        assert!(found(-99.8).note.unwrap().starts_with("under-unlearned"));
        let unknown = findings(&[(Score::Loss, Figure::exact(f64::NAN, 0))], None, 0);
        assert!(unknown.figures[0].1.value.is_nan() && unknown.beside.len() == 1);
    }

    #[test]
    fn sets_of_one_score_each_cannot_be_told_apart_and_have_no_error() {
        assert_eq!(area(&[1.0], &[1.0]), Figure { value: 0.5, n: 2, stderr: None });
        assert!(area(&[f64::NAN], &[1.0]).value.is_nan());
    }
}
