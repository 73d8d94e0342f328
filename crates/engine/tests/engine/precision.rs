//! Products in bf16, and weights kept in bf16 or int8: how far results move, and that nothing else moves them.

use crate::data::test_data;
use crate::small_models::models;
use amend_engine::generate::GenerateOptions;
use amend_engine::kernels::{Compute, Storage};
use amend_engine::{Batch, Example, Model, Precision, Taps};

const PRODUCTS: Precision = Precision { compute: Compute::Bf16, storage: Storage::F32 };
const KEPT_BF16: Precision = Precision { compute: Compute::F32, storage: Storage::Bf16 };
const KEPT_INT8: Precision = Precision { compute: Compute::F32, storage: Storage::Int8 };

fn with(model: &Model, precision: Precision) -> Model {
    let mut model = model.clone();
    model.params.set_precision(precision);
    model
}

fn sequence(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 7 + seed * 13 + i * i * 3) % 61).collect()
}

fn bits(rows: &[Vec<f32>]) -> Vec<u32> {
    rows.iter().flatten().map(|x| x.to_bits()).collect()
}

#[test]
fn neither_batch_nor_cache_moves_a_bit() {
    let examples: Vec<_> =
        [40, 7, 70, 2, 33].iter().enumerate().map(|(i, &n)| Example::text(sequence(i as u32, n))).collect();
    for (model, precision) in models().iter().flat_map(|m| [PRODUCTS, KEPT_BF16, KEPT_INT8].map(|p| (m, p))) {
        let model = with(model, precision);
        let together = bits(&model.score(&examples, 4096).unwrap());
        assert_eq!(together, bits(&model.score(&examples, 1).unwrap()), "{precision:?}");
        let prompt = sequence(1, 20);
        let options = GenerateOptions { max_new_tokens: 12, ..Default::default() };
        let out = &model.generate(std::slice::from_ref(&prompt), &options).unwrap()[0][0];
        let scored = model.score(&[Example::answer(&prompt, &out.ids)], 4096).unwrap();
        assert_eq!(scored[0], out.logprobs, "{precision:?}");
    }
}

/// The guide names these bounds. Of 252 log-probabilities of a trained model.
#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn log_probabilities_stay_near_those_of_f32() {
    let data = test_data();
    let model = Model::open(data.join("models/stories260k/hf")).unwrap();
    let prompt = vec![1, 403, 407];
    let options = GenerateOptions { max_new_tokens: 252, ..Default::default() };
    let story =
        model.generate(std::slice::from_ref(&prompt), &options).unwrap().swap_remove(0).swap_remove(0).ids;
    let examples = [Example::answer(&prompt, &story)];
    let exact = model.score(&examples, 4096).unwrap();
    for (precision, largest, mean) in
        [(PRODUCTS, 0.07, 0.008), (KEPT_BF16, 0.06, 0.007), (KEPT_INT8, 0.2, 0.02)]
    {
        let moved = with(&model, precision).score(&examples, 4096).unwrap();
        let gaps: Vec<f32> = exact[0].iter().zip(&moved[0]).map(|(a, b)| (a - b).abs()).collect();
        let worst = gaps.iter().copied().fold(0.0, f32::max);
        let average = gaps.iter().sum::<f32>() / gaps.len() as f32;
        assert!(worst > 0.0 && worst <= largest && average <= mean, "{precision:?}: {worst}, {average}");
    }
}

/// A checkpoint in bf16 is kept as it is, at no loss; one in f32 is not touched.
#[test]
fn weights_that_are_bf16_numbers_are_kept_as_such_without_being_asked() {
    let examples = [Example::text(sequence(3, 30))];
    for model in models() {
        let mut rounded = model.clone();
        for (_, param) in rounded.params.iter_mut() {
            param.tensor.f32_mut().iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
        }
        let exact = bits(&rounded.score(&examples, 4096).unwrap());
        // The first small product goes without packing, later ones with.
        for _ in 0..3 {
            assert_eq!(exact, bits(&rounded.score(&examples, 4096).unwrap()));
            let short = [Example::text(sequence(3, 5))];
            let kept = with(&rounded, KEPT_BF16).score(&short, 1).unwrap();
            assert_eq!(bits(&kept), bits(&rounded.score(&short, 1).unwrap()));
        }
        assert_ne!(exact, bits(&model.score(&examples, 4096).unwrap()));
    }
}

/// Gradients in bf16 point where those of f32 do.
#[test]
fn gradients_in_bf16_keep_their_direction() {
    let examples = [Example::text(sequence(1, 40)), Example::text(sequence(2, 23))];
    let batch = Batch::new(&examples).unwrap();
    for mut model in models() {
        for (_, param) in model.params.iter_mut() {
            // Matrices as large as trained ones, or the softmax saturates and says nothing.
            if param.tensor.shape().len() == 2 {
                param.tensor.f32_mut().iter_mut().for_each(|x| *x *= 0.3);
            }
        }
        let (loss, exact) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
        let (moved, rounded) = with(&model, PRODUCTS).loss_and_gradients(&batch, &Taps::none()).unwrap();
        assert!((loss - moved).abs() < 2e-3 * loss, "{loss} became {moved}");
        let cosine = exact.cosine(&rounded);
        // A token that stands between two experts may be sent to the other one.
        let least = if model.spec().experts.is_some() { 0.95 } else { 0.999 };
        assert!(cosine > least && cosine < 1.0, "{:?}: cosine {cosine}", model.config()["model_type"]);
    }
}

/// A block's first run is that of training in every precision, so the second gives its bits again.
#[test]
fn recomputing_changes_no_bit_in_any_precision() {
    let examples = [Example::text(sequence(1, 40)), Example::text(sequence(2, 3))];
    let batch = Batch::new(&examples).unwrap();
    for (model, precision) in models().iter().flat_map(|m| [PRODUCTS, KEPT_BF16, KEPT_INT8].map(|p| (m, p))) {
        let mut model = with(model, precision);
        let (loss, kept) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
        model.recompute = true;
        let (same, recomputed) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
        assert_eq!(loss.to_bits(), same.to_bits());
        for (id, gradient) in kept.iter() {
            assert_eq!(gradient.f32(), recomputed.get(id).unwrap().f32(), "{}", model.params.get(id).name);
        }
    }
}
