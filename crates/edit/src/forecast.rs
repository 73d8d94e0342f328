//! Everything about a run that can be known before it computes: whether it can be done at all, and about what it takes.

use std::path::Path;

use amend_engine::tensor::memory_use;
use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Model};
use amend_eval::rewrite::Rewrite;
use amend_learn::work::{Work, per_token, tokens};
use amend_learn::{RecordEncoder, Result, SaveType};
use amend_run::Progress;
use amend_run::forecast::{ArmForecast, Forecast, PlannedStage, SetForecast, Written};
use amend_run::machine::resident_memory;

use crate::data::Sets;
use crate::editing::Edits;
use crate::prepare::check_layers;
use crate::recipe::EditRecipe;

/// Bytes of a number that is computed with.
const FLOAT: u64 = 4;

/// Steps that a target's search usually takes at most, and passes of the editor beside it.
const SEARCH: usize = 25;

/// Tokens that are read to time one.
const TIMED: usize = 256;

/// Refuses what cannot be done, and says what the rest will take. Paths of the recipe start at `base`; nothing is written.
///
/// # Errors
/// What the run itself would fail with, as far as it can be known: a recipe whose parts do not go together, an edit whose
/// subject does not stand in its prompt or ends within a token, a layer that there is not.
pub(crate) fn forecast(recipe: &EditRecipe, base: &Path, progress: &dyn Progress) -> Result<Forecast> {
    recipe.check()?;
    let sets = Sets::prepare(recipe, base)?;
    let (model, tokenizer) = outline(recipe, &sets, base)?;
    sets.check(&tokenizer, &model)?;
    check_layers(recipe, &model, &recipe.edit.editor.filler().layers())?;
    let encoder = RecordEncoder::new(&tokenizer, recipe.data.template.clone(), model.spec().context);

    let mut activity = progress.begin("check", 1, "arms");
    let statement = |rewrite: &Rewrite| {
        let text = Rewrite::statement(&rewrite.prompt, &rewrite.target_new);
        Ok(Example::text(tokenizer.encode(&text, true)?))
    };
    let prompts = sets.rewrites.iter().map(statement).collect::<Result<Vec<_>>>()?;
    let context = model.spec().context;
    // Prompts in a row: of a few tokens alone, most of the time goes into reading the weights.
    let long = prompts
        .iter()
        .flat_map(|prompt| prompt.ids.iter().copied())
        .cycle()
        .take(context.min(TIMED))
        .collect();
    let per_token = per_token(&model, &[Example::text(long)])?;
    let seconds = |work: Work| work.seconds(per_token);
    let lengths = prompts.iter().map(|prompt| prompt.ids.len());
    let mut forecast =
        Forecast { sets: vec![SetForecast::of("to rewrite", lengths, context)], ..Forecast::default() };
    let mut plan = |name: &str, seconds: f64| {
        forecast.stages.push(PlannedStage { name: name.to_owned(), part: String::new(), seconds });
    };

    if let Some(scratch) = &recipe.model.scratch {
        let (learnt, _) = encoder.encode_all(&sets.learn)?;
        let trained = (scratch.epochs as usize).saturating_mul(tokens(&learnt));
        plan("base", seconds(Work { trained, ..Work::default() }));
    }
    let probes = |rewrite: &Rewrite| 1 + rewrite.paraphrases.len() + rewrite.neighbours.len();
    let probes: usize = sets.rewrites.iter().map(probes).sum();
    let mean = tokens(&prompts).div_ceil(prompts.len().max(1));
    let measured =
        Work { scored: 2 * probes * mean, written: probes * recipe.eval.max_new_tokens, ..Work::default() };
    plan("before", seconds(measured));
    if recipe.traces() {
        let options = recipe.trace.clone().unwrap_or_default();
        let restored = 3 * model.spec().layers * mean * options.draws;
        let facts = options.facts.min(prompts.len());
        plan("trace", seconds(Work { scored: facts * restored * mean, ..Work::default() }));
    }
    if recipe.edit.editor.filler().uses_statistics() {
        let text = tokens(&sets.sequences(&encoder, recipe.statistics.tokens)?);
        let layers = recipe.edit.editor.filler().layers().len().max(recipe.edit.editor.filler().span());
        plan("statistics", seconds(Work { scored: layers * text, ..Work::default() }));
    }
    let of_edit = Work { trained: SEARCH * (1 + recipe.edit.contexts) * (mean + 10), ..Work::default() };
    let steps = Edits::steps(&recipe.edit, prompts.len());
    let step_seconds = recipe.edit.batch_size.min(prompts.len()) as f64 * seconds(of_edit);
    plan("edit", steps as f64 * step_seconds);
    if !recipe.edit.restore {
        plan("after", seconds(measured));
    }

    let (weights, _) = model.params.count();
    let width = (model.spec().intermediate * model.spec().intermediate) as u64;
    let layers = recipe.edit.editor.filler().layers().len().max(recipe.edit.editor.filler().span()) as u64;
    let changing = layers as usize * model.spec().hidden * model.spec().intermediate;
    let beside = resident_memory().map_or(0, |bytes| bytes.saturating_sub(memory_use().live as u64));
    // Beside the model, the matrices that change; moments, their factors and a system of equations in f64.
    let memory = beside + FLOAT * (weights + changing) as u64 + 8 * width * (2 * layers + 2);
    forecast.arms = vec![ArmForecast {
        name: recipe.edit.editor.name().to_owned(),
        weights,
        changing,
        memory,
        step_seconds,
    }];
    forecast.memory = memory;
    forecast.checkpoints = 2 * FLOAT * changing as u64;
    if !recipe.edit.restore {
        let bytes = model.written_bytes(recipe.save_dtype.map(SaveType::dtype)) as u64;
        forecast.leaves.push(Written { what: "edited model".into(), count: 1, bytes });
    }
    if recipe.model.scratch.is_some() {
        let bytes = model.written_bytes(None) as u64;
        forecast.leaves.push(Written { what: "made model".into(), count: 1, bytes });
    }
    activity.advance(1, "");
    activity.finish("edits, model and layers go together");
    Ok(forecast)
}

/// The model to be edited, or one of random weights of the shape that it will have.
fn outline(recipe: &EditRecipe, sets: &Sets, base: &Path) -> Result<(Model, Tokenizer)> {
    match (&recipe.model.path, &recipe.model.scratch) {
        (None, Some(scratch)) => {
            let tokenizer = scratch.tokenizer(sets.texts())?;
            let mut model = scratch.untrained(&tokenizer, recipe.seed)?;
            recipe.engine.apply(&mut model);
            Ok((model, tokenizer))
        }
        (path, _) => {
            let dir = path.as_ref().map(|path| path.resolve(base)).unwrap_or_default();
            Ok((recipe.engine.open(&dir)?, Tokenizer::open(&dir)?))
        }
    }
}
