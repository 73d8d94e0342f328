//! `config.json` from the metadata of a GGUF file, and the other way round.
//!
//! Keys are those of the GGUF specification's section on standardised key-value pairs.

use serde_json::{Map, Value as Json, json};

use super::metadata::{Metadata, Value};
use super::names::{Architecture, Heads};
use super::reader::Header;
use super::rope::{self, Frequencies};
use crate::models::Config;

/// What a file's metadata say about the model.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) architecture: &'static Architecture,
    pub(super) config: Map<String, Json>,
    pub(super) generation_config: Map<String, Json>,
    pub(super) heads: Heads,
}

/// Reads the model's description. `tied` says that the output matrix is the embedding; `divisors`
/// are the values of the tensor that [`rope::DIVISORS`] names.
pub(super) fn read(header: &Header, tied: bool, divisors: Option<&[f32]>) -> Result<Described, String> {
    let metadata = &header.metadata;
    refuse_parts(metadata)?;
    let Some(name) = metadata.text("general.architecture")? else {
        return Err("the key general.architecture is missing, so it cannot be told what model this is".into());
    };
    let architecture = Architecture::named(name)?;
    let key = |part: &str| format!("{name}.{part}");
    if let Some(experts @ 1..) = metadata.count(&key("expert_count"))? {
        return Err(format!(
            "a mixture of {experts} experts in GGUF is not supported; take the Hugging Face folder"
        ));
    }
    let size = |part: &str| metadata.size(&key(part));
    let (hidden, heads) = (size("embedding_length")?, size("attention.head_count")?);
    let kv_heads = metadata.count(&key("attention.head_count_kv"))?.unwrap_or(heads);
    let head_dim = metadata.count(&key("attention.key_length"))?.unwrap_or(hidden / heads);
    let context = size("context_length")?;
    let theta = metadata.float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let rotating = metadata.count(&key("rope.dimension_count"))?.unwrap_or(head_dim);
    if rotating != head_dim || head_dim == 0 || !head_dim.is_multiple_of(2) {
        return Err(format!("heads of {head_dim} dimensions of which {rotating} rotate are not supported"));
    }
    if !(theta.is_finite() && theta > 0.0) {
        return Err(format!("{} is {theta}, which has no meaning", key("rope.freq_base")));
    }
    if header.index.contains_key("rope_factors_long.weight") {
        return Err("LongRoPE (the tensor rope_factors_long.weight) in GGUF is not supported; \
                    take the Hugging Face folder"
            .into());
    }
    let plain = Frequencies { theta, dimensions: head_dim };
    let scaling = rope::read(metadata, name, plain, context, divisors)?;
    let Some(embedding) = header.index.get("token_embd.weight").map(|&i| &header.tensors[i].shape) else {
        return Err("there is no tensor token_embd.weight; this is not a whole model".into());
    };
    let layers = size("block_count")?;
    if layers > header.tensors.len() {
        return Err(format!(
            "{} is {layers}, but there are only {} tensors",
            key("block_count"),
            header.tensors.len()
        ));
    }
    let has = |tensor: &str| header.index.contains_key(tensor);
    // GGUF has no name of its own for Mistral; the window is what makes it one.
    let window = metadata.count(&key("attention.sliding_window"))?.filter(|&w| w > 0);
    let (model_type, class) = match window {
        Some(_) if name == "llama" => ("mistral", "MistralForCausalLM"),
        _ => (architecture.model_type, architecture.class),
    };
    let mut config = json!({
        "architectures": [class],
        "model_type": model_type,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": context,
        "rms_norm_eps": metadata.float(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(1e-6),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": tied,
        "vocab_size": embedding.first().copied().unwrap_or_default(),
    });
    if matches!(model_type, "mistral" | "phi3" | "gemma2") {
        config["sliding_window"] = window.into();
    }
    if model_type == "phi3" {
        // The class has no head_dim of its own; it follows from the width.
        if head_dim * heads != hidden {
            return Err(format!(
                "heads of {head_dim} dimensions in a phi3 model of width {hidden} are not supported"
            ));
        }
    }
    if model_type == "gemma2" {
        config["hidden_activation"] = "gelu_pytorch_tanh".into();
        config["query_pre_attn_scalar"] = gemma2_scalar(layers, hidden, heads, head_dim).into();
        for (ours, theirs, default) in SOFTCAPS {
            config[ours] = metadata.float(&key(theirs))?.unwrap_or(default).into();
        }
    }
    if matches!(model_type, "llama" | "qwen3" | "gemma2") {
        config["attention_bias"] = has("blk.0.attn_q.bias").into();
    }
    if model_type == "llama" {
        config["mlp_bias"] = has("blk.0.ffn_up.bias").into();
    }
    let generation_config = special_ids(metadata)?;
    let mut config = config.as_object().cloned().unwrap_or_default();
    config.extend(generation_config.clone());
    Ok(Described { architecture, config, generation_config, heads: Heads { queries: heads, keys: kv_heads } })
}

/// Bounds on scores and logits in Gemma 2: our key, GGUF's, and what its absence means.
const SOFTCAPS: [(&str, &str, f64); 2] = [
    ("attn_logit_softcapping", "attn_logit_softcapping", 50.0),
    ("final_logit_softcapping", "final_logit_softcapping", 30.0),
];

/// What Gemma 2 divides scores by the root of. GGUF has no key for it: llama.cpp knows that the model
/// with 46 layers takes the width per head, and all others the width of a head.
fn gemma2_scalar(layers: usize, hidden: usize, heads: usize, head_dim: usize) -> usize {
    if layers == 46 { hidden / heads } else { head_dim }
}

fn refuse_parts(metadata: &Metadata) -> Result<(), String> {
    match metadata.count("split.count")? {
        Some(parts @ 2..) => Err(format!(
            "one of {parts} parts of a split model; join them first: llama-gguf-split --merge FIRST_PART WHOLE.gguf"
        )),
        _ => Ok(()),
    }
}

/// The ids of tokens that begin, end and pad a text, under the keys of `generation_config.json`.
pub(super) fn special_ids(metadata: &Metadata) -> Result<Map<String, Json>, String> {
    let tokens = metadata.texts("tokenizer.ggml.tokens")?.map_or(0, <[String]>::len);
    let id = |name: &str| metadata.token(&format!("tokenizer.ggml.{name}_token_id"), tokens);
    let mut ids = Map::new();
    if let Some(bos) = id("bos")? {
        ids.insert("bos_token_id".into(), bos.into());
    }
    // An end of turn ends the answer just as the end of the text does.
    let mut ends: Vec<u32> = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ends.extend(id(name)?.filter(|id| !ends.contains(id)));
    }
    match ends.as_slice() {
        [] => {}
        [one] => drop(ids.insert("eos_token_id".into(), (*one).into())),
        several => drop(ids.insert("eos_token_id".into(), several.into())),
    }
    if let Some(pad) = id("padding")? {
        ids.insert("pad_token_id".into(), pad.into());
    }
    Ok(ids)
}

