//! Parity with reference outputs: log-probabilities, greedy continuations, gradients, AdamW.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

mod test_data;

use std::path::Path;

use amend_engine::generate::GenerateOptions;
use amend_engine::optim::{AdamW, AdamWOptions, DecayOn};
use amend_engine::{Batch, Example, Graph, Model, Taps};
use serde_json::Value;
use test_data::test_data;

const MODELS: [&str; 13] = [
    "stories260k/hf",
    "arithmetic-llama-random",
    "arch-fixtures/llama3-rope-sharded",
    "arch-fixtures/qwen2",
    "arch-fixtures/qwen3",
    "arch-fixtures/mistral-sliding-window",
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
fn greedy_continuations() {
    each_model("greedy_continuations", |name, model, reference| {
        let prompt = ids(&reference["greedy"]["prompt_ids"]);
        let all = ids(&reference["greedy"]["all_ids"]);
        let options = GenerateOptions { max_new_tokens: all.len() - prompt.len(), ..Default::default() };
        let out = model.generate(std::slice::from_ref(&prompt), &options, None, &Taps::none()).unwrap();
        assert_eq!(out[0].ids, all[prompt.len()..], "{name}");
    });
}

#[test]
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

#[test]
fn hidden_states_are_finite_and_final() {
    each_model("hidden_states_are_finite_and_final", |name, model, reference| {
        let batch = Batch::new(&[Example::text(ids(&reference["input_ids"]))]).unwrap();
        let taps = Taps::none();
        let mut g = Graph::inference(&model.params);
        let hidden = model.hidden(&mut g, &batch, &taps).unwrap();
        assert_eq!(hidden.shape(), [batch.ids.len(), model.spec().hidden], "{name}");
        assert!(hidden.value().f32().iter().all(|x| x.is_finite()), "{name}");
    });
}
