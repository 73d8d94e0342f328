//! What guards promise, on losses whose derivatives are known and on a real model.

use amend_engine::{Gradients, Params, Tensor};
use serde_json::json;

use super::*;
use crate::recipe::Slots;
use crate::small::{assert_close, assert_descends, flat, model, tokenizer, with_context};

/// A model of which one norm may change, with these numbers in its first places and zeros behind.
fn at(weights: &[f32]) -> Model {
    let mut model = model(&tokenizer(), 1);
    model.params.set_trainable(|name| name == "model.norm.weight");
    for (_, param) in model.params.iter_mut().filter(|(_, param)| param.trainable) {
        let values = param.tensor.f32_mut();
        values.fill(0.0);
        values[..weights.len()].copy_from_slice(weights);
    }
    model
}

/// Σ loss(x) over the weights that may change, whose slope is known.
fn of_weights(model: &Model, loss: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) -> LossAndGradients {
    let mut gradients = Gradients::none(&model.params);
    let mut total = 0.0;
    for (id, param) in model.params.iter().filter(|(_, param)| param.trainable) {
        total += param.tensor.f32().iter().map(|&x| f64::from(loss(x))).sum::<f64>();
        let slopes: Vec<f32> = param.tensor.f32().iter().map(|&x| slope(x)).collect();
        gradients.set(id, Tensor::from_f32(&slopes, param.tensor.shape()).unwrap());
    }
    LossAndGradients { loss: total, gradients }
}

/// ½Σx²: everywhere as curved.
fn square(model: &Model) -> Result<LossAndGradients> {
    Ok(of_weights(model, |x| 0.5 * x * x, |x| x))
}

/// ⅙Σx³, whose curvature is x.
fn cube(model: &Model) -> Result<LossAndGradients> {
    Ok(of_weights(model, |x| x.powi(3) / 6.0, |x| 0.5 * x * x))
}

/// The gradient of ½x² is x: from x = 1 and with ρ = 0.1, SAM takes it at 1.1.
#[test]
fn sam_hand_case() {
    let model = at(&[1.0]);
    let here = square(&model).unwrap();
    let there = square(&walk::walked(&model, 0.1, &here.gradients)).unwrap();
    assert_eq!(flat(&there.gradients)[0], 1.1);
}

#[test]
fn a_walk_is_so_long_over_all_weights_together_and_nowhere_without_a_direction() {
    let mut model = model(&tokenizer(), 1);
    model.params.set_trainable(|name| name.ends_with("norm.weight"));
    let weights = |params: &Params| -> Vec<f32> {
        params.iter().flat_map(|(_, param)| param.tensor.f32().to_vec()).collect()
    };
    let before = weights(&model.params);
    let direction = square(&model).unwrap().gradients;
    let away = walk::walked(&model, 0.25, &direction);
    let distance =
        |after: Vec<f32>| before.iter().zip(after).map(|(a, b)| f64::from(b - a).powi(2)).sum::<f64>().sqrt();
    assert!((distance(weights(&away.params)) - 0.25).abs() < 1e-5);
    assert_eq!(weights(&model.params), before, "the model itself stays where it is");
    let still = walk::walked(&model, 0.25, &Gradients::none(&model.params));
    assert_eq!(weights(&still.params), before);
}

/// ‖∇½x²‖ = ‖x‖, whose gradient is x/‖x‖; of a square, differences are exact.
#[test]
fn gradient_penalty_hand_case() {
    let guard = GradientPenalty { lambda: 0.5, h: 0.125 };
    let (forget, penalty) = guard.penalised(&at(&[3.0, 4.0]), &square).unwrap();
    assert_eq!((forget.loss, penalty), (12.5, 2.5));
    assert_close(&flat(&forget.gradients)[..2], &[3.3, 4.4], 1e-6);
    let still = guard.penalised(&at(&[0.0]), &square).unwrap();
    assert!(still.1 == 0.0 && still.0.gradients.norm() == 0.0);
}

/// Walked as far as it is penalised, the penalty's gradient is the one at the end of the walk.
#[test]
fn a_gradient_penalty_as_long_as_its_walk_is_sam() {
    with_context(|context, model| {
        let slots = Slots { batch_size: 4, ..Slots::default() };
        let objectives = Objectives::draw(&slots, context, 0).unwrap();
        let gradients = |guard: &dyn Safeguard| {
            flat(&guard.gradients(model, &objectives, &mut Map::new()).unwrap().forget.gradients)
        };
        let sam = gradients(&Sam { rho: 0.02 });
        assert_close(&gradients(&GradientPenalty { lambda: 0.02, h: 0.02 }), &sam, 1e-5);
        let plain = gradients(&NoGuard::default());
        assert_close(&gradients(&GradientPenalty { lambda: 0.0, h: 0.02 }), &plain, 0.0);
        assert!(sam != plain);
    });
}

