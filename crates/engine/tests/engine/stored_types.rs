//! Checkpoints of several number types keep every tensor's own.

use std::path::{Path, PathBuf};

use crate::data::fixture;
use crate::small_models::config;
use amend_engine::checkpoint::{Checkpoint, ModelFiles, StoredType, write_model};
use amend_engine::models::LoraOptions;
use amend_engine::{DType, Encoder, Model, Tensor};
use serde_json::{Value, json};

/// Norms and routers in f32 among matrices in bf16, few of whose values would survive another type.
fn mixed(name: &str, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (0.37 * i as f32).sin()).collect();
    let in_f32 = ["norm", "LayerNorm", ".ln_", ".gate."].iter().any(|part| name.contains(part));
    let dtype = if in_f32 { DType::F32 } else { DType::BF16 };
    Tensor::from_f32(&values, shape).unwrap().to_dtype(dtype)
}

/// A checkpoint of several types with the tensors that one of a single type has.
fn mixed_from(whole: &Path) -> PathBuf {
    let (dir, whole) = (whole.with_extension("mixed"), Checkpoint::open(whole).unwrap());
    let tensors = whole.names().map(|name| (name.to_owned(), mixed(name, whole.shape(name).unwrap())));
    write_model(&dir, &ModelFiles::new(Value::Object(whole.config().clone()), tensors.collect())).unwrap();
    dir
}

fn mixed_model(scratch: &Path, family: &str) -> PathBuf {
    let experts = json!({"num_local_experts": 4});
    let dir = scratch.join(family);
    Model::random(config(family, experts), 3).unwrap().save(&dir, None, None).unwrap();
    mixed_from(&dir)
}

/// Fails unless both folders hold the same bytes in the same types, of which there are two.
fn assert_same(dir: &Path, again: &Path) {
    let [before, after] = [dir, again].map(|dir| Checkpoint::open(dir).unwrap());
    assert_eq!(before.names().count(), after.names().count());
    for name in before.names() {
        assert_eq!(before.dtype(name), after.dtype(name), "{name}");
        assert!(before.tensor(name).unwrap().bytes() == after.tensor(name).unwrap().bytes(), "{name}");
    }
    for dtype in [DType::F32, DType::BF16] {
        assert!(after.names().any(|name| after.dtype(name) == Some(StoredType::Native(dtype))));
    }
}

fn assert_all(dir: &Path, dtype: DType) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    assert!(checkpoint.names().all(|name| checkpoint.dtype(name) == Some(StoredType::Native(dtype))));
}

#[test]
fn a_model_of_several_types_is_written_as_it_was_read() {
    let scratch = tempfile::tempdir().unwrap();
    for family in ["llama", "gpt2", "mixtral"] {
        let dir = mixed_model(scratch.path(), family);
        let model = Model::open(&dir).unwrap();
        let [again, narrow] = ["again", "narrow"].map(|end| dir.with_extension(end));
        model.save(&again, None, None).unwrap();
        assert_same(&dir, &again);
        model.save(&narrow, None, Some(DType::BF16)).unwrap();
        assert_all(&narrow, DType::BF16);
    }
}

#[test]
fn a_merged_adapter_leaves_every_type_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = mixed_model(scratch.path(), "llama");
    let mut model = Model::open(&dir).unwrap();
    model.attach_lora(&LoraOptions { r: 2, alpha: 4.0, targets: Vec::new() }, 1).unwrap();
    let merged = dir.with_extension("merged");
    model.merged().unwrap().save(&merged, None, None).unwrap();
    assert_same(&dir, &merged);
}

#[test]
fn an_encoder_of_several_types_is_written_as_it_was_read() {
    let scratch = tempfile::tempdir().unwrap();
    for family in ["bert", "clip"] {
        let whole = scratch.path().join(family);
        Encoder::open(fixture(family)).unwrap().save(&whole, None, None).unwrap();
        let (dir, again) = (mixed_from(&whole), whole.with_extension("again"));
        Encoder::open(&dir).unwrap().save(&again, None, None).unwrap();
        assert_same(&dir, &again);
    }
}

/// Rounding a model's weights gives all of it one type.
#[test]
fn a_rounded_model_is_written_in_the_type_it_was_rounded_to() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = mixed_model(scratch.path(), "llama");
    let mut model = Model::open(&dir).unwrap();
    model.round_to(DType::F16);
    let rounded = dir.with_extension("rounded");
    model.save(&rounded, None, None).unwrap();
    assert_all(&rounded, DType::F16);
}
