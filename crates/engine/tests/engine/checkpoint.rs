//! Checkpoints: real ones load, what is written loads again, and damage gives an error that names it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::data::{fixture, test_data};
use amend_engine::checkpoint::{
    Checkpoint, ModelFiles, SafetensorsFile, StoredType, write_atomic, write_model, write_tensors,
};
use amend_engine::models::{Adapter, Lora, ShiftFfn};
use amend_engine::{DType, Tensor};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

fn error<T>(result: amend_engine::Result<T>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(e) => e.to_string(),
    }
}

fn ramp(shape: &[usize]) -> Tensor {
    let n = shape.iter().product::<usize>();
    Tensor::from_f32(&(0..n).map(|i| i as f32 / 4.0 - 1.0).collect::<Vec<_>>(), shape).unwrap()
}

fn small_model() -> ModelFiles<'static> {
    let tensors = ["model.norm.weight", "model.layers.10.w", "model.layers.2.w", "lm_head.weight"];
    let tensors = tensors.iter().enumerate().map(|(i, name)| (name.to_string(), ramp(&[i + 1, 3]))).collect();
    ModelFiles::new(json!({"model_type": "llama", "hidden_size": 3}), tensors)
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn a_trained_model_loads_and_is_written_back_to_the_byte() {
    let data = test_data();
    let dir = data.join("models/stories260k/hf");
    let checkpoint = Checkpoint::open(&dir).unwrap();
    assert_eq!(checkpoint.config()["hidden_size"], 64);
    assert_eq!(checkpoint.generation_config().unwrap()["eos_token_id"], 2);
    assert_eq!(checkpoint.dtype("model.norm.weight"), Some(StoredType::Native(DType::F32)));
    assert_eq!(checkpoint.shape("model.embed_tokens.weight"), Some(&[512, 64][..]));
    checkpoint.tensor_f32("model.embed_tokens.weight", &[512, 64]).unwrap();

    let tensors = checkpoint.names().map(|n| (n.to_owned(), checkpoint.tensor(n).unwrap())).collect();
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("copy");
    let files = ModelFiles {
        generation_config: checkpoint.generation_config().cloned().map(Value::Object),
        tokenizer_from: Some(&dir),
        ..ModelFiles::new(Value::Object(checkpoint.config().clone()), tensors)
    };
    write_model(&target, &files).unwrap();
    assert_eq!(names_in(out.path()), ["copy"], "no temporary folder may be left");
    assert_eq!(
        names_in(&target),
        [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    for name in ["model.safetensors", "tokenizer.json"] {
        assert!(fs::read(dir.join(name)).unwrap() == fs::read(target.join(name)).unwrap(), "{name} differs");
    }
}

#[test]
fn shards_load() {
    let sharded = Checkpoint::open(fixture("llama3-rope-sharded")).unwrap();
    let total: usize = sharded.names().map(|n| sharded.tensor(n).unwrap().bytes().len()).sum();
    assert_eq!(total, 107_136, "total_size of its index");
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn f16_and_integer_tensors_load() {
    let data = test_data();
    let half = Checkpoint::open(data.join("models/all-minilm-l6-v2")).unwrap();
    assert_eq!(half.dtype("embeddings.LayerNorm.weight"), Some(StoredType::Native(DType::F16)));
    half.tensor_f32("embeddings.LayerNorm.weight", &[384]).unwrap();
    for folder in ["model2vec-tiny", "model2vec-tiny/float16-2d", "model2vec-tiny/int8-2d"] {
        let static_model =
            SafetensorsFile::open(data.join("models").join(folder).join("model.safetensors")).unwrap();
        for name in static_model.names() {
            static_model.tensor(name).unwrap();
        }
    }
    let reference = data.join("models/stories260k/hf/reference.safetensors");
    let ids = SafetensorsFile::open(reference).unwrap().tensor("input_ids").unwrap();
    assert_eq!(ids.dtype(), DType::I32);
}

#[test]
fn written_models_load_again_in_every_layout() {
    let out = tempfile::tempdir().unwrap();
    let files = small_model();
    let original: BTreeMap<_, _> = files.tensors.iter().cloned().collect();
    for (dir, max_shard_bytes, dtype) in [
        ("one", usize::MAX, None),
        ("many", 40, None),
        ("half", usize::MAX, Some(DType::BF16)),
        ("f16", 30, Some(DType::F16)),
    ] {
        let dir = out.path().join(dir);
        let files = ModelFiles { max_shard_bytes, dtype, ..files.clone() };
        write_model(&dir, &files).unwrap();
        let bytes =
            |dir: &Path| names_in(dir).iter().map(|n| fs::read(dir.join(n)).unwrap()).collect::<Vec<_>>();
        let again = out.path().join("again");
        write_model(&again, &files).unwrap();
        assert_eq!(bytes(&dir), bytes(&again), "the same model twice must give the same bytes");
        fs::remove_dir_all(again).unwrap();

        let checkpoint = Checkpoint::open(&dir).unwrap();
        assert_eq!(checkpoint.config()["torch_dtype"], dtype.unwrap_or(DType::F32).torch_name());
        assert_eq!(checkpoint.names().count(), 4);
        for (name, tensor) in &original {
            let read = checkpoint.tensor_f32(name, tensor.shape()).unwrap();
            assert_eq!(read.f32(), tensor.f32(), "{name}: these values are exact in all types");
        }
        assert_eq!(dir.join("model.safetensors.index.json").exists(), max_shard_bytes < 100);
    }
}

#[test]
fn a_model_is_written_whole_or_not_at_all() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("m");
    let mut files = small_model();
    files.tensors[2].1.f32_mut()[1] = f32::NAN;
    let message = error(write_model(&target, &files));
    assert!(message.contains("tensor model.layers.2.w, index [0, 1]"), "{message}");
    assert!(message.contains("1 of its 9 value is"), "{message}");
    files.tensors[2].1.f32_mut()[1] = 1e5;
    files.dtype = Some(DType::F16);
    assert!(error(write_model(&target, &files)).contains("in f16 (write bf16 or f32 instead)"));
    files.tensors[0].0 = "lm_head.weight".into();
    assert!(
        error(write_model(&target, &files)).contains("two tensors to be written are named lm_head.weight")
    );
    assert!(names_in(out.path()).is_empty(), "nothing may be left behind");

    fs::create_dir(&target).unwrap();
    write_model(&target, &small_model()).unwrap();
    assert!(error(write_model(&target, &small_model())).contains("already holds files"));
    assert!(error(write_model(target.join("config.json"), &small_model())).contains("in the way"));
    let config = fs::read(target.join("config.json")).unwrap();
    assert!(error(write_atomic(target.join("config.json").join("x"), b"")).contains("config.json"));
    assert_eq!(fs::read(target.join("config.json")).unwrap(), config);
}

#[test]
fn exact_copies_keep_every_bit_and_the_metadata() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("new/folder/optimizer.safetensors");
    let odd = Tensor::from_f32(&[f32::NAN, f32::INFINITY, -0.0], &[3]).unwrap();
    let tensors = vec![
        ("b".to_owned(), odd.clone()),
        ("a".to_owned(), odd.to_dtype(DType::BF16)),
        ("empty".into(), ramp(&[0, 4])),
    ];
    let metadata = BTreeMap::from([("step".to_owned(), "7 \"quoted\" ü".to_owned())]);
    write_tensors(&path, &tensors, &metadata).unwrap();
    write_tensors(&path, &tensors, &metadata).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    assert_eq!(file.metadata(), &metadata);
    assert_eq!(file.names().collect::<Vec<_>>(), ["b", "empty", "a"]);
    for (name, tensor) in &tensors {
        let read = file.tensor(name).unwrap();
        assert_eq!(
            (read.bytes(), read.shape(), read.dtype()),
            (tensor.bytes(), tensor.shape(), tensor.dtype())
        );
    }
    assert_eq!(names_in(path.parent().unwrap()), ["optimizer.safetensors"]);
    assert!(error(file.tensor_f32("b", &[3])).contains("index [0]: NaN"));
    assert!(error(file.tensor_f32("b", &[1, 3])).contains("tensor b: expected shape [1, 3], got [3]"));
}

#[test]
fn what_is_missing_from_a_folder_is_said() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path();
    let open = || error(Checkpoint::open(dir));
    assert!(error(Checkpoint::open(dir.join("nowhere"))).contains("no such folder"));
    assert!(open().contains("no config.json"));
    fs::write(dir.join("adapter_config.json"), "{}").unwrap();
    assert!(open().contains("this is an adapter"));
    fs::write(dir.join("config.json"), "{\n  \"a\": 1,\n  b\n}").unwrap();
    assert!(open().contains("line 3"), "{}", open());
    assert!(error(Checkpoint::open(dir.join("config.json"))).contains("is a file"));
    fs::write(dir.join("config.json"), "[]").unwrap();
    assert!(open().contains("an array where a JSON object is needed"));
    fs::write(dir.join("config.json"), "").unwrap();
    assert!(open().contains("the file is empty"));
    fs::write(dir.join("config.json"), "{}").unwrap();
    assert!(open().contains("have not been downloaded"));
    fs::write(dir.join("pytorch_model.bin"), "cos\nsystem\n").unwrap();
    assert!(open().contains("pytorch_model.bin is a pickle file, which is never opened"));
    fs::write(dir.join("model.safetensors"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert!(open().contains("git lfs pull"));
    fs::write(dir.join("model.safetensors"), "").unwrap();
    assert!(open().contains("0 bytes long"));
}

#[test]
fn a_damaged_index_is_said() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().join("m");
    write_model(&dir, &ModelFiles { max_shard_bytes: 40, ..small_model() }).unwrap();
    let index = dir.join("model.safetensors.index.json");
    let with = |tensor: &str, file: Value| {
        fs::write(&index, json!({"weight_map": {tensor: file}}).to_string()).unwrap();
        error(Checkpoint::open(&dir))
    };
    for outside in ["../x.safetensors", "/etc/passwd", "..", ".", "", "a/b", "a\\b"] {
        assert!(with("w", outside.into()).contains("only a file name within the folder"), "{outside}");
    }
    assert!(with("w", json!(3)).contains("mapped to a number"));
    assert!(with("w", "gone.safetensors".into()).contains("the shard gone.safetensors it names is missing"));
    let absent = with("w", "model-00001-of-00003.safetensors".into());
    assert!(absent.contains("places tensor w in model-00001-of-00003.safetensors"), "{absent}");
    fs::write(&index, "{}").unwrap();
    assert!(error(Checkpoint::open(&dir)).contains("weight_map"));
}

#[test]
fn unused_and_absent_tensors_are_named() {
    let out = tempfile::tempdir().unwrap();
    write_model(out.path().join("m"), &small_model()).unwrap();
    let checkpoint = Checkpoint::open(out.path().join("m")).unwrap();
    let used: HashSet<String> =
        checkpoint.names().filter(|n| *n != "lm_head.weight").map(str::to_owned).collect();
    assert_eq!(checkpoint.unused(&used), ["lm_head.weight"]);
    let message = error(checkpoint.tensor("layers.10.w"));
    assert!(message.contains("no tensor layers.10.w among its 4, such as model.layers.10.w"), "{message}");
}

#[test]
fn other_number_types_are_converted_or_refused() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("t.safetensors");
    let mut data = Vec::new();
    let mut entries = Vec::new();
    let mut add = |name: &str, dtype: &str, bytes: &[u8], n: usize| {
        let start = data.len();
        data.extend_from_slice(bytes);
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":[{n}],"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    };
    add("double", "F64", &[1.5f64, -2.0].map(f64::to_le_bytes).concat(), 2);
    add("huge", "F64", &1e300f64.to_le_bytes(), 1);
    add("long", "I64", &[-5i64, 7].map(i64::to_le_bytes).concat(), 2);
    add("too long", "I64", &i64::MAX.to_le_bytes(), 1);
    add("short", "I16", &(-3i16).to_le_bytes(), 1);
    add("byte", "U8", &[200, 3], 2);
    add("signed", "I8", &[200], 1);
    add("truth", "BOOL", &[1, 0], 2);
    add("quantised", "F8_E4M3", &[1], 1);
    let header = format!("{{{}}}", entries.join(","));
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    let values = |name| file.tensor(name).unwrap().to_f32().f32().to_vec();
    assert_eq!(values("double"), [1.5, -2.0]);
    assert_eq!(values("long"), [-5.0, 7.0]);
    assert_eq!(values("short"), [-3.0]);
    assert_eq!(values("byte"), [200.0, 3.0]);
    assert_eq!(values("signed"), [-56.0]);
    assert_eq!(values("truth"), [1.0, 0.0]);
    assert!(error(file.tensor_f32("huge", &[1])).contains("inf where a finite number"));
    assert!(error(file.tensor("too long")).contains("9223372036854775807, which does not fit"));
    assert!(error(file.tensor("quantised")).contains("convert the checkpoint to BF16"));
    assert!(error(file.tensor("none")).contains("no tensor none"));
}

