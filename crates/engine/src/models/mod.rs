//! Models: a family reads its `config.json` into a [`Spec`]; the decoder does the rest.
//!
//! A new family is one file with a `spec` function and one line in `FAMILIES`. Encoders, which predict no
//! tokens, have a frame and families of their own, in `encoder`.

mod adapters;
mod attention;
mod between;
mod block;
mod builder;
mod cache;
mod changes;
mod config;
mod decoder;
mod encoder;
mod experts;
mod feed_forward;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod llama;
mod mistral;
mod mixtral;
mod mixture;
mod model;
mod norm;
mod olmo2;
mod open;
mod opened;
mod outputs;
mod part;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod rope;
mod router;
mod silenced;
mod sites;
mod source;
mod spec;
mod stack;
mod tokens;
mod tower_sites;
mod weight_grid;
mod within;

pub(crate) use config::Config;

use crate::Result;
use crate::kernels::Activation;

pub use adapters::{Adapter, AdapterKind, AdapterTensors, EditPoint, Gate, Lora, LoraOptions, ShiftFfn};
pub use cache::KvCache;
pub use changes::TensorChange;
pub use decoder::Decoder;
pub use encoder::{ENCODING_TOKENS, Encoder, Grid, Input, Pipeline, Pooling, encoder_families};
pub use mixture::{ExpertNames, ExpertsSpec};
pub use model::Model;
pub use norm::NormKind;
pub use part::Part;
pub use rope::{Rope, RopeScaling};
pub use router::RouterLosses;
pub use spec::{BlockNames, InnerNames, LLAMA_BLOCK, LLAMA_NAMES, Names, Positions, QkNorm, QkvNames, Spec};
pub use tokens::{SoftTokens, Tokens};
pub use weight_grid::WeightGrid;

/// A model family: the `model_type` of its configs, and how they are read.
pub(crate) struct Family {
    pub(crate) model_type: &'static str,
    spec: fn(&Config<'_>) -> Result<Spec>,
}

/// Every family the engine runs.
pub(crate) const FAMILIES: &[Family] = &[
    llama::FAMILY,
    mistral::FAMILY,
    mixtral::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    qwen3_moe::FAMILY,
    gemma2::FAMILY,
    gemma3::FAMILY,
    phi3::FAMILY,
    olmo2::FAMILY,
    gpt2::FAMILY,
    gpt_neox::FAMILY,
];

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
        Some(family) => {
            config.refuse_quantized()?;
            (family.spec)(config)
        }
        None if encoder_families().any(|family| family == name) => Err(config.unsupported(format!(
            "model_type \"{name}\" is an encoder, which predicts no next tokens; use `amend embed`"
        ))),
        None => {
            Err(config.unsupported(format!("model_type \"{name}\" is not supported; supported: {}", known())))
        }
    }
}

/// What most dense families write the same way; each family then changes what is its own.
fn dense_spec(config: &Config<'_>, default_theta: f64) -> Result<Spec> {
    dense_spec_with(config, default_theta, None)
}

/// The same for families whose heads have a width that does not follow from the hidden size.
fn dense_spec_with(config: &Config<'_>, default_theta: f64, default_head: Option<usize>) -> Result<Spec> {
    let hidden = config.size("hidden_size")?;
    let layers = config.size("num_hidden_layers")?;
    let heads = config.size("num_attention_heads")?;
    let kv_heads = config.count("num_key_value_heads")?.unwrap_or(heads);
    let head_dim = config.count("head_dim")?.or(default_head).unwrap_or(hidden / heads);
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(config
            .error(format!("{heads} attention heads cannot be shared among {kv_heads} key/value heads")));
    }
    if head_dim == 0 {
        return Err(config.error(format!("{heads} heads of a hidden size of {hidden} have no width")));
    }
    let rope = Rope::read(config, head_dim, default_theta)?;
    Ok(Spec {
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate: config.size("intermediate_size")?,
        vocabulary: config.size("vocab_size")?,
        context: rope.context(config.size("max_position_embeddings")?),
        names: &LLAMA_NAMES,
        norm: NormKind::Rms,
        eps: config.float("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        activation: activation(config, "hidden_act", "silu")?,
        tied: config.flag("tie_word_embeddings", false)?,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: None,
        parallel: false,
        windows: vec![None; layers],
        scales: vec![1.0 / (head_dim as f32).sqrt(); layers],
        score_softcap: None,
        logit_softcap: None,
        embedding_scale: None,
        positions: Positions::Rotary(vec![rope; layers]),
        experts: None,
    })
}

/// The activation function that a key names.
fn activation(config: &Config<'_>, key: &str, default: &str) -> Result<Activation> {
    Ok(match config.text(key)?.unwrap_or(default) {
        "silu" | "swish" => Activation::Silu,
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_accurate" | "gelu_python_tanh" => {
            Activation::GeluTanh
        }
        "quick_gelu" => Activation::QuickGelu,
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        other => {
            return Err(config.unsupported(format!(
                "\"{key}\" names the activation \"{other}\", which is not supported; supported: silu, gelu, \
                 gelu_new, gelu_pytorch_tanh, gelu_fast, quick_gelu, relu, tanh"
            )));
        }
    })
}

/// A soft bound: a positive number, or nothing.
fn softcap(config: &Config<'_>, key: &str, default: Option<f64>) -> Result<Option<f32>> {
    let cap = if config.has(key) { config.float(key)? } else { default };
    match cap {
        Some(cap) if cap <= 0.0 => Err(config.error(format!("\"{key}\" must be above 0, found {cap}"))),
        cap => Ok(cap.map(|cap| cap as f32)),
    }
}

/// The width of sliding windows: `default` where the config does not speak of it, none where it is null.
fn sliding_window(config: &Config<'_>, default: Option<usize>) -> Result<Option<usize>> {
    match config.count("sliding_window")? {
        Some(0) => Err(config.error("\"sliding_window\" must not be 0; null means none")),
        None if !config.has("sliding_window") => Ok(default),
        window => Ok(window),
    }
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
            other => Err(config.unsupported(format!("layer type \"{other}\" is not supported"))),
        })
        .collect()
}
