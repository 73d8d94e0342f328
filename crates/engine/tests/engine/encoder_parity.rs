//! Encoders against reference outputs: hidden states, poolers, embeddings, logits, retrieval.
#![expect(clippy::print_stderr, reason = "a test that fails says so")]

use std::path::Path;

use crate::data::{fixture, test_data};
use amend_engine::checkpoint::SafetensorsFile;
use amend_engine::models::{ENCODING_TOKENS, Input};
use amend_engine::taps::BlockSite;
use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Encoder, Graph, Site, Taps, Tensor};
use serde_json::Value;

fn open(dir: &Path) -> (Encoder, SafetensorsFile) {
    let reference = SafetensorsFile::open(dir.join("reference.safetensors")).unwrap();
    (Encoder::open(dir).unwrap(), reference)
}

/// Rows of a matrix of ids, cut to where the mask is 1.
fn masked(file: &SafetensorsFile, name: &str) -> Vec<Vec<u32>> {
    let (values, mask) =
        (file.tensor(name).unwrap().to_f32(), file.tensor("attention_mask").unwrap().to_f32());
    let rows = values.f32().chunks(values.columns()).zip(mask.f32().chunks(values.columns()));
    rows.map(|(v, m)| v.iter().zip(m).filter(|(_, m)| **m == 1.0).map(|(v, _)| *v as u32).collect()).collect()
}

fn floats(file: &SafetensorsFile, name: &str) -> Tensor {
    file.tensor(name).unwrap().to_f32()
}

fn close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    eprintln!("{what}: {worst:e}");
    assert!(worst <= tolerance, "{what}: {worst}");
}

/// What the reference calls hidden states: the embeddings, then what every block gives.
fn states(encoder: &Encoder, input: &Input) -> Vec<Tensor> {
    let layers = encoder.config()["num_hidden_layers"].as_u64().unwrap() as usize;
    let sites: Vec<_> = std::iter::once(Site::Embed)
        .chain((0..layers).map(|l| Site::Block(l, BlockSite::ResidPost)))
        .collect();
    let mut taps = Taps::none();
    for &site in &sites {
        taps.read(site);
    }
    encoder.hidden(&mut Graph::inference(&encoder.params), input, &taps).unwrap();
    sites.iter().map(|&site| taps.take(site).swap_remove(0).tensor).collect()
}

/// Rows of a padded [batch, length, d] that are no padding.
fn unpadded(values: &[f32], lengths: &[usize], length: usize, d: usize) -> Vec<f32> {
    let rows = values.chunks(length * d).zip(lengths);
    rows.flat_map(|(rows, &n)| rows[..n * d].to_vec()).collect()
}

#[test]
fn bert() {
    let (encoder, reference) = open(&fixture("bert"));
    let (ids, types) = (masked(&reference, "input_ids"), masked(&reference, "token_type_ids"));
    let lengths: Vec<_> = ids.iter().map(Vec::len).collect();
    let input = Input::typed_tokens(&ids, &types).unwrap();
    let wanted = floats(&reference, "hidden_states");
    let &[_, batch, length, d] = wanted.shape() else { panic!() };
    for (l, ours) in states(&encoder, &input).iter().enumerate() {
        let theirs = &wanted.f32()[l * batch * length * d..(l + 1) * batch * length * d];
        close(&format!("hidden state {l}"), ours.f32(), &unpadded(theirs, &lengths, length, d), 1e-5);
    }
    let taps = Taps::none();
    let mut g = Graph::inference(&encoder.params);
    let hidden = encoder.hidden(&mut g, &input, &taps).unwrap();
    let last = floats(&reference, "last_hidden_state");
    close("last hidden state", hidden.value().f32(), &unpadded(last.f32(), &lengths, length, d), 1e-5);
    let pooled = encoder.summary(&mut g, &hidden, &input).unwrap();
    close("pooler", pooled.value().f32(), floats(&reference, "pooler_output").f32(), 1e-5);
    let mut encoder = encoder.clone();
    encoder.pipeline.normalize();
    let mut g = Graph::inference(&encoder.params);
    let embedding = encoder.embedding(&mut g, &input, &taps).unwrap();
    close("mean", embedding.value().f32(), floats(&reference, "mean_pooled_l2norm").f32(), 1e-5);
}

#[test]
fn vit() {
    let (encoder, reference) = open(&fixture("vit"));
    let input = encoder.images(floats(&reference, "pixel_values"), false).unwrap();
    let wanted = floats(&reference, "hidden_states");
    let size = wanted.len() / wanted.shape()[0];
    for (l, ours) in states(&encoder, &input).iter().enumerate() {
        close(&format!("hidden state {l}"), ours.f32(), &wanted.f32()[l * size..(l + 1) * size], 1e-5);
    }
    let taps = Taps::none();
    let mut g = Graph::inference(&encoder.params);
    let hidden = encoder.hidden(&mut g, &input, &taps).unwrap();
    let logits = encoder.class_logits(&mut g, &hidden, &input).unwrap();
    close("logits", logits.value().f32(), floats(&reference, "logits").f32(), 1e-5);
}

