//! Timing a model.

use std::fs;

use serde_json::Value;

use crate::support::{Scratch, amend, fails, json_of, stdout};

const QUICK: [&str; 6] = ["--batch", "2", "--length", "12", "--rounds", "1"];

fn bench(model: &str, mode: &str, more: &[&str]) -> Value {
    let args = ["bench", model, "--mode", mode, "--json", "--quiet"];
    json_of(&[&args[..], &QUICK, more].concat())
}

#[test]
fn every_mode_has_figures() {
    let scratch = Scratch::without_tokenizer(50);
    for mode in ["train", "lora", "prefill", "decode", "score"] {
        let found = bench(scratch.arg(), mode, &[]);
        for figure in ["tokens_per_second", "flops_per_token", "peak_fraction", "peak_flops"] {
            assert!(found[figure].as_f64().is_some_and(|x| x > 0.0), "{mode}: {figure} in {found}");
        }
        assert!(found["peak_fraction"].as_f64().unwrap() < 1.0, "{found}");
        assert_eq!(found["peak_resident_bytes"].is_u64(), cfg!(target_os = "linux"), "{found}");
        assert_eq!(found["prompt_seconds"].is_f64(), mode == "decode", "{found}");
        assert!(found.get("profile").is_none(), "{found}");
    }
    let decoded = bench(scratch.arg(), "decode", &[]);
    assert_eq!(decoded["first"]["ids"].as_array().map(Vec::len), Some(13), "{decoded}");
    // The same as PyTorch's count of weights and tokens: 2 layers, width 16, heads of 8, 1 key/value head.
    let linear = 2 * (16 * 16 + 2 * 8 * 16 + 16 * 16 + 3 * 16 * 24);
    let attention = 2 * 4 * 16 * 78;
    let counted = (2 * linear * 12 + attention + 2 * 16 * 50) as f64 / 12.0;
    assert_eq!(bench(scratch.arg(), "prefill", &[])["flops_per_token"].as_f64(), Some(counted));
}

/// Rounded operands and weights give nearly the same losses, and other bits.
#[test]
fn number_types_are_chosen() {
    let scratch = Scratch::without_tokenizer(50);
    let loss =
        |mode: &str, more: &[&str]| bench(scratch.arg(), mode, more)["first"]["loss"].as_f64().unwrap();
    for (mode, more) in [
        ("train", ["--dtype", "bf16"]),
        ("score", ["--dtype", "bf16"]),
        ("score", ["--weights", "bf16"]),
        ("score", ["--weights", "int8"]),
    ] {
        let (plain, rounded) = (loss(mode, &[]), loss(mode, &more));
        assert!(
            plain != rounded && (plain - rounded).abs() < 0.02 * plain,
            "{mode} {more:?}: {rounded} {plain}"
        );
    }
}

#[test]
fn a_profile_accounts_for_all_of_the_time() {
    let scratch = Scratch::without_tokenizer(50);
    let found = bench(scratch.arg(), "train", &["--profile"]);
    let parts = found["profile"].as_array().unwrap();
    let share: f64 = parts.iter().map(|part| part["share"].as_f64().unwrap()).sum();
    assert!((share - 1.0).abs() < 1e-6, "{share}");
    let calls = |name: &str| {
        parts.iter().find(|p| p["operation"] == name).map_or(0.0, |p| p["calls"].as_f64().unwrap())
    };
    for (name, count) in [
        ("forward q_proj", 2.0),
        ("weight gradient down_proj", 2.0),
        ("input gradient head", 1.0),
        ("attention", 2.0),
        ("attention backward", 2.0),
        ("norm", 5.0),
        ("activation backward", 2.0),
        ("optimiser", 1.0),
    ] {
        assert_eq!(calls(name), count, "{name} in {found}");
    }
    let args = ["bench", scratch.arg(), "--mode", "train", "--profile"];
    let shown = stdout(&[&args[..], &QUICK].concat());
    assert!(shown.contains("GFLOP/s") && shown.contains("optimiser"), "{shown}");
}

#[test]
fn random_models_are_written_and_come_from_a_config() {
    let scratch = Scratch::without_tokenizer(50);
    let config = scratch.root.join("model/config.json");
    let config = config.to_str().unwrap();
    let copy = scratch.root.join("copy");
    let to = copy.to_str().unwrap();
    amend(&["bench", "--config", config, "--seed", "7", "--save", to]).assert().code(0);
    let weights = |dir: &std::path::Path| fs::read(dir.join("model.safetensors")).unwrap();
    assert!(weights(&copy) == weights(&scratch.model), "the same config and seed give the same weights");
    let args = ["bench", "--config", config, "--seed", "7", "--mode", "score", "--json", "--quiet"];
    let made = json_of(&[&args[..], &QUICK].concat());
    assert_eq!(made["first"], bench(to, "score", &[])["first"]);
}

#[test]
fn a_text_is_learnt() {
    let scratch = Scratch::without_tokenizer(300);
    let text = scratch.file("text.txt", "the cat sat on the mat and the cat ran\n".repeat(20));
    let config = scratch.root.join("model/config.json");
    let args = ["bench", "--config", config.to_str().unwrap(), "--learn", &text, "--json", "--quiet"];
    let learnt = json_of(&[&args[..], &["--batch", "4", "--length", "32", "--rounds", "30"]].concat());
    let losses: Vec<f64> = learnt["losses"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 30);
    assert!(losses[29] < losses[0] - 0.3, "{losses:?}");
}

#[test]
fn what_cannot_be_timed_is_refused() {
    let scratch = Scratch::without_tokenizer(50);
    fails(&["bench", scratch.arg(), "--mode", "prefill", "--length", "65"], &["context of 64", "--length"]);
    fails(&["bench", scratch.arg(), "--mode", "decode", "--length", "49"], &["65 tokens"]);
    fails(&["bench", scratch.arg(), "--mode", "train", "--length", "1"], &["--length of 2"]);
    fails(&["bench", "--mode", "train"], &["--shape"]);
    fails(&["bench", "--shape", "a"], &["--mode"]);
    let broken = scratch.file("config.json", "[]");
    fails(&["bench", "--config", &broken, "--mode", "train"], &["config.json", "no JSON object"]);
    let short = scratch.file("short.txt", "a cat");
    fails(&["bench", "--shape", "a", "--learn", &short], &["short.txt", "more than 128 tokens"]);
}
