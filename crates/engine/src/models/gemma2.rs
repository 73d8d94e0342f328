//! Gemma 2: norms on both sides of attention and feed-forward, soft bounds on scores and logits, windows
//! in every other layer.

use super::config::Config;
use super::{
    BlockNames, Family, LLAMA_BLOCK, LLAMA_NAMES, Names, NormKind, Spec, activation, dense_spec_with,
    sliding_window, softcap, windows,
};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "gemma2", spec };

pub(super) const NAMES: Names = Names {
    block: BlockNames {
        after_attention: Some("post_attention_layernorm"),
        before_mlp: Some("pre_feedforward_layernorm"),
        after_mlp: Some("post_feedforward_layernorm"),
        ..LLAMA_BLOCK
    },
    ..LLAMA_NAMES
};

fn spec(config: &Config<'_>) -> Result<Spec> {
    let gemma = gemma_spec(config, 10_000.0)?;
    let window = sliding_window(config, Some(4096))?;
    Ok(Spec {
        windows: windows(config, gemma.layers, window, |layer| layer.is_multiple_of(2))?,
        score_softcap: softcap(config, "attn_logit_softcapping", Some(50.0))?,
        logit_softcap: softcap(config, "final_logit_softcapping", Some(30.0))?,
        ..gemma
    })
}

/// What the Gemma families have in common.
pub(super) fn gemma_spec(config: &Config<'_>, theta: f64) -> Result<Spec> {
    config.refuse("use_bidirectional_attention", "attention to later tokens")?;
    let dense = dense_spec_with(config, theta, Some(256))?;
    let bias = config.flag("attention_bias", false)?;
    let scalar = config.float("query_pre_attn_scalar")?.unwrap_or(256.0);
    if scalar <= 0.0 {
        return Err(config.error(format!("\"query_pre_attn_scalar\" must be above 0, found {scalar}")));
    }
    Ok(Spec {
        names: &NAMES,
        norm: NormKind::RmsFromOne,
        activation: activation(config, "hidden_activation", "gelu_pytorch_tanh")?,
        tied: config.flag("tie_word_embeddings", true)?,
        qkv_bias: bias,
        output_bias: bias,
        scales: vec![scalar.powf(-0.5) as f32; dense.layers],
        embedding_scale: Some((dense.hidden as f64).sqrt() as f32),
        ..dense
    })
}
