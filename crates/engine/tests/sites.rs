//! Sites under the paths that the families' checkpoints have for their modules.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

mod small_models;

use amend_engine::taps::BlockSite::{self, *};
use amend_engine::{Model, Site};
use serde_json::{Value, json};
use small_models::{config, models};

fn model(family: &str, extra: Value) -> Model {
    Model::random(config(family, extra), 3).unwrap()
}

/// Paths of modules, each of a model whose block 1 has that site.
#[test]
fn paths_are_those_of_the_family() {
    let experts = json!({"num_local_experts": 4});
    let cases: &[(&str, Value, &str, BlockSite)] = &[
        ("llama", json!({}), "model.layers.1", ResidPost),
        ("llama", json!({}), "model.layers.1.input", ResidPre),
        ("llama", json!({}), "layers.1.self_attn", AttnOut),
        ("llama", json!({}), "model.layers.1.self_attn.q_proj", Q),
        ("llama", json!({}), "model.layers.1.self_attn.o_proj", AttnOut),
        ("llama", json!({}), "model.layers.1.self_attn.o_proj.input", Z),
        ("llama", json!({}), "model.layers.1.mlp.gate_proj", MlpPre),
        ("llama", json!({}), "model.layers.1.mlp.up_proj", MlpPreLinear),
        ("llama", json!({}), "model.layers.1.mlp.down_proj.input", MlpPost),
        ("llama", json!({}), "model.layers.1.mlp", MlpOut),
        ("qwen3", json!({}), "model.layers.1.self_attn.q_norm", Q),
        ("qwen3", json!({}), "model.layers.1.self_attn.v_proj", V),
        ("gemma2", json!({}), "model.layers.1.post_attention_layernorm", AttnOut),
        ("gemma2", json!({}), "model.layers.1.post_feedforward_layernorm", MlpOut),
        ("gpt2", json!({}), "transformer.h.1.attn", AttnOut),
        ("gpt2", json!({}), "h.1.attn.c_proj.input", Z),
        ("gpt2", json!({}), "transformer.h.1.mlp.c_fc", MlpPre),
        ("gpt2", json!({}), "transformer.h.1.mlp", MlpOut),
        ("gpt_neox", json!({}), "gpt_neox.layers.1.attention", AttnOut),
        ("gpt_neox", json!({}), "gpt_neox.layers.1.attention.dense.input", Z),
        ("gpt_neox", json!({}), "gpt_neox.layers.1.mlp.dense_4h_to_h", MlpOut),
        ("mixtral", experts.clone(), "model.layers.1.block_sparse_moe.gate", RouterLogits),
        ("mixtral", experts, "model.layers.1.block_sparse_moe", MlpOut),
    ];
    for (family, extra, path, site) in cases {
        assert_eq!(
            model(family, extra.clone()).site(path).unwrap(),
            Site::Block(1, *site),
            "{family} {path}"
        );
    }
    assert_eq!(model("gpt2", json!({})).site("transformer.wpe").unwrap(), Site::PosEmbed);
    assert_eq!(model("llama", json!({})).site("model.embed_tokens").unwrap(), Site::Embed);
    assert_eq!(model("gpt_neox", json!({})).site("embed_out").unwrap(), Site::Logits);
}

/// Modules whose output is no site are refused, though another family has a site of that path.
#[test]
fn what_is_no_site_is_refused_with_what_there_is() {
    let refused = |family: &str, path: &str, said: &str| {
        let error = model(family, json!({})).site(path).unwrap_err().to_string();
        assert!(error.contains(said), "{family} {path}: {error}");
    };
    refused("gpt2", "model.layers.1.self_attn", "attn.c_proj.input, attn.c_proj, attn, mlp.c_fc");
    refused("gpt2", "transformer.h.1.attn.c_attn", "or transformer.h.0");
    refused("phi3", "model.layers.1.self_attn.qkv_proj", "unknown site");
    refused("qwen3", "model.layers.1.self_attn.q_proj", "self_attn.q_norm");
    refused("gemma2", "model.layers.1.self_attn", "post_attention_layernorm");
    refused("gemma2", "model.embed_tokens", "unknown site");
    refused("llama", "model.layers.3.mlp", "block 3; the model has 0 to 2");
    refused("llama", "blocks.9.hook_mlp_out", "block 9; the model has 0 to 2");
}

#[test]
fn circuit_names_hold_for_every_model() {
    for model in models() {
        assert_eq!(model.site("blocks.2.attn.hook_z").unwrap(), Site::Block(2, Z));
        assert_eq!(model.site("ln_final.hook_scale").unwrap(), Site::FinalScale);
    }
}
