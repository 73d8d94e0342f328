//! Qwen 3 (dense): queries and keys are normalised per head before rotation.

use super::config::Config;
use super::qwen2::upper_windows;
use super::{Family, Spec, dense_spec};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "qwen3", spec };

fn spec(config: &Config<'_>) -> Result<Spec> {
    let mut dense = dense_spec(config, 10_000.0)?;
    let bias = config.flag("attention_bias", false)?;
    // The family's default head width is 128, whatever the hidden size.
    if !config.has("head_dim") {
        dense.head_dim = 128;
        dense.rope.dimensions = 128;
    }
    Ok(Spec {
        qkv_bias: bias,
        output_bias: bias,
        qk_norm: true,
        windows: upper_windows(config, dense.layers)?,
        ..dense
    })
}
