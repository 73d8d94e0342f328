//! Models: a family reads its `config.json` into a [`Spec`]; the decoder does the rest.
//!
//! A new dense family is one file with a `spec` function and one line in [`FAMILIES`].

mod cache;
mod config;
mod decoder;
mod encoder;
mod llama;
mod lora;
mod mistral;
mod model;
mod opened;
mod qwen2;
mod qwen3;
mod rope;

use config::Config;

use crate::Result;
use crate::kernels::Activation;

pub use cache::KvCache;
pub use decoder::{Decoder, Spec};
pub use encoder::{ENCODING_TOKENS, Encoder, Grid, Input, Pipeline, Pooling, encoder_families};
pub use lora::LoraOptions;
pub use model::{Model, TensorChange};
pub use rope::{Rope, RopeScaling};

/// A model family: the `model_type` of its configs, and how they are read.
pub(crate) struct Family {
    pub(crate) model_type: &'static str,
    spec: fn(&Config<'_>) -> Result<Spec>,
}

/// Every family the engine runs.
pub(crate) const FAMILIES: &[Family] = &[llama::FAMILY, mistral::FAMILY, qwen2::FAMILY, qwen3::FAMILY];

/// Names of the supported families, as `model_type` spells them.
pub fn supported_families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|f| f.model_type)
}

/// Reads a config by its `model_type`.
pub(crate) fn spec_of(config: &Config<'_>) -> Result<Spec> {
    let known = || supported_families().collect::<Vec<_>>().join(", ");
    let Some(name) = config.text("model_type")? else {
        return Err(config.error(format!("\"model_type\" is missing; supported: {}", known())));
    };
    match FAMILIES.iter().find(|f| f.model_type == name) {
        Some(family) => (family.spec)(config),
        None if encoder_families().any(|family| family == name) => Err(config.error(format!(
            "model_type \"{name}\" is an encoder, which predicts no next tokens; use `amend embed`"
        ))),
        None => Err(config.error(format!("model_type \"{name}\" is not supported; supported: {}", known()))),
    }
}

/// What all dense families write the same way; each family then changes what is its own.
fn dense_spec(config: &Config<'_>, default_theta: f64) -> Result<Spec> {
    let hidden = config.size("hidden_size")?;
    let layers = config.size("num_hidden_layers")?;
    let heads = config.size("num_attention_heads")?;
    let kv_heads = config.count("num_key_value_heads")?.unwrap_or(heads);
    let head_dim = config.count("head_dim")?.unwrap_or(hidden / heads);
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(config
            .error(format!("{heads} attention heads cannot be shared among {kv_heads} key/value heads")));
    }
    let activation = match config.text("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => Activation::Silu,
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        other => return Err(config.error(format!("activation \"{other}\" is not supported"))),
    };
    Ok(Spec {
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate: config.size("intermediate_size")?,
        vocabulary: config.size("vocab_size")?,
        context: config.size("max_position_embeddings")?,
        eps: config.float("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        activation,
        tied: config.flag("tie_word_embeddings", false)?,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        windows: vec![None; layers],
        rope: rope::Rope::read(config, head_dim, default_theta)?,
    })
}

/// Windows by layer: from `layer_types` where the config lists them, otherwise by `rule(layer)`.
fn windows(
    config: &Config<'_>,
    layers: usize,
    window: Option<usize>,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let Some(types) = config.texts("layer_types")? else {
        return Ok((0..layers).map(|l| window.filter(|_| rule(l))).collect());
    };
    if types.len() != layers {
        return Err(config.error(format!("\"layer_types\" lists {} of {layers} layers", types.len())));
    }
    types
        .iter()
        .map(|kind| match *kind {
            "full_attention" => Ok(None),
            "sliding_attention" => Ok(window),
            other => Err(config.error(format!("layer type \"{other}\" is not supported"))),
        })
        .collect()
}
