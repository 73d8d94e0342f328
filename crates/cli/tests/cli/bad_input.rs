//! Arguments, texts, logs and recipes with mistakes in them.

use std::fs;

use crate::support::{Scratch, amend, fails};

#[test]
fn ids_beyond_the_vocabulary() {
    let scratch = Scratch::without_tokenizer(32);
    for command in ["score", "generate"] {
        fails(
            &[command, scratch.arg(), "--ids", "1,32"],
            &["token id 32", "item 2", scratch.arg(), "0 to 31"],
        );
    }
}

#[test]
fn lists_of_ids_that_are_none() {
    let scratch = Scratch::without_tokenizer(32);
    for (ids, part) in
        [("1,2,x", "\"x\""), ("", "empty"), ("1,,2", "item 2"), ("-1", "\"-1\""), ("1.5", "1.5")]
    {
        fails(&["score", scratch.arg(), "--ids", ids], &["--ids", part]);
    }
    fails(&["score", scratch.arg(), "--ids", "99999999999999999999"], &["--ids"]);
}

#[test]
fn commands_without_what_they_need() {
    let scratch = Scratch::without_tokenizer(32);
    fails(&["score", scratch.arg()], &["--ids"]);
    fails(&["score", scratch.arg(), "--ids", "1,2", "--text", "x"], &["--ids", "--text"]);
    fails(&["scor"], &["score"]);
    fails(&["score", scratch.arg(), "--ids", "1,2", "--batch-size", "0"], &["at least 1"]);
    fails(&["score", scratch.arg(), "--ids", "1,2", "--threads", "0"], &["--threads"]);
    fails(&["generate", scratch.arg(), "--ids", "1,2", "--max-new-tokens", "0"], &["at least 1"]);
    fails(&["generate", scratch.arg(), "--ids", "1,2", "--temperature", "-1"], &["temperature"]);
    fails(&["generate", scratch.arg(), "--ids", "1,2", "--temperature", "1", "--top-p", "0"], &["top-p"]);
    fails(&["generate", scratch.arg(), "--ids", "1,2", "--stop", ""], &["--stop"]);
}

#[test]
fn texts_for_a_model_without_a_tokenizer() {
    let scratch = Scratch::without_tokenizer(32);
    let file = scratch.file("texts.txt", "the cat\n");
    fails(&["score", scratch.arg(), "--text", "the cat"], &[scratch.arg(), "tokenizer.json", "--ids"]);
    fails(&["score", scratch.arg(), "--text-file", &file], &["tokenizer.json"]);
    fails(&["generate", scratch.arg(), "--prompt", "the"], &["tokenizer.json"]);
    fails(&["generate", scratch.arg(), "--ids", "1", "--stop", "the"], &["tokenizer.json"]);
    fails(&["chat", scratch.arg()], &["tokenizer.json"]);
}

#[test]
fn files_of_texts() {
    let scratch = Scratch::new();
    let missing = scratch.root.join("none.txt");
    let missing = missing.to_str().unwrap();
    let score = |file: &str, parts: &[&str]| fails(&["score", scratch.arg(), "--text-file", file], parts);
    score(missing, &["none.txt", "cannot read"]);
    score(scratch.arg(), &["cannot read"]);
    score(&scratch.file("empty.txt", ""), &["empty.txt", "empty"]);
    score(&scratch.file("latin.txt", b"fine\ncaf\xe9\n"), &["latin.txt:2", "UTF-8"]);
    let long = format!("fine\n{}\n", "the cat ".repeat(100));
    let file = scratch.file("long.txt", long);
    fails(&["generate", scratch.arg(), "--prompt-file", &file], &["long.txt:2", "context"]);
}

#[test]
fn chatting_needs_a_template() {
    let scratch = Scratch::new();
    fails(&["chat", scratch.arg()], &[scratch.arg(), "no chat template", "amend generate"]);
    fails(&["generate", scratch.arg(), "--prompt", "hi", "--chat"], &["chat template"]);
    // Who pipes questions in learns of the one that has no answer.
    let template = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
    fs::write(scratch.model.join("chat_template.jinja"), template).unwrap();
    let questions = format!("the cat\n{}\nthe mat\n", "the cat ".repeat(100));
    let args = ["chat", scratch.arg(), "--max-new-tokens", "2", "--json"];
    let output = amend(&args).write_stdin(questions).assert().code(2).get_output().clone();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
    assert!(String::from_utf8(output.stderr).unwrap().contains("the question takes"));
}

