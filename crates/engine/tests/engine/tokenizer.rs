//! Tokenizers: exact ids, chat rendering, masks, training and what is written.

use std::fs;
use std::path::{Path, PathBuf};

use crate::data::test_data;
use amend_engine::tokenizer::{Message, Tokenizer, train_bpe};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A folder that looks like a model's, with the given files under their usual names.
fn folder(files: &[(PathBuf, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (from, name) in files {
        fs::write(dir.path().join(name), fs::read(from).unwrap()).unwrap();
    }
    dir
}

fn turns(contents: &[(&str, &str)]) -> Vec<Message> {
    contents.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn ids_match_the_reference_libraries() {
    let data = test_data();
    let reference = json(&data.join("tokenizers/reference_encodings.json"));
    let texts: Vec<&str> =
        reference["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    for (name, expected) in reference["ids"].as_object().unwrap() {
        let path = data.join("tokenizers").join(name);
        // Files in other formats, and the one that is stored compressed.
        if !name.ends_with(".json") || !path.exists() {
            continue;
        }
        let dir = folder(&[(path, "tokenizer.json")]);
        let tokenizer = Tokenizer::open(dir.path()).unwrap();
        for (text, expected) in texts.iter().zip(expected.as_array().unwrap()) {
            let ids = tokenizer.encode(text, true).unwrap();
            let expected: Vec<u32> = serde_json::from_value(expected.clone()).unwrap();
            assert_eq!(ids, expected, "{name}: {text:?}");
            let with_offsets = tokenizer.encode_offsets(text, true).unwrap();
            assert_eq!(with_offsets.ids, expected);
            assert!(with_offsets.offsets.iter().all(|o| o.start <= o.end && text.get(o.clone()).is_some()));
        }
    }
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn a_whole_document_matches_its_reference() {
    let data = test_data();
    let tests = data.join("tokenizers/reftests");
    let text = fs::read_to_string(tests.join("monty-python-credits.txt")).unwrap();
    let expected: Vec<u32> =
        serde_json::from_value(json(&tests.join("monty-python-credits-gpt2.json"))["token_ids"].clone())
            .unwrap();
    let dir = folder(&[(data.join("tokenizers/gpt2/tokenizer.json"), "tokenizer.json")]);
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    assert_eq!(tokenizer.encode(&text, false).unwrap(), expected);
    assert_eq!(tokenizer.decode(&expected, false).unwrap(), text);
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn special_tokens_come_from_whichever_file_has_them() {
    let data = test_data();
    let stories = Tokenizer::open(data.join("models/stories260k/hf")).unwrap();
    assert_eq!((stories.bos(), stories.eos(), stories.pad()), (Some(1), Some(2), None));
    assert_eq!(stories.eos_ids(), [2]);
    assert_eq!(stories.vocab_size(), 512);
    assert_eq!(stories.id_of("</s>"), Some(2));
    assert!(stories.is_special(1) && !stories.is_special(300));
    let arithmetic = Tokenizer::open(data.join("models/arithmetic-llama-random")).unwrap();
    assert_eq!((arithmetic.bos(), arithmetic.eos(), arithmetic.pad()), (None, Some(1), Some(2)));
    let phi = phi3(&data);
    assert_eq!(phi.token_of(phi.eos().unwrap()).unwrap(), "<|endoftext|>");
}

fn phi3(data: &Path) -> Tokenizer {
    let from = data.join("tokenizers/phi-3");
    let files = ["tokenizer.json", "tokenizer_config.json"].map(|name| (from.join(name), name));
    Tokenizer::open(folder(&files).path()).unwrap()
}

#[test]
fn a_missing_or_damaged_tokenizer_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Tokenizer::open(dir.path()).unwrap_err().to_string();
    assert!(open().contains("there is no tokenizer.json"));
    assert!(Tokenizer::open_optional(dir.path()).unwrap().is_none());
    fs::write(dir.path().join("tokenizer.model"), "").unwrap();
    assert!(open().contains("only tokenizer.model; convert it"));
    fs::write(dir.path().join("tokenizer.json"), "{\"version\": \"1.0\"").unwrap();
    assert!(open().contains("tokenizer.json: malformed JSON") && open().contains("line 1"), "{}", open());
    fs::write(dir.path().join("tokenizer.json"), "{\"version\": \"1.0\"}").unwrap();
    assert!(open().contains("tokenizer.json: not a tokenizer"), "{}", open());
    fs::write(dir.path().join("tokenizer.json"), "version https://git-lfs.github.com/spec/v1").unwrap();
    assert!(open().contains("git lfs pull"));
    trained(&[]).save(dir.path()).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), "{\n\"a\" 1}").unwrap();
    assert!(open().contains("tokenizer_config.json") && open().contains("line 2"), "{}", open());
    let plain = trained(&[]);
    assert!(plain.render_chat(&[], true).unwrap_err().to_string().contains("no chat template"));
}

const SAMPLE: &str = "Once upon a time there was a little dragon. The little dragon liked to read, and to sing: \
    la la la! One day, in the year 2024, it didn't want to sing any more. \"Why?\" asked the other dragons.\n\n\
    It said: \"I'd like to read. I've read 1234 books.\"\n";

fn trained(special: &[&str]) -> Tokenizer {
    train_bpe([SAMPLE].into_iter(), 330 + special.len(), special).unwrap()
}

#[test]
fn training_is_deterministic_and_its_files_load() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tokenizer = trained(&["<|user|>"]);
    tokenizer.save(a.path()).unwrap();
    trained(&["<|user|>"]).save(b.path()).unwrap();
    let read = |dir: &Path| fs::read_to_string(dir.join("tokenizer.json")).unwrap();
    assert_eq!(read(a.path()), read(b.path()));
    let loaded = Tokenizer::open(a.path()).unwrap();
    assert_eq!(loaded.vocab_size(), 331);
    assert_eq!((loaded.bos(), loaded.eos(), loaded.pad()), (Some(0), Some(1), Some(2)));
    assert_eq!(loaded.id_of("<|user|>"), Some(3));
    assert_eq!(loaded.encode(SAMPLE, true).unwrap(), tokenizer.encode(SAMPLE, true).unwrap());
    assert_eq!(loaded.encode("<|user|>a<|eos|>", true).unwrap()[..2], [0, 3]);
    let ids = loaded.encode(SAMPLE, false).unwrap();
    assert!(ids.len() < SAMPLE.len() / 2, "{} tokens for {} bytes", ids.len(), SAMPLE.len());
    assert!(train_bpe([SAMPLE].into_iter(), 258, &[]).unwrap_err().to_string().contains("at least 259"));
    assert!(
        train_bpe([SAMPLE].into_iter(), 999, &["<|eos|>"]).unwrap_err().to_string().contains("given twice")
    );
    assert!(train_bpe([].into_iter(), 999, &[]).unwrap().vocab_size() == 259);
}

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The text of the tokens that the assistant must produce, turn by turn.
fn produced(tokenizer: &Tokenizer, ids: &[u32], mask: &[bool]) -> Vec<String> {
    let runs = ids.iter().zip(mask).collect::<Vec<_>>();
    runs.chunk_by(|a, b| a.1 == b.1)
        .filter(|run| *run[0].1)
        .map(|run| tokenizer.decode(&run.iter().map(|(id, _)| **id).collect::<Vec<_>>(), false).unwrap())
        .collect()
}

#[test]
fn the_mask_covers_each_answer_and_its_end() {
    let tokenizer = trained(&["<|im_start|>", "<|im_end|>"]).with_chat_template(CHATML);
    let messages = turns(&[
        ("user", "Why?"),
        ("assistant", "It said: la"),
        ("user", "So"),
        ("assistant", " little dragon "),
    ]);
    let (ids, mask) = tokenizer.encode_chat(&messages).unwrap();
    assert_eq!(ids, tokenizer.encode(&tokenizer.render_chat(&messages, false).unwrap(), false).unwrap());
    assert_eq!(produced(&tokenizer, &ids, &mask), ["It said: la<|im_end|>", " little dragon <|im_end|>"]);
    let (_, reply) = tokenizer.encode_chat_reply(&messages).unwrap();
    assert_eq!(produced(&tokenizer, &ids, &reply), [" little dragon <|im_end|>"]);
    let prompt = tokenizer.encode_chat_prompt(&messages[..3]).unwrap();
    assert_eq!(ids[..prompt.len()], prompt);
    assert!(reply[..prompt.len()].iter().all(|m| !m) && reply[prompt.len()]);
}

#[test]
fn generation_blocks_decide_where_a_template_has_them() {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}\
        {% generation %}{{ m.content }}<|im_end|> {% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}";
    let tokenizer = trained(&["<|im_start|>", "<|im_end|>"]).with_chat_template(template);
    let messages = turns(&[("user", "Why?"), ("assistant", "one"), ("user", "So"), ("assistant", "two")]);
    let (ids, mask) = tokenizer.encode_chat(&messages).unwrap();
    assert_eq!(produced(&tokenizer, &ids, &mask), ["one<|im_end|> ", "two<|im_end|> "]);
    let (_, reply) = tokenizer.encode_chat_reply(&messages).unwrap();
    assert_eq!(produced(&tokenizer, &ids, &reply), ["two<|im_end|> "]);
}