/// The gradient of ⅙x³ is ½x², so that it turns by Δ = μx + ½μ² on the way to x + μ: the penalty is Δ², its slope with the
/// walk held fixed 2Δμ.
#[test]
fn curvature_hand_case() {
    let guard = CurvaturePenalty { lambda: 0.5, mu: 0.25, h: 0.125 };
    let (forget, penalty) = guard.penalised(&at(&[2.0]), &cube).unwrap();
    let turn = 0.25 * 2.0 + 0.5 * 0.25f32.powi(2);
    assert!((penalty - 0.5 * f64::from(turn).powi(2)).abs() < 1e-6, "{penalty}");
    assert_close(&flat(&forget.gradients)[..1], &[2.0 + 0.5 * 2.0 * turn * 0.25], 1e-5);
    // What is everywhere as curved is not penalised less by moving.
    let (forget, penalty) = guard.penalised(&at(&[2.0]), &square).unwrap();
    assert!(penalty > 0.0);
    assert_close(&flat(&forget.gradients)[..1], &[2.0], 1e-6);
}

/// Along the gradients that stand for second and third derivatives, the penalised loss of a real model changes as they say.
#[test]
fn penalties_descend_as_their_gradients_say() {
    with_context(|context, model| {
        let slots = Slots { batch_size: 4, ..Slots::default() };
        let objectives = Objectives::draw(&slots, context, 0).unwrap();
        let forget = |model: &Model| objectives.forget(model);
        let guard = GradientPenalty { lambda: 1.0, h: 1e-2 };
        let of = |guard: &GradientPenalty, model: &Model| guard.penalised(model, &forget).unwrap();
        let loss = |moved: &Model| {
            let (forget, penalty) = of(&guard, moved);
            forget.loss + penalty
        };
        let found = of(&guard, model).0.gradients;
        let unpenalised = forget(model).unwrap().gradients;
        assert!(found.cosine(&unpenalised) < 0.999, "the penalty has a say");
        assert_descends("gp", model, &found, 2e-2, loss);
    });
}

/// Smoothing a square leaves its mean gradient where it was and adds to the mean loss ½σ² per weight.
#[test]
fn smoothing_has_the_moments_of_its_noise() {
    let model = at(&[1.0, -2.0]);
    let guard = RandomisedSmoothing { sigma: 0.1, draws: 400 };
    let noise = |draw: usize| smoothing::noise(&model, &[3, 5, draw as u64]);
    let (forget, spread) = guard.smoothed(&model, &noise, &square).unwrap();
    let weights =
        model.params.iter().filter(|(_, p)| p.trainable).map(|(_, p)| p.tensor.len()).sum::<usize>();
    // 400 draws: the standard errors are 0.005 per weight, and that of the loss 0.1·√5/20 and a little.
    let wanted = 2.5 + 0.5 * 0.01 * weights as f64;
    assert!((forget.loss - wanted).abs() < 0.05, "{} {wanted}", forget.loss);
    assert!((spread - 0.1 * 5f64.sqrt()).abs() < 0.05, "{spread}");
    let slopes = flat(&forget.gradients);
    let errors = slopes.iter().zip([1.0, -2.0].into_iter().chain(std::iter::repeat(0.0)));
    assert!(errors.clone().all(|(found, wanted)| (found - wanted).abs() < 0.025), "{slopes:?}");
    assert!(errors.clone().any(|(found, wanted)| *found != wanted));
}

#[test]
fn noise_is_named_by_seed_step_and_draw_and_reaches_what_may_change_alone() {
    let model = at(&[1.0]);
    let draw = |coordinates| flat(&smoothing::noise(&model, &coordinates));
    assert_eq!(draw([1, 2, 3]), draw([1, 2, 3]));
    for other in [[0, 2, 3], [1, 0, 3], [1, 2, 0]] {
        assert_ne!(draw([1, 2, 3]), draw(other));
    }
    let frozen = model.params.iter().filter(|(_, p)| !p.trainable);
    let noise = smoothing::noise(&model, &[1, 2, 3]);
    assert!(frozen.into_iter().all(|(id, _)| noise.get(id).is_none()));
}

