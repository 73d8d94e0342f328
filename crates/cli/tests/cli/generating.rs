//! `amend generate` and `amend chat`: their output's form.

use serde_json::Value;

use crate::support::{Scratch, amend, json_lines, json_of, stdout};

fn ids(value: &Value) -> Vec<u64> {
    serde_json::from_value(value["ids"].clone()).unwrap()
}

#[test]
fn one_prompt_is_one_object() {
    let scratch = Scratch::new();
    let args =
        ["generate", scratch.arg(), "--prompt", "the cat", "--max-new-tokens", "5", "--ignore-eos", "--json"];
    let answer = json_of(&args);
    assert_eq!(answer.as_object().unwrap().keys().cloned().collect::<Vec<_>>(), ["ids", "text", "finish"]);
    assert_eq!((ids(&answer).len(), answer["finish"].as_str()), (5, Some("length")));
    assert!(answer["text"].is_string());
    let with_logprobs = json_of(&[&args[..], &["--logprobs"]].concat());
    assert_eq!(with_logprobs["logprobs"].as_array().unwrap().len(), 5);
    assert_eq!(with_logprobs["ids"], answer["ids"]);
}

#[test]
fn without_a_tokenizer_there_is_no_text() {
    let scratch = Scratch::without_tokenizer(32);
    let args = ["generate", scratch.arg(), "--ids", "1,2,3", "--max-new-tokens", "4"];
    let answer = json_of(&[&args[..], &["--json"]].concat());
    assert!(answer["text"].is_null());
    let list = ids(&answer).iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(stdout(&args).trim(), list);
}

#[test]
fn samples_are_numbered_drawn_anew_and_reproducible() {
    let scratch = Scratch::new();
    let file = scratch.file("prompts.txt", "the cat\nthe mat\n");
    let run = |seed: &str| {
        stdout(&[
            "generate",
            scratch.arg(),
            "--prompt-file",
            &file,
            "--samples",
            "3",
            "--temperature",
            "1",
            "--seed",
            seed,
            "--max-new-tokens",
            "12",
            "--json",
        ])
    };
    let lines: Vec<Value> = run("1").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let places: Vec<_> =
        lines.iter().map(|l| (l["prompt_index"].as_u64().unwrap(), l["sample"].as_u64().unwrap())).collect();
    assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    assert_ne!(lines[0]["ids"], lines[1]["ids"]);
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
}

/// They were read and passed over.
#[test]
fn flags_of_drawing_at_temperature_0_are_told_of() {
    let scratch = Scratch::without_tokenizer(32);
    let args = ["generate", scratch.arg(), "--ids", "1,2", "--max-new-tokens", "2"];
    let told = |more: &[&str]| {
        let output = amend(&[&args[..], more].concat()).assert().code(0).get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    };
    let message = told(&["--top-p", "0.9", "--seed", "3", "--samples", "2"]);
    assert!(message.contains("warning: --top-p, --seed, --samples: nothing is drawn"), "{message}");
    assert!(told(&["--samples", "3"]).contains("all 3 answers to a prompt are the same"));
    assert!(
        !told(&["--top-p", "0.9", "--seed", "3", "--samples", "2", "--temperature", "1"]).contains("warning")
    );
    assert!(!told(&["--top-p", "1", "--repetition-penalty", "1.1"]).contains("warning"));
}

#[test]
fn stop_strings_end_a_text_and_are_not_in_it() {
    let scratch = Scratch::new();
    let args = [
        "generate",
        scratch.arg(),
        "--prompt",
        "the cat",
        "--max-new-tokens",
        "40",
        "--ignore-eos",
        "--json",
    ];
    let whole = json_of(&args)["text"].as_str().unwrap().to_owned();
    let stop: String = whole.chars().skip(3).take(2).collect();
    let cut = json_of(&[&args[..], &["--stop", &stop]].concat());
    assert_eq!(cut["finish"], "stop");
    assert_eq!(cut["text"].as_str().unwrap(), &whole[..whole.find(&stop).unwrap()]);
}

#[test]
fn the_models_own_end_stops_where_asked_for() {
    let scratch = Scratch::without_tokenizer(32);
    let args = ["generate", scratch.arg(), "--ids", "1,2,3", "--max-new-tokens", "6", "--json"];
    let third = ids(&json_of(&args))[2];
    let config = serde_json::json!({ "eos_token_id": [third, 31] });
    std::fs::write(scratch.model.join("generation_config.json"), config.to_string()).unwrap();
    assert_eq!(ids(&json_of(&args)).len(), 6);
    let stopped = json_of(&[&args[..], &["--stop-at-eos"]].concat());
    assert!(ids(&stopped).len() <= 3 && ids(&stopped).last() == Some(&third));
    assert_eq!(stopped["finish"], "stop");
}

