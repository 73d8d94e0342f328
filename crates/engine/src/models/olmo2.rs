//! OLMo 2: norms only after attention and feed-forward, and queries and keys normalised over all heads.

use super::config::Config;
use super::{BlockNames, Family, LLAMA_BLOCK, LLAMA_NAMES, Names, QkNorm, Spec, dense_spec};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "olmo2", spec };

const NAMES: Names = Names {
    block: BlockNames {
        before_attention: None,
        after_attention: Some("post_attention_layernorm"),
        before_mlp: None,
        after_mlp: Some("post_feedforward_layernorm"),
        ..LLAMA_BLOCK
    },
    ..LLAMA_NAMES
};

fn spec(config: &Config<'_>) -> Result<Spec> {
    let bias = config.flag("attention_bias", false)?;
    Ok(Spec {
        names: &NAMES,
        eps: config.float("rms_norm_eps")?.unwrap_or(1e-5) as f32,
        qkv_bias: bias,
        output_bias: bias,
        qk_norm: Some(QkNorm::Whole),
        ..dense_spec(config, 10_000.0)?
    })
}
