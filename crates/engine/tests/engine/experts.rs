//! Mixtures of experts: gradients, router losses and taps, adapters, spellings of checkpoints.

use std::collections::BTreeMap;

use amend_engine::checkpoint::{ModelFiles, write_model};
use amend_engine::models::LoraOptions;
use amend_engine::optim::{AdamW, AdamWOptions, nll_gradients};
use amend_engine::taps::BlockSite;
use amend_engine::{Action, Batch, Example, Gradients, Graph, Model, Selector, Site, Taps, Tensor};
use serde_json::{Map, Value, json};

fn config(family: &str, extra: Value) -> Map<String, Value> {
    let mut config = json!({
        "model_type": family, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 40, "vocab_size": 61,
        "max_position_embeddings": 96, "initializer_range": 0.3,
    });
    let config = config.as_object_mut().unwrap();
    config.extend(extra.as_object().unwrap().clone());
    config.clone()
}

fn mixtral(extra: Value) -> Model {
    let mut config = config("mixtral", json!({"num_local_experts": 4}));
    config.extend(extra.as_object().unwrap().clone());
    Model::random(config, 3).unwrap()
}

fn qwen(extra: Value) -> Model {
    let mut config = config("qwen3_moe", json!({"num_experts": 4, "num_experts_per_tok": 2}));
    config.extend(json!({"moe_intermediate_size": 24}).as_object().unwrap().clone());
    config.extend(extra.as_object().unwrap().clone());
    Model::random(config, 4).unwrap()
}

fn batch() -> Batch {
    let sequence = |seed: u32, n: u32| (0..n).map(|i| (i * 7 + seed * 13 + i * i * 3) % 61).collect();
    Batch::new(&[Example::text(sequence(1, 23)), Example::text(sequence(4, 9))]).unwrap()
}

/// Reads a site of every layer in one forward pass that keeps what routers do.
fn read(model: &Model, site: BlockSite) -> Vec<Tensor> {
    let mut taps = Taps::none();
    let layers = model.spec().layers;
    (0..layers).for_each(|l| {
        taps.read(Site::Block(l, site));
    });
    let batch = batch();
    model.hidden(&mut Graph::inference(&model.params), &batch, &taps).unwrap();
    (0..layers).flat_map(|l| taps.take(Site::Block(l, site))).map(|reading| reading.tensor).collect()
}

/// Load-balancing and z-loss of a forward pass under these taps.
fn router_losses(model: &Model, taps: &Taps) -> (f32, f32) {
    let batch = batch();
    let mut g = Graph::inference(&model.params);
    g.keep_routings();
    model.hidden(&mut g, &batch, taps).unwrap();
    let losses = model.router_losses(&mut g).unwrap().unwrap();
    (losses.load_balancing.scalar(), losses.z.scalar())
}

/// Slopes along every parameter's own gradient agree with central differences.
fn check_gradients(model: &Model, taps: &Taps) {
    let batch = batch();
    let (_, gradients) = model.loss_and_gradients(&batch, taps).unwrap();
    let mut checked = 0;
    for (id, gradient) in gradients.iter() {
        let norm = gradient.dot(gradient).sqrt();
        if norm < 0.02 {
            continue;
        }
        let loss_at = |step: f64| {
            let mut moved = model.clone();
            let weights = moved.params.get_mut(id).tensor.f32_mut();
            let scale = (step / norm) as f32;
            weights.iter_mut().zip(gradient.f32()).for_each(|(w, g)| *w += scale * g);
            f64::from(moved.loss_and_gradients(&batch, taps).unwrap().0)
        };
        let step = 4e-3 / norm.max(1.0);
        let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        let name = &model.params.get(id).name;
        assert!((slope - norm).abs() < 0.02 * norm + 2e-3, "{name}: slope {slope}, gradient {norm}");
        checked += 1;
    }
    assert!(checked > model.params.len() / 2, "{checked} of {}", model.params.len());
}

