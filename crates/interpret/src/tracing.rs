//! Causal tracing: which states an answer comes from (Meng et al. 2022, arXiv 2202.05262, §2).

use std::collections::BTreeSet;
use std::ops::Range;

use amend_engine::taps::BlockSite;
use amend_engine::{
    Action, Batch, Example, Graph, Model, Result, Rng, SCORING_TOKENS, Selector, Site, Taps, Tensor,
};
use serde::{Deserialize, Serialize};

use crate::patching::{probabilities_within, states_at};

/// What is asked of a model.
#[derive(Debug, Clone)]
pub struct Question {
    /// The prompt.
    pub ids: Vec<u32>,
    /// Positions of the subject's tokens in it.
    pub subject: Range<usize>,
    /// The tokens whose probability, as a whole, is looked at behind the prompt; not empty.
    pub answer: Vec<u32>,
}

/// How a subject is drowned, and what is brought back.
#[derive(Debug, Clone)]
pub struct Tracing {
    /// Standard deviation of the noise on every coordinate of the subject's embeddings.
    pub noise: f32,
    /// Draws of the noise that figures are means over.
    pub draws: usize,
    /// How many layers, around the one that is named, are restored at a time; the residual stream's states are
    /// restored one at a time whatever it says.
    pub window: usize,
    /// Seed of the noise.
    pub seed: u64,
}

/// Of what the clean state is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restored {
    /// The residual stream behind a block.
    State,
    /// What feed-forwards add to it.
    Mlp,
    /// What attention adds to it.
    Attention,
}

/// The probability of the answer, place by place.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Without noise.
    pub clean: f64,
    /// With noise on the subject: the mean over draws.
    pub corrupted: f64,
    /// With noise, and one clean state put back: `[layer][position]`, means over draws.
    pub restored: Vec<Vec<f64>>,
}

/// Which part of a prompt a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Before the subject.
    Before,
    /// The subject's first token, where it has several.
    FirstOfSubject,
    /// Those between its first and its last.
    InSubject,
    /// Its last.
    LastOfSubject,
    /// The token behind the subject.
    Next,
    /// Those between that and the prompt's last.
    After,
    /// The prompt's last token, where the subject does not end there.
    Last,
}

impl Place {
    /// All of them, in the order of a prompt.
    pub const ALL: [Place; 7] = [
        Place::Before,
        Place::FirstOfSubject,
        Place::InSubject,
        Place::LastOfSubject,
        Place::Next,
        Place::After,
        Place::Last,
    ];

    /// Which part of a prompt the token at `position` is.
    pub fn of(position: usize, question: &Question) -> Self {
        let Range { start, end } = question.subject;
        match position {
            p if p + 1 == end => Place::LastOfSubject,
            p if p == start => Place::FirstOfSubject,
            p if (start..end).contains(&p) => Place::InSubject,
            p if p < start => Place::Before,
            p if p + 1 == question.ids.len() => Place::Last,
            p if p == end => Place::Next,
            _ => Place::After,
        }
    }

    /// What it is called where people read it.
    pub fn name(self) -> &'static str {
        match self {
            Place::Before => "before the subject",
            Place::FirstOfSubject => "subject, first token",
            Place::InSubject => "subject, between",
            Place::LastOfSubject => "subject, last token",
            Place::Next => "the next token",
            Place::After => "further tokens",
            Place::Last => "the last token",
        }
    }
}

impl Restored {
    fn site(self) -> BlockSite {
        match self {
            Restored::State => BlockSite::ResidPost,
            Restored::Mlp => BlockSite::MlpOut,
            Restored::Attention => BlockSite::AttnOut,
        }
    }
}

