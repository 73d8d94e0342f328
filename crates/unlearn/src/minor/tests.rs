//! What bases of dominant components are, and what follows for the objectives that leave them alone.

use amend_engine::kernels::linalg::Matrix;
use amend_engine::taps::BlockSite;
use amend_engine::{Batch, Gradients, Graph, Model, Site, Taps};
use amend_learn::{Descent, Optimizer};
use serde_json::Map;

use super::components::moved;
use super::*;
use crate::context::Side;
use crate::forget::{ForgetBatch, MlpBreaking, Rmu, gradients};
use crate::guard::{Mcu, Of, Safeguard};
use crate::memory::Memory;
use crate::objectives::Objectives;
use crate::recipe::Slots;
use crate::small::{QUESTIONS, flat, with_context};

/// The width of the small model.
const D: usize = 24;

fn of(k: usize) -> Minor {
    Minor { k, ..Minor::default() }
}

fn largest(matrix: &Matrix) -> f64 {
    matrix.values().iter().fold(0.0, |most, x| most.max(x.abs()))
}

fn apart(a: &Matrix, b: &Matrix) -> f64 {
    let differences = a.values().iter().zip(b.values()).map(|(a, b)| a - b).collect();
    largest(&Matrix::new(a.rows(), a.columns(), differences).unwrap())
}

/// All rows that a model holds at a site while it reads the forget set, with their positions.
fn states(model: &Model, context: &Context<'_>, site: Site) -> Vec<(usize, Vec<f64>)> {
    let mut all = Vec::new();
    for example in &context.forget {
        let mut taps = Taps::none();
        taps.read(site);
        let batch = Batch::new([example]).unwrap();
        model.hidden(&mut Graph::inference(&model.params), &batch, &taps).unwrap();
        let read = taps.take(site).remove(0).tensor;
        let rows = read.f32().chunks(D).map(|row| row.iter().map(|&x| f64::from(x)).collect());
        all.extend(rows.enumerate());
    }
    all
}

#[test]
fn k_counts_the_mean_and_what_is_taken_off_is_orthonormal() {
    with_context(|context, _| {
        for k in [0, 1, 4, D] {
            let bases = context.minor(&of(k), &[behind(0)]).unwrap();
            let basis = &bases[0];
            let q = basis.components();
            assert_eq!((q.rows(), basis.principal.directions.rows()), (k, k.saturating_sub(1)));
            let gram = q.times(&q.transposed()).unwrap();
            assert!(apart(&gram, &Matrix::identity(k, k)) < 1e-6);
            let once = basis.left_of(&Matrix::identity(D, D)).unwrap();
            assert!(apart(&basis.left_of(&once).unwrap(), &once) < 1e-12, "P⊥² = P⊥");
            if k == D {
                assert!(largest(&once) < 1e-10, "nothing is left away from everything");
            }
        }
        let mean = &context.minor(&of(1), &[behind(0)]).unwrap()[0];
        let cosine: f64 = mean.components().row(0).iter().zip(&mean.principal.mean).map(|(q, m)| q * m).sum();
        assert!((cosine.abs() - length(&mean.principal.mean)).abs() < 1e-12);
        let error = context.minor(&of(D + 1), &[behind(0)]).unwrap_err().to_string();
        assert!(error.contains("k = 25") && error.contains("24 components"), "{error}");
    });
}