#[test]
fn clip() {
    let (encoder, reference) = open(&fixture("clip"));
    let texts = Input::tokens(&masked(&reference, "input_ids")).unwrap();
    let images = encoder.images(floats(&reference, "pixel_values"), false).unwrap();
    let taps = Taps::none();
    let mut g = Graph::inference(&encoder.params);
    let of_texts = encoder.embedding(&mut g, &texts, &taps).unwrap();
    close("texts", of_texts.value().f32(), floats(&reference, "text_embeds").f32(), 1e-5);
    let of_images = encoder.embedding(&mut g, &images, &taps).unwrap();
    close("images", of_images.value().f32(), floats(&reference, "image_embeds").f32(), 1e-5);
    let logits = encoder.similarity(&mut g, &of_images, &of_texts).unwrap();
    close("logits", logits.value().f32(), floats(&reference, "logits_per_image").f32(), 1e-5);
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn minilm() {
    let (encoder, reference) = open(&test_data().join("models/all-minilm-l6-v2"));
    let dir = encoder.folder().unwrap();
    let text = std::fs::read(dir.join("reference.json")).unwrap();
    let sentences: Value = serde_json::from_slice(&text).unwrap();
    let tokenizer = Tokenizer::open(dir).unwrap();
    let encode = |s: &Value| encoder.tokens_of(&tokenizer, s.as_str().unwrap(), None).unwrap();
    let ids: Vec<_> = sentences["sentences"].as_array().unwrap().iter().map(|s| encode(s).0).collect();
    assert_eq!(ids, masked(&reference, "input_ids"));
    let first = Input::tokens(&ids[..1]).unwrap();
    let wanted = floats(&reference, "hidden_states_sentence0");
    let (length, d) = (wanted.shape()[1], wanted.shape()[2]);
    for (l, ours) in states(&encoder, &first).iter().enumerate() {
        let theirs = &wanted.f32()[l * length * d..][..ids[0].len() * d];
        close(&format!("hidden state {l}"), ours.f32(), theirs, 5e-5);
    }
    let ours: Vec<f32> = encoder.embed(&ids, ENCODING_TOKENS).unwrap().concat();
    close("f16 weights", &ours, floats(&reference, "sentence_embeddings_from_f16_weights").f32(), 1e-5);
    let original = floats(&reference, "sentence_embeddings_from_original_f32_weights");
    close("f32 weights", &ours, original.f32(), 2e-3);
}

/// Ranks of the right passage among all, by the cosine with each question.
fn ranks(questions: &[Vec<f32>], passages: &[Vec<f32>], right: &[usize]) -> Vec<usize> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let rank = |(question, &right): (&Vec<f32>, &usize)| {
        let own = dot(question, &passages[right]);
        passages.iter().enumerate().filter(|&(i, p)| i != right && dot(question, p) > own).count()
    };
    questions.iter().zip(right).map(rank).collect()
}

fn retrieval(dir: &Path, questions: &[String], passages: &[String], right: &[usize], reference: &Path) {
    let encoder = Encoder::open(dir).unwrap();
    let tokenizer = Tokenizer::open(dir).unwrap();
    let embed = |texts: &[String]| {
        let ids: Vec<_> = texts.iter().map(|t| encoder.tokens_of(&tokenizer, t, None).unwrap().0).collect();
        encoder.embed(&ids, ENCODING_TOKENS).unwrap()
    };
    let ranks = ranks(&embed(questions), &embed(passages), right);
    let reference: Value = serde_json::from_slice(&std::fs::read(reference).unwrap()).unwrap();
    let share = |k: usize| ranks.iter().filter(|&&r| r < k).count() as f64 / ranks.len() as f64;
    for (key, k) in [("recall@1", 1), ("recall@5", 5), ("recall@10", 10)] {
        let Some(wanted) = reference[key].as_f64() else { continue };
        eprintln!("{key}: {} against {wanted}", share(k));
        // One question more or less: two passages may lie within rounding of each other.
        assert!((share(k) - wanted).abs() <= 1.5 / ranks.len() as f64, "{key}: {} not {wanted}", share(k));
    }
    let reciprocal = |&r: &usize| if r < 10 { 1.0 / (r + 1) as f64 } else { 0.0 };
    let mrr = ranks.iter().map(reciprocal).sum::<f64>() / ranks.len() as f64;
    let wanted = reference["mrr@10"].as_f64().unwrap();
    eprintln!("mrr@10: {mrr} against {wanted}");
    assert!((mrr - wanted).abs() <= 1e-3, "mrr@10: {mrr} not {wanted}");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn minilm_finds_the_paragraphs_of_xquad() {
    let data = test_data();
    let dir = data.join("tasks/xquad");
    let file: Value = serde_json::from_slice(&std::fs::read(dir.join("xquad.en.json")).unwrap()).unwrap();
    let (mut questions, mut passages, mut right) = (Vec::new(), Vec::new(), Vec::new());
    for article in file["data"].as_array().unwrap() {
        for paragraph in article["paragraphs"].as_array().unwrap() {
            for question in paragraph["qas"].as_array().unwrap() {
                questions.push(text(&question["question"]));
                right.push(passages.len());
            }
            passages.push(text(&paragraph["context"]));
        }
    }
    let reference = dir.join("reference_retrieval_minilm_en.json");
    retrieval(&data.join("models/all-minilm-l6-v2"), &questions, &passages, &right, &reference);
}

#[test]
#[ignore = "500 abstracts take a minute; the other retrieval test covers the same code"]
fn minilm_finds_the_abstracts_of_pubmedqa() {
    let data = test_data();
    let dir = data.join("tasks/pubmedqa");
    let bytes = std::fs::read(dir.join("ori_pqal_nontest.json")).unwrap();
    let items: Value = serde_json::from_slice(&bytes).unwrap();
    let items: Vec<_> = items.as_object().unwrap().values().collect();
    let questions: Vec<_> = items.iter().map(|item| text(&item["QUESTION"])).collect();
    let contexts =
        |item: &&Value| item["CONTEXTS"].as_array().unwrap().iter().map(text).collect::<Vec<_>>().join(" ");
    let passages: Vec<_> = items.iter().map(contexts).collect();
    let right: Vec<_> = (0..items.len()).collect();
    let reference = dir.join("reference_retrieval_minilm_nontest.json");
    retrieval(&data.join("models/all-minilm-l6-v2"), &questions, &passages, &right, &reference);
}
