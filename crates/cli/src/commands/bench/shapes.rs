//! The shapes that all measurements of the project use, and what is done with each.

use std::fs;
use std::path::Path;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::Mode;
use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// Width 288, 6 layers, 6 heads, FFN 768, vocabulary 32,000 tied; 8 sequences of 256
    A,
    /// Width 512, 8 layers, 8 heads and 4 key/value heads, FFN 1,408, vocabulary 8,192; 4 of 512
    B,
    /// Qwen3-0.6B: width 1,024, 28 layers, 16 heads and 8 key/value heads of 128, FFN 3,072,
    /// vocabulary 151,936 tied, weights in bf16 as it is published; 1 of 1,024
    C,
}

impl Shape {
    /// Its `config.json`. No token ends a text, so that every decoding is as long as it should be.
    pub(super) fn config(self) -> Map<String, Value> {
        let config = match self {
            Shape::A => json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
                "hidden_size": 288, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6,
                "head_dim": 48, "intermediate_size": 768, "vocab_size": 32_000, "tie_word_embeddings": true,
                "max_position_embeddings": 16_384, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0,
                "attention_bias": false, "mlp_bias": false, "torch_dtype": "float32",
                "bos_token_id": null, "eos_token_id": null, "pad_token_id": null,
            }),
            Shape::B => json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
                "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4,
                "head_dim": 64, "intermediate_size": 1_408, "vocab_size": 8_192, "tie_word_embeddings": false,
                "max_position_embeddings": 16_384, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0,
                "attention_bias": false, "mlp_bias": false, "torch_dtype": "float32",
                "bos_token_id": null, "eos_token_id": null, "pad_token_id": null,
            }),
            Shape::C => json!({
                "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
                "hidden_size": 1_024, "num_hidden_layers": 28, "num_attention_heads": 16,
                "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3_072,
                "vocab_size": 151_936, "tie_word_embeddings": true, "max_position_embeddings": 40_960,
                "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "attention_bias": false,
                "use_sliding_window": false, "sliding_window": null, "max_window_layers": 28,
                "torch_dtype": "bfloat16", "bos_token_id": null, "eos_token_id": null, "pad_token_id": null,
            }),
        };
        config.as_object().cloned().unwrap_or_default()
    }

    /// Sequences and tokens of each, where nothing else was asked for.
    pub(super) fn workload(self, mode: Mode) -> (usize, usize) {
        match (mode, self) {
            (Mode::Train | Mode::Lora, Shape::A) => (8, 256),
            (Mode::Train | Mode::Lora, Shape::B) => (4, 512),
            (Mode::Train | Mode::Lora, Shape::C) => (1, 1024),
            (Mode::Prefill, _) => (1, 512),
            (Mode::Decode, Shape::A | Shape::B) => (1, 128),
            (Mode::Decode, Shape::C) => (1, 32),
            (Mode::Score, _) => (1000, 128),
        }
    }
}

/// A configuration from a file.
pub(super) fn read_config(path: &Path) -> Result<Map<String, Value>, Error> {
    let text = fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => Err(Error::told(
            format!("{}: the file holds no JSON object", path.display()),
            "give a model's config.json",
        )),
        Err(e) => Err(Error::told(format!("{}: {e}", path.display()), "give a model's config.json")),
    }
}
