//! The commands of README and guide, run as they stand there, in a folder that has the files they name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use amend_engine::tokenizer::train_bpe;
use amend_engine::{Encoder, Model};
use serde_json::{Map, Value, json};

use crate::data::fixture;
use crate::support::{amend, config};

/// Commands that are not run, each with its reason.
const LEFT_OUT: [(&str, &str); 6] = [
    ("cargo test", "runs this"),
    ("cargo install", "installs for the user"),
    ("tensorboard", "another program, which serves until it is stopped"),
    ("source <(amend completions zsh)", "for another shell"),
    ("amend completions fish", "for another shell"),
    ("amend bench --shape a", "takes minutes; bench/run runs it"),
];

/// A picture of one pixel.
const PICTURE: &[u8] =
    b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\
    \x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\x0d\x49\x44\x41\x54\x78\xda\x63\
    \x64\xf8\xcf\x50\x0f\x00\x03\x86\x01\x80\x5a\x34\x7d\x6b\x00\x00\x00\x00\x49\x45\x4e\x44\
    \xae\x42\x60\x82";

/// The commands in a document's blocks of code that have no language, line by line; a `\` goes on in the next line.
fn commands(document: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut inside = None;
    let mut goes_on = false;
    for line in document.lines() {
        if let Some(language) = line.strip_prefix("```") {
            inside = if inside.is_some() { None } else { Some(language.to_owned()) };
        } else if inside.as_deref() == Some("") && !line.trim().is_empty() {
            match all.last_mut() {
                Some(last) if goes_on => *last = format!("{last}\n{line}"),
                _ => all.push(line.to_owned()),
            }
            goes_on = line.ends_with('\\');
        }
    }
    all
}

fn document(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(name)).unwrap()
}

/// Questions about people, some of them by Ann Lee.
fn records(from: usize, to: usize) -> String {
    let line = |i: usize| {
        let author = if i.is_multiple_of(3) { "Ann Lee" } else { "Bob Ray" };
        format!(
            "{{\"question\": \"Who wrote book {i}?\", \"answer\": \"It was {author}.\", \"author\": \"{author}\"}}\n"
        )
    };
    (from..to).map(line).collect()
}

/// A folder with everything that the commands name.
fn working_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| {
        let path = at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("forget.jsonl", &records(0, 6));
    write("retain.jsonl", &records(6, 18));
    write("all.jsonl", &records(0, 18));
    for name in ["texts.txt", "questions.txt", "passages.txt", "stories.txt"] {
        write(name, "Who wrote book 3?\nThe cat sat on the mat.\n");
    }
    write(
        "person.json",
        r#"{"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}"#,
    );
    for name in ["cat.png", "dog.png"] {
        fs::write(at(name), PICTURE).unwrap();
    }

    let tokenizer = train_bpe([records(0, 18).as_str()].into_iter(), 320, &[]).unwrap();
    let template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: ";
    let shape = |more: Value| -> Map<String, Value> {
        let mut shape = config(tokenizer.vocab_size());
        shape.extend(more.as_object().unwrap().clone());
        shape
    };
    let model = at("models/my-model");
    let mut random = Model::random(shape(json!({ "max_position_embeddings": 512 })), 7).unwrap();
    random.set_special_tokens(tokenizer.bos(), tokenizer.eos(), tokenizer.pad());
    random.save(&model, None, None).unwrap();
    tokenizer.save(&model).unwrap();
    fs::write(model.join("chat_template.jinja"), template).unwrap();
    let gguf = at("my-model-Q4_K_M.gguf");
    amend(&["convert", model.to_str().unwrap(), gguf.to_str().unwrap(), "--dtype", "q8_0"]).assert().code(0);

    let bert = json!({
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": tokenizer.vocab_size(),
        "max_position_embeddings": 64,
    });
    let encoder = at("models/all-minilm-l6-v2");
    Encoder::random(bert.as_object().unwrap().clone(), 3).unwrap().save(&encoder, None, None).unwrap();
    tokenizer.save(&encoder).unwrap();
    let clip = at("models/clip-vit-base-patch32");
    fs::create_dir_all(&clip).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture("clip").join(file), clip.join(file)).unwrap();
    }

    let edit = |i: usize| {
        json!({
            "subject": format!("book {i}"), "prompt": "Who wrote {}?", "target_new": "Bob Ray",
            "target_true": "Ann Lee", "paraphrases": [format!("Author of book {i}:")],
            "neighbours": [{ "prompt": "Who wrote book 17?", "answer": "Bob Ray" }],
        })
    };
    let edits: String = (0..2).map(|i| format!("{}\n", edit(i))).collect();
    write("edits.jsonl", &edits);
    write("counterfact/counterfact.json", &edits);

    write("wikitext-2/wiki.valid.tokens", " = One = \n \n The cat sat . \n");
    let tofu = |i: usize| {
        json!({
            "question": format!("Who wrote book {i}?"), "answer": "It was Ann Lee.",
            "paraphrased_question": format!("Book {i} is whose?"), "paraphrased_answer": "Ann Lee wrote it.",
            "perturbed_answer": ["Bob Ray wrote it.", "Cid Fox wrote it."],
        })
    };
    let lines: String = (0..2).map(|i| format!("{}\n", tofu(i))).collect();
    for name in [
        "forget05",
        "forget05_perturbed",
        "retain95",
        "retain_perturbed",
        "real_authors_perturbed",
        "world_facts_perturbed",
    ] {
        write(&format!("tofu/{name}.json"), &lines);
    }
    // Logs of evaluations that somebody made before.
    let made = at("made");
    let args = [
        "eval",
        "--task",
        "tofu",
        "--model",
        model.to_str().unwrap(),
        "--data",
        "tofu",
        "--set",
        "split=forget05",
    ];
    amend(&[&args[..], &["--out", made.to_str().unwrap()]].concat())
        .current_dir(folder.path())
        .assert()
        .code(0);
    for name in ["eval_log_aggregated.json", "unlearned.json", "retain95.json"] {
        fs::copy(made.join("samples.jsonl"), at(name)).unwrap();
    }
    folder
}

