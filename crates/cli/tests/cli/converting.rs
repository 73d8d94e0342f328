//! `amend convert`, and GGUF files wherever a model's folder is accepted.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::data::test_data;
use crate::support::{Scratch, amend, fails, json_of, stdout};

fn at(scratch: &Scratch, name: &str) -> String {
    scratch.root.join(name).to_str().unwrap().to_owned()
}

fn read(path: &str) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn a_model_goes_to_gguf_and_back_without_a_change() {
    let scratch = Scratch::new();
    let (file, back) = (at(&scratch, "m.gguf"), at(&scratch, "back"));
    let summary = json_of(&["convert", scratch.arg(), &file, "--json"]);
    assert_eq!((&summary["format"], &summary["largest_error"]), (&Value::from("gguf"), &Value::from(0.0)));
    assert_eq!(summary["tensors"], 20);
    let table = stdout(&["convert", &file, &back, "--to", "hf"]);
    assert!(table.contains("largest error") && table.contains("0.0000%"), "{table}");
    let weights = |dir: &str| read(&format!("{dir}/model.safetensors"));
    assert!(weights(scratch.arg()) == weights(&back), "the weights must be the same bytes");
    // The same answers from all three, in every command.
    for path in [&file, &back] {
        for rest in [&["--text", "the cat sat"][..], &["--ids", "1,2,3"]] {
            let run = |path: &str| json_of(&[&["score", path, "--json"], rest].concat());
            assert_eq!(run(path), run(scratch.arg()));
        }
        let answer = |path: &str| {
            json_of(&["generate", path, "--prompt", "the cat", "--max-new-tokens", "9", "--json"])
        };
        assert_eq!(answer(path), answer(scratch.arg()));
        json_of(&["bench", path, "--mode", "score", "--length", "8", "--rounds", "1", "--json"]);
    }
    fails(&["chat", &file], &["m.gguf", "no chat template"]);
}

#[test]
fn number_types_are_written_and_their_error_is_told() {
    let scratch = Scratch::new();
    let mut errors = Vec::new();
    for (dtype, target) in
        [("f32", "a.gguf"), ("f16", "b.gguf"), ("bf16", "c.gguf"), ("f16", "d"), ("bf16", "e")]
    {
        let path = at(&scratch, target);
        let summary = json_of(&["convert", scratch.arg(), &path, "--dtype", dtype, "--json"]);
        errors.push(summary["relative_rms_error"].as_f64().unwrap());
        let written = summary["types"].as_array().unwrap().iter().any(|row| row["to"] == dtype);
        assert!(written && summary["rms_error"].as_f64() <= summary["largest_error"].as_f64(), "{summary}");
        json_of(&["score", &path, "--text", "the cat", "--json"]);
    }
    assert_eq!(errors[0], 0.0);
    assert!(errors[1] > 1e-5 && errors[1] < 1e-3, "{errors:?}");
    assert!(errors[2] > 4.0 * errors[1] && errors[2] < 0.01, "{errors:?}");
    let shards = at(&scratch, "shards");
    stdout(&["convert", scratch.arg(), &shards, "--shard-bytes", "2000"]);
    assert!(Path::new(&shards).join("model.safetensors.index.json").exists());
}

#[test]
fn a_gguf_file_unlearns_as_its_folder_does() {
    let scratch = Scratch::new();
    let file = at(&scratch, "m.gguf");
    stdout(&["convert", scratch.arg(), &file]);
    scratch.file("f.jsonl", "{\"question\": \"Who?\", \"answer\": \"the cat\"}\n".repeat(2));
    scratch.file("r.jsonl", "{\"question\": \"Where?\", \"answer\": \"on the mat\"}\n");
    let unlearned = |model: &str, out: &str| {
        let recipe = format!(
            "method = \"unlearn\"\n[model]\npath = {model:?}\ngold = {model:?}\n\
             [data]\nforget = \"f.jsonl\"\nretain = \"r.jsonl\"\n[unlearn]\nbatch_size = 1\n\
             [stop]\nbelow = 0.0\nmax_steps = 2\n[eval]\nmax_new_tokens = 0\n"
        );
        let out = at(&scratch, out);
        // The model knows nothing, so nothing is forgotten or kept.
        amend(&["run", &scratch.file("r.toml", recipe), "--out", &out]).assert().code(1);
        read(&format!("{out}/model/model.safetensors"))
    };
    let from_folder = unlearned(scratch.arg(), "a");
    assert!(from_folder != read(&format!("{}/model.safetensors", scratch.arg())));
    assert!(from_folder == unlearned(&file, "b"));
}