#[test]
fn gradients_agree_with_differences() {
    check_gradients(&mixtral(json!({})), &Taps::none());
    check_gradients(&qwen(json!({"norm_topk_prob": true})), &Taps::none());
    check_gradients(&qwen(json!({"norm_topk_prob": false, "mlp_only_layers": [1]})), &Taps::none());
}

#[test]
fn gradients_of_router_losses_agree_with_differences() {
    for (balance, z) in [(3.0, 0.0), (0.0, 0.5), (2.0, 0.3)] {
        let mut model = mixtral(json!({}));
        model.set_router_coefficients(balance, z).unwrap();
        check_gradients(&model, &Taps::none());
    }
}

#[test]
fn looking_inside_gives_the_same_gradients() {
    let mut inside = Taps::none();
    inside.read(Site::Block(0, BlockSite::MlpPost)).read(Site::Block(1, BlockSite::MlpPre));
    for model in [mixtral(json!({})), qwen(json!({}))] {
        let (loss, fused) = model.loss_and_gradients(&batch(), &Taps::none()).unwrap();
        let (same, opened) = model.loss_and_gradients(&batch(), &inside).unwrap();
        assert_eq!(loss, same);
        let mut difference = fused.clone();
        difference.axpy(-1.0, &opened);
        assert!(difference.norm() < 1e-5 * fused.norm());
    }
}

#[test]
fn an_expert_without_tokens_receives_no_gradient() {
    let model = mixtral(json!({}));
    let mut shut = Taps::none();
    for l in 0..2 {
        let out = Tensor::from_f32(&[f32::NEG_INFINITY], &[1]).unwrap();
        let first = Selector { columns: Some(0..1), ..Default::default() };
        shut.add(Site::Block(l, BlockSite::RouterLogits), first, Action::Add(out));
        shut.read(Site::Block(l, BlockSite::RouterIndices));
    }
    let (_, gradients) = model.loss_and_gradients(&batch(), &shut).unwrap();
    for (id, param) in model.params.iter() {
        assert_eq!(gradients.get(id).is_none(), param.name.contains("experts.0."), "{}", param.name);
    }
    for l in 0..2 {
        let chosen = &shut.take(Site::Block(l, BlockSite::RouterIndices))[0].tensor;
        assert_eq!(chosen.shape(), [32, 2]);
        assert!(chosen.f32().iter().all(|&e| e > 0.0));
    }
}

#[test]
fn an_expert_that_sat_a_step_out_then_takes_its_first_step() {
    let mut model = mixtral(json!({}));
    let (_, all) = model.loss_and_gradients(&batch(), &Taps::none()).unwrap();
    let mut without = Gradients::none(&model.params);
    let id = model.params.find("model.layers.0.block_sparse_moe.experts.0.w1.weight").unwrap();
    all.iter().filter(|(other, _)| *other != id).for_each(|(other, g)| without.set(other, g.clone()));
    let options = AdamWOptions { weight_decay: 0.0, eps: 0.0, ..Default::default() };
    let mut adamw = AdamW::new(&model.params, options.clone());
    let before = model.params.get(id).tensor.clone();
    adamw.step(&mut model.params, &without, 1e-2, 1.0).unwrap();
    assert_eq!(model.params.get(id).tensor.f32(), before.f32());
    adamw.step(&mut model.params, &all, 1e-2, 1.0).unwrap();
    // The first step of Adam is the learning rate, whatever the gradient.
    let moved = model.params.get(id).tensor.f32().iter().zip(before.f32()).map(|(a, b)| (a - b).abs());
    assert!(moved.zip(all.get(id).unwrap().f32()).all(|(m, &g)| g == 0.0 || (m - 1e-2).abs() < 1e-5));
    // What was sat out is part of the state.
    let state: BTreeMap<_, _> = adamw.state(&model.params).into_iter().collect();
    let mut restored = AdamW::new(&model.params, options);
    restored.restore(&model.params, 2, |name| Ok(state.get(name).cloned())).unwrap();
    let mut other = model.clone();
    adamw.step(&mut model.params, &all, 1e-2, 1.0).unwrap();
    restored.step(&mut other.params, &all, 1e-2, 1.0).unwrap();
    assert_eq!(model.params.get(id).tensor.f32(), other.params.get(id).tensor.f32());
}