/// Mean and variances are those of the original model's states on the forget set, but for the first token of each sequence.
#[test]
fn components_are_found_behind_the_first_token() {
    with_context(|context, _| {
        let site = behind(1);
        let rows = states(context.reference, context, site);
        let mean_of = |from: usize| -> Vec<f64> {
            let kept: Vec<_> = rows.iter().filter(|(position, _)| *position >= from).collect();
            (0..D).map(|j| kept.iter().map(|(_, row)| row[j]).sum::<f64>() / kept.len() as f64).collect()
        };
        let distance =
            |a: &[f64], b: &[f64]| length(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>());
        let bases = context.minor(&of(3), &[site]).unwrap();
        let principal = &bases[0].principal;
        assert!(distance(&principal.mean, &mean_of(1)) < 1e-9);
        assert!(distance(&principal.mean, &mean_of(0)) > 1e-3, "the first token counts");
        assert_eq!(bases[0].tokens, rows.iter().filter(|(position, _)| *position > 0).count());
        let total: f64 = principal.variances.iter().sum();
        let centred = |row: &[f64]| distance(row, &mean_of(1)).powi(2);
        let wanted: f64 = rows.iter().filter(|(at, _)| *at > 0).map(|(_, row)| centred(row)).sum();
        assert!((total - wanted / bases[0].tokens as f64).abs() < 1e-9 * total);
        let all = Minor { cut_off_tokens: 0, tokens: Tokens::Answer, ..of(3) };
        let answers: usize = context.forget.iter().map(|example| example.scored_len()).sum();
        assert_eq!(context.minor(&all, &[site]).unwrap()[0].tokens, answers);
        // Once for all who ask alike.
        assert!(std::rc::Rc::ptr_eq(&bases, &context.minor(&of(3), &[site]).unwrap()));
    });
}

/// The mean is not orthogonal to the directions, so that taking components off in turn is no projection.
#[test]
fn one_after_the_other_is_not_at_once() {
    with_context(|context, _| {
        let basis = |projection| context.minor(&Minor { projection, ..of(4) }, &[behind(0)]).unwrap();
        let eye = Matrix::identity(D, D);
        let sequential = basis(Projection::Sequential);
        let once = sequential[0].left_of(&eye).unwrap();
        assert!(apart(&sequential[0].left_of(&once).unwrap(), &once) > 1e-6);
        assert!(apart(&basis(Projection::Orthonormal)[0].left_of(&eye).unwrap(), &once) > 1e-6);
        // Of a value of a graph as of a matrix.
        let model = context.reference;
        let mut g = Graph::inference(&model.params);
        let left = sequential[0].left_in(&mut g, &amend_engine::Var::constant(eye.to_tensor())).unwrap();
        assert!(apart(&Matrix::from_tensor(left.value()), &once) < 1e-6);
    });
}

#[test]
fn with_nothing_left_alone_it_is_rmu_to_the_bit_and_with_everything_it_is_blind() {
    with_context(|context, model| {
        let batch = ForgetBatch::draw(context, QUESTIONS.len(), 0).unwrap();
        let of = |minor: Option<Minor>, model: &Model| {
            gradients(&Rmu { layer: Some(1), minor, ..Rmu::default() }, model, &batch).unwrap()
        };
        let (plain, none) = (of(None, model), of(Some(super::tests::of(0)), model));
        assert_eq!((plain.loss, flat(&plain.gradients)), (none.loss, flat(&none.gradients)));
        let some = of(Some(super::tests::of(4)), model);
        assert!(some.loss != plain.loss && some.gradients.norm() > 0.01 * plain.gradients.norm());
        let [here, there] = [model, context.reference].map(|model| of(Some(super::tests::of(D)), model));
        assert!((here.loss - there.loss).abs() < 1e-5 * here.loss, "{} {}", here.loss, there.loss);
        assert!(here.gradients.norm() < 1e-4 * plain.gradients.norm(), "{}", here.gradients.norm());
    });
}

