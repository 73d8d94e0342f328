//! Sites under the paths that the families' checkpoints have for their modules.

use crate::data::fixture;
use crate::exactness::{BLOCK_SITES, ROUTER_SITES};
use crate::small_models::{config, models};
use amend_engine::models::Input;
use amend_engine::taps::BlockSite::{self, *};
use amend_engine::taps::{Modality, TowerSite};
use amend_engine::{Action, Batch, DType, Encoder, Example, Graph, Model, Selector, Site, Taps, Tensor};
use serde_json::{Value, json};

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

/// Every site that any model of these many layers has, and one of a layer behind them.
fn all_sites(layers: usize) -> Vec<Site> {
    let outer = [Site::Embed, Site::PosEmbed, Site::FinalScale, Site::FinalNormalized, Site::Logits];
    let inner = || BLOCK_SITES.iter().chain(&ROUTER_SITES);
    let blocks = (0..layers).flat_map(|l| inner().map(move |&site| Site::Block(l, site)));
    outer.into_iter().chain(blocks).chain([Site::Block(layers, ResidPre)]).collect()
}

/// Names were taken for sites wherever they could be read, though the model has no such place: taps there did nothing.
#[test]
fn a_model_has_the_sites_that_its_forward_pass_comes_by() {
    let fixtures =
        ["llama3-rope-sharded", "mixtral", "qwen3-moe", "gemma2", "phi3", "gpt2", "gpt-neox-pythia"];
    for model in models().into_iter().chain(fixtures.map(|name| Model::open(fixture(name)).unwrap())) {
        let family = &model.config()["model_type"];
        let batch = Batch::new(&[Example::text((3..10).collect())]).unwrap();
        for site in all_sites(model.spec().layers) {
            let mut taps = Taps::none();
            taps.read(site);
            let pass = || {
                let mut g = Graph::inference(&model.params);
                let hidden = model.hidden(&mut g, &batch, &taps)?;
                model.logits(&mut g, &hidden, &batch.layout, &[0], &taps)
            };
            // A tap is refused, or it reads.
            let found = pass().is_ok().then_some(site);
            assert_eq!(taps.take(site).is_empty(), found.is_none(), "{family} {site}");
            assert_eq!(model.site(&site.to_string()).ok(), found, "{family} {site}");
            assert_eq!(model.site(&Modality::Text.at(site).to_string()).ok(), found, "{family} {site}");
            assert!(model.site(&Modality::Vision.at(site).to_string()).is_err(), "{family} {site}");
        }
    }
}

#[test]
fn what_a_model_lacks_is_refused_with_what_comes_nearest() {
    for (family, name, nearest) in [
        ("gpt2", "blocks.1.mlp.hook_pre_linear", "blocks.1.mlp.hook_pre"),
        ("gpt2", "text.blocks.1.mlp.hook_pre_linear", "text.blocks.1.mlp.hook_pre"),
        ("llama", "hook_pos_embed", "hook_embed"),
        ("llama", "vision.blocks.2.attn.hook_q", "text.blocks.2.attn.hook_q"),
    ] {
        let error = model(family, json!({})).site(name).unwrap_err().to_string();
        assert!(error.contains(name) && error.ends_with(&format!("has is {nearest}")), "{family} {error}");
    }
    for name in ["blocks.0.mlp.hook_router_logits", "blocks.0.mlp.hook_expert_indices"] {
        let error = model("qwen3", json!({})).site(name).unwrap_err().to_string();
        assert!(error.contains("no site") && error.contains("has is blocks.0."), "{error}");
    }
    // A dense layer among mixtures.
    let mixed = json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "mlp_only_layers": [0]});
    let mixed = model("qwen3_moe", mixed);
    assert!(mixed.site("blocks.0.mlp.hook_router_logits").is_err());
    assert!(mixed.site("blocks.1.mlp.hook_router_logits").is_ok());
}

fn encoder(config: Value) -> Encoder {
    let mut all = json!({
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
        "vocab_size": 61, "image_size": 12, "patch_size": 4,
    });
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    Encoder::random(all.as_object().unwrap().clone(), 5).unwrap()
}

