//! What the papers promise of their updates, as matrices and on a small model.

use std::collections::BTreeMap;

use amend_engine::kernels::linalg::Matrix;
use amend_engine::taps::BlockSite;
use amend_engine::{Example, Model, Rng, Site};
use serde_json::json;

use super::ft_l::clamped;
use super::*;
use crate::reading::{key_site, means_at};
use crate::request::Placed;
use crate::statistics::{Statistics, second_moment};
use crate::target::TargetSearch;

fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
    let mut rng = Rng::at(&[seed]);
    Matrix::new(rows, columns, (0..rows * columns).map(|_| rng.normal()).collect()).unwrap()
}

/// A second moment: positive definite.
fn moment(width: usize, seed: u64) -> Matrix {
    let keys = random(3 * width, width, seed);
    let mut moment = keys.transposed().times(&keys).unwrap();
    moment.values_mut().iter_mut().for_each(|x| *x /= (3 * width) as f64);
    moment
}

fn distance(a: &Matrix, b: &Matrix) -> f64 {
    a.values().iter().zip(b.values()).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn column(matrix: &Matrix, j: usize) -> Matrix {
    Matrix::new(matrix.rows(), 1, (0..matrix.rows()).map(|i| matrix.at(i, j)).collect()).unwrap()
}

#[test]
fn rome_writes_one_pair_and_leaves_orthogonal_keys() {
    let (d, f) = (5, 9);
    let (weight, key, shift) = (random(d, f, 1), random(f, 1, 2), random(d, 1, 3));
    let statistics = Statistics::new(moment(f, 4), 1e-9);
    let direction = statistics.whitened(&key).unwrap();
    let delta = rank_one(&shift, &key, &direction).unwrap();
    // W_new·k = v*.
    let found = delta.times(&key).unwrap();
    assert!(distance(&found, &shift) < 1e-12, "{found:?}");
    // Rank one: every pair of rows is linearly dependent.
    for i in 1..d {
        for j in 1..f {
            let minor = delta.at(0, 0) * delta.at(i, j) - delta.at(0, j) * delta.at(i, 0);
            assert!(minor.abs() < 1e-12, "{minor}");
        }
    }
    // A key at right angles under C⁻¹ finds what it found.
    let other = random(f, 1, 5);
    let dot = |a: &Matrix, b: &Matrix| a.transposed().times(b).unwrap().at(0, 0);
    let along = dot(&other, &direction) / dot(&key, &direction);
    let values = other.values().iter().zip(key.values()).map(|(o, k)| o - along * k).collect();
    let orthogonal = Matrix::new(f, 1, values).unwrap();
    assert!(length(&delta.times(&orthogonal).unwrap()) < 1e-12);
    assert!(length(&delta.times(&other).unwrap()) > 1e-3);
    assert!(rank_one(&shift, &Matrix::zeros(f, 1), &direction).unwrap_err().to_string().contains("vanishes"));
    assert!(length(&weight) > 0.0);
}

#[test]
fn memit_of_known_matrices() {
    let mut key = Matrix::zeros(3, 1);
    key.row_mut(0)[0] = 1.0;
    let mut residual = Matrix::zeros(2, 1);
    residual.row_mut(0)[0] = 2.0;
    let delta = ridge(&Matrix::identity(3, 3), 1.0, &key, &residual).unwrap();
    let mut expected = Matrix::zeros(2, 3);
    expected.row_mut(0)[0] = 1.0;
    assert!(distance(&delta, &expected) < 1e-15, "{delta:?}");
}

#[test]
fn memit_solves_one_least_squares_problem_and_fits_without_a_bound() {
    let (d, f, n) = (4, 8, 3);
    let (keys, residuals, moment) = (random(f, n, 1), random(d, n, 2), moment(f, 3));
    let delta = ridge(&moment, 7.0, &keys, &residuals).unwrap();
    // Δ·(λC + KKᵀ) = R·Kᵀ.
    let mut system = keys.times(&keys.transposed()).unwrap();
    system.values_mut().iter_mut().zip(moment.values()).for_each(|(x, c)| *x += 7.0 * c);
    let (left, right) = (delta.times(&system).unwrap(), residuals.times(&keys.transposed()).unwrap());
    assert!(distance(&left, &right) < 1e-10);
    let close = ridge(&moment, 1e-10, &keys, &residuals).unwrap().times(&keys).unwrap();
    assert!(distance(&close, &residuals) < 1e-6, "λ → 0 fits exactly");
    let timid = ridge(&moment, 1e6, &keys, &residuals).unwrap();
    assert!(length(&timid) < 1e-4 * length(&residuals), "a large λ changes next to nothing");
}

#[test]
fn alpha_edit_writes_where_keys_are_not() {
    let (d, f, n) = (4, 12, 2);
    // Keys that use the first seven directions alone.
    let turned = amend_engine::kernels::linalg::qr(&random(f, f, 1)).unwrap().basis;
    let mut used = Matrix::zeros(f, f);
    for i in 0..7 {
        used.row_mut(i)[i] = 1.0 + i as f64;
    }
    let known = turned.times(&used).unwrap();
    let moment = known.times(&known.transposed()).unwrap();
    let statistics = Statistics::new(moment, 1e-9);
    let (projection, rank) = statistics.unused(2e-2).unwrap();
    assert_eq!(*rank, 5);
    assert!(distance(projection, &projection.transposed()) < 1e-12);
    assert!(distance(projection, &projection.times(projection).unwrap()) < 1e-12);

    let (keys, residuals, earlier) = (random(f, n, 2), random(d, n, 3), random(f, 2, 4));
    let delta = projected(projection, 1.0, &keys, &earlier, &residuals).unwrap();
    let moved = length(&delta.times(&known).unwrap());
    assert!(moved < 1e-5 * length(&delta) * length(&known), "{moved}");
    // (P(KKᵀ + KpKpᵀ) + L₂I)Δᵀ = PKRᵀ, as the paper has it.
    let square = |keys: &Matrix| keys.times(&keys.transposed()).unwrap();
    let mut sum = square(&keys);
    sum.values_mut().iter_mut().zip(square(&earlier).values()).for_each(|(x, y)| *x += y);
    let mut system = projection.times(&sum).unwrap();
    (0..f).for_each(|i| system.row_mut(i)[i] += 1.0);
    let left = system.times(&delta.transposed()).unwrap();
    let right = projection.times(&keys).unwrap().times(&residuals.transposed()).unwrap();
    assert!(distance(&left, &right) < 1e-10);
    // What earlier edits have written is spared.
    let careless = projected(projection, 1.0, &keys, &Matrix::zeros(f, 0), &residuals).unwrap();
    let at_earlier = |delta: &Matrix| length(&delta.times(&earlier).unwrap());
    assert!(
        at_earlier(&delta) < 0.8 * at_earlier(&careless),
        "{} {}",
        at_earlier(&delta),
        at_earlier(&careless)
    );
    // A small L₂ and keys within what is unused: an exact fit.
    let own = projection.times(&keys).unwrap();
    let fit = projected(projection, 1e-9, &own, &Matrix::zeros(f, 0), &residuals).unwrap();
    assert!(distance(&column(&fit.times(&own).unwrap(), 1), &column(&residuals, 1)) < 1e-6);
}

#[test]
fn weights_are_put_back_to_within_epsilon() {
    let tensor = |values: &[f32]| Tensor::from_f32(values, &[values.len()]).unwrap();
    let back = clamped(&tensor(&[1.0, 0.1, -0.3, 0.05]), &tensor(&[0.0, 0.0, -0.1, 0.0]), 0.1);
    assert_eq!(back.f32(), [0.1, 0.1, -0.2, 0.05]);
}

fn model() -> Model {
    let config = json!({
        "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 24, "vocab_size": 40, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "initializer_range": 0.4,
    });
    Model::random(config.as_object().unwrap().clone(), 5).unwrap()
}

fn request(name: &str, subject: [u32; 2], target: u32) -> Request {
    let behind = |before: &[u32]| {
        let prompt: Vec<u32> = before.iter().copied().chain(subject).collect();
        Placed { example: Example::answer(&prompt, &[target]), subject: before.len() + 1 }
    };
    let essence = Placed { example: Example::answer(&[1, subject[0], subject[1], 11, 12], &[]), subject: 2 };
    Request {
        name: name.into(),
        contexts: vec![behind(&[1]), behind(&[1, 30, 31]), behind(&[1, 22, 5, 6])],
        essence,
    }
}

fn texts() -> Vec<Example> {
    let sequence = |seed: u32| (0..40).map(|i| (i * 7 + seed * 13 + i * i * seed) % 40).collect();
    (1..9).map(|seed| Example::text(sequence(seed))).collect()
}

fn bench(model: &Model, layers: &[usize]) -> Bench {
    let of = |&layer: &usize| (layer, Statistics::new(second_moment(model, layer, &texts()).unwrap(), 1e-4));
    Bench { layers: layers.to_vec(), statistics: layers.iter().map(of).collect::<BTreeMap<_, _>>() }
}

fn search() -> TargetSearch {
    TargetSearch { lr: 0.2, steps: 100, radius: 50.0, kl: 0.0, ..TargetSearch::default() }
}

/// Log-probability of the target at the plain prompt.
fn logprob(model: &Model, request: &Request) -> f32 {
    model.score(std::slice::from_ref(&request.plain().example), 64).unwrap()[0][0]
}

#[test]
fn rome_makes_a_model_say_what_it_did_not() {
    let base = model();
    let request = request("a", [3, 8], 21);
    let bench = bench(&base, &[1]);
    let mut edited = base.clone();
    let editor = Rome { layer: Some(1), target: search() };
    let row = editor.edit(&mut edited, &[&request], &bench, &mut Memory::default()).unwrap();
    assert!(row["loss_target"].as_f64().unwrap() < 1.5, "{row:?}");
    let (was, is) = (logprob(&base, &request), logprob(&edited, &request));
    assert!(is > was + 2.0, "{was} {is}");
    // W_new·k = v*: where the mean key comes in, the optimised value goes out.
    let target = editor.target.find(&base, Site::Block(1, BlockSite::MlpOut), &request).unwrap();
    let value = means_at(&edited, Site::Block(1, BlockSite::MlpOut), &[&request]).unwrap().remove(0);
    for ((found, start), shift) in value.iter().zip(&target.start).zip(&target.shift) {
        assert!((found - start - shift).abs() < 1e-4 * (1.0 + shift.abs()), "{found} {start} {shift}");
    }
    // The key itself lies before what was changed.
    let key = |model: &Model| means_at(model, key_site(1), &[&request]).unwrap();
    assert_eq!(key(&base), key(&edited));
    let changed: Vec<_> =
        edited.changes_since(&base).unwrap().into_iter().filter(|c| c.change > 0.0).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].name, "model.layers.1.mlp.down_proj.weight");
}