/// max(0, ⟨P⊥o, P⊥o⁰⟩/m²) token by token, written out in f64. One by one, so that it matters that both sides are projected.
#[test]
fn breaking_is_the_mean_of_what_is_left_of_both_sides() {
    with_context(|context, model| {
        let minor = Minor { projection: Projection::Sequential, ..of(4) };
        let objective = MlpBreaking { layers: vec![1, 0], minor: minor.clone(), ..MlpBreaking::default() };
        let batch = ForgetBatch::draw(context, QUESTIONS.len(), 0).unwrap();
        let wanted = |model: &Model| {
            let of_layer = |layer: usize| {
                let site = Site::Block(layer, BlockSite::MlpOut);
                let basis = &context.minor(&minor, &[site]).unwrap()[0];
                let left = |model: &Model| -> Vec<Vec<f64>> {
                    let rows = states(model, context, site).into_iter().filter(|(at, _)| *at > 0);
                    let left = |row: Vec<f64>| basis.left_of(&Matrix::new(1, D, row).unwrap()).unwrap();
                    rows.map(|(_, row)| left(row).values().to_vec()).collect()
                };
                let (now, before) = (left(model), left(context.reference));
                let m = before.iter().map(|row| length(row)).sum::<f64>() / before.len() as f64;
                let product =
                    |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let each = now.iter().zip(&before).map(|pair| (product(pair) / (m * m)).max(0.0));
                each.sum::<f64>() / now.len() as f64
            };
            (of_layer(0) + of_layer(1)) / 2.0
        };
        for model in [context.reference, model] {
            let (found, wanted) = (gradients(&objective, model, &batch).unwrap(), wanted(model));
            assert!((found.loss - wanted).abs() < 1e-4 * wanted, "{} {wanted}", found.loss);
        }
        assert!(wanted(context.reference) >= 1.0, "a mean of squares is at least the square of the mean");
        let deep = MlpBreaking { layers: vec![0, 2], ..MlpBreaking::default() };
        let error = gradients(&deep, model, &batch).unwrap_err().to_string();
        assert!(error.contains("`layers` names layer 2 of a model whose layers are 0 to 1"), "{error}");
    });
}

/// Away from the original output a token pulls no more: where everything is turned round, there is no loss and no gradient.
#[test]
fn what_is_opposite_is_broken_enough() {
    with_context(|context, _| {
        let mut turned = context.reference.clone();
        for (_, param) in
            turned.params.iter_mut().filter(|(_, p)| p.name == "model.layers.0.mlp.down_proj.weight")
        {
            param.tensor = param.tensor.zip_map(&param.tensor, |x, _| -x);
        }
        let batch = ForgetBatch::draw(context, QUESTIONS.len(), 0).unwrap();
        let objective = MlpBreaking { layers: vec![0], ..MlpBreaking::default() };
        let found = gradients(&objective, &turned, &batch).unwrap();
        assert_eq!((found.loss, found.gradients.norm()), (0.0, 0.0));
        let there = gradients(&objective, context.reference, &batch).unwrap();
        assert!(there.loss > 0.5 && there.gradients.norm() > 0.0);
    });
}

/// AdamW and weight decay make of a projected gradient what is in no subspace; after the step it is in it again.
#[test]
fn updates_of_feed_forwards_stay_in_minor_components() {
    with_context(|context, _| {
        let optimizer = Optimizer { lr: 1e-2, weight_decay: 0.5, ..Optimizer::default() };
        let slots = Slots { batch_size: 4, ..Slots::default() };
        for (of_states, site) in [(Of::Residual, BlockSite::ResidPost), (Of::Mlp, BlockSite::MlpOut)] {
            let guard = Mcu { minor: of(4), of: of_states };
            let along = |after_step: bool| -> (f64, f64, f64) {
                let mut model = context.reference.clone();
                model.params.set_trainable(|name| name.contains("layers.1.mlp"));
                let mut descent = Descent::new(&model.params, &optimizer, 10).unwrap();
                let mut memory = Memory::default();
                for step in 0..3 {
                    let objectives = Objectives::draw(&slots, context, step).unwrap();
                    let mut row = Map::new();
                    let pair = guard.gradients(&model, &objectives, &mut row).unwrap();
                    assert!((0.0..1.0).contains(&row["minor_share"].as_f64().unwrap()), "{row:?}");
                    let mut update: Gradients = pair.forget.gradients;
                    update.axpy(1.0, &pair.retain.unwrap().gradients);
                    descent.step(&mut model.params, &mut update, step, &[]).unwrap();
                    if after_step {
                        guard.after_step(&mut model, context, step, &mut memory).unwrap();
                    }
                }
                let change = |name: &str| {
                    let of = |model: &Model| {
                        let id = model.params.find(&format!("model.layers.1.mlp.{name}.weight")).unwrap();
                        Matrix::from_tensor(&model.params.get(id).tensor)
                    };
                    let (now, before) = (of(&model), of(context.reference));
                    let values = now.values().iter().zip(before.values()).map(|(a, b)| a - b).collect();
                    Matrix::new(now.rows(), now.columns(), values).unwrap()
                };
                let q = &context.minor(&guard.minor, &[Site::Block(1, site)]).unwrap()[0];
                let down = change("down_proj");
                (largest(&q.components().times(&down).unwrap()), largest(&down), largest(&change("up_proj")))
            };
            let (held, changed, free) = along(true);
            assert!(held < 1e-6 && changed > 5e-3 && free > 5e-3, "{held} {changed} {free}");
            let (loose, ..) = along(false);
            assert!(loose > 1e-3, "AdamW by itself stays in the subspace: {loose}");
        }
        let mut model = context.reference.clone();
        model.params.set_trainable(|name| name.ends_with("up_proj.weight"));
        let objectives = Objectives::draw(&slots, context, 0).unwrap();
        let error = Mcu::default().gradients(&model, &objectives, &mut Map::new()).unwrap_err().to_string();
        assert!(error.contains("choose `down_proj`"), "{error}");
    });
}

