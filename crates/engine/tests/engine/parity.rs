//! Parity with reference outputs: log-probabilities, greedy continuations, gradients, AdamW.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::data::{fixture, test_data};
use amend_engine::checkpoint::{Checkpoint, SafetensorsFile};
use amend_engine::generate::GenerateOptions;
use amend_engine::optim::{AdamW, AdamWOptions, DecayOn};
use amend_engine::taps::BlockSite;
use amend_engine::{Batch, Example, Graph, Model, Site, Taps};
use serde_json::Value;

const FIXTURES: [&str; 12] = [
    "llama3-rope-sharded",
    "qwen2",
    "qwen3",
    "mistral-sliding-window",
    "mixtral",
    "qwen3-moe",
    "gemma2",
    "gemma3-text",
    "phi3",
    "olmo2",
    "gpt2",
    "gpt-neox-pythia",
];

/// More of the same, a trained model among them.
const FROM_TEST_DATA: [&str; 3] = ["stories260k/hf", "arithmetic-llama-random", "tiny-random-gpt2"];

/// Every model there is, by name and folder.
fn models() -> Vec<(&'static str, PathBuf)> {
    let mut all: Vec<_> = FIXTURES.iter().map(|&name| (name, fixture(name))).collect();
    if cfg!(test_data) {
        let models = test_data().join("models");
        all.extend(FROM_TEST_DATA.iter().map(|&name| (name, models.join(name))));
    }
    all
}

fn reference(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("reference.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn each_model(check: impl Fn(&str, &Model, &Value)) {
    for (name, dir) in models() {
        check(name, &Model::open(&dir).unwrap(), &reference(&dir));
    }
}

#[test]
fn log_probabilities() {
    each_model(|name, model, reference| {
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
fn greedy_continuations() {
    each_model(|name, model, reference| {
        let prompt = ids(&reference["greedy"]["prompt_ids"]);
        let all = ids(&reference["greedy"]["all_ids"]);
        let options = GenerateOptions { max_new_tokens: all.len() - prompt.len(), ..Default::default() };
        let out = model.generate(std::slice::from_ref(&prompt), &options).unwrap();
        assert_eq!(out[0][0].ids, all[prompt.len()..], "{name}");
    });
}

#[test]
fn gradient_norms() {
    each_model(|name, model, reference| {
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
fn five_adamw_steps() {
    each_model(|name, model, reference| {
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
fn hidden_states_and_attentions() {
    let mut compared = 0;
    for (name, dir) in models() {
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
    assert!(compared >= FIXTURES.len(), "{compared}");
}

fn close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let largest = theirs.iter().fold(1e-3, |a: f32, b| a.max(b.abs()));
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4 * largest, "{name}: off by {worst} where the largest is {largest}");
}

/// Opening and saving gives the same tensors under the same names, fused and turned ones included.
#[test]
fn saving_writes_the_checkpoint_back() {
    for (name, dir) in models() {
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