#[test]
fn logs_that_are_none() {
    let scratch = Scratch::without_tokenizer(1);
    let log = |text: &str, parts: &[&str]| {
        let file = scratch.file("log.json", text);
        fails(&["eval", "--task", "tofu", "--from-log", &file], parts);
    };
    log("", &["log.json"]);
    log("[1]", &["log.json"]);
    log("{\"a\": 1}", &["log.json", "eval_log_forget.json"]);
    log("{\"eval_log_forget.json\": {\"avg_gt_loss\": {\"0\": \"x\"}}}", &["log.json"]);
    fails(&["eval", "--task", "tofu", "--from-log", "none.json"], &["none.json"]);
    fails(&["eval", "--task", "tofoo", "--from-log", "none.json"], &["tofu"]);
    fails(&["eval", "--task", "tofu"], &["--from-log"]);
    fails(
        &["eval", "--task", "tofu", "--set", "splt=forget05", "--from-log", "none.json"],
        &["splt", "split"],
    );
    fails(&["eval", "--from-log", "none.json"], &["--task"]);
    for flag in [["--dtype", "bf16"], ["--weights", "int8"]] {
        fails(
            &["eval", "--task", "tofu", "--from-log", "none.json", flag[0], flag[1]],
            &["--from-log", flag[0]],
        );
    }
    for task in ["wikitext", "truthfulqa"] {
        fails(
            &["eval", "--task", task, "--from-log", "none.jsonl", "--reference-log", "other.jsonl"],
            &["--reference-log", task, "compares with another model"],
        );
    }
    let log = scratch.file("log.json", "{}");
    fails(
        &["eval", "--task", "wikitext", "--from-log", &log],
        &["log.json", "no log format of its own", "samples.jsonl"],
    );
}

#[test]
fn recipes_with_mistakes_write_nothing() {
    let scratch = Scratch::new();
    let good = "method = \"unlearn\"\n[model]\npath = \"model\"\n[data]\nforget = \"f.jsonl\"\nretain = \"r.jsonl\"\n";
    let out = scratch.root.join("out");
    let run = |text: &str, parts: &[&str]| {
        let recipe = scratch.file("recipe.toml", text);
        fails(&["run", &recipe, "--out", out.to_str().unwrap()], parts);
        assert!(!out.exists());
    };
    run("method = \"unlearn\"\n[modle]\n", &["recipe.toml:2:", "`modle`", "did you mean `model`?"]);
    run(&format!("{good}[unlearn]\nforget = \"npoo\"\n"), &["recipe.toml:8:", "npoo", "did you mean `npo`?"]);
    run(&format!("{good}[unlearn]\nbatch_size = \"big\"\n"), &["recipe.toml:8:", "batch_size"]);
    run("method = \"unlern\"\n", &["recipe.toml:1:", "unlern", "unlearn, edit"]);
    // Another area's keys are nothing that a mistyped name could be wrong about.
    run("method = \"edti\"\n[edit]\n", &["recipe.toml:1:", "did you mean \"edit\"?"]);
    run(
        &format!("{good}[unlearn]\nforget = npo\n"),
        &["recipe.toml:8:", "texts stand in quotes: forget = \"npo\""],
    );
    let recipe = scratch.file("recipe.toml", good);
    fails(&["check", &recipe, "--set", "compare.0.name=x"], &["the recipe has no list `compare`", "--set"]);
    // A person with one fact once ended the run at the file of the attacker's half, which holds nothing.
    let one_fact = "method = \"unlearn\"\n[model.scratch]\n[data.world]\nmin_facts = 1\nmax_facts = 1\n";
    run(one_fact, &["recipe.toml:4:", "`data.world.min_facts` must be at least 2", "found"]);
    run(one_fact, &["recipe.toml:5:", "`data.world.max_facts` must be at least 2"]);
    run("method = \n", &["recipe.toml:1:"]);
    run("", &["recipe.toml", "method"]);
    // The recipe is right, but what it names is not there or not what it should be.
    run(good, &["f.jsonl"]);
    scratch.file("f.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n");
    run(good, &["r.jsonl"]);
    scratch.file("r.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n{\"quesion\": 1}\n");
    run(good, &["r.jsonl:2"]);
    run(&good.replace("\"model\"", "\"modell\""), &["modell"]);
    let broken = scratch.root.join("broken");
    fs::create_dir(&broken).unwrap();
    run(&good.replace("\"model\"", "\"broken\""), &["recipe.toml:3:8: model.path: ", "config.json"]);
    scratch.file(
        "r.jsonl",
        "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"c\", \"answer\": \" \"}\n",
    );
    run(good, &["r.jsonl: record 2: the answer is empty"]);
    run("method = \"unlearn\"\n[model]\n[data.world]\npeople = 4\n", &["path"]);
    fails(&["run", "none.toml"], &["none.toml", "cannot read"]);
    fails(&["run", scratch.root.to_str().unwrap()], &["cannot read", "recipe.toml"]);
}

