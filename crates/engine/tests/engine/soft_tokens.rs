//! Rows of embeddings in the place of ids: in training, in prefill and in decoding after them.

use crate::small_models::models;
use amend_engine::models::{KvCache, SoftTokens, Tokens};
use amend_engine::tape::Layout;
use amend_engine::{Batch, Example, Graph, Model, ParamId, Rng, Site, Taps, Tensor, Var};

fn sequence(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 7 + seed * 13 + i * i * 3) % 61).collect()
}

/// Two sequences; soft tokens stand before the first, and scattered over the second, in no order.
const ROWS: [usize; 6] = [0, 1, 2, 19, 13, 16];

fn batch() -> Batch {
    Batch::new(&[Example::text(sequence(1, 13)), Example::text(sequence(4, 9))]).unwrap()
}

/// The batch's ids with numbers in the place of soft tokens that no vocabulary has.
fn with_placeholders(ids: &[u32]) -> Vec<u32> {
    let mut ids = ids.to_vec();
    ROWS.iter().for_each(|&row| ids[row] = u32::MAX);
    ids
}

/// What the model itself makes of the ids in these rows.
fn own_embeddings(model: &Model, batch: &Batch) -> Tensor {
    let mut taps = Taps::none();
    taps.read(Site::Embed);
    model.hidden(&mut Graph::inference(&model.params), batch, &taps).unwrap();
    let all = taps.take(Site::Embed).swap_remove(0).tensor;
    let d = model.spec().hidden;
    let values: Vec<f32> = ROWS.iter().flat_map(|&r| all.f32()[r * d..(r + 1) * d].to_vec()).collect();
    Tensor::from_f32(&values, &[ROWS.len(), d]).unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.f32().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_token_s_own_embedding_in_its_place_changes_no_bit() {
    let (batch, taps) = (batch(), Taps::none());
    let ids = with_placeholders(&batch.ids);
    for model in models() {
        let embeddings = Var::constant(own_embeddings(&model, &batch));
        let mut g = Graph::inference(&model.params);
        let plain = model.hidden(&mut g, &batch, &taps).unwrap();
        let soft = Some(SoftTokens { rows: &ROWS, embeddings: &embeddings });
        let ours = model.hidden_of(&mut g, Tokens { ids: &ids, soft }, &batch.layout, &taps).unwrap();
        assert_eq!(bits(ours.value()), bits(plain.value()));
    }
}

/// A prompt of soft tokens alone, read in pieces, and tokens decoded after it one by one, against one pass.
#[test]
fn decoding_after_soft_tokens_has_the_bits_of_one_pass() {
    let taps = Taps::none();
    for model in models() {
        let d = model.spec().hidden;
        let mut rng = Rng::at(&[3]);
        let values: Vec<f32> = (0..7 * d).map(|_| rng.normal() as f32).collect();
        let all = Tensor::from_f32(&values, &[7, d]).unwrap();
        let ids: Vec<u32> = vec![u32::MAX; 7].into_iter().chain(sequence(2, 5)).collect();
        let rows: Vec<usize> = (0..7).collect();
        let mut g = Graph::inference(&model.params);
        let embeddings = Var::constant(all.clone());
        let soft = Some(SoftTokens { rows: &rows, embeddings: &embeddings });
        let layout = Layout::packed([12]);
        let whole = model.hidden_of(&mut g, Tokens { ids: &ids, soft }, &layout, &taps).unwrap();

        let mut caches: [KvCache; 1] = [model.new_cache()];
        let mut in_pieces = Vec::new();
        for piece in [0..3, 3..9, 9..10, 10..11, 11..12] {
            let soft_rows: Vec<usize> =
                piece.clone().filter(|&row| row < 7).map(|row| row - piece.start).collect();
            let own = piece.start * d..(piece.start + soft_rows.len()) * d;
            let values = if soft_rows.is_empty() { &[][..] } else { &all.f32()[own] };
            let embeddings = Var::constant(Tensor::from_f32(values, &[soft_rows.len(), d]).unwrap());
            let soft = Some(SoftTokens { rows: &soft_rows, embeddings: &embeddings });
            let tokens = Tokens { ids: &ids[piece.clone()], soft };
            let layout = Layout::continued([(piece.start, piece.len())]);
            let hidden = model.continue_hidden(&mut g, tokens, &layout, &mut caches, &taps).unwrap();
            in_pieces.extend(bits(hidden.value()));
        }
        assert_eq!(in_pieces, bits(whole.value()));
    }
}

/// The model with a prompt of its own among its parameters, and the loss of the batch with that prompt.
fn with_prompt(model: &Model, batch: &Batch) -> (Model, ParamId) {
    let mut model = model.clone();
    let prompt = model.params.add("prompt.weight", own_embeddings(&model, batch)).unwrap();
    (model, prompt)
}

fn loss<'m>(model: &'m Model, prompt: ParamId, g: &mut Graph<'m>, batch: &Batch, taps: &'m Taps) -> Var {
    let embeddings = g.parameter(prompt);
    let ids = with_placeholders(&batch.ids);
    let soft = Some(SoftTokens { rows: &ROWS, embeddings: &embeddings });
    let hidden = model.hidden_of(g, Tokens { ids: &ids, soft }, &batch.layout, taps).unwrap();
    let hidden = g.gather_rows(&hidden, &batch.rows).unwrap();
    let weights = vec![1.0 / batch.targets.len() as f32; batch.targets.len()];
    g.cross_entropy(&hidden, model.head(), &batch.targets, &weights).unwrap()
}

