//! Values and gradients that need no training, and what constraints do over steps.

use amend_engine::{Batch, Example, Graph, Taps};
use serde_json::json;

use super::*;
use crate::small::{QUESTIONS, assert_descends, with_context};

#[test]
fn divergence_and_its_gradient_vanish_at_the_reference() {
    with_context(|context, other| {
        let batch = RetainBatch::draw(context, QUESTIONS.len(), 0);
        let here = Kl::default().gradients(context.reference, &batch).unwrap().unwrap();
        assert!(here.loss.abs() < 1e-6, "{}", here.loss);
        assert!(here.gradients.norm() < 1e-5, "{}", here.gradients.norm());
        assert!(Kl::default().gradients(other, &batch).unwrap().unwrap().loss > 0.01);
    });
}

/// −(1/β)·log σ(β·(NLL(refusal) − NLL(answer))), from the likelihoods themselves; and its gradient.
#[test]
fn answers_are_preserved_against_refusals() {
    with_context(|context, model| {
        let batch = RetainBatch::draw(context, QUESTIONS.len(), 0);
        let objective = AnswerPreservation { beta: 0.5 };
        let loss = |model: &Model| objective.gradients(model, &batch).unwrap().unwrap();
        let nll = |examples: Vec<&Example>| -> Vec<f64> {
            let examples: Vec<Example> = examples.into_iter().cloned().collect();
            let scores = model.score(&examples, 4096).unwrap();
            scores.iter().map(|item| -item.iter().map(|&l| f64::from(l)).sum::<f64>()).collect()
        };
        let pairs = nll(batch.refusals().unwrap()).into_iter().zip(nll(batch.examples.clone()));
        let each: Vec<f64> =
            pairs.map(|(refusal, answer)| (-0.5 * (refusal - answer)).exp().ln_1p() / 0.5).collect();
        let wanted = each.iter().sum::<f64>() / each.len() as f64;
        let found = loss(model);
        assert!((found.loss - wanted).abs() < 1e-3 * wanted.max(1.0), "{} {wanted}", found.loss);
        assert_descends("ap", model, &found.gradients, 2e-3, |moved| loss(moved).loss);
    });
}

#[test]
fn hidden_states_are_held_at_the_reference() {
    with_context(|context, other| {
        let batch = RetainBatch::draw(context, QUESTIONS.len(), 0);
        let objective = Rmu { layer: Some(0), ..Rmu::default() };
        let here = objective.gradients(context.reference, &batch).unwrap().unwrap();
        assert!(here.loss == 0.0 && here.gradients.norm() == 0.0, "{}", here.loss);
        let there = objective.gradients(other, &batch).unwrap().unwrap();
        let loss = |moved: &Model| objective.gradients(moved, &batch).unwrap().unwrap().loss;
        assert!(there.loss > 0.01);
        assert_descends("rmu", other, &there.gradients, 2e-3, loss);
        // The same whether blocks are kept or run again.
        let mut again = other.clone();
        again.recompute = true;
        assert_eq!(loss(&again), there.loss);
        let unknown =
            Rmu { layer: Some(2), ..Rmu::default() }.gradients(other, &batch).unwrap_err().to_string();
        assert!(unknown.contains("retain: `layer = 2`"), "{unknown}");
    });
}

/// mean ‖h − h⁰‖ / mean ‖h⁰‖, from readings; without a gradient where nothing has moved.
#[test]
fn distances_are_held_for_the_length_of_states() {
    with_context(|context, other| {
        let batch = RetainBatch::draw(context, QUESTIONS.len(), 0);
        let objective = MlpBreaking { layer: Some(1), ..MlpBreaking::default() };
        let here = objective.gradients(context.reference, &batch).unwrap().unwrap();
        assert!(here.loss == 0.0 && here.gradients.norm() == 0.0, "{}", here.loss);
        let lengths = |rows: Vec<Vec<f32>>| -> f64 {
            rows.iter().map(|row| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()).sum()
        };
        let states = |model: &Model| -> Vec<Vec<f32>> {
            let of_example = |example: &&Example| {
                let (packed, taps) = (Batch::new([*example]).unwrap(), Taps::none());
                let mut g = Graph::inference(&model.params);
                let hidden = model.residual(&mut g, &packed, 1, &taps).unwrap();
                hidden.value().f32().chunks(24).skip(1).map(<[f32]>::to_vec).collect::<Vec<_>>()
            };
            batch.examples.iter().flat_map(of_example).collect()
        };
        let (before, after) = (states(context.reference), states(other));
        let away = before.iter().zip(&after).map(|(b, a)| b.iter().zip(a).map(|(b, a)| a - b).collect());
        let wanted = lengths(away.collect()) / lengths(before.clone());
        let there = objective.gradients(other, &batch).unwrap().unwrap();
        assert!((there.loss - wanted).abs() < 1e-4 * wanted, "{} {wanted}", there.loss);
        let loss = |moved: &Model| objective.gradients(moved, &batch).unwrap().unwrap().loss;
        assert_descends("mlp-breaking", other, &there.gradients, 2e-3, loss);
        let deep =
            MlpBreaking { layer: Some(2), ..objective }.gradients(other, &batch).unwrap_err().to_string();
        assert!(deep.contains("retain: `layer = 2` of a model whose layers are 0 to 1"), "{deep}");
    });
}

/// λ ← max(0, λ + η·(CE − ε)), and the gradient is that of the cross-entropy itself.
#[test]
fn the_dual_variable_follows_the_constraint() {
    let constraint = Pdu { epsilon: 0.5, eta: 2.0, start: 1.0 };
    let mut memory = Memory::default();
    for (loss, used, next) in
        [(1.0, 1.0, 2.0), (0.25, 2.0, 1.5), (0.5, 1.5, 1.5), (0.0, 1.5, 0.5), (0.0, 0.5, 0.0)]
    {
        assert_eq!(constraint.multiplier(&memory), used as f32);
        let mut row = Map::new();
        constraint.after_step(loss, &mut memory, &mut row);
        assert_eq!(row["dual"], json!(used), "what the step was taken with");
        assert_eq!(constraint.multiplier(&memory), next as f32, "never negative");
    }
    with_context(|context, model| {
        let batch = RetainBatch::draw(context, QUESTIONS.len(), 0);
        let (ours, plain) = (constraint.gradients(model, &batch), Nll::default().gradients(model, &batch));
        let (ours, plain) = (ours.unwrap().unwrap(), plain.unwrap().unwrap());
        assert_eq!((ours.loss, ours.gradients.norm()), (plain.loss, plain.gradients.norm()));
        assert_eq!(Nll::default().multiplier(&memory), 1.0, "no other objective is weighed");
    });
}
