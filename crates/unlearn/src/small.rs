//! A small model, and data for it: what tests of several slots share.

use amend_engine::tokenizer::{Tokenizer, train_bpe};
use amend_engine::{Gradients, Model};
use amend_learn::{RecordEncoder, Template};
use amend_run::{Dataset, Silent};
use serde_json::json;

use crate::context::Context;
use crate::data::Sets;
use crate::recipe::Evaluation;

/// Four questions with answers of different lengths.
pub(crate) const QUESTIONS: [(&str, &str); 4] = [
    ("Who wrote it?", "Ann"),
    ("Where was she born?", "in the old town by the sea"),
    ("When?", "long ago"),
    ("What is her name?", "Ann, and nothing but Ann"),
];

pub(crate) fn tokenizer() -> Tokenizer {
    train_bpe(QUESTIONS.iter().map(|(question, _)| *question), 280, &[]).unwrap()
}

pub(crate) fn model(tokenizer: &Tokenizer, seed: u64) -> Model {
    let config = json!({
        "model_type": "llama", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 40, "vocab_size": tokenizer.vocab_size(), "max_position_embeddings": 128,
        "tie_word_embeddings": true, "initializer_range": 0.3,
    });
    Model::random(config.as_object().unwrap().clone(), seed).unwrap()
}

/// Gives `check` the context of a reference model of the same seed every time, and another model of its shape.
pub(crate) fn with_context(check: impl FnOnce(&Context<'_>, &Model)) {
    let tokenizer = tokenizer();
    let (reference, other) = (model(&tokenizer, 1), model(&tokenizer, 2));
    let encoder = RecordEncoder::new(&tokenizer, Template::default(), 128);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("questions.jsonl");
    let line =
        |(question, answer): &(&str, &str)| json!({ "question": question, "answer": answer }).to_string();
    std::fs::write(&file, QUESTIONS.map(|q| line(&q)).join("\n")).unwrap();
    let records = Dataset::read(&[file]).unwrap().records;
    let sets = Sets { forget: records.clone(), retain: records, ..Sets::default() };
    let evaluation = Evaluation::default();
    let context = Context::new(&reference, &tokenizer, &encoder, &sets, &evaluation, 3, &Silent).unwrap();
    check(&context, &other);
}

pub(crate) fn flat(g: &Gradients) -> Vec<f32> {
    g.iter().flat_map(|(_, t)| t.f32().to_vec()).collect()
}

pub(crate) fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    let scale = b.iter().map(|x| x.abs()).fold(0.0, f32::max);
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * scale, "{worst} against {scale}");
}

/// Along its gradient a loss has the gradient's norm for a slope.
pub(crate) fn assert_descends(
    name: &str,
    model: &Model,
    gradient: &Gradients,
    tolerance: f64,
    loss: impl Fn(&Model) -> f64,
) {
    let norm = gradient.norm();
    let at = |h: f64| {
        let mut moved = model.clone();
        for (id, g) in gradient.iter() {
            let weight = &mut moved.params.get_mut(id).tensor;
            *weight = weight.zip_map(g, |w, g| w + (h * f64::from(g) / norm) as f32);
        }
        loss(&moved)
    };
    // Fourth-order differences: a second-order one would need steps too small for f32.
    let h = 2e-3;
    let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
    assert!(norm > 0.0 && (slope - norm).abs() <= tolerance * norm, "{name}: {slope} instead of {norm}");
}