fn clip() -> Encoder {
    let sizes = json!({
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
        "vocab_size": 61, "image_size": 12, "patch_size": 4, "eos_token_id": 60,
    });
    encoder(json!({
        "model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 10,
        "text_config": sizes, "vision_config": sizes,
    }))
}

#[test]
fn encoders_have_paths_of_their_own() {
    let bert = encoder(json!({"model_type": "bert", "architectures": ["BertForMaskedLM"]}));
    let vit = encoder(json!({"model_type": "vit", "architectures": ["ViTModel"]}));
    let (text, vision) = (Modality::Text, Modality::Vision);
    for (encoder, tower, path, site) in [
        (&bert, text, "encoder.layer.1.attention.self.query", Q),
        (&bert, text, "bert.encoder.layer.1.attention.self.value", V),
        (&bert, text, "encoder.layer.1.attention.output.dense", AttnOut),
        (&bert, text, "encoder.layer.1.attention.output.dense.input", Z),
        (&bert, text, "encoder.layer.1.attention.output.LayerNorm", ResidMid),
        (&bert, text, "encoder.layer.1.intermediate.dense", MlpPre),
        (&bert, text, "encoder.layer.1.output.dense", MlpOut),
        (&bert, text, "encoder.layer.1", ResidPost),
        (&vit, vision, "encoder.layer.1.attention.attention.key", K),
        (&vit, vision, "encoder.layer.1.attention.output.dense", AttnOut),
        (&clip(), text, "text_model.encoder.layers.1.self_attn", AttnOut),
        (&clip(), vision, "vision_model.encoder.layers.1.self_attn.q_proj", Q),
        (&clip(), vision, "vision_model.encoder.layers.1.mlp.fc2.input", MlpPost),
    ] {
        assert_eq!(encoder.site(path).unwrap(), tower.at(Site::Block(1, site)), "{path}");
    }
    assert_eq!(bert.site("embeddings").unwrap(), text.at(Site::Embed));
    assert_eq!(clip().site("vision_model.pre_layrnorm").unwrap(), vision.at(Site::Embed));
    // Of two towers, which is meant has to be said; the modules of BERT around the norms are no sites.
    for (encoder, path) in [(&clip(), "encoder.layers.1.mlp"), (&bert, "encoder.layer.1.attention")] {
        let error = encoder.site(path).unwrap_err().to_string();
        assert!(error.contains("unknown site"), "{error}");
    }
}

/// The same of encoders, which took layers that they have not.
#[test]
fn an_encoder_has_the_sites_that_its_towers_come_by() {
    for name in ["bert", "vit", "clip"] {
        let encoder = Encoder::open(fixture(name)).unwrap();
        let named = |site: Site| [Modality::Text, Modality::Vision].map(|tower| tower.at(site));
        let text = encoder.text_limits().map(|_| Input::tokens(&[vec![5, 9, 60]]).unwrap());
        let image = encoder.image_grid().map(|grid| {
            let pixels = Tensor::zeros(&[1, grid.channels, grid.image[0], grid.image[1]], DType::F32);
            encoder.images(pixels, false).unwrap()
        });
        for site in all_sites(2) {
            for site in [TowerSite::from(site)].into_iter().chain(named(site)) {
                let mut found = None;
                for input in text.iter().chain(&image) {
                    let mut taps = Taps::none();
                    taps.read(site);
                    // A tap is refused, or it reads.
                    let pass = encoder.hidden(&mut Graph::inference(&encoder.params), input, &taps).is_ok();
                    assert_eq!(taps.take(site).is_empty(), !pass, "{name} {site}");
                    found = found.or(pass.then_some(site));
                }
                assert_eq!(encoder.site(&site.to_string()).ok(), found, "{name} {site}");
            }
        }
    }
    let bert = Encoder::open(fixture("bert")).unwrap();
    for name in ["encoder.layer.2.attention.self.query", "text.blocks.2.attn.hook_q", "blocks.2.attn.hook_q"]
    {
        let error = bert.site(name).unwrap_err().to_string();
        assert!(error.contains("block 2; the model has 0 to 1"), "{error}");
    }
    let error = bert.site("vision.blocks.1.attn.hook_q").unwrap_err().to_string();
    assert!(error.ends_with("has is text.blocks.1.attn.hook_q"), "{error}");
}

