//! `amend score`: its output's form.

use crate::support::{Scratch, amend, json_lines, json_of, stdout};

#[test]
fn one_text_is_one_object() {
    let scratch = Scratch::new();
    let by_text = json_of(&["score", scratch.arg(), "--text", "the cat sat", "--json"]);
    let keys: Vec<_> = by_text.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["ids", "token_logprobs", "mean_nll"]);
    let ids: Vec<u64> = serde_json::from_value(by_text["ids"].clone()).unwrap();
    let logprobs: Vec<f64> = serde_json::from_value(by_text["token_logprobs"].clone()).unwrap();
    assert_eq!(ids.len(), logprobs.len() + 1);
    assert!(logprobs.iter().all(|l| *l < 0.0));
    let mean = -logprobs.iter().sum::<f64>() / logprobs.len() as f64;
    assert!((mean - by_text["mean_nll"].as_f64().unwrap()).abs() < 1e-6);
    let list = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(json_of(&["score", scratch.arg(), "--ids", &list, "--json"]), by_text);
}

#[test]
fn a_file_is_one_object_per_line() {
    let scratch = Scratch::new();
    let file = scratch.file("texts.txt", "the cat\n\nthe mat ran\r\n");
    let lines = json_lines(&["score", scratch.arg(), "--text-file", &file, "--json"]);
    let indices: Vec<_> = lines.iter().map(|line| line["text_index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2]);
    assert!(lines[1]["mean_nll"].is_null() && lines[1]["token_logprobs"].as_array().unwrap().is_empty());
    let alone = json_of(&["score", scratch.arg(), "--text", "the mat ran", "--json"]);
    assert_eq!((&lines[2]["ids"], &lines[2]["mean_nll"]), (&alone["ids"], &alone["mean_nll"]));

    let piped = amend(&["score", scratch.arg(), "--text-file", "-", "--json"])
        .write_stdin("the cat\n\nthe mat ran\r\n")
        .assert()
        .code(0)
        .get_output()
        .stdout
        .clone();
    assert_eq!(
        String::from_utf8(piped).unwrap(),
        stdout(&["score", scratch.arg(), "--text-file", &file, "--json"])
    );
}

/// The whole file was read before the first score.
#[test]
fn scores_are_written_as_the_texts_come() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    let scratch = Scratch::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_amend"))
        .args(["score", scratch.arg(), "--text-file", "-", "--batch-size", "1", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut texts = child.stdin.take().unwrap();
    let scores = BufReader::new(child.stdout.take().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || scores.lines().try_for_each(|line| tell.send(line.unwrap())));
    let mut score = |text: &str| {
        texts.write_all(text.as_bytes()).unwrap();
        told.recv_timeout(std::time::Duration::from_secs(120))
    };
    let first = score("the cat\n");
    let second = first.clone().and_then(|_| score("the mat\n"));
    drop(texts);
    child.wait().unwrap();
    assert!(first.unwrap().contains("\"text_index\":0"));
    assert!(second.unwrap().contains("\"text_index\":1"));
}

#[test]
fn long_texts_are_cut_with_one_warning() {
    let scratch = Scratch::new();
    let long = "the cat ".repeat(100);
    let file = scratch.file("texts.txt", format!("{long}\nshort\n{long}\n"));
    let output = amend(&["score", scratch.arg(), "--text-file", &file, "--json"])
        .assert()
        .code(0)
        .get_output()
        .clone();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.matches("warning").count(), 1, "{message}");
    assert!(message.contains("2 texts were cut to the model's context of 64 tokens"), "{message}");
    let first = String::from_utf8(output.stdout).unwrap();
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["ids"].as_array().unwrap().len(), 64);
    let quiet = amend(&["score", scratch.arg(), "--text-file", &file, "--quiet"])
        .assert()
        .code(0)
        .get_output()
        .clone();
    assert!(quiet.stderr.is_empty());
}

#[test]
fn a_single_token_has_nothing_to_score() {
    let scratch = Scratch::without_tokenizer(32);
    let score = json_of(&["score", scratch.arg(), "--ids", "3", "--json"]);
    assert!(score["mean_nll"].is_null());
    assert!(stdout(&["score", scratch.arg(), "--ids", "3"]).contains("nothing to score"));
}

#[test]
fn people_get_a_table() {
    let scratch = Scratch::new();
    let table = stdout(&["score", scratch.arg(), "--text", "the cat"]);
    assert!(
        table.contains("log p") && table.contains("perplexity") && table.contains("\"<|bos|>\""),
        "{table}"
    );
    let table = stdout(&["score", Scratch::without_tokenizer(8).arg(), "--ids", "1,2,3"]);
    assert!(table.contains("mean over 2 tokens"), "{table}");
}

#[test]
fn an_adapter_changes_the_scores_and_a_zero_adapter_does_not() {
    let scratch = Scratch::without_tokenizer(32);
    let options = amend_engine::models::LoraOptions { r: 2, alpha: 4.0, targets: vec![] };
    let mut model = amend_engine::Model::open(&scratch.model).unwrap();
    model.attach_lora(&options, 1).unwrap();
    let zero = scratch.root.join("zero");
    model.save_adapter(&zero, "base").unwrap();
    for (_, param) in model.params.iter_mut() {
        if param.name.ends_with("lora_B.weight") {
            param.tensor.f32_mut().fill(0.3);
        }
    }
    let full = scratch.root.join("full");
    model.save_adapter(&full, "base").unwrap();
    let score = |adapter: &std::path::Path| {
        json_of(&[
            "score",
            scratch.arg(),
            "--ids",
            "1,2,3,4",
            "--json",
            "--adapter",
            adapter.to_str().unwrap(),
        ])
    };
    let base = json_of(&["score", scratch.arg(), "--ids", "1,2,3,4", "--json"]);
    assert_eq!(score(&zero), base);
    assert_ne!(score(&full)["mean_nll"], base["mean_nll"]);
}

#[test]
fn an_editor_of_feed_forwards_is_opened_as_any_adapter_is() {
    let scratch = Scratch::without_tokenizer(32);
    let mut model = amend_engine::Model::open(&scratch.model).unwrap();
    model.attach_shift_ffn(&amend_engine::models::ShiftFfn { r: 2, ..Default::default() }, 1).unwrap();
    for (_, param) in model.params.iter_mut().filter(|(_, param)| param.name.contains(".editor.")) {
        param.tensor.f32_mut().iter_mut().enumerate().for_each(|(i, w)| *w = (i as f32).sin());
    }
    let adapter = scratch.root.join("editor");
    model.save_adapter(&adapter, "base").unwrap();
    let adapter = ["--adapter", adapter.to_str().unwrap()];
    let args = ["score", scratch.arg(), "--ids", "1,2,3,4", "--json"];
    let scores = |value: serde_json::Value| value["mean_nll"].as_f64().unwrap();
    assert_ne!(scores(json_of(&[&args[..], &adapter].concat())), scores(json_of(&args)));
    let args =
        ["generate", scratch.arg(), "--ids", "1,2,3", "--max-new-tokens", "6", "--ignore-eos", "--json"];
    let answer = json_of(&[&args[..], &adapter].concat());
    let written = model.generate(
        &[vec![1, 2, 3]],
        &amend_engine::generate::GenerateOptions { max_new_tokens: 6, ..Default::default() },
    );
    assert_eq!(answer["ids"], serde_json::json!(written.unwrap()[0][0].ids));
}