#[test]
fn a_template_that_rewrites_history_is_refused() {
    let template = "{% for m in messages %}{% if loop.last %}{{ m.content }}{% else %}{{ m.content[:1] }}{% endif %}<|im_end|>{% endfor %}";
    let tokenizer = trained(&["<|im_end|>"]).with_chat_template(template);
    let messages = turns(&[("user", "Why?"), ("assistant", "one")]);
    let message = tokenizer.encode_chat(&messages).unwrap_err().to_string();
    assert!(message.contains("in turn 1") && message.contains("split the conversation"), "{message}");
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn templates_render_as_transformers_renders_them() {
    let data = test_data();
    let cases = json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/chat_reference.json"));
    for case in cases["cases"].as_array().unwrap() {
        let name = case["tokenizer"].as_str().unwrap();
        let config = json(&data.join("tokenizers").join(name).join("tokenizer_config.json"));
        let dir = tempfile::tempdir().unwrap();
        trained(&[]).save(dir.path()).unwrap();
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let tokenizer = Tokenizer::open(dir.path())
            .unwrap()
            .with_template_variables(case["variables"].as_object().unwrap().clone());
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let add = case["add_generation_prompt"].as_bool().unwrap();
        assert_eq!(
            tokenizer.render_chat(&messages, add).unwrap(),
            case["expected"].as_str().unwrap(),
            "{case}"
        );
    }
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn masks_of_real_templates() {
    let data = test_data();
    let messages =
        turns(&[("user", "Why?"), ("assistant", "one thing"), ("user", "So"), ("assistant", "two")]);
    let phi = phi3(&data);
    let (ids, mask) = phi.encode_chat(&messages).unwrap();
    assert_eq!(produced(&phi, &ids, &mask), ["one thing<|end|>", "two<|end|>"]);

    // This template shows an empty thought in the last answer only.
    let config = json(&data.join("tokenizers/qwen3/tokenizer_config.json"));
    let qwen = trained(&["<|im_start|>", "<|im_end|>"])
        .with_chat_template(config["chat_template"].as_str().unwrap());
    let (ids, mask) = qwen.encode_chat_reply(&messages).unwrap();
    assert_eq!(produced(&qwen, &ids, &mask), ["<think>\n\n</think>\n\ntwo<|im_end|>"]);
    let message = qwen.encode_chat(&messages).unwrap_err().to_string();
    assert!(message.contains("in turn 1"), "{message}");
    let (ids, mask) = qwen.encode_chat(&messages[2..]).unwrap();
    assert_eq!(produced(&qwen, &ids, &mask).len(), 1);
}

#[test]
fn an_answer_ends_where_generation_stops() {
    let template = format!(
        "{{{{ bos_token }}}}{CHATML}{{% if not add_generation_prompt %}}{{{{ eos_token }}}}{{% endif %}}"
    );
    let tokenizer = trained(&["<|im_start|>", "<|im_end|>"]).with_chat_template(template);
    let messages = turns(&[("user", "Why?"), ("assistant", "one"), ("user", "So"), ("assistant", "two")]);
    let (ids, mask) = tokenizer.encode_chat(&messages).unwrap();
    assert_eq!(ids[..2], [0, 3], "one BOS, the template's own");
    // The template ends a whole conversation with EOS, which the last answer must learn to produce.
    assert_eq!(produced(&tokenizer, &ids, &mask), ["one<|im_end|>", "two<|im_end|>\n<|eos|>"]);
}

#[test]
fn a_damaged_tokenizer_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    trained(&[]).save(dir.path()).unwrap();
    let path = dir.path().join("tokenizer.json");
    let original = fs::read(&path).unwrap();
    let edits = prop::collection::vec((0..original.len(), "[a-z0-9\"{},:]"), 1..4);
    let keep = prop_oneof![Just(usize::MAX), 0..original.len()];
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) };
    let damaged = |(edits, keep): (Vec<(usize, String)>, usize)| {
        let mut bytes = original.clone();
        edits.iter().for_each(|(at, value)| bytes[*at] = value.as_bytes()[0]);
        bytes.truncate(keep);
        fs::write(&path, bytes).unwrap();
        if let Ok(tokenizer) = Tokenizer::open(dir.path())
            && let Ok(ids) = tokenizer.encode(SAMPLE, true)
        {
            let _ = tokenizer.decode(&ids, false);
        }
        Ok(())
    };
    TestRunner::new(config).run(&(edits, keep), damaged).unwrap();
}

