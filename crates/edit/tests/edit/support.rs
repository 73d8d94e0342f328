//! Runs of a recipe that takes about a second.

use std::path::Path;

use amend_edit::{EditRecipe, Outcome};
use amend_run::recipe::Loaded;
use amend_run::{Progress, RecipeSource, Run, RunFolder, RunInfo, Silent, Stop, load};

/// A world of few people, learnt for a moment and rewritten.
pub(crate) const RECIPE: &str = r#"
method = "edit"
[model.scratch]
hidden = 32
layers = 3
heads = 2
kv_heads = 1
intermediate = 48
vocabulary = 400
context = 64
epochs = 2
batch_size = 8
[data.world]
people = 8
forget = 0.625
holdout = 0
min_facts = 8
max_facts = 8
[edit]
editor = { name = "rome", layer = 1, target = { steps = 4 } }
contexts = 2
[trace]
facts = 2
draws = 2
[statistics]
tokens = 600
[eval]
max_new_tokens = 4
watched = 2
check_every = 2
"#;

/// Editors that take moments.
pub(crate) const EDITORS: [&str; 4] = [
    "{ name = \"rome\", layer = 1, target = { steps = 4 } }",
    "{ name = \"memit\", layers = [0, 1], lambda = 10.0, target = { steps = 4 } }",
    "{ name = \"alpha-edit\", layers = [0, 1], threshold = 10.0, target = { steps = 4 } }",
    "{ name = \"ft-l\", layer = 1, steps = 3 }",
];

/// A recipe with some of its values replaced.
pub(crate) fn recipe(sets: &[&str]) -> Loaded<EditRecipe> {
    let source = RecipeSource { path: "smoke.toml".into(), text: RECIPE.into() };
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    load(source, &sets).unwrap_or_else(|e| panic!("{sets:?}: {e}"))
}

/// Runs a recipe with some of its values replaced, in the folder `run` of the one that is returned.
pub(crate) fn run(sets: &[&str]) -> (Outcome, tempfile::TempDir) {
    let (outcome, folder) = attempt(sets);
    (outcome.unwrap_or_else(|e| panic!("{sets:?}: {e}")), folder)
}

/// The same where it may fail.
pub(crate) fn attempt(sets: &[&str]) -> (amend_learn::Result<Outcome>, tempfile::TempDir) {
    let loaded = recipe(sets);
    let scratch = tempfile::tempdir().unwrap();
    let folder = create(&scratch.path().join("run"), &loaded);
    (carry_out(folder, &loaded, &Silent, Stop::default()), scratch)
}

/// A new run folder.
pub(crate) fn create(dir: &Path, loaded: &Loaded<EditRecipe>) -> RunFolder {
    RunFolder::create(dir, &loaded.resolved, RunInfo::default()).unwrap()
}

/// Goes through a run from where its folder says it is.
pub(crate) fn carry_out(
    folder: RunFolder,
    loaded: &Loaded<EditRecipe>,
    progress: &dyn Progress,
    stop: Stop,
) -> amend_learn::Result<Outcome> {
    let mut run = Run::new(folder, progress, stop).unwrap();
    run.checkpoint_every = std::time::Duration::ZERO;
    amend_edit::run(&loaded.recipe, Path::new("."), &mut run)
}