/// A name with a tower reaches that tower alone, one without reaches both.
#[test]
fn taps_reach_the_tower_they_name() {
    let clip = clip();
    let texts = Input::tokens(&[vec![5, 9, 60], vec![7, 60]]).unwrap();
    let pixels: Vec<f32> = (0..2 * 3 * 12 * 12).map(|i| (0.7 * i as f32).sin()).collect();
    let images = clip.images(Tensor::from_f32(&pixels, &[2, 3, 12, 12]).unwrap(), false).unwrap();
    let hidden = |input: &Input, taps: &Taps| {
        let mut g = Graph::inference(&clip.params);
        clip.hidden(&mut g, input, taps).unwrap().value().f32().to_vec()
    };
    for site in
        [Site::Embed, Site::PosEmbed, Site::Block(1, Q), Site::Block(1, Ln2Scale), Site::Block(0, Pattern)]
    {
        let named = Modality::Vision.at(site);
        let mut taps = Taps::none();
        taps.read(site).read(named).add(named, Selector::default(), Action::Scale(1.5));
        assert_eq!(hidden(&texts, &taps), hidden(&texts, &Taps::none()), "{named}");
        assert_eq!((taps.take(site).is_empty(), taps.take(named).is_empty()), (false, true), "{named}");
        assert_ne!(hidden(&images, &taps), hidden(&images, &Taps::none()), "{named}");
        assert_eq!((taps.take(site).is_empty(), taps.take(named).is_empty()), (false, false), "{named}");
    }
}

/// Such taps did nothing, and nobody was told.
#[test]
fn taps_that_a_pass_would_not_come_by_are_refused_where_it_begins() {
    let at = |site: TowerSite| {
        let mut taps = Taps::none();
        taps.add(site, Selector::default(), Action::Zero);
        taps
    };
    let llama = model("llama", json!({}));
    let batch = Batch::new(&[Example::text(vec![1, 2, 3])]).unwrap();
    for (site, said) in [
        (Site::Block(0, RouterLogits).into(), "the nearest that it has is blocks.0."),
        (Site::Block(9, Q).into(), "block 9; the model has 0 to 2"),
        (Modality::Vision.at(Site::Embed), "the nearest that it has is text."),
    ] {
        let taps = at(site);
        let error =
            llama.hidden(&mut Graph::inference(&llama.params), &batch, &taps).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        let mut g = Graph::inference(&llama.params);
        let mut caches = [llama.new_cache()];
        let cached = llama.continue_hidden(&mut g, &batch.ids, &batch.layout, &mut caches, &taps);
        assert_eq!(cached.unwrap_err().to_string(), error);
        assert_eq!(llama.loss_and_gradients(&batch, &taps).unwrap_err().to_string(), error);
    }
    let bert = encoder(json!({"model_type": "bert", "architectures": ["BertModel"]}));
    let clip = clip();
    let text = Input::tokens(&[vec![5, 9, 60]]).unwrap();
    let pixels = Tensor::zeros(&[1, 3, 12, 12], DType::F32);
    let image = clip.images(pixels, false).unwrap();
    let (final_scale, q) = (Site::FinalScale, Site::Block(1, Q));
    for (encoder, input, site, said) in [
        (&bert, &text, Site::Block(99, Q).into(), "block 99; the model has 0 to 1"),
        (&clip, &image, Modality::Text.at(q), "in the vision tower, which reads this input; text.blocks.1"),
        (&clip, &text, Modality::Vision.at(q), "in the text tower, which reads this input; vision.blocks.1"),
        // Only CLIP's texts have a norm over all rows.
        (&clip, &image, final_scale.into(), "in the vision tower"),
    ] {
        let taps = at(site);
        let error = encoder.hidden(&mut Graph::inference(&encoder.params), input, &taps).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    // One set may be for passes of both towers.
    let mut taps = at(Modality::Text.at(q));
    taps.read(Modality::Vision.at(q));
    for input in [&text, &image] {
        assert!(clip.hidden(&mut Graph::inference(&clip.params), input, &taps).is_ok());
    }
}
