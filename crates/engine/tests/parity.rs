//! Parity with reference outputs: log-probabilities, greedy continuations, gradients, AdamW.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

mod test_data;

use std::collections::BTreeSet;
use std::path::Path;

use amend_engine::checkpoint::{Checkpoint, SafetensorsFile};
use amend_engine::generate::GenerateOptions;
use amend_engine::optim::{AdamW, AdamWOptions, DecayOn};
use amend_engine::taps::BlockSite;
use amend_engine::{Batch, Example, Graph, Model, Site, Taps};
use serde_json::Value;
use test_data::test_data;

const MODELS: [&str; 15] = [
    "stories260k/hf",
    "arithmetic-llama-random",
    "arch-fixtures/llama3-rope-sharded",
    "arch-fixtures/qwen2",
    "arch-fixtures/qwen3",
    "arch-fixtures/mistral-sliding-window",
    "arch-fixtures/mixtral",
    "arch-fixtures/qwen3-moe",
    "arch-fixtures/gemma2",
    "arch-fixtures/gemma3-text",
    "arch-fixtures/phi3",
    "arch-fixtures/olmo2",
    "arch-fixtures/gpt2",
    "arch-fixtures/gpt-neox-pythia",
    "tiny-random-gpt2",
];

fn reference(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("reference.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn each_model(test: &str, check: impl Fn(&str, &Model, &Value)) {
    let Some(data) = test_data(test) else { return };
    for name in MODELS {
        let dir = data.join("models").join(name);
        check(name, &Model::open(&dir).unwrap(), &reference(&dir));
    }
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn log_probabilities() {
    each_model("log_probabilities", |name, model, reference| {
        let ids = ids(&reference["input_ids"]);
        let ours = model.score(&[Example::text(ids)], 4096).unwrap();
        let worst = ours[0]
            .iter()
            .zip(floats(&reference["token_logprobs"]))
            .map(|(a, b)| (f64::from(*a) - b).abs())
            .fold(0.0, f64::max);
        assert!(worst <= 2e-4, "{name}: {worst}");
    });
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn greedy_continuations() {
    each_model("greedy_continuations", |name, model, reference| {
        let prompt = ids(&reference["greedy"]["prompt_ids"]);
        let all = ids(&reference["greedy"]["all_ids"]);
        let options = GenerateOptions { max_new_tokens: all.len() - prompt.len(), ..Default::default() };
        let out = model.generate(std::slice::from_ref(&prompt), &options).unwrap();
        assert_eq!(out[0][0].ids, all[prompt.len()..], "{name}");
    });
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn gradient_norms() {
    each_model("gradient_norms", |name, model, reference| {
        let batch = Batch::new(&[Example::text(ids(&reference["input_ids"]))]).unwrap();
        let (_, gradients) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
        let expected = reference["train"]["grad_l2_norm_step0"].as_object().unwrap();
        let mut compared = 0;
        for (id, gradient) in gradients.iter() {
            let param = &model.params.get(id).name;
            let Some(want) = expected.get(param).and_then(Value::as_f64) else {
                panic!("{name}: no reference for {param}");
            };
            let got = gradient.f32().iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            assert!((got - want).abs() <= 1e-3 * want.max(1e-6), "{name} {param}: {got} instead of {want}");
            compared += 1;
        }
        assert!(compared >= expected.len() - 1, "{name}: {compared} of {}", expected.len());
    });
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn five_adamw_steps() {
    each_model("five_adamw_steps", |name, model, reference| {
        for recompute in [false, true] {
            let mut model = model.clone();
            model.recompute = recompute;
            let batch = Batch::new(&[Example::text(ids(&reference["input_ids"]))]).unwrap();
            let options = AdamWOptions {
                beta2: 0.95,
                weight_decay: 0.1,
                decay_on: DecayOn::Everything,
                ..Default::default()
            };
            let mut adamw = AdamW::new(&model.params, options);
            for want in floats(&reference["train"]["loss_before_step"]) {
                let (loss, gradients) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
                assert!((f64::from(loss) - want).abs() <= 1e-3 * want, "{name}: {loss} instead of {want}");
                adamw.step(&mut model.params, &gradients, 1e-3, 1.0).unwrap();
            }
        }
    });
}

/// Residual stream before every block, final hidden states and attention patterns, through taps.
#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn hidden_states_and_attentions() {
    let Some(data) = test_data("hidden_states_and_attentions") else { return };
    let mut compared = 0;
    for name in MODELS {
        let dir = data.join("models").join(name);
        let file = dir.join("reference.safetensors");
        if !file.exists() {
            continue;
        }
        let (model, file) = (Model::open(&dir).unwrap(), SafetensorsFile::open(&file).unwrap());
        let batch = Batch::new(&[Example::text(ids(&reference(&dir)["input_ids"]))]).unwrap();
        let (layers, heads, tokens) = (model.spec().layers, model.spec().heads, batch.ids.len());
        let mut taps = Taps::none();
        for l in 0..layers {
            taps.read(Site::Block(l, BlockSite::ResidPre)).read(Site::Block(l, BlockSite::Pattern));
        }
        let mut g = Graph::inference(&model.params);
        let hidden = model.hidden(&mut g, &batch, &taps).unwrap();
        let (states, patterns) = (file.tensor("hidden_states").unwrap(), file.tensor("attentions").unwrap());
        assert_eq!(patterns.shape(), [layers, heads, tokens, tokens], "{name}");
        let width = tokens * model.spec().hidden;
        for l in 0..=layers {
            let ours = match l {
                l if l < layers => taps.take(Site::Block(l, BlockSite::ResidPre)).remove(0).tensor,
                _ => hidden.value().clone(),
            };
            close(name, ours.f32(), &states.f32()[l * width..(l + 1) * width]);
        }
        for l in 0..layers {
            let ours = taps.take(Site::Block(l, BlockSite::Pattern)).remove(0).tensor;
            // Ours has a row per (token, head), the reference one per (head, token).
            for (row, ours) in ours.f32().chunks(tokens).enumerate() {
                let (token, head) = (row / heads, row % heads);
                let start = ((l * heads + head) * tokens + token) * tokens;
                close(name, ours, &patterns.f32()[start..start + tokens]);
            }
        }
        compared += 1;
    }
    assert!(compared > 10, "{compared}");
}

fn close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let largest = theirs.iter().fold(1e-3, |a: f32, b| a.max(b.abs()));
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4 * largest, "{name}: off by {worst} where the largest is {largest}");
}

/// Opening and saving gives the same tensors under the same names, fused and turned ones included.
#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn saving_writes_the_checkpoint_back() {
    let Some(data) = test_data("saving_writes_the_checkpoint_back") else { return };
    for name in MODELS {
        let dir = data.join("models").join(name);
        let parent = tempfile::tempdir().unwrap();
        let saved = parent.path().join("model");
        Model::open(&dir).unwrap().save(&saved, None, None).unwrap();
        let (before, after) = (Checkpoint::open(&dir).unwrap(), Checkpoint::open(&saved).unwrap());
        assert_eq!(before.names().collect::<BTreeSet<_>>(), after.names().collect::<BTreeSet<_>>(), "{name}");
        for tensor in before.names() {
            let (old, new) = (before.tensor(tensor).unwrap(), after.tensor(tensor).unwrap());
            assert_eq!((old.shape(), old.bytes()), (new.shape(), new.bytes()), "{name}: {tensor}");
        }
    }
}
