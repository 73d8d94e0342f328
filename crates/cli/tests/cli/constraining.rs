//! Answers of a given form: `--json-schema`, `--json-object`, `--regex`, `--choice`.

use serde_json::{Value, json};

use crate::support::{Scratch, amend, fails, json_lines, json_of, stdout};

const SCHEMA: &str = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 8},
    "age": {"type": "integer", "minimum": 0, "maximum": 150}}, "required": ["name", "age"]}"#;

fn generate<'a>(scratch: &'a Scratch, more: &[&'a str]) -> Vec<&'a str> {
    let base =
        ["generate", scratch.arg(), "--prompt", "the cat", "--max-new-tokens", "40", "--temperature", "2"];
    [&base[..], more].concat()
}

#[test]
fn answers_have_the_form_that_was_asked_for() {
    let scratch = Scratch::new();
    let file = scratch.file("person.json", SCHEMA);
    for schema in [file.as_str(), SCHEMA] {
        let args = generate(&scratch, &["--json-schema", schema, "--samples", "4", "--json"]);
        for line in json_lines(&args) {
            let person: Value = serde_json::from_str(line["text"].as_str().unwrap()).unwrap();
            assert!(person["name"].is_string() && person["age"].as_u64().unwrap() <= 150, "{person}");
        }
    }
    let text = stdout(&generate(&scratch, &["--json-object"]));
    assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");
    let text = stdout(&generate(&scratch, &["--regex", "[ab]{3}(-[ab]{3})?"]));
    assert!([4, 8].contains(&text.len()) && text.starts_with(['a', 'b']), "{text:?}");
    let answer =
        json_of(&generate(&scratch, &["--choice", "mat", "--choice", "-hat", "--json", "--logprobs"]));
    assert!(["mat", "-hat"].contains(&answer["text"].as_str().unwrap()), "{answer}");
    assert_eq!(answer["finish"], "stop");
    assert_eq!(answer["logprobs"].as_array().unwrap().len(), answer["ids"].as_array().unwrap().len());
}

#[test]
fn an_end_that_is_no_special_token_is_not_in_the_text() {
    let scratch = Scratch::new();
    let x =
        json_of(&["generate", scratch.arg(), "--prompt", "x", "--regex", "x", "--json"])["ids"][0].clone();
    std::fs::write(
        scratch.model.join("generation_config.json"),
        json!({ "eos_token_id": [1, x] }).to_string(),
    )
    .unwrap();
    for seed in ["1", "2", "3"] {
        let args = [
            "generate",
            scratch.arg(),
            "--prompt",
            "a",
            "--regex",
            "a+",
            "--temperature",
            "9",
            "--seed",
            seed,
        ];
        assert!(stdout(&args).trim().chars().all(|c| c == 'a'));
    }
    fails(&["generate", scratch.arg(), "--prompt", "a", "--regex", "x"], &["--regex", "no answer"]);
}

#[test]
fn what_cannot_be_answered_is_said_before_anything_is_generated() {
    let scratch = Scratch::new();
    let fails = |more: &[&str], parts: &[&str]| fails(&generate(&scratch, more), parts);
    fails(&["--regex", "[0-9]{99}"], &["prompt 0", "99 tokens", "max_new_tokens"]);
    fails(&["--regex", "("], &["--regex", "unclosed group"]);
    fails(&["--json-schema", "nowhere.json"], &["nowhere.json", "cannot read"]);
    fails(&["--json-schema", "{\"type\":"], &["--json-schema", "malformed JSON"]);
    fails(&["--json-schema", "{\"not\": {}}"], &["--json-schema", "\"not\"", "schema"]);
    fails(&["--choice", "a", "--stop", "b"], &["--stop"]);
    let both = generate(&scratch, &["--choice", "a", "--regex", "b"]);
    amend(&both).assert().code(2);
    let bare = Scratch::without_tokenizer(32);
    let ids = ["generate", bare.arg(), "--ids", "1", "--choice", "a"];
    crate::support::fails(&ids, &["tokenizer.json"]);
}

#[test]
fn chats_answer_in_form() {
    let scratch = Scratch::new();
    std::fs::write(scratch.model.join("chat_template.jinja"), "{{ messages[-1].content }}").unwrap();
    let args = ["chat", scratch.arg(), "--choice", "yes", "--choice", "no", "--temperature", "1", "--json"];
    let output = amend(&args).write_stdin("is it?\nor not?\n").assert().code(0).get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|a| ["yes", "no"].contains(&a["content"].as_str().unwrap())), "{answers:?}");
}
