//! Graphs that join: values go forward from one to the next, gradients come back the same way.

use crate::small_models::config;
use amend_engine::models::{Input, SoftTokens, Tokens};
use amend_engine::optim::{AdamW, AdamWOptions};
use amend_engine::{
    Batch, Encoder, Example, Gradients, Graph, Model, ParamId, Params, Taps, Tensor, Var, kernels,
};
use serde_json::json;

fn matrix(shape: [usize; 2], phase: f32) -> Tensor {
    let value = |i: usize| 0.6 * (i as f32 * 0.7 + phase).sin();
    Tensor::build(&shape, |out| out.iter_mut().enumerate().for_each(|(i, out)| *out = value(i)))
}

fn params(tensors: &[(&str, Tensor)]) -> (Params, Vec<ParamId>) {
    let mut params = Params::default();
    let ids = tensors.iter().map(|(name, tensor)| params.add(*name, tensor.clone()).unwrap()).collect();
    (params, ids)
}

/// A body with two outputs, of which two other graphs make a loss each.
#[test]
fn two_heads_on_one_body_are_one_model_in_three_graphs() {
    let [w, a, b, x] =
        [([4, 3], 0.1), ([3, 2], 0.2), ([3, 1], 0.3), ([5, 4], 0.4)].map(|(s, p)| matrix(s, p));
    let names = [("w", w.clone()), ("a", a.clone()), ("b", b.clone())];
    let body = |g: &mut Graph<'_>, w: ParamId| {
        let w = g.parameter(w);
        let y = g.matmul(&Var::constant(x.clone()), &w).unwrap();
        (g.tanh(&y).unwrap(), g.exp(&y).unwrap())
    };
    let head = |g: &mut Graph<'_>, hidden: &Var, id: ParamId| {
        let weight = g.parameter(id);
        let y = g.matmul(hidden, &weight).unwrap();
        let y = g.mul(&y, &y).unwrap();
        g.mean(&y).unwrap()
    };
    // All in one graph.
    let (whole, ids) = params(&names);
    let mut g = Graph::recording(&whole);
    let (first, second) = body(&mut g, ids[0]);
    let (first, second) = (head(&mut g, &first, ids[1]), head(&mut g, &second, ids[2]));
    let loss = g.add(&first, &second).unwrap();
    let expected = g.backward(&loss).unwrap();
    // In three, with parameters of their own.
    let (of_body, body_ids) = params(&names[..1]);
    let mut below = Graph::recording(&of_body);
    let (first, second) = body(&mut below, body_ids[0]);
    let of_head = |name: usize, output: &Var| {
        let (own, ids) = params(&names[name..=name]);
        let mut g = Graph::recording(&own);
        let (hidden, id) = g.input(output.value().clone());
        let loss = head(&mut g, &hidden, ids[0]);
        let mut gradients = g.backward(&loss).unwrap();
        (gradients.take_leaf(id).unwrap(), gradients.get(ids[0]).unwrap().clone())
    };
    let ((to_first, a), (to_second, b)) = (of_head(1, &first), of_head(2, &second));
    let mut gradients = Gradients::none(&of_body);
    below.backward_from([(&first, to_first), (&second, to_second)], &mut gradients).unwrap();
    assert_eq!(gradients.get(body_ids[0]).unwrap().f32(), expected.get(ids[0]).unwrap().f32());
    assert_eq!(a.f32(), expected.get(ids[1]).unwrap().f32());
    assert_eq!(b.f32(), expected.get(ids[2]).unwrap().f32());
}

#[test]
fn a_gradient_of_another_shape_is_refused() {
    let (own, ids) = params(&[("w", matrix([4, 3], 0.0))]);
    let mut g = Graph::recording(&own);
    let w = g.parameter(ids[0]);
    let mut gradients = Gradients::none(&own);
    let error = g.backward_from([(&w, matrix([3, 4], 0.0))], &mut gradients).unwrap_err().to_string();
    assert!(error.contains("gradient of an output"), "{error}");
}

#[test]
fn what_no_loss_depends_on_has_no_gradient() {
    let (own, ids) = params(&[("w", matrix([4, 3], 0.0))]);
    let mut g = Graph::recording(&own);
    let (_, unused) = g.input(matrix([2, 2], 0.0));
    let w = g.parameter(ids[0]);
    let loss = g.sum(&w).unwrap();
    assert!(g.backward(&loss).unwrap().take_leaf(unused).is_none());
}

