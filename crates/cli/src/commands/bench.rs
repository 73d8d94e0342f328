//! `amend bench`: how fast a model trains, scores and decodes on this machine.

use std::path::PathBuf;
use std::time::Instant;

use amend_engine::generate::GenerateOptions;
use amend_engine::kernels;
use amend_engine::optim::{AdamW, AdamWOptions};
use amend_engine::tensor::memory_use;
use amend_engine::{Batch, Example, Model, Taps};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::Exit;
use crate::context::Context;
use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  amend bench --shape a --mode train
  amend bench models/my-model --mode decode --batch 16 --json

The shapes have random weights, which cost the same time as real ones. Times are
medians over the rounds, after one round of warming up.";

/// Time a model on this machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Folder of a model
    #[arg(value_name = "DIR", required_unless_present = "shape", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// A model made on the spot
    #[arg(long)]
    shape: Option<Shape>,
    /// What is timed
    #[arg(long)]
    mode: Mode,
    /// Sequences at a time [default: the shape's]
    #[arg(long, value_name = "N", value_parser = crate::args::parse_count)]
    batch: Option<usize>,
    /// Tokens per sequence; when decoding, new tokens [default: the shape's]
    #[arg(long, value_name = "N", value_parser = crate::args::parse_count)]
    length: Option<usize>,
    /// Number type of the operands of products
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Form of the weights in inference
    #[arg(long, default_value = "f32")]
    weights: String,
    /// Rounds that are timed
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
}

/// Shapes that all measurements of the project use.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shape {
    /// Width 288, 6 layers, 6 heads, FFN 768, vocabulary 32,000 tied; 8 sequences of 256
    A,
    /// Width 512, 8 layers, 8 heads and 4 key/value heads, FFN 1,408, vocabulary 8,192; 4 of 512
    B,
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Forward, backward and AdamW
    Train,
    /// Log-probabilities of given texts
    Score,
    /// One token after the other, with cached keys and values
    Decode,
}

#[derive(Debug, Serialize)]
struct Timing {
    mode: Mode,
    dtype: &'static str,
    batch: usize,
    length: usize,
    threads: usize,
    simd: &'static str,
    tokens_per_second: f64,
    seconds_per_round: f64,
    rounds: usize,
    peak_tensor_bytes: usize,
    parameters: usize,
}

impl Shape {
    fn config(self) -> Value {
        let (hidden, layers, heads, kv_heads, ffn, vocabulary, tied) = match self {
            Shape::A => (288, 6, 6, 6, 768, 32_000, true),
            Shape::B => (512, 8, 8, 4, 1_408, 8_192, false),
        };
        json!({
            "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": ffn,
            "vocab_size": vocabulary, "tie_word_embeddings": tied, "max_position_embeddings": 2048,
        })
    }

    fn workload(self) -> (usize, usize) {
        match self {
            Shape::A => (8, 256),
            Shape::B => (4, 512),
        }
    }
}

pub(crate) fn execute(args: BenchArgs, context: &mut Context) -> Result<Exit, Error> {
    let (mut model, (batch, length)) = match (&args.model, args.shape) {
        (Some(dir), _) => (Model::open(dir)?, (8, 256)),
        (None, Some(shape)) => {
            let config = shape.config().as_object().cloned().unwrap_or_default();
            (Model::random(config, 0)?, shape.workload())
        }
        (None, None) => {
            return Err(Error::told("there is nothing to time", "give a model folder or --shape"));
        }
    };
    model.params.set_precision(amend_engine::Precision {
        compute: if args.dtype == "bf16" { kernels::Compute::Bf16 } else { kernels::Compute::F32 },
        storage: kernels::Storage::parse(&args.weights).unwrap_or_default(),
    });
    let (batch, length) = (args.batch.unwrap_or(batch), args.length.unwrap_or(length));
    let length = length.min(model.spec().context);
    let seconds = time(&mut model, args.mode, batch, length, args.rounds.max(1), context)?;
    let timing = Timing {
        mode: args.mode,
        dtype: "f32",
        batch,
        length,
        threads: rayon::current_num_threads(),
        simd: kernels::simd_level(),
        tokens_per_second: (batch * length) as f64 / seconds,
        seconds_per_round: seconds,
        rounds: args.rounds.max(1),
        peak_tensor_bytes: memory_use().peak,
        parameters: model.params.count().0,
    };
    if context.json {
        context.out.json_line(&timing)?;
    } else {
        context.out.line(format_args!(
            "{:.0} tokens/s ({:.1} ms for {batch} × {length}), peak of tensors {:.0} MB, {} on {} threads",
            timing.tokens_per_second,
            1e3 * seconds,
            timing.peak_tensor_bytes as f64 / 1e6,
            timing.simd,
            timing.threads,
        ))?;
    }
    Ok(Exit::Done)
}

/// Median seconds of a round.
fn time(
    model: &mut Model,
    mode: Mode,
    batch: usize,
    length: usize,
    rounds: usize,
    context: &mut Context,
) -> Result<f64, Error> {
    let vocabulary = model.spec().vocabulary;
    let sequence = |s: usize| (0..length).map(|i| ((i * 31 + s * 17 + i * i) % vocabulary) as u32).collect();
    let examples: Vec<Example> = (0..batch).map(|s| Example::text(sequence(s))).collect();
    let packed = Batch::new(&examples)?;
    let mut adamw = AdamW::new(&model.params, AdamWOptions::default());
    let mut seconds = Vec::new();
    let mut bar = context.progress.begin("bench", rounds as u64 + 1, "rounds");
    for round in 0..=rounds {
        let start = Instant::now();
        match mode {
            Mode::Train => {
                let (_, gradients) = model.loss_and_gradients(&packed, &Taps::none())?;
                adamw.step(&mut model.params, &gradients, 1e-4, 1.0)?;
            }
            Mode::Score => drop(model.score(&examples, usize::MAX)?),
            Mode::Decode => {
                let prompts: Vec<Vec<u32>> =
                    (0..batch).map(|s| vec![1 + (s % (vocabulary - 1)) as u32]).collect();
                let new = length.min(model.spec().context - 1);
                let options =
                    GenerateOptions { max_new_tokens: new, batch_size: batch, ..Default::default() };
                model.generate(&prompts, &options, None, &Taps::none())?;
            }
        }
        bar.advance(1, "");
        if round > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    bar.finish("timed");
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
