//! Flags that say how tokens are chosen, shared by `generate` and `chat`.

use amend_engine::generate::Sampling;
use clap::Args;

use crate::console::Console;

/// How the next token is chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Choosing tokens")]
pub(crate) struct SamplingArgs {
    /// 0 always takes the likeliest token; 1 draws from the model's distribution
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value_t = 0.0)]
    temperature: f32,
    /// Draw from this many of the likeliest tokens; 0 means all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw from the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", allow_negative_numbers = true, default_value_t = 1.0)]
    top_p: f32,
    /// Draw from tokens at least this share as likely as the likeliest
    #[arg(long, value_name = "P", allow_negative_numbers = true, default_value_t = 0.0)]
    min_p: f32,
    /// Make tokens that are already there less likely; 1 does not
    #[arg(long, value_name = "X", allow_negative_numbers = true, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Seed of the draws: the same seed draws the same tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    /// Whether the likeliest token is taken, so that an answer to the same prompt is the same.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Tells of flags that say how to draw where nothing is drawn: at temperature 0 the likeliest token is taken, and
    /// `samples` of a prompt are the same text as often.
    pub(crate) fn warn_of_ignored(&self, samples: usize, console: &Console) {
        if !self.is_greedy() {
            return;
        }
        let flags = [
            ("--top-k", self.top_k != 0),
            ("--top-p", self.top_p != 1.0),
            ("--min-p", self.min_p != 0.0),
            ("--seed", self.seed != 0),
            ("--samples", samples > 1),
        ];
        let given: Vec<&str> = flags.into_iter().filter_map(|(flag, given)| given.then_some(flag)).collect();
        if !given.is_empty() {
            let same = match samples {
                1 => "the answer to a prompt is always the same".to_owned(),
                samples => format!("all {samples} answers to a prompt are the same"),
            };
            console.warn(&format!(
                "{}: nothing is drawn at temperature 0, {same}; give a --temperature above 0",
                given.join(", ")
            ));
        }
    }

    /// The engine's settings, with `seed` advanced by `turn`, so that a second answer draws anew.
    pub(crate) fn settings(&self, turn: u64) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed.wrapping_add(turn),
        }
    }
}