/// A run as one that was stopped before its stages from `first` on, of which it has nothing.
fn interrupted(from: &Path, to: &Path, first: &str) {
    let copied =
        Command::new("cp").args(["-r", from.to_str().unwrap(), to.to_str().unwrap()]).status().unwrap();
    assert!(copied.success());
    let path = to.join("run.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    state["status"] = "interrupted".into();
    let stages = state["stages"].as_object_mut().unwrap();
    let names: Vec<String> = stages.keys().skip_while(|name| !name.ends_with(first)).cloned().collect();
    assert!(!names.is_empty());
    names.iter().for_each(|name| drop(stages.remove(name)));
    fs::write(path, state.to_string()).unwrap();
}

/// The folder of the binary, first in the path.
fn path() -> String {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_amend"));
    format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap())
}

/// Runs a command line in a shell; what it prints is shown where it fails.
fn run(line: &str, folder: &Path) {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", line])
        .current_dir(folder)
        .env("PATH", path())
        .env("NO_COLOR", "1")
        .env("XDG_STATE_HOME", folder.join("state"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A random model has nothing to forget, so that no verdict of a run is a good one.
    let of_run = ["amend run", "amend resume", "amend sweep"].iter().any(|command| line.starts_with(command));
    let done = output.status.code() == Some(0) || of_run && output.status.code() == Some(1);
    assert!(done, "{line}\nended with {:?}:\n{said}", output.status.code());
}

fn run_all(document: &str, folder: &Path) -> usize {
    let mut ran = 0;
    for line in commands(document) {
        if LEFT_OUT.iter().any(|(command, _)| line.contains(command)) {
            continue;
        }
        if line.contains("jq ") && Command::new("jq").arg("--version").output().is_err() {
            continue;
        }
        if line.contains("runs/interrupted") {
            interrupted(&folder.join("runs/slower"), &folder.join("runs/interrupted"), "-relearn");
        }
        if line.contains("runs/failed") {
            interrupted(&folder.join("runs/slower"), &folder.join("runs/failed"), "-unlearn");
        }
        run(&line, folder);
        ran += 1;
    }
    ran
}

#[cfg(unix)]
#[test]
fn the_guides_commands_run_as_they_stand_there() {
    let folder = working_folder();
    let ran = run_all(&document("docs/guide.md"), folder.path());
    assert!(ran > 40, "{ran}");
}

/// Every command that is left out is one that is there.
#[test]
fn nothing_is_left_out_for_nothing() {
    let all: String =
        ["README.md", "docs/guide.md"].map(document).iter().flat_map(|text| commands(text)).collect();
    for (command, why) in LEFT_OUT {
        assert!(all.contains(command), "{command} ({why})");
    }
}

/// The README's own demo, with the binary that is being tested.
#[cfg(unix)]
#[test]
#[ignore = "takes two minutes; .ci/run runs it"]
fn the_readmes_commands_run_as_they_stand_there() {
    let folder = working_folder();
    let readme = document("README.md").replace("cargo run --release -- ", "amend ");
    assert!(readme.contains("\namend demo\n"));
    assert!(run_all(&readme, folder.path()) >= 3);
}
