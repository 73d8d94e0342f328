//! Small models of random weights.

use amend_engine::Model;
use serde_json::{Value, json};

fn random(config: Value) -> Model {
    Model::random(config.as_object().unwrap().clone(), 5).unwrap()
}

/// Three heads that share one head of keys and values.
pub(crate) fn llama() -> Model {
    random(json!({
        "model_type": "llama", "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3,
        "num_key_value_heads": 1, "intermediate_size": 40, "vocab_size": 50, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "initializer_range": 0.4,
    }))
}

/// Heads of another width than the model's divided by their number.
pub(crate) fn qwen3() -> Model {
    random(json!({
        "model_type": "qwen3", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 10, "intermediate_size": 40, "vocab_size": 50,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "initializer_range": 0.4,
    }))
}

/// Soft bounds on scores and logits, and a norm behind attention.
pub(crate) fn gemma2() -> Model {
    random(json!({
        "model_type": "gemma2", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 40, "vocab_size": 50,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8,
        "sliding_window": 32, "initializer_range": 0.4,
    }))
}

/// Biases, LayerNorm, and matrices that are stored turned.
pub(crate) fn gpt2() -> Model {
    random(json!({
        "model_type": "gpt2", "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64, "vocab_size": 50,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "initializer_range": 0.4,
    }))
}

/// All of them.
pub(crate) fn models() -> [Model; 4] {
    [llama(), qwen3(), gemma2(), gpt2()]
}