#[test]
fn mistakes_in_set_are_quoted() {
    let scratch = Scratch::without_tokenizer(1);
    let recipe = scratch.file("r.toml", "method = \"unlearn\"\n[model]\n[data]\n");
    for (set, part) in [
        ("unlearn.batchsize=3", "batch_size"),
        ("nonsense", "KEY=VALUE"),
        ("seed=x", "seed"),
        ("lr=1", "did you mean `optimizer.lr`?"),
    ] {
        fails(&["run", &recipe, "--set", set], &["--set", set, part]);
    }
}

#[test]
fn folders_that_exist_are_left_alone() {
    let scratch = Scratch::without_tokenizer(1);
    let out = scratch.root.join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.tex"), "years").unwrap();
    let arg = out.to_str().unwrap();
    fails(&["demo", "--out", arg], &[arg, "exists", "--out"]);
    let log = scratch.file("log.json", "{}");
    fails(&["eval", "--task", "tofu", "--from-log", &log, "--out", arg], &[arg, "exists"]);
    fails(&["resume", arg], &[arg, "not a run folder"]);
    fails(&["report", arg], &[arg, "not a run folder"]);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    fails(&["resume", "no/such/run"], &["no/such/run"]);
}

#[test]
fn names_that_do_not_exist() {
    fails(&["methods", "npoo"], &["npoo", "did you mean npo?"]);
    fails(&["schema", "sagoo"], &["did you mean sago?"]);
    fails(&["new", "unlern"], &["did you mean unlearn?"]);
    fails(&["completions", "tcsh"], &["bash"]);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_amend"))
        .args(["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_finds_no_room_is_a_failure() {
    use std::process::{Command, Stdio};
    let scratch = Scratch::without_tokenizer(32);
    for args in [&["schema"][..], &["score", scratch.arg(), "--ids", "1,2", "--json"], &["new", "unlearn"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_amend")).args(args).stdout(Stdio::from(full)).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("cannot write to standard output"), "{message}");
    }
}

#[test]
fn help_is_no_failure() {
    amend(&["--help"]).assert().code(0);
    amend(&["score", "-h"]).assert().code(0);
    for (help, command) in [(["help", "run"], "--seeds"), (["help", "demo"], "amend demo")] {
        let output = amend(&help).assert().code(0).get_output().clone();
        assert!(String::from_utf8(output.stdout).unwrap().contains(command));
    }
    amend(&["help"]).assert().code(0);
    fails(&["rnu"], &["'run'"]);
    amend(&["--version"]).assert().code(0);
    fails(&["run", "r.toml", "--seed", "3"], &["--set seed=3"]);
    // Without any argument there is nothing to do, which is a mistake, but help is what is needed.
    let output = amend::<&str>(&[]).assert().code(2).get_output().clone();
    assert!(String::from_utf8(output.stderr).unwrap().contains("amend demo"));
}
