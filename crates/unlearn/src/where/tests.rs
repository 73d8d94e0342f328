//! What adapters that begin somewhere promise, on a small model.

use std::collections::BTreeMap;
use std::rc::Rc;

use amend_engine::kernels::linalg::Matrix;
use amend_engine::optim::nll_gradients;
use amend_engine::{Batch, Example, Graph, Taps, Tensor};
use amend_run::Silent;

use super::*;
use crate::context::{Context, Side};
use crate::data::Sets;
use crate::features::{Pooling, Sampled};
use crate::small::{assert_close, assert_descends, flat, with_context};

const LAYERS: usize = 2 * 7;

/// The context of other questions to forget than to keep.
fn with_two_sets(check: impl FnOnce(&Context<'_>)) {
    with_context(|context, _| {
        let Context { reference, tokenizer, encoder, sets, evaluation, seed, .. } = *context;
        let (forget, retain) = (sets.forget[..1].to_vec(), sets.retain[1..].to_vec());
        let sets = Sets { forget, retain, ..Sets::default() };
        check(&Context::new(reference, tokenizer, encoder, &sets, evaluation, seed, &Silent).unwrap());
    });
}

fn reglu(init: Start) -> Reglu {
    Reglu { r: 2, alpha: 4.0, init, ..Reglu::default() }
}

fn prepared(place: &dyn Place, context: &Context<'_>) -> Model {
    let mut model = context.reference.clone();
    place.prepare(&mut model, context).unwrap();
    model
}

/// ROL of a prepared model, and its gradient alone.
fn rol(place: &Reglu, context: &Context<'_>, model: &Model) -> (f64, Gradients) {
    let regulariser = place.regulariser(model, context).unwrap().unwrap();
    let (mut gradients, mut row) = (Gradients::none(&model.params), Map::new());
    regulariser.add_to(model, &mut gradients, &mut row).unwrap();
    (row["loss_rol"].as_f64().unwrap(), gradients)
}

fn logits(model: &Model, examples: &[Example]) -> Vec<f32> {
    let (batch, taps) = (Batch::new(examples).unwrap(), Taps::none());
    let mut g = Graph::inference(&model.params);
    let hidden = model.hidden(&mut g, &batch, &taps).unwrap();
    model.logits(&mut g, &hidden, &batch.layout, &batch.rows, &taps).unwrap().value().f32().to_vec()
}

/// B of a layer, what learns of it: [out, r].
fn b_of(model: &Model, layer: &str, r: usize) -> Matrix {
    let id = model.params.find(&format!("{layer}.lora_B.weight")).unwrap();
    let tensor = &model.params.get(id).tensor;
    let rows = tensor.f32().chunks(tensor.columns()).flat_map(|row| row[..r].iter().map(|&b| f64::from(b)));
    Matrix::new(tensor.rows(), r, rows.collect()).unwrap()
}

#[test]
fn an_adapter_begins_orthonormal_and_changes_nothing() {
    with_two_sets(|context| {
        let before = logits(context.reference, &context.forget);
        let places = [Start::Rila, Start::Random, Start::Retain].map(reglu);
        let fila = Fila { r: 2, alpha: 4.0, ..Fila::default() };
        let all = places.iter().map(|place| place as &dyn Place).chain([&fila as &dyn Place]);
        for (i, place) in all.enumerate() {
            let model = prepared(place, context);
            let after = logits(&model, &context.forget);
            let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-3, "{i}: {worst}");
            assert_eq!(model.params.count().1, place.size(context.reference).unwrap());
            assert_eq!(
                logits(&model.without_adapter(), &context.forget),
                before,
                "the reference is still there"
            );
        }
        for place in &places {
            let model = prepared(place, context);
            for layer in context.reference.lora_layers(&place.options()).unwrap() {
                let b = b_of(&model, &layer, 2);
                let gram = b.transposed().times(&b).unwrap();
                for (g, e) in gram.values().iter().zip(Matrix::identity(2, 2).values()) {
                    assert!((g - e).abs() < 1e-6, "{:?} {layer}: {g}", place.init);
                }
            }
        }
    });
}

