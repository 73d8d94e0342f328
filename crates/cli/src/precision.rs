//! What products are computed in, and how weights are kept.

use amend_engine::{Model, Precision, kernels};
use clap::{Args, ValueEnum};
use serde::Serialize;

/// Flags of every command that runs a model.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct PrecisionArgs {
    /// What products are computed in
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub(crate) dtype: Compute,
    /// How weights are kept for computing, where nothing is trained; those read from the file stay in
    /// memory beside them
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub(crate) weights: Weights,
}

/// Number type of the operands of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compute {
    /// 32 bits throughout
    #[default]
    F32,
    /// Operands rounded to bf16, sums and trained weights in f32
    Bf16,
}

/// Form of the weights where nothing is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Weights {
    /// As they are; those that are bf16 numbers take 16 bits, others 32
    #[default]
    F32,
    /// Rounded to bf16
    Bf16,
    /// Rounded to 255 steps, with a factor per output
    Int8,
}

/// How a value is written on the command line.
fn value_name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl PrecisionArgs {
    /// Makes the model compute as asked for.
    pub(crate) fn apply(&self, model: &mut Model) {
        let compute = match self.dtype {
            Compute::F32 => kernels::Compute::F32,
            Compute::Bf16 => kernels::Compute::Bf16,
        };
        let storage = match self.weights {
            Weights::F32 => kernels::Storage::F32,
            Weights::Bf16 => kernels::Storage::Bf16,
            Weights::Int8 => kernels::Storage::Int8,
        };
        model.params.set_precision(Precision { compute, storage });
        tracing::info!(
            "products are computed in {}, weights kept for them in {}",
            value_name(&self.dtype),
            value_name(&self.weights)
        );
    }
}
