//! Values and gradients that need no training (hand cases of the papers' formulas).

use amend_engine::{Batch, Params, Tensor};
use serde_json::json;

use super::preference::{logistic, minus};
use super::*;
use crate::retain::{Kl, RetainObjective};

fn model(seed: u64) -> Model {
    let config = json!({
        "model_type": "llama", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 40, "vocab_size": 50, "max_position_embeddings": 32,
        "tie_word_embeddings": true, "initializer_range": 0.3,
    });
    Model::random(config.as_object().unwrap().clone(), seed).unwrap()
}

fn answers() -> Vec<Example> {
    (0..4u32)
        .map(|i| {
            Example::answer(&[1, 2 + i, 9], &(0..3 + i).map(|j| (7 * j + 3 * i) % 50).collect::<Vec<_>>())
        })
        .collect()
}

fn refusals() -> Vec<Example> {
    (0..4u32).map(|i| Example::answer(&[1, 2 + i, 9], &[40, 41, 42 + i])).collect()
}

fn nll(model: &Model, examples: &[Example]) -> Vec<f64> {
    let scores = model.score(examples, 4096).unwrap();
    scores.iter().map(|lp| -lp.iter().map(|&l| f64::from(l)).sum::<f64>()).collect()
}

fn batch<'a>(model: &Model, answers: &'a [Example], refusals: &'a [Example]) -> ForgetBatch<'a> {
    ForgetBatch {
        answers: answers.iter().collect(),
        reference_nll: nll(model, answers),
        refusals: refusals.iter().collect(),
        reference_refusal_nll: nll(model, refusals),
    }
}

fn flat(g: &Gradients) -> Vec<f32> {
    g.iter().flat_map(|(_, t)| t.f32().to_vec()).collect()
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    let scale = b.iter().map(|x| x.abs()).fold(0.0, f32::max);
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * scale, "{worst} against {scale}");
}

#[test]
fn npo_hand_case() {
    let params = Params::default();
    let mut g = Graph::recording(&params);
    let (nll, leaf) = g.input(Tensor::from_f32(&[3.0], &[1]).unwrap());
    let margin = minus(&mut g, &nll, &[1.0]).unwrap();
    let loss = logistic(&mut g, &margin, 0.1).unwrap();
    assert!((loss.scalar() - 11.96278).abs() < 1e-4, "{}", loss.scalar());
    let mut gradients = g.backward(&loss).unwrap();
    assert!((gradients.take_leaf(leaf).unwrap().f32()[0] + 0.900_332).abs() < 1e-5);
}

#[test]
fn simnpo_hand_case() {
    let params = Params::default();
    let mut g = Graph::recording(&params);
    let (nll, leaf) = g.input(Tensor::from_f32(&[3.0], &[1]).unwrap());
    let per_token = g.scale(&nll, 1.0 / 3.0).unwrap();
    let loss = logistic(&mut g, &per_token, 4.5).unwrap();
    assert!((loss.scalar() - 0.004_910_11).abs() < 1e-7, "{}", loss.scalar());
    let mut gradients = g.backward(&loss).unwrap();
    assert!((gradients.take_leaf(leaf).unwrap().f32()[0] + 0.007_324_63).abs() < 1e-7);
}

#[test]
fn preferences_start_at_two_over_beta_ln_two() {
    let model = model(1);
    let (answers, refusals) = (answers(), refusals());
    let batch = batch(&model, &answers, &refusals);
    for objective in [Forget::Npo(Npo::default()), Forget::IdkDpo(IdkDpo::default())] {
        let (loss, _) = gradients(objective.filler(), &model, &batch).unwrap();
        assert!((loss - 20.0 * 2f64.ln()).abs() < 1e-3, "{}: {loss}", objective.name());
    }
}

#[test]
fn npo_pulls_like_gradient_ascent_on_sums_at_the_reference() {
    let model = model(1);
    let (answers, refusals) = (answers(), refusals());
    let (_, npo) = gradients(&Npo::default(), &model, &batch(&model, &answers, &refusals)).unwrap();
    let packed = Batch::new(&answers).unwrap();
    let taps = Taps::none();
    let mut g = Graph::recording(&model.params);
    let nll = sequence_nll(&mut g, &model, &packed, &taps).unwrap();
    let mean = g.mean(&nll).unwrap();
    let ascent = g.scale(&mean, -1.0).unwrap();
    let ascent = g.backward(&ascent).unwrap();
    assert_close(&flat(&npo), &flat(&ascent), 1e-4);
}

#[test]
fn every_objective_descends_as_its_gradient_says() {
    let reference = model(1);
    // Away from the reference, so that no term is trivially zero.
    let model = model(2);
    let (answers, refusals) = (answers(), refusals());
    let batch = batch(&reference, &answers, &refusals);
    for objective in [
        Forget::GradientAscent(GradientAscent::default()),
        Forget::Npo(Npo::default()),
        Forget::SimNpo(SimNpo { beta: 0.5, delta: 0.1 }),
        Forget::Idk(Idk::default()),
        Forget::IdkDpo(IdkDpo::default()),
    ] {
        let (_, gradient) = gradients(objective.filler(), &model, &batch).unwrap();
        let norm = gradient.norm();
        let at = |h: f64| {
            let mut moved = model.clone();
            for (id, g) in gradient.iter() {
                let tensor = &mut moved.params.get_mut(id).tensor;
                for (w, &g) in tensor.f32_mut().iter_mut().zip(g.f32()) {
                    *w += (h * f64::from(g) / norm) as f32;
                }
            }
            gradients(objective.filler(), &moved, &batch).unwrap().0
        };
        // Fourth-order differences: a second-order one would need steps too small for f32.
        let h = 2e-3;
        let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        assert!((slope - norm).abs() <= 2e-3 * norm, "{}: {slope} instead of {norm}", objective.name());
    }
}

#[test]
fn divergence_and_its_gradient_vanish_at_the_reference() {
    let model = model(1);
    let answers = answers();
    let batch: Vec<_> = answers.iter().collect();
    let (loss, gradient) = Kl::default().gradients(&model, &model.clone(), &batch).unwrap().unwrap();
    assert!(loss.abs() < 1e-6, "{loss}");
    assert!(gradient.norm() < 1e-5, "{}", gradient.norm());
    let (away, _) = Kl::default().gradients(&model, &super::tests::model(2), &batch).unwrap().unwrap();
    assert!(away > 0.01);
}

#[test]
fn a_missing_refusal_is_an_error() {
    let model = model(1);
    let answers = answers();
    let mut batch = batch(&model, &answers, &[]);
    batch.refusals.clear();
    assert!(gradients(&Idk::default(), &model, &batch).is_err());
}