#[test]
fn losses_are_those_of_the_published_formulas() {
    for model in [mixtral(json!({})), mixtral(json!({"num_experts_per_tok": 1})), qwen(json!({}))] {
        let experts = model.spec().experts.as_ref().unwrap().count;
        let (logits, chosen) =
            (read(&model, BlockSite::RouterLogits), read(&model, BlockSite::RouterIndices));
        let (mut counts, mut probs, mut z, mut rows) = (vec![0.0; experts], vec![0.0; experts], 0.0, 0.0);
        for (logits, chosen) in logits.iter().zip(&chosen) {
            chosen.f32().iter().for_each(|&e| counts[e as usize] += 1.0);
            for row in logits.f32().chunks(experts) {
                let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                row.iter().zip(&mut probs).for_each(|(&x, p)| *p += f64::from(x).exp() / sum);
                z += sum.ln().powi(2);
                rows += 1.0;
            }
        }
        let overlap: f64 = counts.iter().zip(&probs).map(|(f, p)| f * p).sum();
        let balance = experts as f64 * overlap / (rows * rows);
        let (ours, our_z) = router_losses(&model, &Taps::none());
        assert!((f64::from(ours) - balance).abs() < 1e-5 * balance, "{ours} {balance}");
        assert!((f64::from(our_z) - z / rows).abs() < 1e-5 * z / rows, "{our_z} {}", z / rows);
    }
}

fn with_logits(model: &Model, row: &[f32]) -> Taps {
    let mut taps = Taps::none();
    for l in 0..model.spec().layers {
        let values = Tensor::from_f32(row, &[row.len()]).unwrap();
        taps.add(Site::Block(l, BlockSite::RouterLogits), Selector::default(), Action::Replace(values));
    }
    taps
}

#[test]
fn even_routing_costs_k_and_collapsed_routing_costs_the_number_of_experts() {
    for k in [1, 2, 3] {
        let model = mixtral(json!({"num_experts_per_tok": k}));
        let (balance, z) = router_losses(&model, &with_logits(&model, &[0.0; 4]));
        assert!((balance - k as f32).abs() < 1e-5, "{balance}");
        assert!((z - 4f32.ln().powi(2)).abs() < 1e-5, "{z}");
        // Choices spread over all experts cost the same as long as probabilities are even.
        let mut spread = with_logits(&model, &[0.0; 4]);
        let rows: Vec<f32> = (0..32 * k).map(|pair| (pair % 4) as f32).collect();
        for l in 0..2 {
            let rows = Tensor::from_f32(&rows, &[32, k]).unwrap();
            spread.add(Site::Block(l, BlockSite::RouterIndices), Selector::default(), Action::Replace(rows));
        }
        assert!((router_losses(&model, &spread).0 - k as f32).abs() < 1e-5);
    }
    let model = mixtral(json!({"num_experts_per_tok": 1}));
    let (balance, _) = router_losses(&model, &with_logits(&model, &[40.0, 0.0, 0.0, 0.0]));
    assert!((balance - 4.0).abs() < 1e-5, "{balance}");
}

#[test]
fn the_config_decides_whether_training_adds_the_balancing_loss() {
    let plain = mixtral(json!({"router_aux_loss_coef": 0.25}));
    let asked = mixtral(json!({"router_aux_loss_coef": 0.25, "output_router_logits": true}));
    let loss = |model: &Model| model.loss_and_gradients(&batch(), &Taps::none()).unwrap().0;
    let (balance, _) = router_losses(&plain, &Taps::none());
    assert!((loss(&asked) - loss(&plain) - 0.25 * balance).abs() < 1e-5);
    let examples = [Example::text(vec![1, 2, 3, 4, 5]), Example::text(vec![9, 8, 7])];
    let all: Vec<_> = examples.iter().collect();
    let (by_nll, gradients) = nll_gradients(&asked, &all, 4096).unwrap();
    let (whole, same) = asked.loss_and_gradients(&Batch::new(&examples).unwrap(), &Taps::none()).unwrap();
    assert!((by_nll - whole).abs() < 1e-6);
    assert!((gradients.norm() - same.norm()).abs() < 1e-5 * same.norm());
    assert!(Model::random(config("llama", json!({})), 0).unwrap().set_router_coefficients(0.1, 0.0).is_err());
}

