//! Qwen 3 (dense): queries and keys are normalised per head before rotation.

use super::config::Config;
use super::qwen2::upper_windows;
use super::{Family, QkNorm, Spec, dense_spec_with};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "qwen3", spec };

fn spec(config: &Config<'_>) -> Result<Spec> {
    // The family's default head width is 128, whatever the hidden size.
    let dense = dense_spec_with(config, 10_000.0, Some(128))?;
    let bias = config.flag("attention_bias", false)?;
    Ok(Spec {
        qkv_bias: bias,
        output_bias: bias,
        qk_norm: Some(QkNorm::PerHead),
        windows: upper_windows(config, dense.layers)?,
        ..dense
    })
}
