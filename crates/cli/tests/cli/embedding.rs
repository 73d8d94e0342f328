//! `amend embed`: vectors of texts, token ids and pictures.

use amend_engine::Encoder;
use amend_engine::checkpoint::SafetensorsFile;
use serde_json::{Value, json};

use crate::data::{fixture, test_data};
use crate::support::{Scratch, amend, fails, json_lines, json_of, stdout, tokenizer};

/// A folder with a random BERT and a byte-level tokenizer.
fn bert() -> Scratch {
    let scratch = Scratch::without_tokenizer(8);
    let tokenizer = tokenizer();
    let config = json!({
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": tokenizer.vocab_size(),
        "max_position_embeddings": 40, "initializer_range": 0.3,
    });
    std::fs::remove_dir_all(&scratch.model).unwrap();
    let encoder = Encoder::random(config.as_object().unwrap().clone(), 3).unwrap();
    encoder.save(&scratch.model, None, None).unwrap();
    tokenizer.save(&scratch.model).unwrap();
    scratch
}

fn vector(value: &Value) -> Vec<f64> {
    value["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn one_vector_per_line() {
    let scratch = bert();
    let plain = stdout(&["embed", scratch.arg(), "--text", "the cat", "--text", "the mat"]);
    assert_eq!(plain.lines().count(), 2);
    let lines = json_lines(&["embed", scratch.arg(), "--text", "the cat", "--text", "the mat", "--json"]);
    for (i, (line, text)) in lines.iter().zip(plain.lines()).enumerate() {
        assert_eq!(line["text_index"], i);
        let numbers: Vec<f64> = text.split(' ').map(|n| n.parse().unwrap()).collect();
        assert_eq!(vector(line), numbers);
        assert_eq!(numbers.len(), 16);
    }
}

#[test]
fn neither_batch_nor_threads_change_a_vector() {
    let scratch = bert();
    let texts = "the cat\n\nthe mat and the cat ran on the mat\nx\n";
    let file = scratch.file("texts.txt", texts);
    let all = |extra: &[&str]| stdout(&[&["embed", scratch.arg(), "--text-file", &file], extra].concat());
    let wanted = all(&[]);
    assert_eq!(wanted.lines().count(), 4);
    assert_eq!(all(&["--batch-size", "1", "--threads", "1"]), wanted);
    assert_eq!(all(&["--batch-size", "3", "--threads", "3"]), wanted);
    let alone = stdout(&["embed", scratch.arg(), "--text", "x"]);
    assert_eq!(wanted.lines().last(), alone.lines().next());
    let piped = amend(&["embed", scratch.arg(), "--text-file", "-"]).write_stdin(texts).assert().code(0);
    assert_eq!(String::from_utf8_lossy(&piped.get_output().stdout), wanted);
}

#[test]
fn poolings_and_lengths_can_be_chosen() {
    let scratch = bert();
    let embed = |extra: &[&str]| {
        vector(&json_of(&[&["embed", scratch.arg(), "--ids", "1,2,3", "--json"], extra].concat()))
    };
    let mean = embed(&[]);
    assert_eq!(embed(&["--pooling", "mean"]), mean);
    for way in ["cls", "max", "last", "pooler", "weightedmean"] {
        assert_ne!(embed(&["--pooling", way]), mean, "{way}");
    }
    assert_eq!(embed(&["--pooling", "eos"]), embed(&["--pooling", "last"]));
    let unit = embed(&["--normalize"]);
    assert!((unit.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-5);
    assert!((unit[0] / unit[1] - mean[0] / mean[1]).abs() < 1e-3);
}

#[test]
fn long_texts_are_cut_with_one_warning() {
    let scratch = bert();
    let long = "the cat ".repeat(60);
    let file = scratch.file("texts.txt", format!("{long}\nshort\n{long}\n"));
    let assert = amend(&["embed", scratch.arg(), "--text-file", &file, "--json"]).assert().code(0);
    let message = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(message.contains("2 texts were cut to the 40 tokens"), "{message}");
}

#[test]
fn mistakes_are_named() {
    let scratch = bert();
    let arg = scratch.arg();
    fails(&["embed", arg], &["--text"]);
    fails(&["embed", arg, "--text", "a", "--ids", "1"], &["--ids"]);
    fails(&["embed", arg, "--text", "a", "--pooling", "sum"], &["sum", "mean"]);
    fails(&["embed", arg, "--ids", "1,99999"], &["token id 99999", arg]);
    fails(&["embed", arg, "--ids", &vec!["1"; 41].join(",")], &["41", "holds 40"]);
    fails(&["embed", arg, "--image", "cat.png"], &["reads texts, not pictures", "--text"]);
    fails(&["embed", arg, "--text", "a", "--prompt-name", "query"], &["query"]);
    for input in [["--ids", "1"], ["--image", "cat.png"]] {
        fails(&["embed", arg, input[0], input[1], "--prompt-name", "query"], &["--prompt-name", input[0]]);
    }
    fails(&["embed", "no/such/model", "--text", "a"], &["no/such/model", "no such folder"]);
    let decoder = Scratch::new();
    fails(&["embed", decoder.arg(), "--text", "a"], &["config.json", "\"llama\" is no encoder", "bert"]);
    std::fs::remove_file(scratch.model.join("tokenizer.json")).unwrap();
    fails(&["embed", arg, "--text", "a"], &[arg, "tokenizer.json"]);
}

#[test]
fn commands_for_decoders_say_what_to_use() {
    let scratch = bert();
    for command in [["score", "--text"], ["generate", "--prompt"]] {
        fails(
            &[command[0], scratch.arg(), command[1], "a"],
            &["\"bert\" is an encoder", "hint: use `amend embed`"],
        );
    }
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn sentences_of_the_reference() {
    let dir = test_data().join("models/all-minilm-l6-v2");
    let text = std::fs::read(dir.join("reference.json")).unwrap();
    let reference: Value = serde_json::from_slice(&text).unwrap();
    let sentences = reference["sentences"].as_array().unwrap();
    let mut args = vec!["embed", dir.to_str().unwrap(), "--json"];
    sentences.iter().for_each(|s| args.extend(["--text", s.as_str().unwrap()]));
    let ours: Vec<f64> = json_lines(&args).iter().flat_map(vector).collect();
    let file = SafetensorsFile::open(dir.join("reference.safetensors")).unwrap();
    let theirs = file.tensor("sentence_embeddings_from_f16_weights").unwrap();
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().zip(theirs.f32()).all(|(a, b)| (a - f64::from(*b)).abs() <= 1e-5));
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn pictures() {
    let (vit, clip) = (fixture("vit"), fixture("clip"));
    let images = test_data().join("images");
    let (jpeg, png) =
        (images.join("faces/obama_small.jpg"), images.join("documents/2305.03393v1-pg9-img.png"));
    let (jpeg, png) = (jpeg.to_str().unwrap(), png.to_str().unwrap());
    let (vit, clip) = (vit.to_str().unwrap(), clip.to_str().unwrap());
    let both = json_lines(&["embed", clip, "--image", jpeg, png, "--json"]);
    assert_eq!((both[1]["image_index"].as_u64(), both[1]["image"].as_str()), (Some(1), Some(png)));
    let alone = json_of(&["embed", clip, "--image", png, "--json", "--batch-size", "1"]);
    assert_eq!(vector(&both[1]), vector(&alone));
    assert_ne!(vector(&both[0]), vector(&both[1]));
    assert!((vector(&alone).iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-5);
    assert_eq!(vector(&json_of(&["embed", vit, "--image", jpeg, "--json"])).len(), 32);
    fails(&["embed", vit, "--text", "a"], &["reads pictures, not texts", "--image"]);
    let scratch = Scratch::without_tokenizer(8);
    let broken = scratch.file("broken.png", "no picture");
    fails(&["embed", vit, "--image", &broken], &["broken.png", "PNG"]);
    fails(&["embed", vit, "--image", "none.png"], &["none.png", "cannot read"]);
}