#[test]
fn a_file_cut_short_while_open_gives_an_error() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("t.safetensors");
    write_tensors(&path, &[("w".into(), ramp(&[1000, 10]))], &BTreeMap::new()).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert!(error(file.tensor("w")).contains("shrank"));
}

/// The config of `small_adapter`, as PEFT has it.
const PEFT_CONFIG: &str = r#"{
  "alpha_pattern": {
    "v_proj": 3
  },
  "base_model_name_or_path": "base",
  "bias": "none",
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "lora_alpha": 8,
  "lora_dropout": 0.0,
  "modules_to_save": null,
  "peft_type": "LORA",
  "r": 4,
  "rank_pattern": {
    "0.self_attn.v_proj": 2
  },
  "target_modules": [
    "q_proj",
    "v_proj"
  ],
  "task_type": "CAUSAL_LM",
  "use_dora": false,
  "use_rslora": false
}
"#;

fn small_lora() -> Lora {
    Lora {
        r: 4,
        lora_alpha: 8.0,
        target_modules: vec!["q_proj".into(), "v_proj".into()],
        task_type: Some("CAUSAL_LM".into()),
        rank_pattern: vec![("0.self_attn.v_proj".into(), 2)],
        alpha_pattern: vec![("v_proj".into(), 3.0)],
        ..Lora::default()
    }
}