#[test]
fn memit_writes_several_facts_at_once_over_its_layers() {
    let base = model();
    let requests = [request("a", [3, 8], 21), request("b", [14, 2], 33), request("c", [27, 19], 4)];
    let batch: Vec<&Request> = requests.iter().collect();
    let bench = bench(&base, &[0, 1]);
    let mut edited = base.clone();
    let editor = Memit { layers: vec![1, 0, 1], lambda: 1e-3, target: search() };
    assert_eq!(editor.layers(), [0, 1]);
    let row = editor.edit(&mut edited, &batch, &bench, &mut Memory::default()).unwrap();
    assert!(row["missing"].as_f64().unwrap() < 0.5, "{row:?}");
    for request in &requests {
        let (was, is) = (logprob(&base, request), logprob(&edited, request));
        assert!(is > was + 0.3, "{} {was} {is}", request.name);
    }
    let changed: Vec<_> =
        edited.changes_since(&base).unwrap().into_iter().filter(|c| c.change > 0.0).collect();
    assert_eq!(changed.len(), 2);
}

#[test]
fn alpha_edit_remembers_what_it_wrote() {
    let base = model();
    let requests = [request("a", [3, 8], 21), request("b", [14, 2], 33)];
    let bench = bench(&base, &[1]);
    let editor = AlphaEdit { layers: vec![1], threshold: 0.5, l2: 1e-3, target: search() };
    let (mut edited, mut memory) = (base.clone(), Memory::default());
    let first = editor.edit(&mut edited, &[&requests[0]], &bench, &mut memory).unwrap();
    assert_eq!((first["remembered"].as_u64(), memory.keys[&1].len()), (Some(0), 1));
    let second = editor.edit(&mut edited, &[&requests[1]], &bench, &mut memory).unwrap();
    assert_eq!((second["remembered"].as_u64(), memory.keys[&1].len()), (Some(1), 2));
    assert!(logprob(&edited, &requests[0]) > logprob(&base, &requests[0]) + 0.5);
    // Without its memory the second edit would have been another.
    let mut forgetful = base.clone();
    editor.edit(&mut forgetful, &[&requests[0]], &bench, &mut Memory::default()).unwrap();
    editor.edit(&mut forgetful, &[&requests[1]], &bench, &mut Memory::default()).unwrap();
    assert!(forgetful.changes_since(&edited).unwrap().iter().any(|change| change.change > 0.0));
    let strict = AlphaEdit { threshold: 1e-9, ..editor };
    let error = strict
        .edit(&mut base.clone(), &[&requests[0]], &bench_of(&base), &mut Memory::default())
        .unwrap_err();
    assert!(error.to_string().contains("raise `threshold`"), "{error}");
}

fn bench_of(model: &Model) -> Bench {
    bench(model, &[1])
}

#[test]
fn fine_tuning_stays_within_its_bound() {
    let base = model();
    let requests = [request("a", [3, 8], 21), request("b", [14, 2], 33)];
    let batch: Vec<&Request> = requests.iter().collect();
    let bench = Bench { layers: vec![2], ..Bench::default() };
    let editor = FtL { layer: Some(2), lr: 5e-2, steps: 30, epsilon: 0.2 };
    let mut edited = base.clone();
    let row = editor.edit(&mut edited, &batch, &bench, &mut Memory::default()).unwrap();
    assert!(requests.iter().all(|request| logprob(&edited, request) > logprob(&base, request) + 1.0));
    assert!(row["clamped"].as_f64().unwrap() > 0.0, "{row:?}");
    let changes = edited.changes_since(&base).unwrap();
    let changed: Vec<_> = changes.iter().filter(|change| change.change > 0.0).collect();
    assert_eq!(changed.len(), 1);
    assert!(changed[0].largest <= 0.2 + 1e-6);
    // Nothing is left trainable that was not.
    assert_eq!(edited.params.count(), base.params.count());
}
