//! GPT-2: learned positions, layer norms, a plain feed-forward, matrices stored the other way round.

use super::config::Config;
use super::{
    BlockNames, Family, InnerNames, LLAMA_BLOCK, Names, NormKind, Positions, QkvNames, Spec, activation,
};
use crate::Result;

pub(super) const FAMILY: Family = Family { model_type: "gpt2", spec };

const NAMES: Names = Names {
    base: "transformer.",
    embedding: "transformer.wte",
    block: BlockNames {
        blocks: "transformer.h",
        before_attention: Some("ln_1"),
        before_mlp: Some("ln_2"),
        qkv: QkvNames::Fused("attn.c_attn"),
        output: "attn.c_proj",
        inner: InnerNames::Plain("mlp.c_fc"),
        down: "mlp.c_proj",
        transposed: true,
        ..LLAMA_BLOCK
    },
    final_norm: "transformer.ln_f",
    head: "lm_head",
};

fn spec(config: &Config<'_>) -> Result<Spec> {
    config.refuse("add_cross_attention", "attention to an encoder")?;
    let hidden = config.size("n_embd")?;
    let (layers, heads) = (config.size("n_layer")?, config.size("n_head")?);
    if !hidden.is_multiple_of(heads) {
        return Err(config.error(format!("\"n_embd\" {hidden} cannot be shared among {heads} heads")));
    }
    let head_dim = hidden / heads;
    let scale = if config.flag("scale_attn_weights", true)? { 1.0 / (head_dim as f32).sqrt() } else { 1.0 };
    let by_depth = config.flag("scale_attn_by_inverse_layer_idx", false)?;
    let inner = match config.count("n_inner")? {
        Some(_) => config.size("n_inner")?,
        None => 4 * hidden,
    };
    Ok(Spec {
        hidden,
        layers,
        heads,
        kv_heads: heads,
        head_dim,
        intermediate: inner,
        vocabulary: config.size("vocab_size")?,
        context: config.size("n_positions")?,
        names: &NAMES,
        norm: NormKind::Layer,
        eps: config.float("layer_norm_epsilon")?.unwrap_or(1e-5) as f32,
        activation: activation(config, "activation_function", "gelu_new")?,
        tied: config.flag("tie_word_embeddings", true)?,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        qk_norm: None,
        parallel: false,
        windows: vec![None; layers],
        scales: (0..layers).map(|l| if by_depth { scale / (l + 1) as f32 } else { scale }).collect(),
        score_softcap: None,
        logit_softcap: None,
        embedding_scale: None,
        positions: Positions::Learned("transformer.wpe"),
        experts: None,
    })
}