fn adapter_of(lora: Lora) -> Adapter {
    let pair = |module: &str, r| {
        let name = |half| format!("model.layers.0.self_attn.{module}.lora_{half}.weight");
        [(name("A"), ramp(&[r, 6])), (name("B"), ramp(&[5, r]))]
    };
    Adapter {
        kinds: vec![Arc::new(lora)],
        base_model: Some("base".into()),
        tensors: [pair("q_proj", 4), pair("v_proj", 2)].into_iter().flatten().collect(),
    }
}

fn small_adapter() -> Adapter {
    adapter_of(small_lora())
}

#[test]
fn adapters_round_trip() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().join("adapter");
    let adapter = small_adapter();
    adapter.write(&dir).unwrap();
    let read = Adapter::open(&dir).unwrap();
    let config = fs::read_to_string(dir.join("adapter_config.json")).unwrap();
    assert_eq!(config, PEFT_CONFIG);
    assert_eq!(read.tensors.len(), 4);
    for (name, tensor) in &adapter.tensors {
        assert_eq!(read.tensors[name].bytes(), tensor.bytes());
    }
    assert_eq!(read.base_model, adapter.base_model);
    assert_eq!(format!("{:?}", read.kinds), format!("{:?}", adapter.kinds));
    let lora = small_lora();
    assert_eq!((lora.scaling(), lora.scaling_of("model.layers.0.self_attn.v_proj")), (2.0, 1.5));
    assert_eq!(Lora { use_rslora: true, ..small_lora() }.scaling(), 4.0);
    assert!(error(Checkpoint::open(&dir)).contains("this is an adapter"));
    let wrong = adapter_of(Lora { target_modules: vec!["proj".into()], ..small_lora() });
    assert!(
        error(wrong.write(out.path().join("w"))).contains("does not name model.layers.0.self_attn.q_proj")
    );
    let wrong = adapter_of(Lora { rank_pattern: vec![], ..small_lora() });
    assert!(error(wrong.write(out.path().join("w"))).contains("rank 4 needs [4, in]"));
}

