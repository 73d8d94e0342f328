//! Starting the binary, and tiny models to start it on.

use std::fs;
use std::path::{Path, PathBuf};

use amend_engine::Model;
use amend_engine::tokenizer::{Tokenizer, train_bpe};
use assert_cmd::Command;
use serde_json::{Map, Value, json};

/// A recipe: a world of few people and a model that learns it in seconds.
pub(crate) const TINY_RUN: &str = r#"
method = "unlearn"

[model.scratch]
hidden = 32
layers = 1
heads = 2
kv_heads = 2
intermediate = 48
vocabulary = 400
context = 64
epochs = 3
batch_size = 8
optimizer = { lr = 3e-3, schedule = "cosine", warmup_steps = 2 }

[data.world]
people = 8
forget = 0.25
holdout = 0

[unlearn]
forget = "ga"
retain = "nll"
batch_size = 4

[optimizer]
lr = 1e-3

[stop]
below = 0.0
max_steps = 4
check_every = 2

[eval]
limit = 4
max_new_tokens = 4
"#;

/// The binary, without the colours and settings of whoever runs the tests.
pub(crate) fn amend<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let mut command = Command::cargo_bin("amend").unwrap();
    command.args(args).env("NO_COLOR", "1").env_remove("COLUMNS");
    command
}

/// What a command printed, after checking that it succeeded.
pub(crate) fn stdout<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> String {
    let output = amend(args).assert().code(0).get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

/// The single JSON value that a command printed.
pub(crate) fn json_of<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Value {
    serde_json::from_str(&stdout(args)).unwrap()
}

/// One JSON value per line.
pub(crate) fn json_lines<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Vec<Value> {
    stdout(args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks that a command fails as errors do: exit code 2, nothing on standard output, every one of `parts` in
/// a message that is no panic. Then the same with `--json`, whose message is one JSON object.
pub(crate) fn fails<S: AsRef<std::ffi::OsStr>>(args: &[S], parts: &[&str]) {
    let args: Vec<&std::ffi::OsStr> = args.iter().map(AsRef::as_ref).collect();
    let message = failure(&args);
    assert!(message.starts_with("error: ") || message.contains("\nerror: "), "{message}");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
    let with_json: Vec<_> = args.iter().copied().chain([std::ffi::OsStr::new("--json")]).collect();
    let message = failure(&with_json);
    let object: Value = serde_json::from_str(message.lines().last().unwrap()).unwrap();
    assert!(object["error"].is_string() && object.get("hint").is_some(), "{object}");
    assert!(object["event"] == "error" && object["code"].is_string(), "{object}");
}

fn failure(args: &[&std::ffi::OsStr]) -> String {
    let output = amend(args).assert().code(2).get_output().clone();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!message.contains("bug of its own") && !message.contains("panicked"), "{message}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    message
}

/// `config.json` of a Llama small enough for any test.
pub(crate) fn config(vocabulary: usize) -> Map<String, Value> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 24,
        "vocab_size": vocabulary,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": true,
        "initializer_range": 0.2,
    });
    config.as_object().unwrap().clone()
}

/// A random model with a byte-level tokenizer in a scratch folder.
pub(crate) struct Scratch {
    _folder: tempfile::TempDir,
    /// The model's folder.
    pub(crate) model: PathBuf,
    /// The folder around it.
    pub(crate) root: PathBuf,
}

impl Scratch {
    /// A model whose embedding has as many rows as its tokenizer has tokens.
    pub(crate) fn new() -> Self {
        Self::with_rows(|tokens| tokens)
    }

    /// A model whose embedding has `rows(tokens)` rows.
    pub(crate) fn with_rows(rows: impl Fn(usize) -> usize) -> Self {
        let scratch = Self::without_tokenizer(1);
        let tokenizer = tokenizer();
        fs::remove_dir_all(&scratch.model).unwrap();
        save(rows(tokenizer.vocab_size()), &scratch.model);
        tokenizer.save(&scratch.model).unwrap();
        scratch
    }

    /// A model that knows nothing but ids below `vocabulary`.
    pub(crate) fn without_tokenizer(vocabulary: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        let model = root.join("model");
        save(vocabulary, &model);
        Scratch { _folder: folder, model, root }
    }

    /// Another model of the same form.
    pub(crate) fn other_model(&self) -> PathBuf {
        let dir = self.root.join("other");
        let tokenizer = tokenizer();
        Model::random(config(tokenizer.vocab_size()), 8).unwrap().save(&dir, None, None).unwrap();
        tokenizer.save(&dir).unwrap();
        dir
    }

    /// The model's folder as an argument.
    pub(crate) fn arg(&self) -> &str {
        self.model.to_str().unwrap()
    }

    /// A new file beside the model.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.root.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn save(vocabulary: usize, dir: &Path) {
    Model::random(config(vocabulary), 7).unwrap().save(dir, None, None).unwrap();
}

/// A tokenizer that can encode every text.
pub(crate) fn tokenizer() -> Tokenizer {
    train_bpe(["the cat sat on the mat and the cat ran"].into_iter(), 280, &[]).unwrap()
}