/// In the top of the retain space every column of B has an overlap of 1; guided away from it, less than by chance.
#[test]
fn to_begin_with_rol_is_least_by_rila_and_r_per_layer_in_the_retain_space() {
    with_two_sets(|context| {
        let [guided, chance, worst] = [Start::Rila, Start::Random, Start::Retain].map(|init| {
            let place = reglu(init);
            rol(&place, context, &prepared(&place, context)).0
        });
        assert!((worst - (LAYERS * 2) as f64).abs() < 1e-4, "{worst}");
        assert!(guided < 0.8 * chance && chance < 0.5 * worst, "{guided} {chance} {worst}");
    });
}

#[test]
fn rol_descends_as_its_gradient_says_and_only_by_what_learns() {
    with_two_sets(|context| {
        let place = Reglu { rol: 1.0, ..reglu(Start::Random) };
        let model = prepared(&place, context);
        let (loss, gradients) = rol(&place, context, &model);
        assert_descends("rol", &model, &gradients, 1e-3, |moved| rol(&place, context, moved).0);
        let mut selected = gradients.clone();
        selected.apply_selection(&model.params);
        assert_eq!(flat(&selected), flat(&gradients));
        // ⟨B, ∇L⟩ = 2·L, for L is a square.
        let along: f64 = gradients.iter().map(|(id, g)| g.dot(&model.params.get(id).tensor)).sum();
        assert!((along - 2.0 * loss).abs() < 1e-4 * loss, "{along} {loss}");
        // λ times that is what is added to a retain gradient that is there already.
        let halved = Reglu { rol: 0.5, ..place.clone() };
        let regulariser = halved.regulariser(&model, context).unwrap().unwrap();
        let mut sum = gradients.clone();
        regulariser.add_to(&model, &mut sum, &mut Map::new()).unwrap();
        let wanted: Vec<f32> = flat(&gradients).iter().map(|g| 1.5 * g).collect();
        assert_close(&flat(&sum), &wanted, 1e-6);
        // Switched off it is still told, and pulls at nothing.
        let off = Reglu { rol: 0.0, ..place };
        let (told, none) = rol(&off, context, &model);
        assert!(told == loss && none.norm() == 0.0);
    });
}

#[test]
fn rol_holds_the_layers_that_it_is_told_to() {
    with_two_sets(|context| {
        let place = Reglu { rol: 1.0, rol_on: vec!["v_proj".into()], ..reglu(Start::Retain) };
        let model = prepared(&place, context);
        let (loss, gradients) = rol(&place, context, &model);
        assert!((loss - 4.0).abs() < 1e-5, "{loss}");
        let held: Vec<&str> = gradients.iter().map(|(id, _)| model.params.get(id).name.as_str()).collect();
        assert!(held.len() == 2 && held.iter().all(|name| name.contains("v_proj")), "{held:?}");
        let wrong = Reglu { rol_on: vec!["vproj".into()], ..place };
        let error = wrong.regulariser(&model, context).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("\"vproj\"") && error.contains("v_proj"), "{error}");
    });
}

/// Shares of what the whole space holds: of an orthonormal B no more than all, and most of the forget set's where the adapter
/// looks for it.
#[test]
fn energies_are_shares_of_the_second_moments() {
    with_two_sets(|context| {
        let of = |init| {
            let place = reglu(init);
            let model = prepared(&place, context);
            place.regulariser(&model, context).unwrap().unwrap().energies(&model).unwrap()
        };
        let (guided, worst) = (of(Start::Rila), of(Start::Retain));
        assert_eq!(guided.len(), LAYERS);
        for (guided, worst) in guided.iter().zip(&worst) {
            assert!(
                (0.0..=1.0 + 1e-6).contains(&guided.forget) && (0.0..=1.0 + 1e-6).contains(&guided.retain)
            );
            assert!(guided.retain < worst.retain, "{} {} {}", guided.layer, guided.retain, worst.retain);
        }
        // Three sequences span three directions, of which two hold more than two thirds.
        assert!(worst.iter().all(|energy| energy.retain > 0.66));
    });
}

