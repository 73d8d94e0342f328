//! How a run computes: the number type of products, and memory against time.

use std::path::Path;

use amend_engine::kernels::Compute;
use amend_engine::{Model, Precision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;

/// How models compute, whether they are trained or measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Computing {
    /// Number type of the operands of matrix products: `f32` or `bf16`. Weights, gradients, sums and
    /// the optimiser's state are f32 in any case.
    pub dtype: Dtype,
    /// Hold only every block's input between forward and backward pass, and compute the rest a second
    /// time. Has no influence on results.
    pub activation_checkpointing: bool,
}

/// Number type of the operands of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// Rounded to bf16: 8 bits of precision, the range of f32.
    Bf16,
}

impl Computing {
    /// Makes a model compute so.
    pub fn apply(&self, model: &mut Model) {
        let compute = match self.dtype {
            Dtype::F32 => Compute::F32,
            Dtype::Bf16 => Compute::Bf16,
        };
        model.params.set_precision(Precision { compute, ..Precision::default() });
        model.recompute = self.activation_checkpointing;
    }

    /// Opens the model in `dir`, which then computes so.
    pub fn open(&self, dir: impl AsRef<Path>) -> Result<Model> {
        let mut model = Model::open(dir)?;
        self.apply(&mut model);
        Ok(model)
    }
}
