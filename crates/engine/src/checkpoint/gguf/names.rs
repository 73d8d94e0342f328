//! What the same weight is called in GGUF and in a Hugging Face folder, and how its values differ.
//!
//! Names and changes of values are those of llama.cpp's `gguf-py/gguf/tensor_mapping.py` and of the
//! model classes of its converter.

use crate::{Result, Tensor};

/// An architecture that GGUF has a name for.
#[derive(Debug)]
pub(super) struct Architecture {
    /// The value of `general.architecture`, which also starts its keys.
    pub(super) name: &'static str,
    /// The `model_type` of `config.json` that it is read as.
    pub(super) model_type: &'static str,
    /// The class `config.json` names.
    pub(super) class: &'static str,
    /// Names outside of blocks: GGUF, Hugging Face, how the values differ.
    outside: &'static [TensorName],
    /// Names within block N, after `blk.N.` and `model.layers.N.`.
    inside: &'static [TensorName],
    /// What the Hugging Face names of blocks start with.
    blocks: &'static str,
}

type TensorName = (&'static str, &'static str, Change);

/// How the values of a weight differ between the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Not at all.
    None,
    /// Rows of each query head in another order, see [`Change::to_folder`].
    Queries,
    /// The same for key heads.
    Keys,
    /// GGUF has the factor of a norm, a folder the factor minus one.
    FromOne,
}

use Change::{FromOne, Keys, None as Same, Queries};

const OUTSIDE: &[TensorName] = &[
    ("token_embd", "model.embed_tokens", Same),
    ("output_norm", "model.norm", Same),
    ("output", "lm_head", Same),
];

const LLAMA: &[TensorName] = &[
    ("attn_norm", "input_layernorm", Same),
    ("attn_q", "self_attn.q_proj", Queries),
    ("attn_k", "self_attn.k_proj", Keys),
    ("attn_v", "self_attn.v_proj", Same),
    ("attn_output", "self_attn.o_proj", Same),
    ("ffn_norm", "post_attention_layernorm", Same),
    ("ffn_gate", "mlp.gate_proj", Same),
    ("ffn_up", "mlp.up_proj", Same),
    ("ffn_down", "mlp.down_proj", Same),
];

/// Qwen's rotary embedding pairs the dimensions as Hugging Face does, so no rows move.
const QWEN: &[TensorName] = &[
    ("attn_norm", "input_layernorm", Same),
    ("attn_q", "self_attn.q_proj", Same),
    ("attn_k", "self_attn.k_proj", Same),
    ("attn_v", "self_attn.v_proj", Same),
    ("attn_output", "self_attn.o_proj", Same),
    ("attn_q_norm", "self_attn.q_norm", Same),
    ("attn_k_norm", "self_attn.k_norm", Same),
    ("ffn_norm", "post_attention_layernorm", Same),
    ("ffn_gate", "mlp.gate_proj", Same),
    ("ffn_up", "mlp.up_proj", Same),
    ("ffn_down", "mlp.down_proj", Same),
];

/// Phi 3 has queries, keys and values in one matrix, and gate and up projection in another.
const PHI3: &[TensorName] = &[
    ("attn_norm", "input_layernorm", Same),
    ("attn_qkv", "self_attn.qkv_proj", Same),
    ("attn_output", "self_attn.o_proj", Same),
    ("ffn_norm", "post_attention_layernorm", Same),
    ("ffn_up", "mlp.gate_up_proj", Same),
    ("ffn_down", "mlp.down_proj", Same),
];

const GEMMA_OUTSIDE: &[TensorName] = &[
    ("token_embd", "model.embed_tokens", Same),
    ("output_norm", "model.norm", FromOne),
    ("output", "lm_head", Same),
];

const GEMMA2: &[TensorName] = &[
    ("attn_norm", "input_layernorm", FromOne),
    ("attn_q", "self_attn.q_proj", Same),
    ("attn_k", "self_attn.k_proj", Same),
    ("attn_v", "self_attn.v_proj", Same),
    ("attn_output", "self_attn.o_proj", Same),
    ("post_attention_norm", "post_attention_layernorm", FromOne),
    ("ffn_norm", "pre_feedforward_layernorm", FromOne),
    ("ffn_gate", "mlp.gate_proj", Same),
    ("ffn_up", "mlp.up_proj", Same),
    ("ffn_down", "mlp.down_proj", Same),
    ("post_ffw_norm", "post_feedforward_layernorm", FromOne),
];

const fn dense(
    name: &'static str,
    model_type: &'static str,
    class: &'static str,
    inside: &'static [TensorName],
) -> Architecture {
    Architecture { name, model_type, class, outside: OUTSIDE, inside, blocks: "model.layers." }
}

/// Every architecture that is read and written. GGUF knows Mistral as `llama`.
pub(super) const ARCHITECTURES: &[Architecture] = &[
    dense("llama", "llama", "LlamaForCausalLM", LLAMA),
    dense("llama", "mistral", "MistralForCausalLM", LLAMA),
    dense("qwen2", "qwen2", "Qwen2ForCausalLM", QWEN),
    dense("qwen3", "qwen3", "Qwen3ForCausalLM", QWEN),
    dense("phi3", "phi3", "Phi3ForCausalLM", PHI3),
    Architecture { outside: GEMMA_OUTSIDE, ..dense("gemma2", "gemma2", "Gemma2ForCausalLM", GEMMA2) },
];

