//! `amend bench`: how fast a model trains, scores and decodes on this machine, and where the time goes.

mod count;
mod learn;
mod modes;
mod shapes;
mod timing;

use std::path::PathBuf;

use amend_engine::{DType, Model};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::app::Exit;
use crate::context::Context;
use crate::error::Error;
use crate::precision::PrecisionArgs;
use modes::Workload;
use shapes::Shape;

const EXAMPLES: &str = "\
Examples:
  amend bench --shape a --mode train
  amend bench --shape c --mode lora --json
  amend bench models/my-model --mode decode --batch 16
  amend bench --config config.json --mode prefill --length 4096
  amend bench --shape a --mode train --profile
  amend bench --shape a --save models/shape-a
  amend bench --shape a --learn book.txt --rounds 500 --json

The shapes have random weights, which cost the same time as real ones. Times
are medians over the rounds, after one round of warming up.

peak_fraction is the counted rate of operations over what this machine can do
at most: a loop of f32 multiply-adds that touches no memory, measured in the
same process on the same threads, before and after; the faster counts. A
forward pass counts 2 operations per weight and token, the head's for scored
tokens only, and 4 per pair of query and key and unit of width in attention;
a backward pass twice that, less what frozen weights save. Norms, activations,
the optimiser and whatever is computed a second time count nothing.

Decoding starts from prompts of 16 tokens. They are timed apart, as
prompt_seconds; tokens_per_second counts the tokens after them.";

/// Time a model on this machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    source: Source,
    /// What is timed
    #[arg(long, required_unless_present_any = ["save", "learn"])]
    mode: Option<Mode>,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Sequences at a time; when scoring, in all [default: the shape's; 1000 when scoring]
    #[arg(long, value_name = "N", value_parser = crate::args::parse_count)]
    batch: Option<usize>,
    /// Tokens per sequence; when decoding, new tokens; when scoring, of the longest [default: the shape's]
    #[arg(long, value_name = "N", value_parser = crate::args::parse_count)]
    length: Option<usize>,
    /// Rounds that are timed; when learning, steps
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = crate::args::parse_count)]
    rounds: usize,
    /// Say where the time went, by kind of operation
    #[arg(long)]
    profile: bool,
    /// Write the random model to this folder, and time nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["mode", "learn", "model"])]
    save: Option<PathBuf>,
    /// Train on this text instead, from random weights, and print every step's loss
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mode", "model"])]
    learn: Option<PathBuf>,
    /// Seed of random weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// The model, one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// Folder of a model
    #[arg(value_name = "DIR")]
    model: Option<PathBuf>,
    /// A model made on the spot
    #[arg(long)]
    shape: Option<Shape>,
    /// A model made on the spot as this config.json says
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Forward, backward and AdamW on all weights
    Train,
    /// The same on an adapter of rank 16 on all linear layers
    Lora,
    /// A prompt's forward pass up to the first new token
    Prefill,
    /// One token after the other, with cached keys and values
    Decode,
    /// Log-probabilities of sequences of mixed length
    Score,
}

pub(crate) fn execute(args: BenchArgs, context: &mut Context) -> Result<Exit, Error> {
    if let Some(dir) = &args.save {
        args.source.make(args.seed)?.save(dir, None, None)?;
        context.console.note(&format!("written to {}", dir.display()));
        return Ok(Exit::Done);
    }
    if let Some(text) = &args.learn {
        return learn::execute(text, &args, context);
    }
    let Some(mode) = args.mode else {
        return Err(Error::told("there is nothing to time", "give a --mode"));
    };
    let mut model = args.source.make(args.seed)?;
    args.precision.apply(&mut model);
    let (batch, length) = args.source.shape.unwrap_or(Shape::A).workload(mode);
    let workload = Workload::new(&model, mode, args.batch.unwrap_or(batch), args.length.unwrap_or(length))?;
    let timing = timing::measure(model, &workload, &args, context)?;
    if context.json {
        context.out.json_line(&timing)?;
    } else {
        timing.show(context)?;
    }
    Ok(Exit::Done)
}

impl Source {
    fn make(&self, seed: u64) -> Result<Model, Error> {
        match self {
            Source { model: Some(dir), .. } => Ok(Model::open(dir)?),
            _ => {
                let config = self.config()?;
                let named = ["dtype", "torch_dtype"].iter().find_map(|key| config.get(*key)?.as_str());
                let dtype = named.and_then(DType::parse);
                let mut model = Model::random(config, seed)?;
                // As a model of this configuration would come.
                if let Some(dtype @ (DType::BF16 | DType::F16)) = dtype {
                    model.round_to(dtype);
                }
                Ok(model)
            }
        }
    }

    /// The configuration of a model that is made on the spot.
    fn config(&self) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
        match (self.shape, &self.config) {
            (Some(shape), _) => Ok(shape.config()),
            (None, Some(path)) => shapes::read_config(path),
            (None, None) => Err(Error::told(
                "weights that are there are not made anew",
                "give --shape or --config instead of a model's folder",
            )),
        }
    }
}
