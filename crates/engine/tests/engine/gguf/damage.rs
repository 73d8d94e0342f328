//! GGUF files come from outside: whatever is in them gives a model or one clear sentence.

use std::fs;

use amend_engine::Model;
use amend_engine::checkpoint::{Checkpoint, write_gguf};
use amend_engine::tokenizer::{Tokenizer, train_bpe};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::folder_for;
use super::raw::Raw;

/// What opening a model of these bytes says, after its name.
fn refusal(bytes: &[u8]) -> String {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("m.gguf");
    fs::write(&path, bytes).unwrap();
    let message = match Model::open(&path) {
        Ok(_) => panic!("an error was expected"),
        Err(e) => e.to_string(),
    };
    let (place, rest) =
        message.split_once("m.gguf: ").unwrap_or_else(|| panic!("no file is named: {message}"));
    assert!(place.ends_with(std::path::MAIN_SEPARATOR), "{message}");
    rest.to_owned()
}

fn refused(change: impl Fn(&mut Raw), expected: &str) {
    let mut raw = Raw::model();
    change(&mut raw);
    let message = refusal(&raw.bytes());
    assert!(message.contains(expected), "no {expected:?} in: {message}");
}

#[test]
fn the_smallest_model_opens() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("without-the-extension");
    for version in [2, 3] {
        let mut raw = Raw::model();
        raw.version = Some(version);
        fs::write(&path, raw.bytes()).unwrap();
        let model = Model::open(&path).unwrap();
        assert_eq!((model.spec().vocabulary, model.spec().context), (2, 8));
        assert!(Tokenizer::open_optional(&path).unwrap().is_none());
    }
}