#[test]
fn gradients_reach_soft_tokens_as_differences_say() {
    let (batch, taps) = (batch(), Taps::none());
    for model in models() {
        let (mut model, prompt) = with_prompt(&model, &batch);
        let mut g = Graph::recording(&model.params);
        let value = loss(&model, prompt, &mut g, &batch, &taps);
        let gradients = g.backward(&value).unwrap();
        let gradient = gradients.get(prompt).unwrap().clone();
        // Along the gradient itself, and along the part of a single soft token.
        let d = model.spec().hidden;
        for part in [0..ROWS.len() * d, 3 * d..4 * d] {
            let norm = gradient.f32()[part.clone()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 1e-6, "no gradient reaches {part:?}");
            let step = 2e-3;
            let moved = |by: f64| {
                let mut model = model.clone();
                let values = &mut model.params.get_mut(prompt).tensor.f32_mut()[part.clone()];
                let along = gradient.f32()[part.clone()].iter();
                values.iter_mut().zip(along).for_each(|(v, &g)| *v += (by * f64::from(g) / norm) as f32);
                let mut g = Graph::inference(&model.params);
                f64::from(loss(&model, prompt, &mut g, &batch, &taps).scalar())
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            assert!((slope - norm).abs() < 0.02 * norm + 1e-3, "{slope} instead of {norm}");
        }
        model.recompute = true;
        let mut g = Graph::recording(&model.params);
        let value = loss(&model, prompt, &mut g, &batch, &taps);
        let again = g.backward(&value).unwrap();
        for (id, gradient) in gradients.iter() {
            assert_eq!(bits(gradient), bits(again.get(id).unwrap()), "{}", model.params.get(id).name);
        }
    }
}

#[test]
fn soft_tokens_without_a_place_of_their_own_are_refused() {
    let model = models().swap_remove(0);
    let (batch, taps) = (batch(), Taps::none());
    let refused = |rows: &[usize], shape: [usize; 2], ids: &[u32]| {
        let embeddings = Var::constant(Tensor::build(&shape, |out| out.fill(0.5)));
        let soft = Some(SoftTokens { rows, embeddings: &embeddings });
        let mut g = Graph::inference(&model.params);
        model.hidden_of(&mut g, Tokens { ids, soft }, &batch.layout, &taps).unwrap_err().to_string()
    };
    let error = refused(&[0, 22], [2, 32], &batch.ids);
    assert!(error.contains("soft token 1 is for row 22 of a batch that has 22"), "{error}");
    let error = refused(&[3, 5, 3], [3, 32], &batch.ids);
    assert!(error.contains("soft tokens 0 and 2 are both for row 3"), "{error}");
    assert!(refused(&[3], [1, 31], &batch.ids).contains("soft tokens"));
    assert!(refused(&[3], [1, 32], &batch.ids[1..]).contains("token ids"));
}
