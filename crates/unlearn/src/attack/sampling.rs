//! Sampling: does anybody who asks often enough get the answer?

use amend_engine::generate::Sampling as Draws;
use amend_eval::stats::best_of;
use amend_learn::Result;
use amend_run::{Figure, Run};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::leaks::{self, Question, SAMPLES, mean, questions, write};
use super::{Attacker, Curve, Findings, HIDDEN, Target};
use crate::context::Context;
use crate::data::Sets;
use crate::measure::Said;
use crate::recipe::UnlearnRecipe;
use crate::rehearsal::of_asking;
use amend_learn::work::Work;

/// # What it does
/// Lets the model answer every question of the forget set many times at random, and says how much the most telling of k
/// answers gives away: leak@k, for every k up to the number of draws.
///
/// # When to use it
/// Whenever others may ask a model more than once. A greedy answer shows the likeliest one alone; what is a little less
/// likely comes with the second or the tenth.
///
/// # What it logs
/// `leak`: the share of an answer's content words that the most telling of all draws says, its mean over the questions; then
/// leak@k for powers of two, and all of them as a curve.
///
/// # Source
/// The estimator without bias of pass@k: Chen et al., arXiv 2107.03374. Leaks of sampled answers: Scholten et al., "A
/// Probabilistic Perspective on Unlearning and Alignment for Large Language Models", arXiv 2410.03523.
///
/// # Inferred parts
/// A leak is a share, not a yes or no; the estimator is the expectation of the largest of k drawn from the n there are, of
/// which pass@k is the case of zeros and ones.
///
/// # Expected result
/// leak@k rises with k; a model that forgot rises no faster than the gold model, which guesses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Answers to every question.
    #[schemars(range(min = 1))]
    pub samples: usize,
    /// Temperature of the draws.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub temperature: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { samples: 16, temperature: 1.0 }
    }
}

impl Attacker for Sampling {
    fn check(&self, sets: &Sets, recipe: &UnlearnRecipe) -> Result<()> {
        leaks::check("sampling", sets, recipe)
    }

    fn work(&self, context: &Context<'_>) -> Result<Work> {
        let once = of_asking(context, context.measured_forget(), context.evaluation.max_new_tokens)?;
        Ok(Work { scored: 0, ..once }.times(self.samples.saturating_add(1)))
    }

    fn attack(&self, run: &mut Run<'_>, target: Target<'_>, context: &Context<'_>) -> Result<Findings> {
        let questions = questions(context);
        let prompt = |question: &Question<'_>| context.encoder.prompt(&question.record.content);
        let prompts = questions.iter().map(prompt).collect::<amend_engine::Result<Vec<_>>>()?;
        let mut bar = run.progress.begin(run.stage()?, 2, "ways of answering");
        let greedy = write(target.model, context, &prompts, 1, Draws::default())?;
        bar.advance(1, "greedy");
        let draws = Draws { temperature: self.temperature, seed: context.seed, ..Draws::default() };
        let drawn = write(target.model, context, &prompts, self.samples, draws)?;
        bar.advance(1, "drawn");
        bar.finish(&format!("{} answers to {} questions", self.samples, questions.len()));

        let leaks_of = |(question, said): (&Question<'_>, &Option<Vec<String>>)| {
            Some(said.as_ref()?.iter().map(|said| question.leak(said)).collect::<Vec<f64>>())
        };
        let before = questions.iter().zip(&greedy).map(|pair| leaks_of(pair)?.first().copied());
        let leaks: Vec<Option<Vec<f64>>> = questions.iter().zip(&drawn).map(leaks_of).collect();
        let at = |k: usize| mean(leaks.iter().map(|leaks| best_of(leaks.as_ref()?, k)));
        let said = |place: usize| {
            let telling = most_telling(leaks[place].as_ref()?)?;
            let (question, expected) = (questions[place].asked.clone(), questions[place].answer.clone());
            Some(Said { question, expected, answer: drawn.get(place)?.as_ref()?.get(telling)?.clone() })
        };
        let samples = (0..leaks.len()).filter_map(said).take(SAMPLES).collect();
        Ok(findings(self.samples, mean(before), &at, samples))
    }
}

/// The place of the answer that gives most away, the first of equals.
fn most_telling(leaks: &[f64]) -> Option<usize> {
    (0..leaks.len()).max_by(|&a, &b| leaks[a].total_cmp(&leaks[b]).then(b.cmp(&a)))
}

fn findings(draws: usize, before: Figure, at: &dyn Fn(usize) -> Figure, samples: Vec<Said>) -> Findings {
    let mut figures = vec![("leak".to_owned(), at(draws))];
    let powers = std::iter::successors(Some(1usize), |k| k.checked_mul(2)).take_while(|k| *k < draws);
    figures.extend(powers.map(|k| (format!("leak@{k}"), at(k))));
    let points = (1..=draws).map(|k| (k as f64, at(k).value)).filter(|point| point.1.is_finite());
    Findings {
        reading: format!(
            "Each model answers every question of the forget set {draws} times at random. leak@k is the share of the right \
             answer's content words that the most telling of k answers says; the first figure is that of all \
             {draws}. {HIDDEN}"
        ),
        figures,
        before: vec![("leak".into(), before)],
        curves: vec![Curve {
            title: "The most telling of k answers: leak".into(),
            x: "answers k".into(),
            y: "leak@k".into(),
            points: points.collect(),
        }],
        samples,
        ..Findings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_ends_at_the_first_figure() {
        let found = findings(5, Figure::exact(0.1, 3), &|k| Figure::exact(k as f64 / 10.0, 3), Vec::new());
        let names: Vec<&str> = found.figures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["leak", "leak@1", "leak@2", "leak@4"]);
        assert_eq!(found.curves[0].points.last(), Some(&(5.0, 0.5)));
        assert_eq!((found.curves[0].points.len(), found.start("leak")), (5, Some(Figure::exact(0.1, 3))));
        assert_eq!(most_telling(&[0.0, 0.5, 0.5, 0.2]), Some(1));
        assert_eq!(most_telling(&[]), None);
    }
}
