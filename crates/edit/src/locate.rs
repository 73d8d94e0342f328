//! Which layer to edit: causal tracing over some of the facts.

use std::collections::BTreeMap;

use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Graph, Model, Taps};
use amend_eval::rewrite::Rewrite;
use amend_interpret::subject::encode_with_subject;
use amend_interpret::{Place, Question, Restored, Tracing, deviation_of_embeddings};
use amend_learn::{Error, Result};
use amend_run::{Figure, Run};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the layer is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TraceOptions {
    /// Facts that are traced: the first of the edits whose true target the model says; where it knows none of those
    /// that are looked at, the first, each with the token that the model says instead.
    #[schemars(range(min = 1))]
    pub facts: usize,
    /// Draws of the noise.
    #[schemars(range(min = 1))]
    pub draws: usize,
    /// Standard deviation of the noise, in that of the subjects' embeddings.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub noise: f32,
    /// Layers whose feed-forward is restored at a time; absent: a fifth of all.
    #[schemars(range(min = 1))]
    pub window: Option<usize>,
}

impl Default for TraceOptions {
    fn default() -> Self {
        TraceOptions { facts: 10, draws: 10, noise: 3.0, window: None }
    }
}

/// What tracing found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traced {
    /// The layer behind which the state at the subject's last token brings most of the answer back.
    pub layer: usize,
    /// How many of the facts the model knows: it says their true target.
    pub known: usize,
    /// Probability of the model's own answers.
    pub clean: Figure,
    /// The same with noise on the subject.
    pub corrupted: Figure,
    /// Maps of what comes back, over facts.
    pub maps: Vec<HeatMap>,
}

/// How much probability comes back where states are restored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeatMap {
    /// What is restored.
    pub restored: Restored,
    /// The parts of a prompt that there are.
    pub places: Vec<Place>,
    /// Probability that comes back, `[layer][place]`; n is the number of facts with such tokens.
    pub layers: Vec<Vec<Figure>>,
}

/// Traces facts that the model knows, and chooses the layer.
pub(crate) fn locate(
    run: &mut Run<'_>,
    stage: &str,
    options: &TraceOptions,
    model: &Model,
    tokenizer: &Tokenizer,
    rewrites: &[Rewrite],
    seed: u64,
) -> Result<Traced> {
    run.once(stage, |run| {
        let (questions, known) = questions(model, tokenizer, rewrites, options.facts)?;
        let subjects: Vec<u32> =
            questions.iter().flat_map(|question| question.ids[question.subject.clone()].to_vec()).collect();
        let window = options.window.unwrap_or((model.spec().layers / 5).max(1));
        let noise = options.noise * deviation_of_embeddings(model, &subjects)?;
        let mut bar = run.progress.begin(stage, questions.len() as u64, "facts");
        let mut maps =
            [Restored::State, Restored::Mlp, Restored::Attention].map(|kind| (kind, Cells::default()));
        let (mut clean, mut corrupted) = (Vec::new(), Vec::new());
        for (number, question) in questions.iter().enumerate() {
            run.check_stop()?;
            let tracing =
                Tracing { noise, draws: options.draws, window, seed: seed.wrapping_add(number as u64) };
            for (kind, cells) in &mut maps {
                let trace = tracing.trace(model, question, *kind)?;
                if *kind == Restored::State {
                    clean.push(trace.clean);
                    corrupted.push(trace.corrupted);
                }
                for (layer, row) in trace.restored.iter().enumerate() {
                    let mut own: BTreeMap<Place, Vec<f64>> = BTreeMap::new();
                    for (position, restored) in row.iter().enumerate() {
                        own.entry(Place::of(position, question))
                            .or_default()
                            .push(restored - trace.corrupted);
                    }
                    for (place, values) in own {
                        let mean = values.iter().sum::<f64>() / values.len() as f64;
                        cells.entry((layer, place)).or_default().push(mean);
                    }
                }
            }
            bar.advance(1, "");
        }
        let maps = maps.map(|(kind, cells)| HeatMap::of(kind, &cells, model.spec().layers)).to_vec();
        let layer = chosen(&maps)?;
        bar.finish(&format!("layer {layer}"));
        Ok(Traced { layer, known, clean: Figure::mean(&clean), corrupted: Figure::mean(&corrupted), maps })
    })
}

/// Edits that are looked at for each fact that is to be traced.
const LOOKED_AT: usize = 10;

