//! GGUF: real files load, what is written loads again, and damage gives an error that names it.

mod damage;
mod raw;

use std::fs;
use std::path::{Path, PathBuf};

use crate::data::{fixture, test_data};
use amend_engine::checkpoint::{
    Checkpoint, DEFAULT_SHARD_BYTES, GgufType, Rounding, write_folder, write_gguf,
};
use amend_engine::tokenizer::{Tokenizer, train_bpe};
use amend_engine::{DType, Example, Model};
use serde_json::{Value, json};

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

/// Largest difference between a model's log-probabilities and the reference's.
fn worst(model: &Model, reference: &Value) -> f64 {
    let ours = model.score(&[Example::text(ids(&reference["input_ids"]))], 4096).unwrap();
    let theirs = reference["token_logprobs"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
    ours[0].iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// Every tensor of `a` is in `b` with the same bits; norms that GGUF stores plus one within their rounding.
fn same_weights(a: &Checkpoint, b: &Checkpoint, label: &str) {
    for name in a.names() {
        let shape = a.shape(name).unwrap();
        let (ours, theirs) = (a.tensor_f32(name, shape).unwrap(), b.tensor_f32(name, shape).unwrap());
        let shifted = label.contains("gemma") && name.ends_with("norm.weight");
        let near = ours.f32().iter().zip(theirs.f32()).all(|(a, b)| (a - b).abs() <= 1.2e-7);
        assert!(ours.bytes() == theirs.bytes() || shifted && near, "{label}: {name} differs");
    }
    assert_eq!(a.names().count(), b.names().count(), "{label}");
}

/// Texts that are hard for tokenizers, and ordinary ones.
fn texts(data: &Path) -> Vec<String> {
    let hard = read_json(&data.join("tokenizers/reference_encodings.json"));
    let stories = read_json(&data.join("corpora/tinystories_700.json"));
    let list = |v: &Value| v.as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect();
    let mut texts: Vec<String> = list(&hard["texts"]);
    texts.extend(list(&stories));
    texts.push("<s> a </s>b<unk>  <0x0A> ▁▁ x\u{200b}\u{10ffff}".into());
    texts
}

fn same_tokens(a: &Tokenizer, b: &Tokenizer, texts: &[String], label: &str) {
    for text in texts {
        for special in [false, true] {
            let ids = a.encode(text, special).unwrap();
            assert_eq!(ids, b.encode(text, special).unwrap(), "{label}: {text:?}");
            for skip in [false, true] {
                assert_eq!(a.decode(&ids, skip).unwrap(), b.decode(&ids, skip).unwrap(), "{label}: {text:?}");
            }
        }
    }
    assert_eq!((a.bos(), a.eos(), a.pad()), (b.bos(), b.eos(), b.pad()), "{label}");
    assert_eq!(a.eos_ids(), b.eos_ids(), "{label}");
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn a_real_file_is_the_model_of_the_folder() {
    let data = test_data();
    let dir = data.join("models/stories260k");
    let file = dir.join("stories260K.gguf");
    let (ours, theirs) = (Checkpoint::open(&file).unwrap(), Checkpoint::open(dir.join("hf")).unwrap());
    same_weights(&theirs, &ours, "stories260k");
    // The file says 128; its maker trained with 512.
    for (key, value) in theirs.config() {
        let unknown = [
            "max_position_embeddings",
            "attention_dropout",
            "initializer_range",
            "pretraining_tp",
            "torch_dtype",
        ];
        if !unknown.contains(&key.as_str()) && !["transformers_version", "use_cache"].contains(&key.as_str())
        {
            assert_eq!(ours.config().get(key), Some(value), "{key}");
        }
    }
    let (a, b) = (Tokenizer::open(&file).unwrap(), Tokenizer::open(dir.join("hf")).unwrap());
    same_tokens(&b, &a, &texts(&data), "stories260k");
    let model = Model::open(&file).unwrap();
    let reference = read_json(&dir.join("hf/reference.json"));
    let worst = worst(&model, &reference);
    assert!(worst <= 2e-4, "{worst}");
}

const FIXTURES: [&str; 6] =
    ["llama3-rope-sharded", "mistral-sliding-window", "qwen2", "qwen3", "phi3", "gemma2"];

#[test]
fn folders_survive_the_way_through_a_file() {
    let out = tempfile::tempdir().unwrap();
    let trained = cfg!(test_data).then(|| test_data().join("models/stories260k/hf"));
    for (i, dir) in FIXTURES.iter().map(|name| fixture(name)).chain(trained).enumerate() {
        let name = &dir.display().to_string();
        let (file, folder) = (out.path().join(format!("{i}.gguf")), out.path().join(i.to_string()));
        let original = Checkpoint::open(&dir).unwrap();
        let mut rounding = Rounding::default();
        write_gguf(&file, &original, None, |t| rounding = rounding.and(t.rounding)).unwrap();
        assert_eq!(rounding.squares, 0.0, "{name}");
        let through = Checkpoint::open(&file).unwrap();
        same_weights(&original, &through, name);
        write_folder(&folder, &through, None, DEFAULT_SHARD_BYTES, |_| ()).unwrap();
        same_weights(&original, &Checkpoint::open(&folder).unwrap(), name);
        let reference = read_json(&dir.join("reference.json"));
        let plain = worst(&Model::open(&dir).unwrap(), &reference);
        for path in [&file, &folder] {
            let model = Model::open(path).unwrap();
            let worst = worst(&model, &reference);
            assert!(worst <= 2e-4, "{name}: {worst}");
            assert!(
                worst == plain || name.contains("gemma"),
                "{name}: the same model must give the same bits"
            );
            assert_eq!(model.config()["model_type"], original.config()["model_type"]);
        }
    }
}

/// The figure that BENCHMARKS may quote: what q8_0 does to a real model.
#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn eight_bits_cost_little() {
    let data = test_data();
    let dir = data.join("models/stories260k/hf");
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("q8.gguf");
    let source = Checkpoint::open(&dir).unwrap();
    let mut types = Vec::new();
    let mut rounding = Rounding::default();
    write_gguf(&file, &source, Some(GgufType::Q8_0), |t| {
        types.push((t.name.clone(), t.to.clone()));
        rounding = rounding.and(t.rounding);
    })
    .unwrap();
    let of = |name: &str| &types.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!(of("blk.0.attn_q.weight"), "q8_0");
    assert_eq!(of("blk.0.ffn_down.weight"), "f16", "rows of 172 are no whole blocks");
    assert_eq!(of("blk.0.attn_norm.weight"), "f32");
    assert!((1e-4..0.01).contains(&rounding.relative()), "{rounding:?}");
    let worst = worst(&Model::open(&file).unwrap(), &read_json(&dir.join("reference.json")));
    #[expect(clippy::print_stdout, reason = "a measured figure")]
    {
        println!("q8_0 of stories260k: largest log-prob difference {worst:.4}, {rounding:?}");
    }
    assert!((1e-6..0.1).contains(&worst), "{worst}");
    // Once in eight bits, writing the same type again changes nothing.
    let again = out.path().join("again.gguf");
    let mut second = Rounding::default();
    write_gguf(&again, &Checkpoint::open(&file).unwrap(), None, |t| second = second.and(t.rounding)).unwrap();
    assert_eq!(second.squares, 0.0);
}

/// A folder with a tiny model for the tokenizer in `from`.
fn folder_for(tokenizer: &Path, root: &Path, rows: usize) -> PathBuf {
    let config = json!({
        "model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 4, "vocab_size": rows, "max_position_embeddings": 16,
        "tie_word_embeddings": true, "rms_norm_eps": 1e-5,
    });
    let dir = root.join("model");
    Model::random(config.as_object().unwrap().clone(), 3).unwrap().save(&dir, Some(tokenizer), None).unwrap();
    dir
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn tokenizers_survive() {
    let data = test_data();
    let texts = texts(&data);
    // The last has more rows than tokens, as many models do.
    for (name, rows) in [("gpt2", 50257), ("phi-3", 32064)] {
        let out = tempfile::tempdir().unwrap();
        let from = data.join("tokenizers").join(name);
        let dir = folder_for(&from, out.path(), rows);
        let file = out.path().join("m.gguf");
        let notes = write_gguf(&file, &Checkpoint::open(&dir).unwrap(), Some(GgufType::F16), |_| ()).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        let (a, b) = (Tokenizer::open(&dir).unwrap(), Tokenizer::open(&file).unwrap());
        same_tokens(&a, &b, &texts, name);
        assert_eq!(a.vocab_size(), b.vocab_size(), "{name}");
        assert_eq!(a.has_chat_template(), b.has_chat_template(), "{name}");
        if name == "phi-3" {
            // Files of other writers have no merges for this kind: they follow from the scores.
            let mut bytes = fs::read(&file).unwrap();
            let key = b"tokenizer.ggml.merges";
            let at = bytes.windows(key.len()).position(|part| part == key).unwrap();
            bytes[at + key.len() - 1] = b'x';
            fs::write(&file, bytes).unwrap();
            same_tokens(&a, &Tokenizer::open(&file).unwrap(), &texts, "scores alone");
        }
    }
}

#[test]
fn a_byte_level_tokenizer_and_its_template_survive() {
    let out = tempfile::tempdir().unwrap();
    let text = "the cat sat on the mat and the cat ran";
    let tokenizer =
        train_bpe([text].into_iter(), 280, &["<end>"]).unwrap().with_chat_template("{{ messages }}");
    let from = out.path().join("tokenizer");
    tokenizer.save(&from).unwrap();
    let dir = folder_for(&from, out.path(), 300);
    let file = out.path().join("m.gguf");
    write_gguf(&file, &Checkpoint::open(&dir).unwrap(), None, |_| ()).unwrap();
    let texts = [text, " naïve <end>x  \n\t1234 I'll 你好", ""].map(str::to_owned);
    let (a, b) = (Tokenizer::open(&dir).unwrap(), Tokenizer::open(&file).unwrap());
    same_tokens(&a, &b, &texts, "bytes");
    assert!(b.has_chat_template());
    // And back: the folder that is written from the file has both.
    let back = out.path().join("back");
    write_folder(&back, &Checkpoint::open(&file).unwrap(), Some(DType::BF16), 100, |_| ()).unwrap();
    assert!(back.join("model.safetensors.index.json").exists());
    assert_eq!(Checkpoint::open(&back).unwrap().config()["torch_dtype"], "bfloat16");
    let back = Tokenizer::open(&back).unwrap();
    same_tokens(&a, &back, &texts, "back");
    assert!(back.has_chat_template());
}

#[test]
fn what_cannot_be_written_is_said() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("m.gguf");
    let config = json!({
        "model_type": "llama", "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 1,
        "intermediate_size": 4, "vocab_size": 8, "max_position_embeddings": 16,
    });
    let dir = out.path().join("model");
    Model::random(config.as_object().unwrap().clone(), 3).unwrap().save(&dir, None, None).unwrap();
    let original = fs::read_to_string(dir.join("config.json")).unwrap();
    let write = |from: &str, to: &str| {
        fs::write(dir.join("config.json"), original.replace(from, to)).unwrap();
        write_gguf(&file, &Checkpoint::open(&dir).unwrap(), None, |_| ()).map_err(|e| e.to_string())
    };
    assert!(write("\"llama\"", "\"mystery\"").unwrap_err().contains("\"mystery\" cannot be written as GGUF"));
    let layers = write("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3").unwrap_err();
    assert!(layers.contains("layer 2 of 3 has no"), "{layers}");
    let layers = write("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1").unwrap_err();
    assert!(layers.contains("only 1 layers"), "{layers}");
    assert!(!file.exists(), "nothing may be left behind");
    let notes = write("", "").unwrap();
    assert!(notes[0].contains("no tokenizer"), "{notes:?}");
    assert!(Tokenizer::open_optional(&file).unwrap().is_none());
    let source = Checkpoint::open(&dir).unwrap();
    let kind = write_gguf(&file, &source, Some(GgufType::Q4K), |_| ()).unwrap_err().to_string();
    assert!(kind.contains("q4_k can be read but not written"), "{kind}");
}
