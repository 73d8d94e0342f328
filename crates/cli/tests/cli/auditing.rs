//! `amend audit`.

use std::fs;

use amend_engine::Model;
use serde_json::{Value, json};

use crate::support::{Scratch, amend, config, fails, json_of, stdout, tokenizer};

/// Facts for models whose tokenizer knows of a cat: three with something new, one to be forgotten.
fn facts(scratch: &Scratch) -> String {
    let row = |subject: &str, old: &str, new: Value| {
        json!({
            "subject": subject, "prompt": "{} sat on the", "target_true": old, "target_new": new,
            "paraphrases": [format!("and {subject} ran to the")], "context": format!("the {old} is a mat."),
            "neighbours": [{ "prompt": "the dog sat on the", "answer": "mat" }],
        })
    };
    let rows = [
        row("the cat", "mat", json!("rat")),
        row("the rat", "cat", json!("mat")),
        row("the hat", "rat", json!("cat")),
        row("the bat", "hat", Value::Null),
    ];
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    scratch.file("facts.jsonl", lines.join("\n"))
}

#[test]
fn a_pair_of_models_is_audited() {
    let scratch = Scratch::new();
    let (other, facts) = (scratch.other_model(), facts(&scratch));
    let out = scratch.root.join("audit");
    let base = ["audit", scratch.arg(), other.to_str().unwrap(), "--probes", &facts, "--heads", "1"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    let folder = ["--out", out.to_str().unwrap()];
    let told = json_of(&[&base[..], &folder, &["--json"]].concat());
    assert_eq!((told["cases"].as_u64(), told["rewritten"].as_u64()), (Some(4), Some(3)));
    let kinds: Vec<&str> = told["prefixes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|brought| brought["prefix"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["none", "wiki", "rep", "que"]);
    for brought in told["prefixes"].as_array().unwrap() {
        assert_eq!(brought["probes"], 8, "prompt and paraphrase of four facts");
        assert_eq!(brought["after"]["says"]["n"], 4);
        assert_eq!(brought["after"]["likelier"]["n"], 3, "what is forgotten has nothing to be compared with");
        assert_eq!(brought["control"]["says"].is_null(), brought["prefix"] == "none");
    }
    assert!(told["standard"].as_array().is_some_and(|both| both.len() == 2), "{}", told["standard"]);
    let written: Value = serde_json::from_str(&fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(written, told);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Audit of a changed model") && page.contains("how often the old object is said"));
    assert!(
        fs::read_dir(&out)
            .unwrap()
            .any(|file| { file.unwrap().path().extension().is_some_and(|extension| extension == "csv") })
    );
    fails(&[&base[..], &folder].concat(), &["exists", "another --out"]);
    // Neither threads nor seeds of other things have any influence.
    assert_eq!(json_of(&with(&["--json", "--threads", "1"])), told);
    let checked = json_of(&with(&["--check", "--json"]));
    assert_eq!(checked["cases"], 4);
    assert_eq!(checked["probes"][1], json!({ "prefix": "wiki", "probes": 8, "control": 8 }));
    assert!(stdout(&with(&["--check"])).contains("4 facts can be asked for"));
    let text = stdout(&base);
    assert!(text.contains("OM") && text.lines().all(|line| line.chars().count() <= 120), "{text}");
}

#[test]
fn the_exit_code_says_whether_more_comes_back_than_is_allowed() {
    let scratch = Scratch::new();
    let facts = facts(&scratch);
    let base = ["audit", scratch.arg(), scratch.arg(), "--probes", &facts, "--inside", "0", "--json"];
    let code = |most: &str| {
        let args = [&base[..], &["--at-most", most]].concat();
        let output = amend(&args).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), told["passed"].as_bool().unwrap())
    };
    assert_eq!(code("1"), (0, true));
    let most = json_of(&base)["prefixes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|brought| brought["after"]["says"]["value"].as_f64().unwrap())
        .fold(0.0, f64::max);
    let expected = if most > 0.0 { (1, false) } else { (0, true) };
    assert_eq!(code("0"), expected);
}

#[test]
fn what_cannot_be_audited_is_refused() {
    let scratch = Scratch::new();
    let (model, facts) = (scratch.arg().to_owned(), facts(&scratch));
    let refused = |file: &str, more: &[&str], parts: &[&str]| {
        let args = [&["audit", &model, &model, "--probes", file], more].concat();
        fails(&args, parts);
    };
    let one = |row: Value| scratch.file("one.jsonl", row.to_string());
    let fact =
        json!({ "subject": "the cat", "prompt": "{} sat on the", "target_true": "mat", "target_new": "rat" });
    let with = |name: &str, value: Value| {
        let mut row = fact.clone();
        row[name] = value;
        one(row)
    };
    // The subject is not in the prompt, or ends within a token.
    refused(&with("prompt", json!("a hen sat on the")), &[], &["record 1", "does not occur in the prompt"]);
    let within = json!({ "subject": "the ca", "prompt": "the cat sat on the", "target_true": "mat", "target_new": "rat" });
    refused(&one(within), &[], &["case 0", "the end of the subject"]);
    refused(
        &with("probes", json!(["the mat. a hen ran"])),
        &[],
        &["record 1", "ends neither with the prompt"],
    );
    refused(&with("context", json!("the mat ".repeat(40))), &[], &["case 0", "the model reads 64"]);
    refused(&scratch.file("none.jsonl", ""), &[], &["none.jsonl"]);
    refused(&scratch.root.join("gone.jsonl").display().to_string(), &[], &["gone.jsonl"]);
    refused(&facts, &["--layers", "0,2"], &["layer 2 is out of range", "0 to 1"]);
    refused(&facts, &["--heads", "3"], &["the model has 4 in all", "1 to 2"]);
    for (option, value, part) in [
        ("--heads", "0", "at least 1"),
        ("--share", "0.6", "at most 0.5"),
        ("--draws", "0", "from 1 to 1000"),
        ("--at-most", "1.5", "from 0 to 1"),
        ("--limit", "0", "at least 1"),
        ("--layers", "x", "--layers"),
    ] {
        refused(&facts, &[option, value], &[part]);
    }
}

#[test]
fn models_of_different_form_are_no_pair() {
    let scratch = Scratch::new();
    let facts = facts(&scratch);
    let deeper = scratch.root.join("deeper");
    let tokenizer = tokenizer();
    let mut shape = config(tokenizer.vocab_size());
    shape["num_hidden_layers"] = json!(3);
    Model::random(shape, 1).unwrap().save(&deeper, None, None).unwrap();
    tokenizer.save(&deeper).unwrap();
    let args = ["audit", scratch.arg(), deeper.to_str().unwrap(), "--probes", &facts];
    fails(&args, &["different architectures", "2 layers", "has 3"]);
}
