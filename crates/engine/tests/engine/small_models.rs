//! Tiny models with random weights, of every family.

use amend_engine::Model;
use serde_json::{Map, Value, json};

/// A config of a tiny model; GPT-2 reads keys of its own.
pub(crate) fn config(family: &str, extra: Value) -> Map<String, Value> {
    let mut config = json!({
        "model_type": family, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 44, "vocab_size": 61,
        "max_position_embeddings": 96, "initializer_range": 0.3,
        "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 44, "n_positions": 96,
    });
    let config = config.as_object_mut().unwrap();
    config.extend(extra.as_object().unwrap().clone());
    config.clone()
}

/// One model of every family; options that change the path through the code are on in one of them.
pub(crate) fn models() -> Vec<Model> {
    [
        config("llama", json!({"tie_word_embeddings": true})),
        config("mistral", json!({"sliding_window": 5})),
        config("qwen2", json!({})),
        config("qwen3", json!({"attention_bias": true})),
        config("mixtral", json!({"num_local_experts": 6, "sliding_window": 9, "output_router_logits": true})),
        config(
            "qwen3_moe",
            json!({"num_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 20, "mlp_only_layers": [0]}),
        ),
        config(
            "gemma2",
            json!({"sliding_window": 6, "query_pre_attn_scalar": 11, "final_logit_softcapping": 4.0}),
        ),
        config("gemma3_text", json!({"sliding_window": 4, "sliding_window_pattern": 2})),
        config("phi3", json!({"partial_rotary_factor": 0.5, "sliding_window": 7})),
        config("olmo2", json!({"attention_bias": true})),
        config("gpt_neox", json!({"rotary_pct": 0.5})),
        config("gpt_neox", json!({"use_parallel_residual": false, "tie_word_embeddings": true})),
        config("gpt2", json!({"scale_attn_by_inverse_layer_idx": true})),
    ]
    .into_iter()
    .map(|c| Model::random(c, 3).unwrap())
    .collect()
}
