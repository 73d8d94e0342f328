//! Editing: facts in a model are rewritten, and the report proves what became of them and of everything else.
//!
//! The pipeline, read from top to bottom, is [`run`]: edits → the model → what it says before → contexts → the layer, by
//! causal tracing where none is given → statistics of keys → the edits, batch by batch, with a look at the first of them →
//! what the model says after. The slot `editor` is a folder, each filler a file; what they share, the target and the
//! statistics, stands beside it.

mod area;
mod data;
mod editing;
pub mod editor;
mod forecast;
pub mod locate;
mod measure;
pub mod outcome;
mod prepare;
pub mod reading;
pub mod recipe;
mod report;
pub mod request;
mod starter;
pub mod statistics;
pub mod target;

use std::path::Path;

use amend_eval::rewrite::{Rewrites, figures};
use amend_learn::{RecordEncoder, Result, train};
use amend_run::Run;
use amend_run::method::Method;

pub use area::AREA;
pub use outcome::Outcome;
pub use recipe::EditRecipe;
pub use report::report;

use data::{Sets, base_model, write_world};
use editing::Edits;
use editor::{Editing, Memory};
use forecast::forecast;
use locate::locate;
use measure::{Asking, samples, write_samples};
use request::Request;

/// Every method of the area.
pub fn methods() -> impl Iterator<Item = &'static dyn Method> {
    Editing::METHODS.iter().copied()
}

/// Runs a recipe whose relative paths start at `base`.
///
/// # Errors
/// What is wrong with recipe, data or model; a run that is stopped.
pub fn run(recipe: &EditRecipe, base: &Path, run: &mut Run<'_>) -> Result<Outcome> {
    // What is wrong is said before anything is computed or written.
    let forecast = forecast(recipe, base, run.progress)?;
    run.progress.plan(&forecast.without(|stage| run.folder.stage_done(stage)));

    let sets = Sets::prepare(recipe, base)?;
    if let Some(world) = &recipe.data.world {
        write_world(run, recipe, world)?;
    }
    let (mut model, tokenizer, model_dir) = base_model(run, recipe, &sets, base)?;
    model.params.interrupt_by(run.stop.flag());
    sets.check(&tokenizer, &model)?;
    let encoder = RecordEncoder::new(&tokenizer, recipe.data.template.clone(), model.spec().context);
    let task = Rewrites { max_new_tokens: recipe.eval.max_new_tokens };
    let asking = Asking { task, tokenizer: &tokenizer, encoder: &encoder, items: &sets.items };
    let before = asking.measured(run, "before", &model)?;

    let contexts = prepare::contexts(run, recipe, &model, &tokenizer)?;
    let request = |(item, rewrite): (&amend_eval::Item, _)| {
        let made = Request::new(&item.id, rewrite, &contexts, &tokenizer);
        made.map_err(|e| amend_learn::Error::invalid(format!("edit {}: {e}", item.id)))
    };
    let requests: Vec<Request> = sets.items.iter().zip(&sets.rewrites).map(request).collect::<Result<_>>()?;
    let options = recipe.trace.clone().unwrap_or_default();
    let trace =
        |run: &mut Run<'_>| locate(run, "trace", &options, &model, &tokenizer, &sets.rewrites, recipe.seed);
    let traced = recipe.traces().then(|| trace(run)).transpose()?;
    let layers = prepare::layers(recipe, &model, traced.as_ref().map(|traced| traced.layer))?;
    run.folder.log(&format!("{} changes layers {layers:?}", recipe.edit.editor.name()))?;
    let bench = prepare::bench(run, recipe, &model, &model_dir, layers, &sets, &encoder)?;

    let (restored, edited_dir) = (recipe.edit.restore, run.folder.path().join("model"));
    run.once("edit", |run| -> Result<()> {
        let mut edits = Edits {
            slots: &recipe.edit,
            evaluation: &recipe.eval,
            requests: &requests,
            bench: &bench,
            asking: &asking,
            before: &before,
            base: &model,
            model: model.clone(),
            memory: Memory::default(),
            alone: Vec::new(),
        };
        train(run, Edits::steps(&recipe.edit, requests.len()), &mut edits)?;
        match restored {
            true => write_samples(run.folder.path(), "after", &edits.alone),
            false => prepare::save(&edits.model, &model_dir, &edited_dir, recipe.save_dtype),
        }
    })?;
    let (after, changes) = if restored {
        (samples(run.folder.path(), "after")?, Vec::new())
    } else {
        // Measured is what was written.
        let mut edited = recipe.engine.open(&edited_dir)?;
        edited.params.interrupt_by(run.stop.flag());
        (asking.measured(run, "after", &edited)?, edited.changes_since(&model)?)
    };
    let figures_after = figures(&task, &after, Some(&before));
    Ok(Outcome {
        editor: recipe.edit.editor.name().to_owned(),
        layers: bench.layers.clone(),
        edits: requests.len(),
        batch_size: recipe.edit.batch_size,
        restored,
        watched: recipe.eval.watched.min(requests.len()),
        traced,
        before: figures(&task, &before, Some(&before)),
        passed: recipe.require.holds(&figures_after),
        after: figures_after,
        changes,
        model: (!restored).then_some(edited_dir),
        require: recipe.require.clone(),
    })
}