/// Least squares with inputs of variances 1 and .01: ten steps of length .5 undo .99902 of an error along the first, .04889 of one
/// along the second, and in closed form 1 − (1 − ηλ)ᵗ. So what lies in minor components stays longer.
#[test]
fn relearning_undoes_what_lies_in_dominant_components() {
    let (variances, rate, steps) = ([1.0, 0.01], 0.5, 10);
    let inputs: Vec<[f64; 2]> =
        [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)].map(|(a, b): (f64, f64)| [a, 0.1 * b]).into();
    let (taught, unlearned) = ([0.5, -2.0], [1.5, 3.0]);
    let mut weights = unlearned;
    for _ in 0..steps {
        let mut gradient = [0.0; 2];
        for x in &inputs {
            let error: f64 = (0..2).map(|i| (weights[i] - taught[i]) * x[i]).sum();
            (0..2).for_each(|i| gradient[i] += error * x[i] / inputs.len() as f64);
        }
        (0..2).for_each(|i| weights[i] -= rate * gradient[i]);
    }
    let states = |weights: [f64; 2]| {
        let rows = inputs.iter().flat_map(|x| [weights[0] * x[0], weights[1] * x[1]]).collect();
        Matrix::new(inputs.len(), 2, rows).unwrap()
    };
    let all = [states(taught), states(unlearned), states(weights)];
    for (i, published) in [(0, 0.99902), (1, 0.04889)] {
        let mut direction = [0.0; 2];
        direction[i] = 1.0;
        let [change, recovery] = moved(&direction, 0.0, [&all[0], &all[1], &all[2]]);
        assert!((recovery.value - published).abs() < 1e-5, "{recovery:?}");
        let closed = 1.0 - (1.0 - rate * variances[i]).powi(steps);
        assert!((recovery.value - closed).abs() < 1e-12, "{recovery:?} {closed}");
        let error: f64 = (unlearned[i] - taught[i]) / taught[i];
        assert!((change.value - error.abs()).abs() < 1e-12 && change.n == 4, "{change:?}");
        assert!(recovery.stderr.unwrap() < 1e-12, "all rows say the same");
    }
}

#[test]
fn compared_with_itself_nothing_moved() {
    with_context(|context, other| {
        let items = |side: Side| {
            let at = |i: usize| (&context.forget[i], context.positions(side, i, Tokens::Text).unwrap());
            (0..context.forget.len()).map(at).collect::<Vec<_>>()
        };
        let compared = Compared { layer: Some(1), k: 5, tokens: Tokens::Text };
        let found = |unlearned, relearned| {
            compare(&compared, context, [unlearned, relearned], &items(Side::Forget)).unwrap()
        };
        let back = found(other, context.reference);
        assert_eq!(back.iter().map(|c| c.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(back.iter().all(|c| c.change.value > 0.0 && c.recovery.value == 1.0), "{back:?}");
        assert!(back[0].explained.is_none() && back[1].explained > back[2].explained);
        assert!(found(other, other).iter().all(|c| c.recovery.value == 0.0));
        let still = found(context.reference, other);
        assert!(still.iter().all(|c| c.change.value == 0.0 && c.recovery.value.is_nan()));
        let deep = Compared { layer: Some(2), ..compared.clone() };
        let error = deep.site(context.reference).unwrap_err().to_string();
        assert!(error.contains("names layer 2 of a model whose layers are 0 to 1"), "{error}");
    });
}
