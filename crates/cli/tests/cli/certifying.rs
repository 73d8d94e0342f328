//! Certificates.

use std::fs;

use serde_json::Value;

use crate::runs::{Bench, run_to};
use crate::support::{amend, fails, json_of};

const ATTACKED: &str = "unlearn.attack=[{ name = \"relearn\", steps = 2, batch_size = 2, every = 1 }]";

/// What a check says, with its exit code.
fn checked(file: &str, more: &[&str]) -> (Value, i32) {
    let output =
        amend(&[&["certify", "--json", "--check", file], more].concat()).assert().get_output().clone();
    let told = String::from_utf8(output.stderr).unwrap();
    (
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{told}")),
        output.status.code().unwrap(),
    )
}

fn found(said: &Value) -> Vec<(&str, bool)> {
    let lines = said["checked"].as_array().unwrap().iter();
    lines.map(|line| (line["found"].as_str().unwrap(), line["holds"].as_bool().unwrap())).collect()
}

#[test]
fn what_was_certified_is_measured_again_to_the_bit() {
    let bench = Bench::new();
    let out = bench.out("run");
    let arms = "compare=[{ combine = \"sum\" }, { where = \"lora\" }]";
    run_to(&bench, &out, &["--set", ATTACKED, "--set", arms, "--seeds", "3,1"]);
    let told = json_of(&["certify", out.to_str().unwrap(), "--json"]);
    let file = told["certificate"].as_str().unwrap();
    let text = fs::read_to_string(file).unwrap();
    let certificate: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(certificate["figures"].as_array().unwrap().len(), 2);
    assert!(certificate["figures"][1]["arms"][1]["attacks"]["relearn"]["curves"].as_array().is_some());
    // No answer of a model that knew.
    let answers = fs::read_to_string(out.join("answers/seed3-base-eval.jsonl")).unwrap();
    let row: Value = serde_json::from_str(answers.lines().next().unwrap()).unwrap();
    let (question, expected) = (row["question"].as_str().unwrap(), row["expected"].as_str().unwrap());
    assert!(!text.contains(question) && !text.contains(expected), "{question} {expected}");

    let (said, code) = checked(file, &[]);
    assert_eq!(code, 0, "{said}");
    let lines = found(&said);
    assert_eq!(lines.iter().filter(|line| **line == ("the same, every number", true)).count(), 2, "{said}");
    assert!(lines.iter().filter(|line| **line == ("unchanged", true)).count() >= 8, "{said}");
}

#[test]
fn what_was_changed_since_is_found() {
    let bench = Bench::new();
    let out = bench.out("run");
    run_to(&bench, &out, &["--set", ATTACKED]);
    let file = bench.out("certificate.json");
    let arg = file.to_str().unwrap();
    json_of(&["certify", out.to_str().unwrap(), "--out", arg, "--json"]);
    // A figure that was made up.
    let text = fs::read_to_string(&file).unwrap();
    let mut forged: Value = serde_json::from_str(&text).unwrap();
    forged["figures"][0]["arms"][0]["after"]["retain"]["probability"]["value"] = 0.987.into();
    fs::write(&file, forged.to_string()).unwrap();
    let (said, code) = checked(arg, &[]);
    let told = said.to_string();
    assert!(code == 1 && told.contains("arms.0.after.retain.probability.value: 0.987 before"), "{told}");
    assert_eq!(checked(arg, &["--hashes"]).1, 0, "hashes alone do not show it");
    // A model that is no longer the one.
    fs::write(&file, &text).unwrap();
    fs::write(out.join("model/extra.txt"), "x").unwrap();
    let (said, code) = checked(arg, &["--hashes"]);
    assert_eq!((code, found(&said).contains(&("changed", false))), (1, true), "{said}");
    fs::remove_dir_all(out.join("model")).unwrap();
    let (said, code) = checked(arg, &[]);
    assert_eq!((code, found(&said).contains(&("missing", false))), (1, true), "{said}");
    fails(&["certify", "--check", &bench.recipe], &["no certificate"]);
    fails(&["certify", bench.folder.path().to_str().unwrap()], &["run"]);
    // Without models there is nothing to certify.
    let none = bench.out("none");
    run_to(&bench, &none, &["--set", "save=none"]);
    fails(&["certify", none.to_str().unwrap()], &["kept no model", "save ="]);
}