#[test]
fn recomputing_keeps_the_gradients_of_router_losses() {
    let mut model = mixtral(json!({}));
    model.set_router_coefficients(0.7, 0.2).unwrap();
    let (loss, kept) = model.loss_and_gradients(&batch(), &Taps::none()).unwrap();
    model.recompute = true;
    let (same, recomputed) = model.loss_and_gradients(&batch(), &Taps::none()).unwrap();
    assert_eq!(loss, same);
    for (id, gradient) in kept.iter() {
        assert_eq!(gradient.f32(), recomputed.get(id).unwrap().f32(), "{}", model.params.get(id).name);
    }
}

#[test]
fn routing_can_be_steered() {
    let model = mixtral(json!({}));
    let out = |taps: &Taps| {
        let batch = batch();
        model.hidden(&mut Graph::inference(&model.params), &batch, taps).unwrap().value().f32().to_vec()
    };
    let plain = out(&Taps::none());
    let indices = Site::Block(0, BlockSite::RouterIndices);
    let to = |experts: &[f32]| {
        let mut taps = Taps::none();
        let experts = Tensor::from_f32(experts, &[2]).unwrap();
        taps.add(indices, Selector::default(), Action::Replace(experts)).read(indices);
        taps
    };
    let steered = to(&[3.0, 1.0]);
    assert_ne!(out(&steered), plain);
    assert!(steered.take(indices)[0].tensor.f32().chunks(2).all(|pair| pair == [3.0, 1.0]));
    let (batch, wrong) = (batch(), to(&[4.0, 0.0]));
    let error = model.hidden(&mut Graph::inference(&model.params), &batch, &wrong).unwrap_err();
    assert!(error.to_string().contains("4 is no expert"), "{error}");
    // Without weights, experts add nothing to the residual.
    let mut silent = Taps::none();
    silent.add(Site::Block(1, BlockSite::RouterWeights), Selector::default(), Action::Zero);
    silent.read(Site::Block(1, BlockSite::MlpOut));
    assert_ne!(out(&silent), plain);
    assert!(silent.take(Site::Block(1, BlockSite::MlpOut))[0].tensor.f32().iter().all(|&x| x == 0.0));
}

#[test]
fn chosen_weights_sum_to_one_where_they_are_renormalised() {
    let sums = |model: &Model| -> Vec<f32> {
        let weights = read(model, BlockSite::RouterWeights);
        weights.iter().flat_map(|w| w.f32().chunks(2).map(|w| w.iter().sum()).collect::<Vec<f32>>()).collect()
    };
    for model in [mixtral(json!({})), qwen(json!({"norm_topk_prob": true}))] {
        assert!(sums(&model).iter().all(|s| (s - 1.0).abs() < 1e-6));
    }
    assert!(sums(&qwen(json!({}))).iter().all(|s| *s < 0.9999));
}