#[test]
fn starts_that_are_none() {
    assert!(refusal(b"").contains("does not begin with GGUF"));
    assert!(refusal(b"GG").contains("does not begin with GGUF"));
    assert!(refusal(b"GGUF").contains("where the file ends"));
    assert!(refusal(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    refused(|raw| raw.version = Some(1), "version 1");
    refused(|raw| raw.version = Some(9), "version 9 is not known; known are 2 and 3");
    refused(|raw| raw.version = Some(3u32.swap_bytes()), "big-endian");
}

#[test]
fn counts_that_lie() {
    refused(|raw| raw.counts = Some([u64::MAX, 1]), "tensors, which cannot be in the");
    refused(|raw| raw.counts = Some([1, u64::MAX / 13]), "metadata entries, which cannot be in the");
    refused(
        |raw| raw.list("a", 8, u64::MAX, &[]),
        "metadata a: it claims 18446744073709551615 list elements",
    );
    refused(|raw| raw.list("a", 4, 1 << 60, &[]), "list elements, which cannot be in the");
    refused(|raw| raw.entry("a", 8, &u64::MAX.to_le_bytes()), "bytes of text, which cannot be in the");
    refused(|raw| raw.tensor("a", &[1 << 40, 1 << 40], 0, 0), "larger than any memory");
    refused(|raw| raw.tensor("a", &[1; 9], 0, 0), "9 dimensions, but 4 is the most");
}

#[test]
fn values_that_are_none() {
    refused(|raw| raw.entry("a", 13, &[]), "metadata a: unknown value type 13");
    refused(|raw| raw.entry("a", 7, &[2]), "a truth value is 2");
    refused(|raw| raw.list("a", 77, 0, &[]), "a list of unknown value type 77");
    refused(|raw| raw.entry("a", 8, &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe]), "metadata a: not UTF-8 text");
    refused(|raw| raw.int("llama.block_count", 1), "the key llama.block_count is there twice");
    let nested: Vec<u8> = [9u32.to_le_bytes(), 1u32.to_le_bytes(), [0; 4]].concat().repeat(50);
    refused(|raw| raw.list("a", 9, 1, &nested), "lists within lists");
    refused(|raw| raw.int("general.alignment", 48), "general.alignment is 48");
}

#[test]
fn tensors_that_do_not_fit() {
    refused(|raw| raw.data -= 32, "cut short");
    refused(|raw| raw.tensor("a", &[4], 0, u64::MAX), "cut short");
    refused(|raw| raw.tensor("a", &[4], 0, 8), "no multiple of the alignment 32");
    refused(|raw| raw.tensor("a", &[4], 0, 0), "overlap");
    refused(|raw| raw.tensor("token_embd.weight", &[4], 0, 0), "tensor token_embd.weight is listed twice");
    refused(|raw| raw.tensor("a", &[4], 8, 0), "rows of 4 values are no whole blocks of q8_0");
    refused(|raw| raw.tensor("a", &[256], 23, 0), "type iq4_xs cannot be read; take a file in one of f32");
    refused(|raw| raw.tensor("a", &[4], 99, 0), "unknown number type 99");
}

#[test]
fn models_that_are_not_known_or_not_whole() {
    let other = |key: &str, value: &str| {
        let mut raw = Raw::model().without(key);
        raw.text(key, value);
        refusal(&raw.bytes())
    };
    assert!(
        other("general.architecture", "mystery").contains("\"mystery\" is not supported; supported: llama")
    );
    assert!(
        other("llama.block_count", "x").contains("llama.block_count must be a whole number, but is a string")
    );
    for (missing, expected) in [
        ("general.architecture", "general.architecture is missing"),
        ("llama.embedding_length", "llama.embedding_length is missing"),
        ("token_embd.weight", "no tensor token_embd.weight"),
        ("blk.0.ffn_up.weight", "no tensor model.layers.0.mlp.up_proj.weight"),
    ] {
        let message = refusal(&Raw::model().without(missing).bytes());
        assert!(message.contains(expected), "{missing}: {message}");
    }
    refused(|raw| raw.int("split.count", 3), "one of 3 parts of a split model; join them");
    refused(|raw| raw.int("llama.expert_count", 8), "a mixture of 8 experts");
    refused(|raw| raw.tensor("rope_factors_long.weight", &[0], 0, 0), "LongRoPE");
    refused(|raw| raw.int("llama.rope.dimension_count", 2), "of which 2 rotate");
    refused(|raw| raw.int("llama.attention.head_count_kv", 3), "cannot be");
    refused(|raw| raw.text("llama.rope.scaling.type", "longrope"), "\"longrope\", which is not supported");
    refused(|raw| raw.entry("llama.rope.freq_base", 6, &f32::NAN.to_le_bytes()), "freq_base is NaN");
}

#[test]
fn tokenizers_that_are_none() {
    let refused = |fill: &dyn Fn(&mut Raw), expected: &str| {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("m.gguf");
        let mut raw = Raw::model();
        fill(&mut raw);
        fs::write(&path, raw.bytes()).unwrap();
        let message = Tokenizer::open(&path).unwrap_err().to_string();
        assert!(message.contains("m.gguf: ") && message.contains(expected), "no {expected:?} in: {message}");
    };
    let start = |raw: &mut Raw, model: &str| {
        raw.text("tokenizer.ggml.model", model);
        raw.texts("tokenizer.ggml.tokens", &["a", "b"]);
    };
    refused(&|_| (), "no tokenizer");
    refused(&|raw| start(raw, "t5"), "\"t5\", which is not supported; supported: llama, gpt2");
    refused(&|raw| start(raw, "gpt2"), "tokenizer.ggml.merges is missing");
    refused(&|raw| start(raw, "llama"), "tokenizer.ggml.scores is missing");
    let with = |model: &'static str, key: &'static str, kind: u32, count: u64, bytes: &'static [u8]| {
        move |raw: &mut Raw| {
            start(raw, model);
            raw.list(key, kind, count, bytes);
        }
    };
    refused(&with("llama", "tokenizer.ggml.scores", 6, 1, &[0; 4]), "scores has 1 entries for 2 tokens");
    refused(
        &with("gpt2", "tokenizer.ggml.token_type", 5, 1, &[0; 4]),
        "token_type has 1 entries for 2 tokens",
    );
    let merges = |merges: &'static [&'static str], pre: &'static str| {
        move |raw: &mut Raw| {
            start(raw, "gpt2");
            raw.texts("tokenizer.ggml.merges", merges);
            raw.text("tokenizer.ggml.pre", pre);
        }
    };
    refused(&merges(&["ab"], "gpt-2"), "\"ab\" is not a pair of tokens");
    refused(&merges(&["a b"], "gpt-2"), "not a tokenizer that can be loaded");
    refused(&merges(&[], "mystery"), "tokenizer.ggml.pre is \"mystery\"");
}