/// The facts to trace, and how many of them the model knows.
fn questions(
    model: &Model,
    tokenizer: &Tokenizer,
    rewrites: &[Rewrite],
    facts: usize,
) -> Result<(Vec<Question>, usize)> {
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for rewrite in rewrites.iter().take(LOOKED_AT.saturating_mul(facts)) {
        let (ids, subject) = encode_with_subject(tokenizer, &rewrite.prompt, rewrite.place.clone())?;
        // The tokens of the true target, as they follow the prompt; only the last of them tells some facts apart.
        let answer = match &rewrite.target_true {
            Some(target) => {
                let whole = tokenizer.encode(&Rewrite::statement(&rewrite.prompt, target), true)?;
                let begins = whole.get(..ids.len()) == Some(&ids[..]);
                let answer = whole.get(ids.len()..).unwrap_or_default().iter();
                let answer = answer.copied().filter(|id| !tokenizer.eos_ids().contains(id)).collect();
                if begins { answer } else { Vec::new() }
            }
            None => Vec::new(),
        };
        let says = |answer: &[u32]| -> Result<bool> {
            let example = amend_engine::Example::answer(&ids, answer);
            Ok(model
                .scored(&[example], amend_engine::SCORING_TOKENS)?
                .iter()
                .all(|scored| scored.is_greedy()))
        };
        if !answer.is_empty() && says(&answer)? {
            known.push(Question { ids, subject, answer });
        } else if others.len() < facts {
            let answer = vec![first_choice(model, &ids)?];
            others.push(Question { ids, subject, answer });
        }
        if known.len() == facts {
            break;
        }
    }
    let count = known.len();
    let mut questions = if count > 0 { known } else { others };
    questions.truncate(facts);
    Ok((questions, count))
}

/// Values of facts by layer and place.
type Cells = BTreeMap<(usize, Place), Vec<f64>>;

impl HeatMap {
    fn of(restored: Restored, cells: &Cells, layers: usize) -> Self {
        let there = |place: &Place| cells.contains_key(&(0, *place));
        let places: Vec<Place> = Place::ALL.into_iter().filter(there).collect();
        let figure =
            |layer, place| cells.get(&(layer, place)).map_or(Figure::exact(f64::NAN, 0), |v| Figure::mean(v));
        let row = |layer| places.iter().map(|place| figure(layer, *place)).collect();
        HeatMap { restored, layers: (0..layers).map(row).collect(), places }
    }

    /// What comes back at one part of a prompt, layer by layer.
    fn column(&self, place: Place) -> Vec<f64> {
        let at = self.places.iter().position(|other| *other == place);
        self.layers.iter().map(|row| at.map_or(f64::NAN, |at| row[at].value)).collect()
    }
}

/// The layer behind which a clean state at the subject's last token does most; the first of equals. An edit writes there, and can
/// do no more than what is read from there.
fn chosen(maps: &[HeatMap]) -> Result<usize> {
    let map = maps.iter().find(|map| map.restored == Restored::State);
    let column = map.map(|map| map.column(Place::LastOfSubject)).unwrap_or_default();
    let best =
        column.iter().enumerate().filter(|(_, x)| x.is_finite()).fold(None, |best, (layer, &x)| match best {
            Some((_, most)) if x <= most => best,
            _ => Some((layer, x)),
        });
    best.map(|(layer, _)| layer).ok_or_else(|| {
        Error::invalid("causal tracing found no layer: no fact has a probability that is a number; give the layer yourself")
    })
}

fn first_choice(model: &Model, ids: &[u32]) -> Result<u32> {
    let batch = amend_engine::Batch::new([&amend_engine::Example::text(ids.to_vec())])?;
    let taps = Taps::none();
    let mut g = Graph::inference(&model.params);
    let hidden = model.hidden(&mut g, &batch, &taps)?;
    let logits = model.logits(&mut g, &hidden, &batch.layout, &[ids.len() - 1], &taps)?;
    Ok(amend_engine::kernels::argmax(logits.value().f32()) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(restored: Restored, values: &[f64]) -> HeatMap {
        let cells =
            values.iter().enumerate().map(|(layer, x)| ((layer, Place::LastOfSubject), vec![*x])).collect();
        HeatMap::of(restored, &cells, values.len())
    }

    #[test]
    fn the_layer_is_where_a_state_brings_most_back() {
        let mlp = map(Restored::Mlp, &[0.9, 0.1, 0.0]);
        assert_eq!(chosen(&[mlp.clone(), map(Restored::State, &[0.1, 0.5, 0.5])]).unwrap(), 1);
        assert_eq!(chosen(&[map(Restored::State, &[f64::NAN, -0.5, -0.6])]).unwrap(), 1);
        assert!(chosen(&[map(Restored::State, &[f64::NAN])]).is_err());
        assert!(chosen(&[mlp]).is_err());
    }
}