/// Tensors that other programs derive from the configuration and that no model here has.
pub(super) const DERIVED: [&str; 1] = [".rotary_emb.inv_freq"];

impl Architecture {
    /// The architecture a GGUF file names. Where two models share it, the plainer one.
    pub(super) fn named(name: &str) -> std::result::Result<&'static Self, String> {
        ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| {
            let mut known: Vec<_> = ARCHITECTURES.iter().map(|a| a.name).collect();
            known.dedup();
            format!("the architecture {name:?} is not supported; supported: {}", known.join(", "))
        })
    }

    /// The architecture of a `model_type`.
    pub(super) fn of_model_type(model_type: &str) -> std::result::Result<&'static Self, String> {
        ARCHITECTURES.iter().find(|a| a.model_type == model_type).ok_or_else(|| {
            let known: Vec<_> = ARCHITECTURES.iter().map(|a| a.model_type).collect();
            format!("model_type \"{model_type}\" cannot be written as GGUF; supported: {}", known.join(", "))
        })
    }

    /// The Hugging Face name of a GGUF tensor, and how its values differ.
    pub(super) fn folder_name(&self, name: &str) -> Option<(String, Change)> {
        let (stem, suffix) = split(name)?;
        if let Some((layer, part)) = stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            let (_, theirs, change) = self.inside.iter().find(|row| row.0 == part)?;
            let layer: usize = layer.parse().ok()?;
            return Some((format!("{}{layer}.{theirs}{suffix}", self.blocks), *change));
        }
        let (_, theirs, change) = self.outside.iter().find(|row| row.0 == stem)?;
        Some((format!("{theirs}{suffix}"), *change))
    }

    /// The GGUF name of a Hugging Face tensor, and how its values differ.
    pub(super) fn gguf_name(&self, name: &str) -> Option<(String, Change)> {
        let (stem, suffix) = split(name)?;
        if let Some((layer, part)) = stem.strip_prefix(self.blocks).and_then(|rest| rest.split_once('.')) {
            let (ours, _, change) = self.inside.iter().find(|row| row.1 == part)?;
            let layer: usize = layer.parse().ok()?;
            return Some((format!("blk.{layer}.{ours}{suffix}"), *change));
        }
        let (ours, _, change) = self.outside.iter().find(|row| row.1 == stem)?;
        Some((format!("{ours}{suffix}"), *change))
    }
}

/// A name without `.weight` or `.bias`, and that.
fn split(name: &str) -> Option<(&str, &str)> {
    [".weight", ".bias"].into_iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)))
}

/// Numbers of heads, which a change of values needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heads {
    pub(super) queries: usize,
    pub(super) keys: usize,
}

impl Change {
    /// Heads whose rows move, if any do.
    fn heads(self, heads: Heads) -> Option<usize> {
        match self {
            Change::None | Change::FromOne => None,
            Change::Queries => Some(heads.queries),
            Change::Keys => Some(heads.keys),
        }
    }

    /// From the values of a GGUF file to those of a folder.
    ///
    /// Llama's rotary embedding turns pairs of dimensions. In GGUF the two of a pair are neighbours
    /// (2i, 2i + 1), in a folder they are half a head apart (i, i + w/2), and the rows of the
    /// projections are ordered accordingly.
    pub(super) fn to_folder(self, tensor: Tensor, heads: Heads) -> Result<Tensor> {
        if self == FromOne {
            return Ok(added(&tensor, -1.0));
        }
        self.reorder(tensor, heads, |row, width| row % (width / 2) * 2 + row / (width / 2))
    }

    /// From the values of a folder to those of a GGUF file: the inverse.
    pub(super) fn to_gguf(self, tensor: Tensor, heads: Heads) -> Result<Tensor> {
        if self == FromOne {
            return Ok(added(&tensor, 1.0));
        }
        self.reorder(tensor, heads, |row, width| row % 2 * (width / 2) + row / 2)
    }

    /// Row `row` of a head becomes what was in row `from(row, width of a head)`.
    fn reorder(self, tensor: Tensor, heads: Heads, from: impl Fn(usize, usize) -> usize) -> Result<Tensor> {
        let Some(heads) = self.heads(heads) else { return Ok(tensor) };
        let shape = tensor.shape().to_vec();
        let rows = shape.first().copied().unwrap_or(0);
        if heads == 0 || !rows.is_multiple_of(2 * heads) || tensor.is_empty() {
            return Err(crate::Error::invalid(format!(
                "{rows} rows cannot be the pairs of {heads} attention heads"
            )));
        }
        let width = rows / heads;
        let bytes = tensor.bytes();
        let row_bytes = bytes.len() / rows;
        let mut moved = Vec::with_capacity(bytes.len());
        for row in 0..rows {
            let source = row / width * width + from(row % width, width);
            moved.extend_from_slice(&bytes[source * row_bytes..(source + 1) * row_bytes]);
        }
        Ok(Tensor::from_bytes(&moved, &shape, tensor.dtype())?)
    }
}

/// The tensor in f32 with `x` added to every value.
fn added(tensor: &Tensor, x: f32) -> Tensor {
    let mut tensor = tensor.to_f32();
    tensor.f32_mut().iter_mut().for_each(|value| *value += x);
    tensor
}