/// A change to a file: bytes replaced, then cut.
fn edits() -> impl Strategy<Value = (Vec<(usize, u8)>, usize)> {
    let byte = prop_oneof![any::<u8>(), Just(0), Just(1), Just(255), 0u8..13];
    (
        prop::collection::vec((any::<prop::sample::Index>(), byte), 0..6),
        prop_oneof![4 => Just(usize::MAX), 1 => 0usize..9000],
    )
        .prop_map(|(edits, keep)| {
            (edits.into_iter().map(|(at, byte)| (at.index(9000), byte)).collect(), keep)
        })
}

fn each_damage(original: &[u8], cases: u32, check: impl Fn(&std::path::Path)) {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("m.gguf");
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let runs = |(edits, keep): (Vec<(usize, u8)>, usize)| {
        let mut bytes = original.to_vec();
        for (at, value) in edits {
            let n = bytes.len();
            bytes[at % n] = value;
        }
        bytes.truncate(keep);
        fs::write(&path, bytes).unwrap();
        check(&path);
        Ok(())
    };
    TestRunner::new(config).run(&edits(), runs).unwrap();
}

#[test]
fn damaged_files_load_or_give_an_error() {
    let mut raw = Raw::model();
    raw.int("general.alignment", 32);
    raw.entry("llama.rope.freq_base", 6, &10_000f32.to_le_bytes());
    raw.list("some.list", 9, 1, &[&4u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[7; 4]].concat());
    each_damage(&raw.bytes(), 20_000, |path| {
        if let Ok(checkpoint) = Checkpoint::open(path) {
            for name in checkpoint.names() {
                let _ = checkpoint.tensor(name);
            }
            let _ = Model::open(path);
        }
    });
}

#[test]
fn damaged_tokenizers_load_or_give_an_error() {
    let out = tempfile::tempdir().unwrap();
    let tokenizer = train_bpe(["the cat sat on the mat"].into_iter(), 270, &["<end>"]).unwrap();
    tokenizer.save(out.path().join("tokenizer")).unwrap();
    let dir = folder_for(&out.path().join("tokenizer"), out.path(), 271);
    let file = out.path().join("m.gguf");
    write_gguf(&file, &Checkpoint::open(dir).unwrap(), None, |_| ()).unwrap();
    each_damage(&fs::read(&file).unwrap(), 2_000, |path| {
        if let Ok(Some(tokenizer)) = Tokenizer::open_optional(path)
            && let Ok(ids) = tokenizer.encode("the cat <end> 你好", true)
        {
            let _ = tokenizer.decode(&ids, false);
        }
    });
}

#[test]
fn damaged_sentence_pieces_load_or_give_an_error() {
    let mut raw = Raw::model();
    raw.text("tokenizer.ggml.model", "llama");
    let pieces = ["<unk>", "<s>", "</s>", "<0x41>", "▁", "a", "b", "▁a", "ab", "▁ab"];
    raw.texts("tokenizer.ggml.tokens", &pieces);
    let scores: Vec<u8> = (0..10).flat_map(|i| (-(i as f32)).to_le_bytes()).collect();
    raw.list("tokenizer.ggml.scores", 6, 10, &scores);
    let kinds: Vec<u8> = [2, 3, 3, 6, 1, 1, 1, 1, 1, 1].iter().flat_map(|k: &i32| k.to_le_bytes()).collect();
    raw.list("tokenizer.ggml.token_type", 5, 10, &kinds);
    raw.text("tokenizer.chat_template", "{{ messages }}");
    each_damage(&raw.bytes(), 5_000, |path| {
        if let Ok(Some(tokenizer)) = Tokenizer::open_optional(path)
            && let Ok(ids) = tokenizer.encode("ab <s>a b A\u{1}", true)
        {
            let _ = tokenizer.decode(&ids, false);
        }
    });
}