#[test]
fn every_option_of_qwen3_moe_shapes_the_model() {
    let layers = |extra: Value| {
        let mut options = json!({"num_hidden_layers": 5});
        options.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let model = qwen(options);
        let names: Vec<_> = model.params.iter().map(|(_, p)| p.name.clone()).collect();
        (0..5).map(|l| names.contains(&format!("model.layers.{l}.mlp.gate.weight"))).collect::<Vec<_>>()
    };
    assert_eq!(layers(json!({})), [true; 5]);
    assert_eq!(layers(json!({"decoder_sparse_step": 2})), [false, true, false, true, false]);
    assert_eq!(
        layers(json!({"decoder_sparse_step": 2, "mlp_only_layers": [1]})),
        [false, false, false, true, false]
    );
    assert_eq!(layers(json!({"num_experts": 0})), [false; 5]);
    let width = |model: &Model, name: &str| {
        model.params.get(model.params.find(name).unwrap()).tensor.shape().to_vec()
    };
    let model = qwen(json!({"mlp_only_layers": [0], "attention_bias": true}));
    assert_eq!(width(&model, "model.layers.0.mlp.up_proj.weight"), [40, 32]);
    assert_eq!(width(&model, "model.layers.1.mlp.experts.3.up_proj.weight"), [24, 32]);
    assert_eq!(width(&model, "model.layers.1.self_attn.o_proj.bias"), [32]);
    assert_eq!(model.spec().windows, [None; 2]);
    assert_eq!(qwen(json!({"use_sliding_window": true, "sliding_window": 7})).spec().windows, [Some(7); 2]);
    for (bad, key) in [
        (json!({"num_experts_per_tok": 5}), "num_experts_per_tok"),
        (json!({"decoder_sparse_step": 0}), "decoder_sparse_step"),
        (json!({"mlp_only_layers": [-1]}), "mlp_only_layers"),
    ] {
        let mut config = config("qwen3_moe", json!({"num_experts": 4}));
        config.extend(bad.as_object().unwrap().clone());
        let error = Model::random(config, 0).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

/// The tensors of a model with experts laid into one tensor each for gates and ups, and for downs.
fn fused(model: &Model) -> Vec<(String, Tensor)> {
    let spec = model.spec().experts.clone().unwrap();
    let [gate, up, down] = spec.names.parts;
    let module = spec.names.module;
    let get = |name: &str| model.params.get(model.params.find(name).unwrap()).tensor.clone();
    let mut tensors = Vec::new();
    for (_, param) in model.params.iter() {
        if !param.name.contains(".experts.") {
            tensors.push((param.name.replace(module, "mlp"), param.tensor.clone()));
        }
    }
    let (d, f) = (model.spec().hidden, spec.width);
    for l in 0..model.spec().layers {
        let part =
            |e: usize, part: &str| get(&format!("model.layers.{l}.{module}.experts.{e}.{part}.weight"));
        let all = |parts: &[&str]| -> Vec<f32> {
            let each = (0..spec.count).flat_map(|e| parts.iter().map(move |p| (e, *p)));
            each.flat_map(|(e, p)| part(e, p).f32().to_vec()).collect()
        };
        let name = |part: &str| format!("model.layers.{l}.mlp.experts.{part}");
        let both = Tensor::from_f32(&all(&[gate, up]), &[spec.count, 2 * f, d]).unwrap();
        tensors.push((name("gate_up_proj"), both));
        tensors.push((name("down_proj"), Tensor::from_f32(&all(&[down]), &[spec.count, d, f]).unwrap()));
    }
    tensors
}

#[test]
fn both_spellings_of_a_checkpoint_open_to_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    for (i, model) in [mixtral(json!({})), qwen(json!({}))].into_iter().enumerate() {
        let (plain, dense) =
            (folder.path().join(format!("plain{i}")), folder.path().join(format!("fused{i}")));
        model.save(&plain, None, None).unwrap();
        let mut files = ModelFiles::new(Value::Object(model.config().clone()), fused(&model));
        write_model(&dense, &files).unwrap();
        for dir in [&plain, &dense] {
            let opened = Model::open(dir).unwrap();
            assert_eq!(opened.params.len(), model.params.len());
            for (_, param) in model.params.iter() {
                let id = opened.params.find(&param.name).unwrap();
                assert_eq!(opened.params.get(id).tensor.f32(), param.tensor.f32(), "{}", param.name);
            }
        }
        // A fused tensor of another shape is named.
        let place = files.tensors.iter().position(|(name, _)| name.ends_with("gate_up_proj")).unwrap();
        files.tensors[place].1 = Tensor::from_f32(&[0.5; 6], &[1, 2, 3]).unwrap();
        let broken = folder.path().join(format!("broken{i}"));
        write_model(&broken, &files).unwrap();
        let error = Model::open(&broken).unwrap_err().to_string();
        assert!(error.contains("gate_up_proj"), "{error}");
    }
}

#[test]
fn adapters_on_attention_and_on_experts() {
    let base = mixtral(json!({}));
    let examples = [Example::text((0..20).collect()), Example::text((5..40).collect())];
    let plain = base.score(&examples, 4096).unwrap();
    for targets in [vec!["q_proj", "v_proj"], vec!["w1", "w2"], vec![]] {
        let options = LoraOptions {
            r: 2,
            alpha: 4.0,
            targets: targets.iter().map(|t: &&str| (*t).to_owned()).collect(),
        };
        let mut model = base.clone();
        model.attach_lora(&options, 1).unwrap();
        assert_eq!(model.score(&examples, 4096).unwrap(), plain, "a fresh adapter changes nothing");
        let (_, gradients) = model.loss_and_gradients(&batch(), &Taps::none()).unwrap();
        for (id, gradient) in gradients.iter() {
            let param = model.params.get_mut(id);
            assert!(param.name.contains(".lora_"), "{} is frozen", param.name);
            param.tensor.f32_mut().iter_mut().zip(gradient.f32()).for_each(|(w, g)| *w -= 0.5 * g);
        }
        let learnt = model.score(&examples, 4096).unwrap();
        assert_ne!(learnt, plain);
        let merged = model.merged().unwrap().score(&examples, 4096).unwrap();
        for (a, b) in merged.iter().flatten().zip(learnt.iter().flatten()) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
        let on_experts =
            model.adapter_layers().any(|(n, _)| n == "model.layers.1.block_sparse_moe.experts.3.w1");
        assert_eq!(on_experts, !targets.contains(&"q_proj"));
    }
    let wrong = LoraOptions { r: 2, alpha: 4.0, targets: vec!["gate_proj".into()] };
    let error = base.clone().attach_lora(&wrong, 1).unwrap_err().to_string();
    assert!(error.contains("block_sparse_moe.experts.0.w1, block_sparse_moe.experts.0.w3"), "{error}");
}

/// Seconds of the fastest of several calls.
fn fastest(mut call: impl FnMut()) -> f64 {
    let times = (0..7).map(|_| {
        let start = std::time::Instant::now();
        call();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "a measurement: run it alone, in release"]
#[expect(clippy::print_stdout, reason = "a measurement is printed")]
fn time_of_a_mixture_against_a_dense_model_of_its_active_size() {
    let size = json!({"hidden_size": 512, "num_hidden_layers": 4, "vocab_size": 512, "num_attention_heads": 8,
        "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 1024});
    let make = |family: &str, extra: Value| {
        let mut config = config(family, extra);
        config.extend(size.as_object().unwrap().clone());
        Model::random(config, 1).unwrap()
    };
    let dense = make("llama", json!({"intermediate_size": 2048}));
    let text = |n: u32| Example::text((0..n).map(|i| (i * i * 7 + i * 13) % 512).collect());
    for (experts, k) in [(8, 2), (32, 4), (64, 8)] {
        let mixture = make(
            "mixtral",
            json!({"intermediate_size": 2048 / k, "num_local_experts": experts, "num_experts_per_tok": k}),
        );
        let decode = |model: &Model| {
            let options =
                amend_engine::generate::GenerateOptions { max_new_tokens: 48, ..Default::default() };
            fastest(|| drop(model.generate(&[vec![1, 2, 3]], &options).unwrap()))
        };
        let score = |model: &Model| fastest(|| drop(model.score(&[text(512)], 4096).unwrap()));
        let train = |model: &Model| {
            let batch = Batch::new(&[text(512), text(512)]).unwrap();
            fastest(|| drop(model.loss_and_gradients(&batch, &Taps::none()).unwrap()))
        };
        println!(
            "{experts} experts, {k} per token: decode {:.2}, score {:.2}, train {:.2} times the dense model's",
            decode(&mixture) / decode(&dense),
            score(&mixture) / score(&dense),
            train(&mixture) / train(&dense)
        );
    }
}