impl Tracing {
    /// Traces one question: noise goes on to the subject's embeddings, and at every token and layer in turn the state of the
    /// clean run is put back. What then comes back of the answer came through there.
    ///
    /// # Errors
    /// Where the model cannot read the question.
    pub fn trace(&self, model: &Model, question: &Question, restored: Restored) -> Result<Trace> {
        let (layers, tokens) = (model.spec().layers, question.ids.len());
        let clean_states = states_at(model, &question.ids, restored.site())?;
        let clean = probabilities(model, question, 1, &Taps::none())?;
        let corrupted = probabilities(model, question, self.draws, &self.corrupting(model, question, 1)?)?;
        let mut trace = Trace {
            clean: mean(&clean),
            corrupted: mean(&corrupted),
            restored: vec![Vec::with_capacity(tokens); layers],
        };
        let width = model.spec().hidden;
        // As many positions at a time as make a batch; a position's sequences are its draws.
        let length = tokens + question.answer.len();
        let at_a_time = (SCORING_TOKENS / (length * self.draws.max(1)).max(1)).max(1);
        let positions: Vec<usize> = (0..tokens).collect();
        for layer in 0..layers {
            for piece in positions.chunks(at_a_time) {
                let mut taps = self.corrupting(model, question, piece.len())?;
                for (i, &position) in piece.iter().enumerate() {
                    let here = Selector {
                        sequences: Some((i * self.draws..(i + 1) * self.draws).map(|s| s as u64).collect()),
                        positions: Some(BTreeSet::from([position as u32])),
                        ..Selector::default()
                    };
                    for l in self.around(layer, layers, restored) {
                        let row = &clean_states[l].f32()[position * width..(position + 1) * width];
                        let state = Tensor::from_f32(row, &[1, width])?;
                        taps.add(Site::Block(l, restored.site()), here.clone(), Action::Replace(state));
                    }
                }
                let found = probabilities(model, question, piece.len() * self.draws, &taps)?;
                trace.restored[layer].extend(found.chunks(self.draws).map(mean));
            }
        }
        Ok(trace)
    }

    /// The layers that are restored with `layer`.
    fn around(&self, layer: usize, layers: usize, restored: Restored) -> Range<usize> {
        match restored {
            Restored::State => layer..layer + 1,
            Restored::Mlp | Restored::Attention => {
                let start = layer.saturating_sub(self.window.saturating_sub(1) / 2);
                start..(layer + self.window / 2 + 1).min(layers)
            }
        }
    }

    /// Noise on the subject's embeddings: of `repeats` times all draws, one draw after the other.
    fn corrupting(&self, model: &Model, question: &Question, repeats: usize) -> Result<Taps> {
        let (width, rows) = (model.spec().hidden, question.subject.len());
        let draw = |draw: usize| {
            let mut random = Rng::at(&[self.seed, draw as u64]);
            (0..rows * width).map(move |_| (f64::from(self.noise) * random.normal()) as f32)
        };
        let draws: Vec<f32> = (0..self.draws).flat_map(draw).collect();
        let noise = Tensor::from_f32(&draws.repeat(repeats), &[repeats * self.draws * rows, width])?;
        let subject = Selector {
            positions: Some(question.subject.clone().map(|position| position as u32).collect()),
            ..Selector::default()
        };
        let mut taps = Taps::none();
        taps.add(Site::Embed, subject, Action::Add(noise));
        Ok(taps)
    }
}

/// Probability of the answer in each of so many copies of the question.
fn probabilities(model: &Model, question: &Question, copies: usize, taps: &Taps) -> Result<Vec<f64>> {
    let example = Example::answer(&question.ids, &question.answer);
    // The last token of the answer need not be read.
    probabilities_within(model, example.ids.len() - 1, std::iter::repeat_n(&example, copies), taps)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation over all coordinates of the embeddings of these tokens: what noise is measured in.
///
/// # Errors
/// Where the model cannot read them.
pub fn deviation_of_embeddings(model: &Model, ids: &[u32]) -> Result<f32> {
    let mut taps = Taps::none();
    taps.read(Site::Embed);
    for piece in ids.chunks(model.spec().context.max(1)) {
        let batch = Batch::new([&Example::text(piece.to_vec())])?;
        model.hidden(&mut Graph::inference(&model.params), &batch, &taps)?;
    }
    let read = taps.take(Site::Embed);
    let values = || read.iter().flat_map(|reading| reading.tensor.f32()).map(|&x| f64::from(x));
    let count = values().count().max(1) as f64;
    let mean = values().sum::<f64>() / count;
    Ok((values().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt() as f32)
}
