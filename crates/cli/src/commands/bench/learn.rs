//! Losses of training on a text: what a number type does to learning, seen beside what a seed does.

use std::fs;
use std::path::Path;

use amend_engine::optim::{AdamW, AdamWOptions, Schedule, ScheduleKind, clip_factor};
use amend_engine::tokenizer::train_bpe;
use amend_engine::{Batch, Example, Model, Rng, Taps};
use serde::Serialize;

use super::BenchArgs;
use crate::app::Exit;
use crate::context::Context;
use crate::error::Error;
use crate::precision::Compute;

/// Windows of the text per step, and tokens of each, unless asked otherwise.
const BATCH: usize = 8;
const LENGTH: usize = 128;
/// Ordinary settings for a model of this size, the same for every number type.
const LEARNING_RATE: f64 = 1e-3;
const WARMUP: u64 = 20;
const MAX_NORM: f64 = 1.0;

#[derive(Debug, Serialize)]
struct Learnt {
    dtype: Compute,
    seed: u64,
    batch: usize,
    length: usize,
    vocabulary: usize,
    text_tokens: usize,
    /// Mean negative log-likelihood of every step's batch before the step, in nats.
    losses: Vec<f32>,
}

/// Trains a fresh model on random windows of the text, the same in every run: the seed decides the weights
/// alone, so that curves differ by number type or weights and not by data.
pub(super) fn execute(path: &Path, args: &BenchArgs, context: &mut Context) -> Result<Exit, Error> {
    let mut config = args.source.config()?;
    let (batch, length) = (args.batch.unwrap_or(BATCH), args.length.unwrap_or(LENGTH));
    let text = fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
    let wanted = config.get("vocab_size").and_then(serde_json::Value::as_u64).unwrap_or(32_000) as usize;
    let tokenizer = train_bpe(text.lines(), wanted, &[])?;
    let ids = tokenizer.encode(&text, false)?;
    if ids.len() <= length {
        return Err(Error::told(
            format!("{}: {} tokens are no text to learn from", path.display(), ids.len()),
            format!("give a text of more than {length} tokens, or a smaller --length"),
        ));
    }
    config.insert("vocab_size".into(), tokenizer.vocab_size().into());
    let mut model = Model::random(config, args.seed)?;
    args.precision.apply(&mut model);
    let losses = train(&mut model, &ids, (batch, length), args, context)?;
    let learnt = Learnt {
        dtype: args.precision.dtype,
        seed: args.seed,
        batch,
        length,
        vocabulary: tokenizer.vocab_size(),
        text_tokens: ids.len(),
        losses,
    };
    if context.json {
        context.out.json_line(&learnt)?;
    } else {
        for (step, loss) in learnt.losses.iter().enumerate() {
            context.out.line(format_args!("{:>6}  {loss:.4}", step + 1))?;
        }
    }
    Ok(Exit::Done)
}

fn train(
    model: &mut Model,
    ids: &[u32],
    (batch, length): (usize, usize),
    args: &BenchArgs,
    context: &mut Context,
) -> Result<Vec<f32>, Error> {
    let steps = args.rounds as u64;
    let schedule = Schedule {
        peak: LEARNING_RATE,
        kind: ScheduleKind::Cosine,
        warmup: WARMUP.min(steps),
        total: steps,
        floor: 0.1,
    };
    let mut adamw = AdamW::new(&model.params, AdamWOptions::default());
    let mut bar = context.progress.begin("learn", steps, "steps");
    let mut losses = Vec::with_capacity(args.rounds);
    for step in 0..steps {
        let mut rng = Rng::named(step, "windows");
        let mut window = || {
            let start = rng.below(ids.len() - length);
            Example::text(ids[start..start + length].to_vec())
        };
        let examples: Vec<Example> = (0..batch).map(|_| window()).collect();
        let (loss, gradients) = model.loss_and_gradients(&Batch::new(&examples)?, &Taps::none())?;
        let clip = clip_factor(gradients.norm(), MAX_NORM);
        adamw.step(&mut model.params, &gradients, schedule.at(step), clip)?;
        losses.push(loss);
        bar.advance(1, &format!("loss {loss:.3}"));
    }
    bar.finish(&format!("{steps} steps"));
    Ok(losses)
}