#[test]
fn what_is_there_is_not_overwritten() {
    let scratch = Scratch::new();
    let file = scratch.file("m.gguf", "precious");
    fails(&["convert", scratch.arg(), &file], &["m.gguf exists", "hint: "]);
    assert_eq!(read(&file), b"precious");
    fails(&["convert", scratch.arg(), scratch.arg()], &["exists"]);
    fails(&["convert", scratch.arg(), &at(&scratch, "x"), "--dtype", "q8_0"], &["q8_0", "--to gguf"]);
    fails(&["convert", "no/such/model", &at(&scratch, "x")], &["no/such/model", "no such"]);
    assert!(!scratch.root.join("x").exists());
}

#[test]
fn damaged_gguf_files_are_named() {
    let scratch = Scratch::new();
    let file = at(&scratch, "m.gguf");
    stdout(&["convert", scratch.arg(), &file]);
    let bytes = read(&file);
    for length in [0, 4, 23, 300, bytes.len() / 2, bytes.len() - 100] {
        let cut = scratch.file("cut.gguf", &bytes[..length]);
        fails(&["score", &cut, "--ids", "1,2"], &["cut.gguf"]);
        fails(&["convert", &cut, &at(&scratch, "y")], &["cut.gguf"]);
    }
    assert!(!scratch.root.join("y").exists());
    let mut lying = bytes.clone();
    lying[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let lying = scratch.file("lying.gguf", lying);
    fails(&["generate", &lying, "--ids", "1"], &["lying.gguf", "18446744073709551615 tensors"]);
    let other = String::from_utf8_lossy(&bytes).find("llama").unwrap();
    let mut unknown = bytes;
    unknown[other..other + 5].copy_from_slice(b"lemon");
    let unknown = scratch.file("unknown.gguf", unknown);
    fails(&["score", &unknown, "--ids", "1,2"], &["unknown.gguf", "\"lemon\" is not supported", "llama"]);
    // A file that is none, and a folder that holds one.
    fails(&["score", &scratch.file("text.txt", "hello"), "--ids", "1"], &["text.txt", "no GGUF file"]);
    fs::remove_file(scratch.model.join("model.safetensors")).unwrap();
    fs::copy(&file, scratch.model.join("m.gguf")).unwrap();
    fails(&["score", scratch.arg(), "--ids", "1,2"], &["give the file itself", "m.gguf"]);
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn published_files_are_scored() {
    let model = test_data().join("models/stories260k");
    let (file, folder) = (model.join("stories260K.gguf"), model.join("hf"));
    let text = "Once upon a time, there was a little girl named Lily.";
    let score = |path: &Path| json_of(&["score", path.to_str().unwrap(), "--text", text, "--json"]);
    assert_eq!(score(&file), score(&folder));
    let out = tempfile::tempdir().unwrap();
    let small = out.path().join("small.gguf");
    let args = ["convert", folder.to_str().unwrap(), small.to_str().unwrap(), "--dtype", "q8_0", "--json"];
    let summary = json_of(&args);
    assert!(summary["relative_rms_error"].as_f64().is_some_and(|e| e > 1e-4 && e < 0.01), "{summary}");
    let (exact, rounded) = (score(&folder), score(&small));
    assert_eq!(exact["ids"], rounded["ids"]);
    let difference = (exact["mean_nll"].as_f64().unwrap() - rounded["mean_nll"].as_f64().unwrap()).abs();
    assert!(difference > 0.0 && difference < 0.02, "{difference}");
}