/// What writing a model needs to know of its configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outline {
    pub(super) layers: usize,
    pub(super) vocabulary: usize,
    pub(super) heads: Heads,
}

impl Outline {
    pub(super) fn read(config: &Config<'_>) -> crate::Result<Self> {
        let queries = config.size("num_attention_heads")?;
        let keys = config.count("num_key_value_heads")?.unwrap_or(queries);
        Ok(Outline {
            layers: config.size("num_hidden_layers")?,
            vocabulary: config.size("vocab_size")?,
            heads: Heads { queries, keys },
        })
    }
}

/// Adds the metadata of a model; returns the divisors of its frequencies where there are any.
///
/// What a key's absence means is what the families' own configuration classes make of it.
pub(super) fn write(
    architecture: &Architecture,
    config: &Config<'_>,
    metadata: &mut Metadata,
) -> crate::Result<Option<Vec<f32>>> {
    let name = architecture.name;
    let outline = Outline::read(config)?;
    let (hidden, context) = (config.size("hidden_size")?, config.size("max_position_embeddings")?);
    let head_dim = match config.count("head_dim")? {
        Some(width) => width,
        None if architecture.model_type == "qwen3" => 128,
        None if architecture.model_type == "gemma2" => 256,
        None => hidden / outline.heads.queries,
    };
    let gemma2 = architecture.model_type == "gemma2";
    let (activation, known) = match gemma2 {
        true => (config.text("hidden_activation")?, &["gelu_pytorch_tanh"][..]),
        false => (config.text("hidden_act")?, &["silu", "swish"][..]),
    };
    if activation.is_some_and(|name| !known.contains(&name)) {
        return Err(config.error(format!(
            "the activation must be {} to be written as GGUF for this model_type",
            known[0]
        )));
    }
    if gemma2 {
        let scalar = config.float("query_pre_attn_scalar")?.unwrap_or(256.0);
        let known = gemma2_scalar(outline.layers, hidden, outline.heads.queries, head_dim);
        if scalar != known as f64 {
            return Err(config.error(format!(
                "\"query_pre_attn_scalar\" is {scalar}, but llama.cpp takes {known} for a model of this shape"
            )));
        }
    }
    if config.float("partial_rotary_factor")?.is_some_and(|share| share != 1.0) {
        return Err(
            config.error("heads of which only a part rotates cannot be written as GGUF for this model_type")
        );
    }
    let mut add =
        |part: &str, value| metadata.insert(format!("{name}.{part}"), value).map_err(crate::Error::invalid);
    let int = |n: usize| Value::Int(n as i128);
    add("vocab_size", int(outline.vocabulary))?;
    add("context_length", int(context))?;
    add("embedding_length", int(hidden))?;
    add("block_count", int(outline.layers))?;
    add("feed_forward_length", int(config.size("intermediate_size")?))?;
    add("attention.head_count", int(outline.heads.queries))?;
    add("attention.head_count_kv", int(outline.heads.keys))?;
    add("attention.key_length", int(head_dim))?;
    add("attention.value_length", int(head_dim))?;
    let eps = config.float("rms_norm_eps")?;
    let eps = eps.unwrap_or(if architecture.model_type == "phi3" { 1e-5 } else { 1e-6 });
    add("attention.layer_norm_rms_epsilon", Value::F32(eps as f32))?;
    if gemma2 {
        for (ours, theirs, default) in SOFTCAPS {
            let bound = config.float(ours)?.unwrap_or(default);
            if bound <= 0.0 || config.has(ours) && config.value(ours).is_none() {
                return Err(config.error(format!("without \"{ours}\" the model cannot be written as GGUF")));
            }
            add(theirs, Value::F32(bound as f32))?;
        }
    }
    if let Some(window) = window(architecture, config)? {
        add("attention.sliding_window", int(window))?;
    }
    let (theta, scaling) = rope::of_config(config, 10_000.0)?;
    rope::write(Frequencies { theta, dimensions: head_dim }, scaling.as_ref(), context, name, metadata)
}