#[test]
fn adapter_options_that_change_the_model_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().join("adapter");
    assert!(error(Adapter::open(&dir)).contains("no adapter_config.json"));
    small_adapter().write(&dir).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(dir.join("adapter_config.json")).unwrap()).unwrap();
    for (key, value, expected) in [
        ("peft_type", json!("IA3"), "only \"LORA\""),
        ("use_dora", json!(true), "use_dora is not supported"),
        ("bias", json!("all"), "bias is \"all\""),
        ("modules_to_save", json!(["lm_head"]), "modules_to_save is not supported"),
        ("init_lora_weights", json!("pissa_niter_4"), "changes the base weights"),
        ("r", json!(0), "r is 0"),
        ("r", json!(2.5), "r is 2.5"),
        ("r", json!(3), "rank 3 needs"),
        ("lora_alpha", json!("x"), "lora_alpha is \"x\""),
        ("rank_pattern", json!({"layers\\.(0|1)": 3}), "is a regular expression"),
        ("target_modules", json!({"a": 1}), "must be a list of names"),
    ] {
        let mut changed = config.clone();
        changed[key] = value;
        fs::write(dir.join("adapter_config.json"), changed.to_string()).unwrap();
        let message = error(Adapter::open(&dir));
        assert!(message.contains(expected), "{key}: {message}");
    }
    fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    let weights = dir.join("adapter_model.safetensors");
    for (name, expected) in [
        ("base_model.model.x.lora_A.weight", "x has lora_A but no lora_B"),
        ("base_model.model.x.lora_B.weight", "x has lora_B but no lora_A"),
        ("base_model.model.lm_head.weight", "tensor base_model.model.lm_head.weight is not supported"),
    ] {
        write_tensors(&weights, &[(name.into(), ramp(&[4, 4]))], &BTreeMap::new()).unwrap();
        let message = error(Adapter::open(&dir));
        assert!(message.contains(expected), "{message}");
    }
    fs::rename(&weights, dir.join("adapter_model.bin")).unwrap();
    assert!(error(Adapter::open(&dir)).contains("pickle"));
}

