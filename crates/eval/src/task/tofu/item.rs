//! One question of a set, with everything the official log says about it.

use crate::scorers::{Rouge, RougeScores, log_truth_ratio, multiple_choice};

/// A question's measurements. Losses are negative log-likelihoods in nats, the end token included;
/// `avg_…` is per token. What the scores need is always there, the rest only if the log had it.
#[derive(Debug, Clone, PartialEq)]
pub struct TofuItem {
    /// The item's key in the log: its position in the data file, as a string.
    pub index: String,
    /// Mean loss of the right answer.
    pub avg_gt_loss: f64,
    /// Summed loss of the right answer.
    pub gt_loss: Option<f64>,
    /// Tokens of the right answer.
    pub num_token_gt: Option<u64>,
    /// Prompt, what the model said, right answer.
    pub generated_text: Option<[String; 3]>,
    /// ROUGE-1 recall of the generation, with stemmer.
    pub rouge1_recall: Option<f64>,
    /// ROUGE-L recall of the generation, with stemmer; NaN, which no log holds, where no text was asked for.
    pub rouge_l_recall: f64,
    /// Mean loss of each perturbed answer.
    pub average_perturb_loss: Vec<f64>,
    /// Mean loss of the paraphrased answer, or of the right answer in sets without paraphrases.
    pub avg_paraphrased_loss: f64,
    /// R = exp(`avg_paraphrased_loss` − mean `average_perturb_loss`) as the log states it.
    pub truth_ratio: Option<f64>,
    /// Summed loss of the paraphrased answer.
    pub paraphrased_loss: Option<f64>,
    /// Summed loss of each perturbed answer.
    pub perturb_loss: Option<Vec<f64>>,
    /// Tokens of the paraphrased answer.
    pub num_token_paraphrased: Option<u64>,
    /// Tokens of each perturbed answer.
    pub num_token_perturb: Option<Vec<u64>>,
    /// −ln of the answer's probability among the given choices; multiple-choice sets only.
    pub normalized_gt_loss: Option<f64>,
}

/// An answer as a model scored it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerLoss {
    /// Summed negative log-likelihood in nats, end token included.
    pub nll: f64,
    /// Number of scored tokens, at least 1.
    pub tokens: u64,
}

impl AnswerLoss {
    /// The loss of an answer whose tokens have these log-probabilities; `None` without tokens.
    pub fn of(logprobs: &[f32]) -> Option<Self> {
        let sum: f64 = logprobs.iter().copied().map(f64::from).sum();
        (!logprobs.is_empty()).then(|| AnswerLoss { nll: -sum, tokens: logprobs.len() as u64 })
    }

    /// Loss per token.
    pub fn mean(&self) -> f64 {
        self.nll / self.tokens as f64
    }

    /// exp(−NLL/|y|): the geometric mean of the probabilities of the answer's tokens, the end token included.
    pub fn probability(&self) -> f64 {
        (-self.mean()).exp()
    }
}

/// What a model has to be asked for one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The prompt as given.
    pub prompt: String,
    /// The right answer.
    pub answer: String,
    /// The model's greedy continuation; `None` where none was asked for.
    pub generation: Option<String>,
    /// Loss of the right answer.
    pub answer_loss: AnswerLoss,
    /// Loss of the paraphrased answer; `None` in sets without paraphrases.
    pub paraphrased_loss: Option<AnswerLoss>,
    /// Loss of each perturbed answer.
    pub perturbed_losses: Vec<AnswerLoss>,
}

impl Measured {
    /// The right answer as it is compared with wrong ones: the paraphrase, in whose frame they are, where there is one.
    fn right(&self) -> AnswerLoss {
        self.paraphrased_loss.unwrap_or(self.answer_loss)
    }

    fn wrong(&self) -> Vec<f64> {
        self.perturbed_losses.iter().map(AnswerLoss::mean).collect()
    }

    /// ln R of the truth ratio R; `None` without wrong answers.
    pub fn log_truth_ratio(&self) -> Option<f64> {
        log_truth_ratio(self.right().mean(), &self.wrong())
    }

    /// Probability of the right answer among the wrong ones; `None` where there are none.
    pub fn choice(&self) -> Option<f64> {
        let wrong = self.wrong();
        (!wrong.is_empty()).then(|| multiple_choice(self.right().mean(), &wrong))
    }

    /// ROUGE of what the model said, stemmed; `None` where no text was asked for.
    pub fn rouge(&self) -> Option<RougeScores> {
        Some(Rouge { stem: true }.score(&self.answer, self.generation.as_deref()?))
    }
}

