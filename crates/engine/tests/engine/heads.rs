//! Which matrix predicts: a checkpoint's own head, or its embedding.

use std::path::Path;

use crate::small_models::config;
use amend_engine::checkpoint::{ModelFiles, write_model};
use amend_engine::{Example, Model, Tensor};
use serde_json::{Value, json};

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

fn llama(tied: bool) -> Model {
    Model::random(config("llama", json!({"tie_word_embeddings": tied})), 5).unwrap()
}

/// Writes the model with other tensors, under a config with other promises.
fn written(model: &Model, dir: &Path, tied: Value, change: impl Fn(&mut Vec<(String, Tensor)>)) {
    let mut config = model.config().clone();
    config.insert("tie_word_embeddings".into(), tied);
    let mut tensors = model.params.iter().map(|(_, p)| (p.name.clone(), p.tensor.clone())).collect();
    change(&mut tensors);
    write_model(dir, &ModelFiles::new(Value::Object(config), tensors)).unwrap();
}

fn scores(model: &Model) -> Vec<Vec<f32>> {
    model.score(&[Example::text((0..30).map(|i| i * 7 % 61).collect())], 4096).unwrap()
}

#[test]
fn a_head_of_its_own_counts_whatever_the_config_promises() {
    let folder = tempfile::tempdir().unwrap();
    let (model, dir) = (llama(false), folder.path().join("own"));
    written(&model, &dir, json!(true), |_| {});
    let opened = Model::open(&dir).unwrap();
    assert_eq!(scores(&opened), scores(&model));
    assert_eq!(opened.config()["tie_word_embeddings"], json!(false));
    let again = folder.path().join("again");
    opened.save(&again, None, None).unwrap();
    assert_eq!(scores(&Model::open(&again).unwrap()), scores(&model));
}

#[test]
fn one_matrix_under_either_name_or_both_is_tied() {
    let folder = tempfile::tempdir().unwrap();
    let model = llama(true);
    let copies: [(&str, &[&str]); 3] =
        [("embedding", &[EMBEDDING]), ("head", &[HEAD]), ("both", &[EMBEDDING, HEAD])];
    for (dir, names) in copies {
        let dir = folder.path().join(dir);
        written(&model, &dir, json!(true), |tensors| {
            let place = tensors.iter().position(|(name, _)| name == EMBEDDING).unwrap();
            let (_, matrix) = tensors.remove(place);
            tensors.extend(names.iter().map(|&name| (name.to_owned(), matrix.clone())));
        });
        let opened = Model::open(&dir).unwrap();
        assert_eq!(scores(&opened), scores(&model));
        assert_eq!(opened.params.len(), model.params.len());
    }
}

/// Another model's numbers would be worse than none.
#[test]
fn a_checkpoint_without_a_head_is_refused_unless_it_is_tied() {
    let folder = tempfile::tempdir().unwrap();
    for (dir, promise) in [("no", json!(false)), ("silent", Value::Null)] {
        let dir = folder.path().join(dir);
        written(&llama(false), &dir, promise, |tensors| tensors.retain(|(name, _)| name != HEAD));
        let error = Model::open(&dir).unwrap_err().to_string();
        assert!(error.contains("there is no tensor lm_head.weight"), "{error}");
    }
}
