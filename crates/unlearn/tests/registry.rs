//! Every registered method is documented and runs.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

use std::path::Path;

use amend_run::{RecipeSource, Run, RunFolder, RunInfo, Silent, Stop, load, missing_headings};
use amend_unlearn::{Outcome, UnlearnRecipe};

/// A world of few people, learnt and unlearnt in about a second.
const RECIPE: &str = r#"
method = "unlearn"
[model.scratch]
hidden = 32
layers = 2
heads = 2
kv_heads = 1
intermediate = 48
vocabulary = 400
context = 64
epochs = 2
batch_size = 8
[data.world]
people = 8
forget = 0.25
holdout = 0
[unlearn]
batch_size = 4
[optimizer]
lr = 1e-3
[stop]
below = 0.0
max_steps = 3
check_every = 1
[attack]
relearn = { steps = 2, batch_size = 4, every = 1 }
[eval]
limit = 6
max_new_tokens = 4
"#;

fn run(sets: &[&str]) -> (Outcome, tempfile::TempDir) {
    let source = RecipeSource { path: "smoke.toml".into(), text: RECIPE.into() };
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let loaded = load::<UnlearnRecipe>(source, &sets).unwrap_or_else(|e| panic!("{sets:?}: {e}"));
    let scratch = tempfile::tempdir().unwrap();
    let folder =
        RunFolder::create(&scratch.path().join("run"), &loaded.resolved, RunInfo::default()).unwrap();
    let mut run = Run::new(folder, &Silent, Stop::default()).unwrap();
    let outcome = amend_unlearn::run(&loaded.recipe, Path::new("."), &mut run)
        .unwrap_or_else(|e| panic!("{sets:?}: {e}"));
    (outcome, scratch)
}

#[test]
fn every_method_is_documented() {
    for method in amend_unlearn::methods() {
        let missing = missing_headings(&method.doc());
        assert!(missing.is_empty(), "{}/{} lacks {missing:?}", method.slot(), method.name());
    }
}

#[test]
fn every_method_runs() {
    for method in amend_unlearn::methods().filter(|m| m.slot() != "attack") {
        let filler = format!("unlearn.{}={}", method.slot(), method.name());
        let mut sets = vec![filler.as_str()];
        if method.name() == "none" {
            sets.push("unlearn.combine=sum");
        }
        let (outcome, _folder) = run(&sets);
        assert_eq!(outcome.seeds[0].arms[0].unlearned.steps, 3, "{filler}");
        let changed = outcome.seeds[0].arms[0].changes.iter().filter(|c| c.change > 0.0).count();
        assert!(changed > 0, "{filler} changed nothing");
    }
}

#[test]
fn chosen_layers_are_the_only_ones_to_change() {
    let (outcome, _folder) =
        run(&["unlearn.where={ name = \"layers\", layers = [1], modules = [\"down_proj\"] }"]);
    for change in &outcome.seeds[0].arms[0].changes {
        assert_eq!(
            change.change > 0.0,
            change.name == "model.layers.1.mlp.down_proj.weight",
            "{}",
            change.name
        );
    }
}

#[test]
fn an_adapter_is_written_beside_the_merged_model() {
    let (outcome, _folder) = run(&["unlearn.where=lora"]);
    let model = &outcome.seeds[0].arms[0].model;
    assert!(model.join("model.safetensors").exists());
    let adapter = amend_engine::checkpoint::Adapter::open(model.with_file_name("model-adapter")).unwrap();
    assert_eq!(adapter.tensors.len(), 2 * 7);
}

#[test]
fn no_update_ever_opposes_retention() {
    let (_, folder) = run(&["unlearn.compare=[\"sum\", \"pcgrad\", \"sago\"]", "stop.max_steps=8"]);
    let rows = amend_run::Rows::read(&folder.path().join("run"), amend_run::rows::METRICS).unwrap();
    let mut steps = 0;
    for row in rows.iter().filter(|r| r.stage.ends_with("-unlearn")) {
        let number = |key: &str| row.values[key].as_f64().unwrap();
        if row.stage.starts_with("sago") {
            assert_eq!(number("opposed"), 0.0, "step {}", row.step);
            steps += 1;
        }
        if !row.stage.starts_with("sum") {
            assert!(number("cos_update_retain") >= -1e-6, "{} step {}", row.stage, row.step);
        }
    }
    assert_eq!(steps, 8);
}

/// Numbers without a meaning are refused by name, before anything is divided by them.
#[test]
fn sizes_of_zero_are_refused() {
    for key in [
        "model.scratch.batch_size=0",
        "model.scratch.epochs=0",
        "model.scratch.heads=0",
        "unlearn.batch_size=0",
    ] {
        let source = RecipeSource { path: "smoke.toml".into(), text: RECIPE.into() };
        let error = load::<UnlearnRecipe>(source, &[key.to_owned()]).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("at least 1"), "{key}: {error}");
    }
    let source = RecipeSource { path: "smoke.toml".into(), text: RECIPE.into() };
    let zero = "unlearn.forget={ name = \"npo\", beta = 0.0 }".to_owned();
    assert!(load::<UnlearnRecipe>(source, &[zero]).is_err());
}
