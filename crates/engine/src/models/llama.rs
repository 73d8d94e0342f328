//! Llama 1–3 and everything published under `model_type: llama`.

use super::config::Config;
use super::{Family, Spec, dense_spec};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "llama", spec };

fn spec(config: &Config<'_>) -> Result<Spec> {
    let bias = config.flag("attention_bias", false)?;
    Ok(Spec {
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: config.flag("mlp_bias", false)?,
        ..dense_spec(config, 10_000.0)?
    })
}
