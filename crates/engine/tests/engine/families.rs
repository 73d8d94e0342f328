//! What the families promise beyond parity: adapters on every projection, bounds on logits, options refused
//! by name, rotations that change with the sequence's length.

use crate::small_models::{config, models};
use amend_engine::generate::GenerateOptions;
use amend_engine::models::{Adapter, LoraOptions, Positions, RopeScaling};
use amend_engine::{Batch, Example, Gradients, Graph, Model, Taps};
use serde_json::{Value, json};

/// LongRoPE over heads of 8 dimensions, pre-trained on this many tokens.
fn longrope(original: usize) -> Value {
    let scaling = json!({
        "type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 5.0, 8.0],
    });
    json!({"rope_scaling": scaling, "original_max_position_embeddings": original})
}

fn sequence(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 7 + seed * 13 + i * i * 3) % 61).collect()
}

fn batch() -> Batch {
    Batch::new(&[Example::text(sequence(1, 23)), Example::text(sequence(4, 9))]).unwrap()
}

fn worst(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn adapters_fit_every_projection_and_survive_their_file() {
    let options = LoraOptions { r: 3, alpha: 6.0, targets: Vec::new() };
    let examples = [Example::text(sequence(1, 30))];
    for model in models() {
        let plain = model.score(&examples, 4096).unwrap();
        let mut adapted = model.clone();
        adapted.attach_lora(&options, 1).unwrap();
        assert_eq!(adapted.score(&examples, 4096).unwrap(), plain);
        for (_, param) in adapted.params.iter_mut().filter(|(_, p)| p.name.contains("lora_B")) {
            param.tensor.f32_mut().iter_mut().enumerate().for_each(|(i, b)| *b = 0.05 * (i as f32).sin());
        }
        let changed = adapted.score(&examples, 4096).unwrap();
        assert!(worst(&changed, &plain) > 1e-2);
        assert!(worst(&adapted.merged().unwrap().score(&examples, 4096).unwrap(), &changed) < 2e-4);
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("adapter");
        adapted.save_adapter(&dir, "base").unwrap();
        let mut again = model.clone();
        again.attach_adapter(&Adapter::open(&dir).unwrap()).unwrap();
        assert_eq!(again.score(&examples, 4096).unwrap(), changed);
    }
}

#[test]
fn targets_go_by_the_family_s_own_names() {
    let model = Model::random(config("gpt2", json!({})), 1).unwrap();
    let attach = |targets: &[&str]| {
        let targets = targets.iter().map(|&t| t.to_owned()).collect();
        let mut model = model.clone();
        model.attach_lora(&LoraOptions { r: 2, alpha: 2.0, targets }, 1)?;
        Ok::<_, amend_engine::Error>(model.adapter_layers().count())
    };
    assert_eq!(attach(&["c_attn"]).unwrap(), 3);
    assert_eq!(attach(&["c_proj"]).unwrap(), 6);
    assert_eq!(attach(&["attn.c_proj"]).unwrap(), 3);
    let error = attach(&["q_proj"]).unwrap_err().to_string();
    assert!(error.contains("attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj"), "{error}");
}

fn capped() -> (Model, Model) {
    let bound = json!({"final_logit_softcapping": 2.0});
    let model = |seed| Model::random(config("gemma2", bound.clone()), seed).unwrap();
    (model(1), model(2))
}

fn largest_difference(a: &Gradients, b: &Gradients) -> f32 {
    let (mut worst, mut largest) = (0.0f32, 0.0f32);
    for (id, a) in a.iter() {
        for (a, b) in a.f32().iter().zip(b.get(id).unwrap().f32()) {
            worst = worst.max((a - b).abs());
            largest = largest.max(b.abs());
        }
    }
    worst / largest
}

/// A bound on logits is the same bound in scoring, in both losses and in the logits themselves.
#[test]
fn a_bound_on_logits_holds_everywhere() {
    let (model, _) = capped();
    let (batch, taps) = (batch(), Taps::none());
    let mut g = Graph::inference(&model.params);
    let hidden = model.hidden(&mut g, &batch, &taps).unwrap();
    let logits = model.logits(&mut g, &hidden, &batch.layout, &batch.rows, &taps).unwrap();
    assert!(logits.value().f32().iter().all(|l| l.abs() <= 2.0));
    assert!(logits.value().f32().iter().any(|l| l.abs() > 1.0), "the bound is out of reach");
    let scored = model.token_logprobs(&mut g, &batch, &taps).unwrap();
    for ((row, &target), &ours) in
        logits.value().f32().chunks(61).zip(&batch.targets).zip(scored.value().f32())
    {
        let total: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
        assert!((f64::from(ours) - (f64::from(row[target as usize]) - total.ln())).abs() < 1e-5);
    }
    // Two ways to the same gradient.
    let (_, one) = model.loss_and_gradients(&batch, &taps).unwrap();
    let mut g = Graph::recording(&model.params);
    let logprobs = model.token_logprobs(&mut g, &batch, &taps).unwrap();
    let mean = g.mean(&logprobs).unwrap();
    let loss = g.scale(&mean, -1.0).unwrap();
    let other = g.backward(&loss).unwrap();
    assert!(largest_difference(&one, &other) < 1e-5);
}

/// A small step against the divergence's gradient lowers it by what the gradient says.
#[test]
fn the_divergence_s_gradient_knows_the_bound() {
    let (model, reference) = capped();
    let (batch, taps) = (batch(), Taps::none());
    let divergence = |model: &Model| {
        let mut g = Graph::recording(&model.params);
        let rows = model.divergence_from(&mut g, &batch, &reference, &taps).unwrap();
        let total = g.mean(&rows).unwrap();
        (f64::from(total.scalar()), g.backward(&total).unwrap())
    };
    let (before, gradients) = divergence(&model);
    let square: f64 = gradients.norm().powi(2);
    let step = 1e-3 / square.sqrt();
    let mut moved = model.clone();
    for (id, gradient) in gradients.iter() {
        let values = moved.params.get_mut(id).tensor.f32_mut();
        values.iter_mut().zip(gradient.f32()).for_each(|(w, g)| *w -= step as f32 * g);
    }
    let (fell, expected) = (before - divergence(&moved).0, step * square);
    assert!((fell - expected).abs() < 0.05 * expected, "{fell} instead of {expected}");
}

/// With LongRoPE, crossing the length of pre-training changes all positions. A token decoded on either
/// side has the probability that scoring its prefix gives it.
#[test]
fn decoding_across_the_length_of_pretraining_starts_the_cache_again() {
    let model = Model::random(config("phi3", longrope(24)), 3).unwrap();
    let prompts = [sequence(1, 20), sequence(2, 9)];
    let options = GenerateOptions { max_new_tokens: 10, ..Default::default() };
    for (prompt, samples) in prompts.iter().zip(model.generate(&prompts, &options).unwrap()) {
        let out = &samples[0];
        for (i, &logprob) in out.logprobs.iter().enumerate() {
            let mut prefix = prompt.clone();
            prefix.extend(&out.ids[..i]);
            // The frequencies are those of the prefix, which a token appended for scoring must not change.
            let long = |n: usize| n > 24;
            if long(prefix.len()) == long(prefix.len() + 1) {
                let scored = model.score(&[Example::answer(&prefix, &out.ids[i..=i])], 4096).unwrap();
                assert_eq!(scored[0], [logprob], "token {i} after {prompt:?}");
            }
        }
    }
}

/// Other families keep the keys that were rotated for a short sequence: the continuation is the one that
/// transformers 5.23 gives for this model.
#[test]
fn outside_of_phi3_the_cache_is_kept_across_the_length_of_pretraining() {
    let model = Model::random(config("llama", longrope(24)), 3).unwrap();
    let options = GenerateOptions { max_new_tokens: 16, ..Default::default() };
    let out = model.generate(&[sequence(1, 20)], &options).unwrap();
    assert_eq!(out[0][0].ids, [4, 32, 32, 14, 51, 2, 34, 12, 4, 19, 45, 16, 16, 16, 16, 46]);
    let model = Model::random(config("phi3", longrope(24)), 3).unwrap();
    assert!(!model.cache_serves(20, 25) && model.cache_serves(20, 24) && model.cache_serves(25, 30));
}

#[test]
fn the_length_of_pretraining_stands_where_the_family_looks_for_it() {
    let original = |family: &str, extra: Value| {
        let mut options = longrope(24);
        options.as_object_mut().unwrap().remove("original_max_position_embeddings");
        options["rope_scaling"]["original_max_position_embeddings"] = json!(16);
        options.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let model = Model::random(config(family, options), 1).unwrap();
        let Positions::Rotary(ropes) = &model.spec().positions else { panic!("{family} rotates") };
        let RopeScaling::LongRope { original, .. } = ropes[0].scaling else { panic!("not LongRoPE") };
        original
    };
    let beside = json!({"original_max_position_embeddings": 32});
    assert_eq!(original("llama", json!({})), 16.0);
    assert_eq!(original("llama", beside.clone()), 32.0);
    // Phi 3 never looks inside: its default counts before what stands there.
    assert_eq!(original("phi3", json!({})), 4096.0);
    assert_eq!(original("phi3", beside), 32.0);
}

/// Scaling added by hand to a config in the newer spelling counts, in place of all that stood there.
#[test]
fn rope_scaling_counts_before_rope_parameters() {
    let newer = json!({"rope_type": "default", "rope_theta": 500.0});
    let scaling = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24});
    let positions = |extra: Value| Model::random(config("qwen2", extra), 1).unwrap().spec().positions.clone();
    let both = positions(json!({"rope_parameters": newer, "rope_scaling": scaling}));
    assert_eq!(both, positions(json!({"rope_scaling": scaling})));
    assert_ne!(both, positions(json!({"rope_parameters": newer})));
    let empty = positions(json!({"rope_parameters": newer, "rope_scaling": {}}));
    assert_eq!(empty, positions(json!({"rope_parameters": newer})));
}

