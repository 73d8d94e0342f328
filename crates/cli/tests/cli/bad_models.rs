//! Model folders that are missing, damaged or inconsistent.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Scratch, amend, fails, tokenizer};

fn score(scratch: &Scratch, parts: &[&str]) {
    fails(&["score", scratch.arg(), "--ids", "1,2,3"], parts);
}

fn weights(scratch: &Scratch) -> std::path::PathBuf {
    scratch.model.join("model.safetensors")
}

/// Writes a safetensors file with this header over `data` bytes of zeros.
fn write_safetensors(path: &Path, header: &Value, data: usize) {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    fs::write(path, bytes).unwrap();
}

fn edit_config(scratch: &Scratch, edit: impl Fn(&mut Value)) {
    let path = scratch.model.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn a_folder_that_is_not_there() {
    fails(&["score", "no/such/model", "--ids", "1,2"], &["no/such/model", "no such folder", "hint: "]);
    fails(&["generate", "no/such/model", "--ids", "1,2"], &["no/such/model"]);
    fails(&["chat", "no/such/model"], &["no/such/model"]);
}

#[test]
fn truncated_weights() {
    let scratch = Scratch::without_tokenizer(32);
    let bytes = fs::read(weights(&scratch)).unwrap();
    for length in [0, 4, 100, bytes.len() - 1] {
        fs::write(weights(&scratch), &bytes[..length]).unwrap();
        score(&scratch, &["model.safetensors"]);
    }
}

#[test]
fn a_header_that_claims_too_much() {
    let scratch = Scratch::without_tokenizer(32);
    fs::write(weights(&scratch), [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
    score(&scratch, &["model.safetensors", "oversized header"]);
    fs::write(weights(&scratch), b"not a safetensors file at all").unwrap();
    score(&scratch, &["model.safetensors"]);
}

#[test]
fn tensors_that_overlap() {
    let scratch = Scratch::without_tokenizer(32);
    let tensor = json!({ "dtype": "F32", "shape": [4], "data_offsets": [0, 16] });
    write_safetensors(&weights(&scratch), &json!({ "a": tensor, "b": tensor }), 16);
    score(&scratch, &["model.safetensors", "overlap"]);
}

#[test]
fn a_shard_that_is_missing() {
    let scratch = Scratch::without_tokenizer(32);
    fs::remove_file(weights(&scratch)).unwrap();
    score(&scratch, &[scratch.arg(), "model.safetensors.index.json"]);
    let index = json!({ "weight_map": { "model.norm.weight": "model-00001-of-00002.safetensors" } });
    fs::write(scratch.model.join("model.safetensors.index.json"), index.to_string()).unwrap();
    score(&scratch, &["model.safetensors.index.json", "model-00001-of-00002.safetensors", "missing"]);
}

#[test]
fn weights_as_a_pickle() {
    let scratch = Scratch::without_tokenizer(32);
    fs::remove_file(weights(&scratch)).unwrap();
    fs::write(scratch.model.join("pytorch_model.bin"), b"\x80\x02").unwrap();
    score(&scratch, &["pytorch_model.bin", "pickle", "save_pretrained"]);
}

#[test]
fn a_tensor_of_the_wrong_shape() {
    let scratch = Scratch::without_tokenizer(32);
    edit_config(&scratch, |config| config["intermediate_size"] = 25.into());
    score(&scratch, &["mlp.gate_proj.weight", "[25, 16]", "[24, 16]"]);
    edit_config(&scratch, |config| config["num_hidden_layers"] = 3.into());
    edit_config(&scratch, |config| config["intermediate_size"] = 24.into());
    score(&scratch, &["model.layers.2"]);
}

#[test]
fn a_family_that_is_unknown_or_not_named() {
    let scratch = Scratch::without_tokenizer(32);
    edit_config(&scratch, |config| config["model_type"] = "mystery".into());
    score(&scratch, &["config.json", "\"mystery\" is not supported", "llama"]);
    edit_config(&scratch, |config| drop(config.as_object_mut().unwrap().remove("model_type")));
    score(&scratch, &["config.json", "\"model_type\" is missing"]);
    fs::write(scratch.model.join("config.json"), "{\"model_type\": ").unwrap();
    score(&scratch, &["config.json", "malformed JSON"]);
    fs::write(scratch.model.join("config.json"), "").unwrap();
    score(&scratch, &["config.json", "empty"]);
}

#[test]
fn weights_that_are_not_numbers() {
    let scratch = Scratch::without_tokenizer(32);
    let mut bytes = fs::read(weights(&scratch)).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(weights(&scratch), bytes).unwrap();
    score(&scratch, &["NaN"]);
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_embedding_has_rows() {
    let tokens = tokenizer().vocab_size();
    let scratch = Scratch::with_rows(|tokens| tokens - 5);
    let text = &["score", scratch.arg(), "--text", "the cat"];
    let (tokens, rows) = (format!("{tokens} tokens"), format!("{} rows", tokens - 5));
    fails(text, &["tokenizer.json", scratch.arg(), &tokens, &rows]);
}

#[test]
fn an_embedding_padded_for_speed_is_fine() {
    let scratch = Scratch::with_rows(|tokens| tokens.next_multiple_of(64));
    amend(&["score", scratch.arg(), "--text", "the cat sat"]).assert().code(0);
}

#[test]
fn a_damaged_tokenizer() {
    let scratch = Scratch::new();
    fs::write(scratch.model.join("tokenizer.json"), "{}").unwrap();
    fails(&["score", scratch.arg(), "--text", "the cat"], &["tokenizer.json"]);
}

#[test]
fn adapters_that_are_none_or_do_not_fit() {
    let scratch = Scratch::without_tokenizer(32);
    let arg = scratch.arg();
    fails(&["score", arg, "--ids", "1,2", "--adapter", arg], &["adapter_config.json"]);
    let other = Scratch::without_tokenizer(32);
    let options = amend_engine::models::LoraOptions { r: 2, alpha: 4.0, targets: vec!["q_proj".into()] };
    let mut wide = crate::support::config(32);
    wide.insert("hidden_size".into(), 32.into());
    wide.insert("head_dim".into(), 8.into());
    let mut model = amend_engine::Model::random(wide, 1).unwrap();
    model.attach_lora(&options, 1).unwrap();
    let adapter = other.root.join("adapter");
    model.save_adapter(&adapter, "base").unwrap();
    let adapter = adapter.to_str().unwrap();
    fails(&["score", arg, "--ids", "1,2", "--adapter", adapter], &[adapter, arg, "q_proj"]);
}