#[test]
fn the_end_of_a_text_stops_unless_ignored() {
    let scratch = Scratch::new();
    let args = ["generate", scratch.arg(), "--prompt", "the cat", "--max-new-tokens", "6", "--json"];
    let whole = ids(&json_of(&[&args[..], &["--ignore-eos"]].concat()));
    let config = serde_json::json!({ "eos_token_id": whole[2] });
    std::fs::write(scratch.model.join("generation_config.json"), config.to_string()).unwrap();
    let stopped = json_of(&args);
    assert!(ids(&stopped).len() <= 3 && ids(&stopped).last() == Some(&whole[2]));
    assert_eq!(stopped["finish"], "stop");
    assert_eq!(ids(&json_of(&[&args[..], &["--ignore-eos"]].concat())), whole);
}

/// The command stopped at the ends of both files, evaluations at those of the tokenizer.
#[test]
fn config_json_ends_a_text_only_where_the_generation_config_does_not_say() {
    for scratch in [Scratch::new(), Scratch::without_tokenizer(32)] {
        let end = |file: &str, id: u64| {
            let path = scratch.model.join(file);
            let text = std::fs::read_to_string(&path).unwrap_or("{}".into());
            let mut config: Value = serde_json::from_str(&text).unwrap();
            config["eos_token_id"] = id.into();
            std::fs::write(path, config.to_string()).unwrap();
        };
        let args = ["generate", scratch.arg(), "--ids", "1,2,3", "--max-new-tokens", "6", "--json"];
        let whole = ids(&json_of(&args));
        let stopped = || ids(&json_of(&[&args[..], &["--stop-at-eos"]].concat()));
        let before = |id: u64| whole.iter().position(|&other| other == id).map_or(6, |place| place + 1);
        let unused = (0..32).find(|id| !whole.contains(id)).unwrap();
        end("config.json", whole[2]);
        assert_eq!(stopped().len(), before(whole[2]));
        end("generation_config.json", unused);
        assert_eq!(stopped(), whole);
    }
}

#[test]
fn the_context_is_a_limit() {
    let scratch = Scratch::without_tokenizer(32);
    let prompt = vec!["1"; 60].join(",");
    let answer = json_of(&["generate", scratch.arg(), "--ids", &prompt, "--max-new-tokens", "50", "--json"]);
    assert_eq!(answer["finish"], "context");
}

/// A text that ended in the middle of a sentence looked like one that the model had ended.
#[test]
fn texts_that_were_cut_are_told_of() {
    let scratch = Scratch::new();
    let told = |more: &[&str]| {
        let args = [&["generate", scratch.arg()], more].concat();
        let output = amend(&args).assert().code(0).get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    };
    let one = ["--prompt", "the cat", "--max-new-tokens", "3"];
    let message = told(&one);
    assert!(message.contains("the text was cut after 3 tokens; --max-new-tokens N allows more"), "{message}");
    let four = [&one[..], &["--samples", "4", "--temperature", "1"]].concat();
    assert!(told(&four).contains("4 of 4 texts were cut after 3 tokens"));
    let full = told(&["--prompt", "the cat", "--max-new-tokens", "500"]);
    assert!(full.contains("the text was cut at the end of the model's context of 64 tokens"), "{full}");
    // Programs read it in `finish`; what nothing else could end is no news.
    for quiet in [&["--json"][..], &["-q"], &["--ignore-eos"]] {
        assert!(!told(&[&one[..], quiet].concat()).contains("cut"), "{quiet:?}");
    }
    assert!(!told(&["--ids", "1,2", "--max-new-tokens", "3"]).contains("cut"));
}

const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                        {% if add_generation_prompt %}assistant:{% endif %}";

#[test]
fn conversations_are_remembered_until_reset() {
    let scratch = Scratch::new();
    std::fs::write(scratch.model.join("chat_template.jinja"), TEMPLATE).unwrap();
    let chat = |input: &str| {
        let output = amend(&["chat", scratch.arg(), "--max-new-tokens", "3", "--json"])
            .write_stdin(input)
            .assert()
            .code(0)
            .get_output()
            .stdout
            .clone();
        let text = String::from_utf8(output).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<Value>>()
    };
    let first = chat("the cat\n");
    assert_eq!(first[0]["role"], "assistant");
    // Greedy, so the same question after a reset has the same answer.
    let again = chat("the cat\n/reset\nthe cat\n/quit\nthe cat\n");
    assert_eq!(again.len(), 2);
    assert_eq!((&again[0], &again[1]), (&first[0], &first[0]));
    let prompt = "user: the cat\nassistant:";
    let plain = json_of(&[
        "generate",
        scratch.arg(),
        "--prompt",
        "the cat",
        "--chat",
        "--max-new-tokens",
        "3",
        "--json",
    ]);
    assert_eq!(plain["ids"], first[0]["ids"], "the template renders {prompt:?}");
    // A conversation that outgrows the context goes on without its beginning.
    assert_eq!(chat(&"the cat sat on the mat\n".repeat(8)).len(), 8);
}

#[test]
fn people_get_text() {
    let scratch = Scratch::new();
    let file = scratch.file("prompts.txt", "the cat\nthe mat\n");
    let text = stdout(&["generate", scratch.arg(), "--prompt-file", &file, "--max-new-tokens", "3"]);
    assert!(text.contains("── prompt 1, sample 0"), "{text}");
    let lines =
        json_lines(&["generate", scratch.arg(), "--prompt-file", &file, "--max-new-tokens", "3", "--json"]);
    assert_eq!(lines.len(), 2);
}
