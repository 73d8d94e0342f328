//! Neither the batch nor the threads may change a bit of the output.

use crate::data::test_data;
use crate::support::{Scratch, amend, stdout};

const TEXTS: &str =
    "the cat sat on the mat\nthe\n\nand the cat ran and ran and ran\nmat\nthe mat the mat the mat\ncat\n";

fn all_equal(args: &[&str], sizes: &[&str]) {
    let mut outputs = Vec::new();
    for size in sizes {
        for threads in ["1", "2", "3"] {
            let args = [args, &["--json", "--batch-size", size, "--threads", threads]].concat();
            outputs.push((format!("{size} × {threads}"), stdout(&args)));
        }
    }
    for (name, output) in &outputs[1..] {
        assert_eq!(output, &outputs[0].1, "{name} against {}", outputs[0].0);
    }
}

/// Thousands of threads on a few cores once hung.
#[test]
fn there_are_no_more_threads_than_the_machine_runs_at_once() {
    let scratch = Scratch::new();
    let score = |threads: &str| {
        let args = ["score", scratch.arg(), "--ids", "1,2,3", "--json", "--threads", threads];
        let output = amend(&args).assert().code(0).get_output().clone();
        (output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    let (one, silent) = score("1");
    let (many, told) = score("4096");
    assert_eq!(one, many);
    assert!(!silent.contains("--threads") && told.contains("--threads 4096: this machine runs"), "{told}");
}

#[test]
fn scores() {
    let scratch = Scratch::new();
    let file = scratch.file("texts.txt", TEXTS);
    all_equal(&["score", scratch.arg(), "--text-file", &file], &["1", "2", "5", "64"]);
}

#[test]
fn scores_in_other_precisions() {
    let scratch = Scratch::new();
    let file = scratch.file("texts.txt", TEXTS);
    let plain = stdout(&["score", scratch.arg(), "--text-file", &file, "--json"]);
    for flags in [["--dtype", "bf16"], ["--weights", "bf16"], ["--weights", "int8"]] {
        let args = [&["score", scratch.arg(), "--text-file", &file][..], &flags].concat();
        all_equal(&args, &["1", "64"]);
        assert_ne!(stdout(&[&args[..], &["--json"]].concat()), plain, "{flags:?}");
    }
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn scores_of_a_trained_model() {
    let model = test_data().join("models/stories260k/hf");
    let scratch = Scratch::new();
    let story = "Once upon a time, there was a little girl named Lily. She loved to play outside.\n";
    let texts =
        format!("{story}Tim had a ball.\n{}One day a dog came.\n", story.repeat(3).replace('\n', " ") + "\n");
    let file = scratch.file("texts.txt", texts);
    all_equal(&["score", model.to_str().unwrap(), "--text-file", &file], &["1", "3", "64"]);
}

#[test]
fn continuations() {
    let scratch = Scratch::new();
    let file = scratch.file("prompts.txt", TEXTS);
    let args = ["generate", scratch.arg(), "--prompt-file", &file, "--max-new-tokens", "12", "--logprobs"];
    all_equal(&args, &["1", "3", "64"]);
    let drawn = [&args[..], &["--temperature", "0.9", "--top-p", "0.9", "--samples", "2"]].concat();
    all_equal(&drawn, &["1", "5"]);
}
