//! Reference outputs of other implementations, through the command line.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::data::{fixture, test_data};
use crate::support::json_of;

fn references() -> Vec<(PathBuf, Value)> {
    let fixtures = ["llama3-rope-sharded", "mistral-sliding-window", "qwen2", "qwen3"];
    let mut folders: Vec<_> = fixtures.into_iter().map(fixture).collect();
    if cfg!(test_data) {
        let models = test_data().join("models");
        folders.extend(["arithmetic-llama-random", "stories260k/hf"].map(|name| models.join(name)));
    }
    let read = |dir: PathBuf| {
        let text = fs::read_to_string(dir.join("reference.json")).unwrap();
        (dir, serde_json::from_str(&text).unwrap())
    };
    folders.into_iter().map(read).collect()
}

fn list(ids: &Value) -> String {
    ids.as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join(",")
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn log_probabilities_agree() {
    for (dir, reference) in references() {
        let score =
            json_of(&["score", dir.to_str().unwrap(), "--ids", &list(&reference["input_ids"]), "--json"]);
        let (ours, theirs) = (floats(&score["token_logprobs"]), floats(&reference["token_logprobs"]));
        assert_eq!(ours.len(), theirs.len());
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= 2e-4, "{}: {worst}", dir.display());
        let mean = score["mean_nll"].as_f64().unwrap() - reference["mean_nll"].as_f64().unwrap();
        assert!(mean.abs() <= 2e-4, "{}: {mean}", dir.display());
    }
}

#[test]
fn greedy_continuations_are_equal() {
    for (dir, reference) in references() {
        let prompt = &reference["greedy"]["prompt_ids"];
        let all = reference["greedy"]["all_ids"].as_array().unwrap();
        let expected = &all[prompt.as_array().unwrap().len()..];
        let count = expected.len().to_string();
        // One of the references goes on after its end token, so all are asked to.
        let answer = json_of(&[
            "generate",
            dir.to_str().unwrap(),
            "--ids",
            &list(prompt),
            "--max-new-tokens",
            &count,
            "--ignore-eos",
            "--json",
        ]);
        assert_eq!(answer["ids"].as_array().unwrap(), expected, "{}", dir.display());
    }
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn the_published_figures_of_tofu_come_out() {
    let logs = test_data().join("tasks/tofu/golden_logs");
    let (full, retain) = (logs.join("phi_full_wd0.01.json"), logs.join("phi_retain90_wd0.01.json"));
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("tofu");
    let args = [
        "eval",
        "--task",
        "tofu",
        "--from-log",
        full.to_str().unwrap(),
        "--retain-log",
        retain.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--json",
    ];
    let scores = json_of(&args);
    let figure = |place: &str| scores.pointer(place).and_then(Value::as_f64).unwrap();
    assert!((figure("/figures/model_utility/value") - 0.522_073_713_203_515).abs() < 1e-12);
    assert!((figure("/figures/forget_quality/value") / 2.194_274_302_189_125_7e-16 - 1.0).abs() < 1e-9);
    let written: Value =
        serde_json::from_str(&fs::read_to_string(out.join("results.json")).unwrap()).unwrap();
    assert_eq!(written, scores);
    let samples = out.join("samples.jsonl");
    assert_eq!(fs::read_to_string(&samples).unwrap().lines().count(), 817);
    let again = json_of(&["eval", "--task", "tofu", "--from-log", samples.to_str().unwrap(), "--json"]);
    assert_eq!(again["figures"]["model_utility"]["n"], 517);
    assert!(again["missing"]["forget_quality"].as_str().unwrap().contains("--retain-log"));
}