/// The attention window of every layer, where there is one. llama.cpp ignores it in models it calls
/// `llama`, which changes nothing for texts no longer than the window.
fn window(architecture: &Architecture, config: &Config<'_>) -> crate::Result<Option<usize>> {
    let layers = config.texts("layer_types")?.unwrap_or_default();
    let sliding = layers.iter().filter(|kind| **kind == "sliding_attention").count();
    match architecture.model_type {
        "gemma2" => {
            let even = |(l, kind): (usize, &&str)| (*kind == "sliding_attention") == l.is_multiple_of(2);
            if !layers.iter().enumerate().all(even) {
                return Err(config
                    .error("windows must be in every other layer, from the first, to be written as GGUF"));
            }
            if config.has("sliding_window") { config.count("sliding_window") } else { Ok(Some(4096)) }
        }
        "phi3" => config.count("sliding_window"),
        "mistral" if sliding == layers.len() => {
            // An absent key means the first release's window; an explicit null means none.
            if config.has("sliding_window") { config.count("sliding_window") } else { Ok(Some(4096)) }
        }
        "mistral" if sliding == 0 => Ok(None),
        "mistral" => Err(config.error("layers with different attention windows cannot be written as GGUF")),
        _ if sliding > 0 || config.flag("use_sliding_window", false)? => {
            Err(config.error("an attention window cannot be written as GGUF for this model_type"))
        }
        _ => Ok(None),
    }
}
