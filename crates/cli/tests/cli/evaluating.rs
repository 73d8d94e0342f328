//! `amend eval` with a model, interrupted and gone on with.

use std::fs;

use serde_json::Value;

use crate::support::{Scratch, amend, fails, json_of};

#[test]
fn an_unfinished_evaluation_says_how_far_it_is_and_is_gone_on_with() {
    let scratch = Scratch::new();
    let [data, out] = ["data", "out"].map(|name| scratch.root.join(name));
    fs::create_dir(&data).unwrap();
    let articles = data.join("wiki.test.tokens");
    fs::write(&articles, " = One = \n the cat sat \n = Two = \n the mat \n = Three = \n the cat ran \n")
        .unwrap();
    let [data_arg, out_arg] = [&data, &out].map(|path| path.to_str().unwrap());
    let evaluate =
        ["eval", "--task", "wikitext", "--model", scratch.arg(), "--data", data_arg, "--out", out_arg];
    let with_json = [&evaluate[..], &["--json"]].concat();
    let figures = json_of(&with_json);
    let evaluation: Value = serde_json::from_slice(&fs::read(out.join("evaluation.json")).unwrap()).unwrap();
    assert_eq!(
        evaluation["data"]["wiki.test.tokens"],
        amend_run::file::content_hash(&articles).unwrap().as_str()
    );
    assert_eq!(evaluation["items"], 3);

    let samples = out.join("samples.jsonl");
    let whole = fs::read_to_string(&samples).unwrap();
    let interrupt = || {
        fs::remove_file(out.join("results.json")).unwrap();
        fs::write(&samples, whole.split_inclusive('\n').next().unwrap()).unwrap();
    };
    interrupt();
    let from_log = ["eval", "--task", "wikitext", "--from-log", samples.to_str().unwrap()];
    fails(&from_log, &["samples.jsonl: 1 of 3 items are answered", "the command that began it"]);
    assert_eq!(json_of(&with_json), figures);
    assert_eq!(fs::read_to_string(&samples).unwrap(), whole);
    assert_eq!(json_of(&[&from_log[..], &["--json"]].concat()), figures);

    // Who is first has the folder: the second would append the same answers once more, and cut the first one's line.
    interrupt();
    let lock = amend_run::folder::lock(&out).unwrap();
    fails(&evaluate, &[out_arg, "in use by another process"]);
    drop(lock);
    fs::write(&samples, whole.repeat(2)).unwrap();
    let twice = ["samples.jsonl:4: item 0", "answered a second time"];
    fails(&evaluate, &twice);
    fails(&from_log, &twice);

    fs::write(&samples, "").unwrap();
    fs::write(&articles, " = One = \n the cat sat \n = Two = \n the mat \n = Three = \n the dog ran \n")
        .unwrap();
    fails(&evaluate, &["evaluation.json", "another data.wiki.test.tokens", "choose another folder"]);
}

/// Records were cut without a word.
#[test]
fn what_is_too_long_for_the_model_is_said() {
    let scratch = Scratch::new();
    let long = "the cat sat on the mat ".repeat(400);
    let records = scratch.file("long.jsonl", format!("{{\"question\": \"Who?\", \"answer\": \"{long}\"}}\n"));
    let output = amend(&["eval", "--model", scratch.arg(), "--data", &records]).assert().get_output().clone();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("requests are longer than the model's context of "), "{told}");
}

#[test]
fn unknown_splits_and_tasks_are_answered_with_those_there_are() {
    let scratch = Scratch::new();
    let data = scratch.root.join("tofu");
    fs::create_dir(&data).unwrap();
    for set in ["forget01", "forget10", "retain", "real_authors", "world_facts"] {
        fs::write(data.join(format!("{set}_perturbed.json")), "").unwrap();
    }
    let model = ["--model", scratch.arg(), "--data", data.to_str().unwrap()];
    let split = [&["eval", "--task", "tofu", "--set", "split=forget07"], &model[..]].concat();
    fails(
        &split,
        &["there is no split called forget07", "did you mean forget01?", "has: forget01, forget10"],
    );
    let flag = [&["eval", "--task", "tofu", "--split", "forget07"], &model[..]].concat();
    fails(&flag, &["write '--set split=forget07'", "forget01, forget05, forget10"]);
    let task = [&["eval", "--task", "tofo"], &model[..]].concat();
    fails(&task, &["did you mean `tofu`?", "tofu, truthfulqa, wikitext"]);
}