#[test]
fn every_text_survives_byte_level_bpe() {
    let tokenizer = trained(&[]);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) };
    let survives = |text: String| {
        let encoded = tokenizer.encode_offsets(&text, false).unwrap();
        prop_assert_eq!(&tokenizer.decode(&encoded.ids, false).unwrap(), &text);
        let mut stream = tokenizer.stream(false);
        let mut streamed: String = encoded.ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        streamed.push_str(&stream.finish().unwrap());
        prop_assert_eq!(&streamed, &text);
        let mut end = 0;
        for range in &encoded.offsets {
            prop_assert!(range.start <= end && range.end >= end, "a gap: {:?}", encoded.offsets);
            end = range.end;
        }
        prop_assert_eq!(end, text.len());
        Ok(())
    };
    TestRunner::new(config).run(&any::<String>(), survives).unwrap();
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn streaming_gives_the_decoded_text() {
    let data = test_data();
    let reference = json(&data.join("tokenizers/reference_encodings.json"));
    for tokenizer in [Tokenizer::open(data.join("models/stories260k/hf")).unwrap(), phi3(&data)] {
        for text in reference["texts"].as_array().unwrap() {
            let ids = tokenizer.encode(text.as_str().unwrap(), true).unwrap();
            for skip_special in [false, true] {
                let mut stream = tokenizer.stream(skip_special);
                let mut streamed: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
                streamed.push_str(&stream.finish().unwrap());
                assert_eq!(streamed, tokenizer.decode(&ids, skip_special).unwrap(), "{text}");
            }
        }
    }
}