/// An encoder whose vectors are what a frozen decoder reads in the place of its first tokens.
fn encoder() -> Encoder {
    let config = json!({
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 61, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "initializer_range": 0.2,
        "max_position_embeddings": 80, "hidden_act": "gelu", "type_vocab_size": 2,
    });
    Encoder::random(config.as_object().unwrap().clone(), 5).unwrap()
}

fn decoder(recompute: bool) -> Model {
    let mut decoder = Model::random(config("qwen3", json!({})), 3).unwrap();
    decoder.params.set_trainable(|_| false);
    decoder.recompute = recompute;
    decoder
}

/// Loss of a text after soft tokens, and its gradient in the encoder.
fn loss_through(decoder: &Model, encoder: &Encoder) -> (f64, Gradients) {
    let (input, none) = (Input::tokens(&[[7, 31, 2, 44, 9]]).unwrap(), Taps::none());
    let mut below = Graph::recording(&encoder.params);
    let hidden = encoder.hidden(&mut below, &input, &none).unwrap();
    let soft = below.slice(&hidden, 1..4, 0..32).unwrap();
    let batch = Batch::new(&[Example::answer(&[0; 3], &[5, 17, 40, 3, 22, 8])]).unwrap();
    let mut above = Graph::recording(&decoder.params);
    let (embeddings, id) = above.input(soft.value().clone());
    let tokens =
        Tokens { ids: &batch.ids, soft: Some(SoftTokens { rows: &[0, 1, 2], embeddings: &embeddings }) };
    let hidden = decoder.hidden_of(&mut above, tokens, &batch.layout, &none).unwrap();
    let hidden = above.gather_rows(&hidden, &batch.rows).unwrap();
    let weights = vec![1.0 / batch.targets.len() as f32; batch.targets.len()];
    let loss = above.cross_entropy(&hidden, decoder.head(), &batch.targets, &weights).unwrap();
    let mut gradients = above.backward(&loss).unwrap();
    assert_eq!(gradients.iter().count(), 0, "the decoder is frozen");
    let mut own = Gradients::none(&encoder.params);
    below.backward_from([(&soft, gradients.take_leaf(id).unwrap())], &mut own).unwrap();
    (f64::from(loss.scalar()), own)
}

#[test]
fn an_encoder_learns_through_a_frozen_decoder_as_differences_say() {
    let (decoder, mut encoder) = (decoder(false), encoder());
    let (start, gradients) = loss_through(&decoder, &encoder);
    let mut checked = 0;
    for (id, gradient) in gradients.iter() {
        let norm = gradient.dot(gradient).sqrt();
        if norm < 0.02 {
            continue;
        }
        let step = 4e-3 / norm.max(1.0);
        let loss_at = |step: f64| {
            let mut moved = encoder.clone();
            let weights = moved.params.get_mut(id).tensor.f32_mut();
            kernels::axpy((step / norm) as f32, gradient.f32(), weights);
            loss_through(&decoder, &moved).0
        };
        let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        let name = &encoder.params.get(id).name;
        assert!((slope - norm).abs() < 0.02 * norm + 2e-3, "{name}: slope {slope}, gradient {norm}");
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
    // Whole blocks computed a second time change no bit of what comes back.
    let (_, again) = loss_through(&self::decoder(true), &encoder);
    for (id, gradient) in gradients.iter() {
        assert_eq!(again.get(id).unwrap().f32(), gradient.f32());
    }
    // And it learns.
    let mut adamw = AdamW::new(&encoder.params, AdamWOptions::default());
    for _ in 0..20 {
        let (_, gradients) = loss_through(&decoder, &encoder);
        adamw.step(&mut encoder.params, &gradients, 3e-3, 1.0).unwrap();
    }
    let (end, _) = loss_through(&decoder, &encoder);
    assert!(end < start - 0.2, "{start} became {end}");
}

#[test]
fn a_value_of_another_graph_is_refused_where_its_gradient_would_be_lost() {
    let (own, ids) = params(&[("w", matrix([4, 3], 0.0))]);
    let mut below = Graph::recording(&own);
    let w = below.parameter(ids[0]);
    let mut g = Graph::recording(&own);
    let y = g.parameter(ids[0]);
    let y = g.mul(&y, &w).unwrap();
    let loss = g.sum(&y).unwrap();
    let error = g.backward(&loss).unwrap_err().to_string();
    assert!(error.contains("Graph::input"), "{error}");
}
