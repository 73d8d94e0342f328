//! One round of everything that can be timed.

use std::time::Instant;

use amend_engine::generate::{GenerateOptions, Session, SessionOptions};
use amend_engine::models::LoraOptions;
use amend_engine::optim::{AdamW, AdamWOptions, DecayOn};
use amend_engine::{Batch, Example, Model, SCORING_TOKENS, Taps};

use super::Mode;
use crate::error::Error;

/// Tokens of a prompt before decoding.
const PROMPT: usize = 16;
/// The shortest sequence when sequences of mixed length are scored.
const SHORTEST: usize = 8;
/// A prime, so that multiples of it visit all lengths evenly and in no order.
const STRIDE: usize = 7919;
/// Adapter of mode `lora`; every linear layer gets one.
const RANK: usize = 16;
const ALPHA: f32 = 32.0;
const LEARNING_RATE: f64 = 1e-4;

/// What a round works on.
pub(super) struct Workload {
    pub(super) mode: Mode,
    pub(super) batch: usize,
    pub(super) length: usize,
    vocabulary: usize,
}

/// What a round took, and a figure that tells whether it computed what it should.
pub(super) struct Round {
    /// Seconds of what is timed.
    pub(super) seconds: f64,
    /// Seconds of the prompts that decoding starts from.
    pub(super) prompt_seconds: Option<f64>,
    pub(super) outcome: Outcome,
}

/// What the peers of the benchmark report too, so that both are seen to do the same work.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Mean negative log-likelihood before the step, or of the texts scored.
    Loss(f64),
    /// New tokens of the first sequence.
    Ids(Vec<u32>),
}

impl Workload {
    pub(super) fn new(model: &Model, mode: Mode, batch: usize, length: usize) -> Result<Self, Error> {
        let context = model.spec().context;
        let needed = if mode == Mode::Decode { PROMPT + length } else { length };
        if needed > context {
            return Err(Error::told(
                format!("{needed} tokens do not fit the model's context of {context}"),
                "give a smaller --length",
            ));
        }
        if length < 2 && mode != Mode::Decode && mode != Mode::Prefill {
            return Err(Error::told(
                "a sequence of one token predicts nothing",
                "give a --length of 2 or more",
            ));
        }
        Ok(Workload { mode, batch, length, vocabulary: model.spec().vocabulary })
    }

    /// Lengths of all sequences of a round, the prompts' excepted.
    pub(super) fn lengths(&self) -> Vec<usize> {
        let shortest = SHORTEST.min(self.length);
        let of = |s: usize| match self.mode {
            Mode::Score => shortest + s * STRIDE % (self.length - shortest + 1),
            _ => self.length,
        };
        (0..self.batch).map(of).collect()
    }

    /// Tokens that a round's rate counts.
    pub(super) fn tokens(&self) -> usize {
        self.lengths().iter().sum()
    }

    /// Tokens that come before those that are counted, in every sequence.
    pub(super) fn before(&self) -> usize {
        if self.mode == Mode::Decode { PROMPT } else { 0 }
    }

    /// Rows that the head works on.
    pub(super) fn head_rows(&self) -> usize {
        match self.mode {
            Mode::Prefill => self.batch,
            Mode::Decode => self.tokens(),
            Mode::Train | Mode::Lora | Mode::Score => self.tokens() - self.batch,
        }
    }

    /// Whether there is a backward pass.
    pub(super) fn learns(&self) -> bool {
        matches!(self.mode, Mode::Train | Mode::Lora)
    }

    fn ids(&self, sequence: usize, length: usize) -> Vec<u32> {
        (0..length).map(|i| ((i * 31 + sequence * 17 + i * i) % self.vocabulary) as u32).collect()
    }

    /// Makes everything that is not timed, and hands out the round.
    pub(super) fn prepare(&self, mut model: Model) -> Result<(Model, Runner), Error> {
        if self.mode == Mode::Lora {
            model.attach_lora(&LoraOptions { r: RANK, alpha: ALPHA, targets: Vec::new() }, 0)?;
        }
        let examples: Vec<Example> =
            self.lengths().iter().enumerate().map(|(s, &n)| Example::text(self.ids(s, n))).collect();
        let runner = match self.mode {
            Mode::Train | Mode::Lora => {
                // What PyTorch's AdamW does unless told otherwise.
                let options = AdamWOptions { decay_on: DecayOn::Everything, ..Default::default() };
                Runner::Step(Batch::new(&examples)?, Box::new(AdamW::new(&model.params, options)))
            }
            Mode::Score => Runner::Score(examples),
            Mode::Prefill => Runner::Generate { prompts: self.prompts(self.length), new: 0 },
            Mode::Decode => Runner::Generate { prompts: self.prompts(PROMPT), new: self.length },
        };
        Ok((model, runner))
    }

    fn prompts(&self, length: usize) -> Vec<Vec<u32>> {
        (0..self.batch).map(|s| self.ids(s, length)).collect()
    }
}

/// One round, to be run again and again.
pub(super) enum Runner {
    Step(Batch, Box<AdamW>),
    Score(Vec<Example>),
    /// The prompts up to the first new token; then `new` more.
    Generate {
        prompts: Vec<Vec<u32>>,
        new: usize,
    },
}

impl Runner {
    pub(super) fn round(&mut self, model: &mut Model) -> Result<Round, Error> {
        match self {
            Runner::Step(batch, adamw) => step(model, batch, adamw),
            Runner::Score(examples) => score(model, examples),
            Runner::Generate { prompts, new } => generate(model, prompts, *new),
        }
    }
}

fn step(model: &mut Model, batch: &Batch, adamw: &mut AdamW) -> Result<Round, Error> {
    let start = Instant::now();
    let (loss, gradients) = model.loss_and_gradients(batch, &Taps::none())?;
    adamw.step(&mut model.params, &gradients, LEARNING_RATE, 1.0)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Round { seconds, prompt_seconds: None, outcome: Outcome::Loss(f64::from(loss)) })
}

fn score(model: &Model, examples: &[Example]) -> Result<Round, Error> {
    let start = Instant::now();
    let scores = model.score(examples, SCORING_TOKENS)?;
    let seconds = start.elapsed().as_secs_f64();
    let count = scores.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    let sum: f64 = scores.iter().flatten().map(|&l| f64::from(l)).sum();
    Ok(Round { seconds, prompt_seconds: None, outcome: Outcome::Loss(-sum / count) })
}

fn generate(model: &Model, prompts: &[Vec<u32>], new: usize) -> Result<Round, Error> {
    let options = GenerateOptions { max_new_tokens: new + 1, ..Default::default() };
    let bounds = SessionOptions { batch_size: prompts.len(), ..Default::default() };
    let start = Instant::now();
    let mut session = Session::new(model, bounds);
    session.submit_all(prompts, options)?;
    // The prompts' pass gives the first new token of every sequence; the clock is read when it is there.
    let mut first = None;
    let texts = session.run(|_| {
        first.get_or_insert_with(Instant::now);
    })?;
    let all = start.elapsed().as_secs_f64();
    let prompt = first.map_or(all, |first| first.duration_since(start).as_secs_f64());
    let ids = texts.into_iter().flatten().next().map(|text| text.ids).unwrap_or_default();
    let (seconds, prompt_seconds) = if new == 0 { (all, None) } else { (all - prompt, Some(prompt)) };
    Ok(Round { seconds, prompt_seconds, outcome: Outcome::Ids(ids) })
}
