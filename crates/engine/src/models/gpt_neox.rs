//! GPT-NeoX and Pythia: attention and feed-forward side by side, projections fused head by head.

use super::config::Config;
use super::{
    BlockNames, Family, InnerNames, LLAMA_BLOCK, Names, NormKind, Positions, QkvNames, Rope, Spec, dense_spec,
};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "gpt_neox", spec };

const NAMES: Names = Names {
    base: "gpt_neox.",
    embedding: "gpt_neox.embed_in",
    block: BlockNames {
        blocks: "gpt_neox.layers",
        qkv: QkvNames::FusedPerHead("attention.query_key_value"),
        output: "attention.dense",
        inner: InnerNames::Plain("mlp.dense_h_to_4h"),
        down: "mlp.dense_4h_to_h",
        ..LLAMA_BLOCK
    },
    final_norm: "gpt_neox.final_layer_norm",
    head: "embed_out",
};

fn spec(config: &Config<'_>) -> Result<Spec> {
    let dense = dense_spec(config, 10_000.0)?;
    if !dense.hidden.is_multiple_of(dense.heads) {
        let (hidden, heads) = (dense.hidden, dense.heads);
        return Err(config.error(format!("\"hidden_size\" {hidden} cannot be shared among {heads} heads")));
    }
    let head_dim = dense.hidden / dense.heads;
    let theta = config.float("rotary_emb_base")?.unwrap_or(10_000.0);
    let partial = config.float("rotary_pct")?.unwrap_or(0.25);
    let rope = Rope::with(config, Rope::parameters(config)?, head_dim, theta, partial)?;
    let bias = config.flag("attention_bias", true)?;
    Ok(Spec {
        kv_heads: dense.heads,
        head_dim,
        names: &NAMES,
        norm: NormKind::Layer,
        eps: config.float("layer_norm_eps")?.unwrap_or(1e-5) as f32,
        activation: super::activation(config, "hidden_act", "gelu")?,
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: true,
        parallel: config.flag("use_parallel_residual", true)?,
        scales: vec![1.0 / (head_dim as f32).sqrt(); dense.layers],
        positions: Positions::Rotary(vec![rope; dense.layers]),
        ..dense
    })
}
