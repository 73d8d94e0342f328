//! What the models say.

use amend_run::report::{Exchange, Exchanges};

use super::Attacked;
use crate::measure::Said;

/// Questions shown of a set.
const SAMPLES: usize = 8;

/// What every model says under an attack; `None` where the attack does not ask.
pub(super) fn findings(attack: &Attacked<'_>) -> Option<Exchanges> {
    let models: Vec<_> = attack
        .models
        .iter()
        .filter_map(|(name, seeds)| Some((name.as_str(), seeds.first()?.samples.as_slice())))
        .collect();
    let any = models.iter().any(|(_, said)| !said.is_empty());
    any.then(|| side_by_side("What they say once attacked", &models))
}

/// The answers of several models to the same questions, evenly spread over those there are.
fn side_by_side(caption: &str, models: &[(&str, &[Said])]) -> Exchanges {
    let questions = models.first().map_or(&[][..], |(_, said)| said);
    let chosen = (0..questions.len()).step_by(questions.len().div_ceil(SAMPLES).max(1));
    let exchange = |i: usize| Exchange {
        question: questions[i].question.clone(),
        expected: Some(questions[i].expected.clone()),
        answers: models
            .iter()
            .filter_map(|(name, said)| Some(((*name).to_owned(), said.get(i)?.answer.clone())))
            .collect(),
    };
    Exchanges { caption: caption.into(), exchanges: chosen.map(exchange).collect() }
}