/// Without noise, one draw is the gradient itself.
#[test]
fn smoothing_over_nothing_is_no_guard() {
    with_context(|context, model| {
        let slots = Slots { batch_size: 4, ..Slots::default() };
        let objectives = Objectives::draw(&slots, context, 0).unwrap();
        let forget =
            |guard: &dyn Safeguard| guard.gradients(model, &objectives, &mut Map::new()).unwrap().forget;
        let (still, plain) =
            (forget(&RandomisedSmoothing { sigma: 0.0, draws: 1 }), forget(&NoGuard::default()));
        assert_eq!((still.loss, flat(&still.gradients)), (plain.loss, flat(&plain.gradients)));
    });
}

/// The average of the weights after each step that counts; before there is one, the model that takes the steps.
#[test]
fn weights_are_averaged_from_the_step_on_that_is_asked_for() {
    with_context(|context, _| averaged(context));
}

fn averaged(context: &Context<'_>) {
    let guard = WeightAverage { start: 1 };
    let mut memory = Memory::default();
    let first = |model: &Model, memory: &Memory| {
        let average = guard.outcome(model, memory).unwrap();
        let (_, norm) = average.params.iter().find(|(_, p)| p.trainable).unwrap();
        norm.tensor.f32()[0]
    };
    for (step, (weight, average)) in [(8.0, 8.0), (1.0, 1.0), (2.0, 1.5), (6.0, 3.0)].into_iter().enumerate()
    {
        let mut model = at(&[weight]);
        guard.after_step(&mut model, context, step as u64, &mut memory).unwrap();
        assert_eq!(first(&model, &memory), average, "after step {step}");
        let (_, norm) = model.params.iter().find(|(_, p)| p.trainable).unwrap();
        assert_eq!(norm.tensor.f32()[0], weight, "the steps go on from where they were");
    }
}

/// Norms 1, 2, 3 and 10: mean 4, standard deviation 3.54.
#[test]
fn salient_modules_are_those_far_above_the_mean() {
    let mut params = Params::default();
    let norms = [("a.weight", [0.0, 1.0]), ("b.weight", [2.0, 0.0]), ("c.weight", [0.0, 3.0])];
    let split = [("d.weight", [6.0, 0.0]), ("d.bias", [0.0, -8.0])];
    let all: Vec<_> = norms.into_iter().chain(split).collect();
    let ids: Vec<_> =
        all.iter().map(|(name, g)| params.add(*name, Tensor::from_f32(g, &[2]).unwrap()).unwrap()).collect();
    params.set_trainable(|_| true);
    let mut forget = Gradients::none(&params);
    for (id, (_, gradient)) in ids.iter().zip(&all) {
        forget.set(*id, Tensor::from_f32(gradient, &[2]).unwrap());
    }
    let salient = |delta: f32| -> Vec<&str> {
        let all = Sure { delta }.salient(&params, &forget);
        all.into_iter().filter(|(_, salient)| *salient).map(|(name, _)| name).collect()
    };
    assert_eq!(salient(1.0), ["d"], "a weight and its bias are one module");
    assert_eq!(salient(-0.4), ["c", "d"]);
    assert_eq!(salient(-5.0), ["a", "b", "c", "d"]);
    assert_eq!(salient(50.0), ["d"], "the most salient always takes part");
}

/// What is not salient has no gradient at all, so that the optimiser leaves it alone.
#[test]
fn modules_that_are_not_salient_sit_the_step_out() {
    with_context(|context, model| {
        let slots = Slots { batch_size: 4, ..Slots::default() };
        let objectives = Objectives::draw(&slots, context, 0).unwrap();
        let mut row = Map::new();
        let pair = Sure { delta: 1.0 }.gradients(model, &objectives, &mut row).unwrap();
        let retain = pair.retain.unwrap().gradients;
        let share = row["salient"].as_f64().unwrap();
        assert!(share > 0.0 && share < 0.5, "{share}");
        let there = |g: &Gradients| g.iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(there(&pair.forget.gradients), there(&retain));
        let everything = Sure { delta: -100.0 }.gradients(model, &objectives, &mut row).unwrap();
        assert_eq!(row["salient"], json!(1.0));
        assert_eq!(flat(&everything.forget.gradients), flat(&objectives.forget(model).unwrap().gradients));
    });
}