#[test]
fn yarn_s_ramp_is_rounded_unless_the_config_speaks_against_it() {
    let positions = |truncate: Option<Value>| {
        let mut scaling = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24});
        scaling.as_object_mut().unwrap().extend(truncate.map(|value| ("truncate".to_owned(), value)));
        Model::random(config("llama", json!({"rope_scaling": scaling})), 1).unwrap().spec().positions.clone()
    };
    assert_eq!(positions(Some(json!(true))), positions(None));
    assert_eq!(positions(Some(json!(false))), positions(Some(Value::Null)));
    assert_ne!(positions(Some(json!(false))), positions(None));
}

#[test]
fn yarn_reaches_as_far_as_its_factor_says() {
    let context = |factor: f64| {
        let scaling = json!({"type": "yarn", "factor": factor, "original_max_position_embeddings": 96});
        Model::random(config("qwen2", json!({"rope_scaling": scaling})), 1).unwrap().spec().context
    };
    assert_eq!([context(4.0), context(0.5)], [384, 96]);
}

/// In the reference, Gemma 3 never sees this option of YaRN, in whose place are the kinds of layers.
#[test]
fn gemma3_rounds_the_ends_of_yarn_s_ramp_whatever_it_is_told() {
    let yarn = |truncate: bool| {
        let full = json!({
            "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 24, "truncate": truncate,
        });
        let options = json!({"rope_parameters": {"full_attention": full}, "sliding_window_pattern": 2});
        Model::random(config("gemma3_text", options), 1).unwrap().spec().positions.clone()
    };
    assert_eq!(yarn(false), yarn(true));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let refused = |family: &str, extra: Value, reason: &str| {
        let error = Model::random(config(family, extra), 1).unwrap_err().to_string();
        assert!(error.contains(reason), "{family}: {error}");
    };
    refused("llama", json!({"hidden_act": "mish"}), "\"hidden_act\" names the activation \"mish\"");
    refused("llama", json!({"rope_scaling": {"type": "spiral"}}), "rope type \"spiral\" is not supported");
    refused("phi3", json!({"rope_scaling": {"type": "longrope"}}), "\"short_factor\" is missing");
    let short = json!({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]});
    refused("phi3", json!({"rope_scaling": short}), "\"short_factor\" has 1 numbers, but 4 are needed");
    refused("gemma2", json!({"use_bidirectional_attention": true}), "\"use_bidirectional_attention\" is set");
    refused("gemma2", json!({"final_logit_softcapping": 0.0}), "\"final_logit_softcapping\" must be above 0");
    refused("gemma3_text", json!({"layer_types": ["full_attention"]}), "\"layer_types\" lists 1 of 3 layers");
    refused("gemma3_text", json!({"sliding_window_pattern": 0}), "\"sliding_window_pattern\" must not be 0");
    let both =
        json!({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"full_attention": {}}});
    refused("gemma3_text", both, "\"rope_parameters\" and \"rope_scaling\" are both there");
    let quantised = json!({"quantization_config": {"quant_method": "fp8"}});
    refused("llama", quantised, "the weights are quantised (fp8)");
    for family in ["mistral", "gemma3_text", "mixtral"] {
        refused(family, json!({"sliding_window": 0}), "\"sliding_window\" must not be 0");
    }
    refused("gpt2", json!({"add_cross_attention": true}), "\"add_cross_attention\" is set");
    refused("gpt2", json!({"n_embd": 33}), "\"n_embd\" 33 cannot be shared among 4 heads");
    refused("gpt_neox", json!({"rotary_pct": 0.0}), "of a head's 8 dimensions has no meaning");
}