impl TofuItem {
    /// Fills in every column of the official log. Sets without paraphrases take the right answer
    /// for one and get the multiple-choice column, as in the official scripts.
    pub fn from_measurements(index: &str, measured: &Measured) -> TofuItem {
        let (answer, paraphrase) = (measured.answer_loss, measured.right());
        let (wrong, rouge) = (measured.wrong(), measured.rouge());
        let choices = measured.paraphrased_loss.is_none().then(|| multiple_choice(answer.mean(), &wrong));
        TofuItem {
            index: index.to_string(),
            avg_gt_loss: answer.mean(),
            gt_loss: Some(answer.nll),
            num_token_gt: Some(answer.tokens),
            generated_text: measured
                .generation
                .clone()
                .map(|said| [measured.prompt.clone(), said, measured.answer.clone()]),
            rouge1_recall: rouge.map(|rouge| rouge.rouge1.recall),
            rouge_l_recall: rouge.map_or(f64::NAN, |rouge| rouge.rouge_l.recall),
            avg_paraphrased_loss: paraphrase.mean(),
            // A damaged model's ratio may overflow, and the log has no infinity.
            truth_ratio: measured.log_truth_ratio().map(|log| log.exp().min(f64::MAX)),
            paraphrased_loss: Some(paraphrase.nll),
            perturb_loss: Some(measured.perturbed_losses.iter().map(|loss| loss.nll).collect()),
            num_token_paraphrased: Some(paraphrase.tokens),
            num_token_perturb: Some(measured.perturbed_losses.iter().map(|loss| loss.tokens).collect()),
            normalized_gt_loss: choices.map(|p| (-p.ln()).min(f64::MAX)),
            average_perturb_loss: wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(paraphrased: Option<AnswerLoss>) -> Measured {
        Measured {
            prompt: "Where was Ardo born?".to_owned(),
            answer: "Ardo was born in Zellin.".to_owned(),
            generation: Some("Ardo was born in Astrin.".to_owned()),
            answer_loss: AnswerLoss { nll: 6.0, tokens: 6 },
            paraphrased_loss: paraphrased,
            perturbed_losses: vec![AnswerLoss { nll: 8.0, tokens: 4 }, AnswerLoss { nll: 15.0, tokens: 5 }],
        }
    }

    #[test]
    fn every_column_follows_from_the_measurements() {
        let item = TofuItem::from_measurements("7", &measured(Some(AnswerLoss { nll: 5.0, tokens: 5 })));
        assert_eq!((item.index.as_str(), item.avg_gt_loss, item.avg_paraphrased_loss), ("7", 1.0, 1.0));
        assert_eq!(item.average_perturb_loss, [2.0, 3.0]);
        assert!((item.truth_ratio.unwrap() - 0.223_13).abs() < 1e-5);
        assert_eq!((item.rouge_l_recall, item.rouge1_recall), (0.8, Some(0.8)));
        assert_eq!(item.normalized_gt_loss, None);
    }

    #[test]
    fn without_a_paraphrase_the_answer_stands_in() {
        let item = TofuItem::from_measurements("0", &measured(None));
        assert_eq!((item.avg_paraphrased_loss, item.num_token_paraphrased), (1.0, Some(6)));
        let expected = (1.0 + (-1f64).exp() + (-2f64).exp()).ln();
        assert!((item.normalized_gt_loss.unwrap() - expected).abs() < 1e-12);
    }

    /// Texts that nobody asked for once counted as wrong ones.
    #[test]
    fn what_was_not_asked_has_no_rouge_and_what_was_not_said_has_one_of_zero() {
        let with = |generation: Option<&str>| {
            let generation = generation.map(str::to_owned);
            TofuItem::from_measurements("0", &Measured { generation, ..measured(None) })
        };
        let (unasked, silent) = (with(None), with(Some("")));
        assert!(unasked.rouge_l_recall.is_nan());
        assert_eq!((unasked.rouge1_recall, unasked.generated_text), (None, None));
        assert_eq!((silent.rouge_l_recall, silent.rouge1_recall), (0.0, Some(0.0)));
    }

    #[test]
    fn an_answer_of_no_token_has_no_loss() {
        assert_eq!(AnswerLoss::of(&[]), None);
        let loss = AnswerLoss::of(&[-2.0, -1.0]).unwrap();
        assert_eq!((loss, loss.mean()), (AnswerLoss { nll: 3.0, tokens: 2 }, 1.5));
        assert!((AnswerLoss { nll: 4.0 * 2f64.ln(), tokens: 4 }.probability() - 0.5).abs() < 1e-15);
    }

    #[test]
    fn a_damaged_models_item_stays_finite() {
        let mut damaged = measured(None);
        damaged.answer_loss.nll = 60_000.0;
        let item = TofuItem::from_measurements("0", &damaged);
        assert!(item.truth_ratio.unwrap().is_finite() && item.normalized_gt_loss.unwrap().is_finite());
    }
}
