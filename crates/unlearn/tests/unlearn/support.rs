//! Runs of a recipe that takes about a second.

use std::path::Path;

use amend_run::recipe::Loaded;
use amend_run::{Progress, RecipeSource, Run, RunFolder, RunInfo, Silent, Stop, load};
use amend_unlearn::{Outcome, UnlearnRecipe};

/// A world of few people, learnt and unlearnt in about a second.
pub(crate) const RECIPE: &str = r#"
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
attack = [{ name = "relearn", steps = 2, batch_size = 4, every = 1 }]
[optimizer]
lr = 1e-3
[stop]
below = 0.0
max_steps = 3
check_every = 1
[eval]
limit = 6
max_new_tokens = 4
"#;

/// A recipe with some of its values replaced.
pub(crate) fn recipe(sets: &[&str]) -> Loaded<UnlearnRecipe> {
    let source = RecipeSource { path: "smoke.toml".into(), text: RECIPE.into() };
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    load(source, &sets).unwrap_or_else(|e| panic!("{sets:?}: {e}"))
}

/// Runs a recipe with some of its values replaced, in the folder `run` of the one that is returned.
pub(crate) fn run(sets: &[&str]) -> (Outcome, tempfile::TempDir) {
    let loaded = recipe(sets);
    let scratch = tempfile::tempdir().unwrap();
    let folder = create(&scratch.path().join("run"), &loaded);
    let outcome = carry_out(folder, &loaded, &Silent, Stop::default());
    (outcome.unwrap_or_else(|e| panic!("{sets:?}: {e}")), scratch)
}

/// A new run folder.
pub(crate) fn create(dir: &Path, loaded: &Loaded<UnlearnRecipe>) -> RunFolder {
    RunFolder::create(dir, &loaded.resolved, RunInfo::default()).unwrap()
}

/// Goes through a run from where its folder says it is.
pub(crate) fn carry_out(
    folder: RunFolder,
    loaded: &Loaded<UnlearnRecipe>,
    progress: &dyn Progress,
    stop: Stop,
) -> amend_learn::Result<Outcome> {
    let mut run = Run::new(folder, progress, stop).unwrap();
    run.checkpoint_every = std::time::Duration::ZERO;
    amend_unlearn::run(&loaded.recipe, Path::new("."), &mut run)
}