/// A change to a file: bytes replaced, then cut.
fn damage(bytes: &[u8], edits: &[(usize, u8)], keep: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(at, value) in edits {
        let n = bytes.len();
        bytes[at % n] = value;
    }
    bytes.truncate(keep.max(1));
    bytes
}

fn cases(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) })
}

fn edits() -> impl Strategy<Value = (Vec<(usize, u8)>, usize)> {
    let byte = prop_oneof![any::<u8>(), Just(b'"'), Just(b'{'), Just(b'0')];
    (prop::collection::vec((0usize..4000, byte), 0..6), prop_oneof![Just(usize::MAX), 0usize..1000])
}

#[test]
fn damaged_weights_load_or_give_an_error() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("t.safetensors");
    let tensors = [("w".to_owned(), ramp(&[2, 5])), ("b".to_owned(), ramp(&[3]).to_dtype(DType::F16))];
    write_tensors(&path, &tensors, &BTreeMap::from([("format".into(), "pt".into())])).unwrap();
    let original = fs::read(&path).unwrap();
    let opens = |(edits, keep): (Vec<_>, usize)| {
        fs::write(&path, damage(&original, &edits, keep)).unwrap();
        if let Ok(file) = SafetensorsFile::open(&path) {
            for name in file.names() {
                let shape = file.info(name).unwrap().shape.clone();
                let _ = file.tensor(name);
                let _ = file.tensor_f32(name, &shape);
            }
        }
        Ok(())
    };
    cases(20_000).run(&edits(), opens).unwrap();
}

#[test]
fn damaged_json_loads_or_gives_an_error() {
    let out = tempfile::tempdir().unwrap();
    let [dir, lora, both] = ["m", "a", "b"].map(|name| out.path().join(name));
    write_model(&dir, &ModelFiles { max_shard_bytes: 40, ..small_model() }).unwrap();
    small_adapter().write(&lora).unwrap();
    let mut adapter = small_adapter();
    adapter.kinds.push(Arc::new(ShiftFfn { r: 2, ..ShiftFfn::default() }));
    for (part, shape) in [("a", [2, 3]), ("b", [2, 6]), ("c", [3, 2])] {
        adapter.tensors.insert(format!("model.layers.0.mlp.editor.{part}.weight"), ramp(&shape));
    }
    adapter.write(&both).unwrap();
    for path in [
        dir.join("config.json"),
        dir.join("model.safetensors.index.json"),
        lora.join("adapter_config.json"),
        both.join("adapter_config.json"),
    ] {
        let original = fs::read(&path).unwrap();
        let opens = |(edits, keep): (Vec<_>, usize)| {
            fs::write(&path, damage(&original, &edits, keep)).unwrap();
            let _ = Checkpoint::open(&dir);
            let _ = Adapter::open(&lora);
            let _ = Adapter::open(&both);
            Ok(())
        };
        cases(2000).run(&edits(), opens).unwrap();
        fs::write(&path, original).unwrap();
    }
}