#[test]
fn a_rank_that_a_layer_is_too_small_for_is_refused_by_its_name() {
    with_two_sets(|context| {
        let places: [&dyn Place; 2] =
            [&Reglu { r: 25, ..Reglu::default() }, &Fila { r: 25, ..Fila::default() }];
        for place in places {
            let error = place.prepare(&mut context.reference.clone(), context).unwrap_err().to_string();
            assert!(
                error.contains("r is 25") && error.contains("self_attn.q_proj has directions for 24"),
                "{error}"
            );
        }
    });
}

/// A layer whose outputs are not there is an error: a random start in their place would be another method.
#[test]
fn a_missing_basis_is_an_error() {
    let nothing = [Rc::new(BTreeMap::new()), Rc::new(BTreeMap::new())];
    let error = reglu(Start::Rila).start("model.layers.0.mlp.up_proj", &nothing, 0).unwrap_err().to_string();
    assert!(error.contains("model.layers.0.mlp.up_proj"), "{error}");
    with_context(|context, _| {
        let sets = Sets { forget: context.sets.forget.clone(), ..Sets::default() };
        let Context { reference, tokenizer, encoder, evaluation, .. } = *context;
        let empty = Context::new(reference, tokenizer, encoder, &sets, evaluation, 3, &Silent).unwrap();
        let error = reglu(Start::Rila).prepare(&mut reference.clone(), &empty).unwrap_err().to_string();
        assert!(error.contains("retain set is empty"), "{error}");
    });
}

#[test]
fn features_are_of_so_many_sequences_pooled_as_asked_and_computed_once() {
    with_context(|context, _| {
        let layers = ["model.layers.1.mlp.down_proj".to_owned()];
        let of = |sequences| Sampled { side: Side::Retain, sequences, layers: &layers };
        let all = context.outputs(&of(9), Pooling::Sum).unwrap();
        assert!(Rc::ptr_eq(&all, &context.outputs(&of(9), Pooling::Sum).unwrap()));
        let (all, mean) = (&all[&layers[0]], context.outputs(&of(9), Pooling::Mean).unwrap());
        assert_eq!(all.rows(), 4, "there are no more");
        for (i, example) in context.retain.iter().enumerate() {
            let tokens = example.ids.len() as f64;
            let scaled: Vec<f64> = mean[&layers[0]].row(i).iter().map(|x| x * tokens).collect();
            assert!(scaled.iter().zip(all.row(i)).all(|(a, b)| (a - b).abs() < 1e-9));
        }
        let some = context.outputs(&of(2), Pooling::Sum).unwrap();
        let some = &some[&layers[0]];
        assert_eq!(some.rows(), 2);
        assert!((0..2).all(|i| (0..4).any(|j| some.row(i) == all.row(j))));
    });
}

#[test]
fn importance_is_the_mean_square_of_the_sequences_own_gradients() {
    with_context(|context, _| {
        let layers = ["model.layers.0.self_attn.k_proj".to_owned()];
        let found = context.row_importance(&Sampled { side: Side::Forget, sequences: 4, layers: &layers });
        let found = found.unwrap();
        let id = context.reference.params.find("model.layers.0.self_attn.k_proj.weight").unwrap();
        let mut wanted = vec![0.0; 24];
        for example in &context.forget {
            let (_, gradients) = nll_gradients(context.reference, &[example], 4096).unwrap();
            let gradient: &Tensor = gradients.get(id).unwrap();
            for (sum, row) in wanted.iter_mut().zip(gradient.f32().chunks(gradient.columns())) {
                *sum += row.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>() / 4.0;
            }
        }
        for (found, wanted) in found[&layers[0]].iter().zip(&wanted) {
            assert!(*wanted > 0.0 && (found - wanted).abs() < 1e-4 * wanted, "{found} {wanted}");
        }
    });
}
