//! What an editor needs before the first edit: contexts, layers, statistics; and where the model goes after the last.

use std::collections::BTreeMap;
use std::path::Path;

use amend_engine::Model;
use amend_engine::generate::{GenerateOptions, Sampling};
use amend_engine::tokenizer::Tokenizer;
use amend_learn::{Error, RecordEncoder, Result, SaveType};
use amend_run::Run;
use amend_run::file::content_hash;

use crate::data::Sets;
use crate::editor::Bench;
use crate::recipe::EditRecipe;
use crate::statistics::{Origin, Statistics, read, second_moment, write};

/// Tokens of a context: of one half of them, of the other.
const LENGTHS: [usize; 2] = [5, 10];

/// Contexts are drawn among so many first choices, as ROME's are.
const TOP_K: usize = 5;

/// The contexts behind which edits are to hold, none of them first: beginnings that the model writes by itself.
pub(crate) fn contexts(
    run: &mut Run<'_>,
    recipe: &EditRecipe,
    model: &Model,
    tokenizer: &Tokenizer,
) -> Result<Vec<String>> {
    let wanted = recipe.edit.contexts;
    let mut all = vec![String::new()];
    if wanted == 0 {
        return Ok(all);
    }
    let written: Vec<String> = run.once("contexts", |_| -> Result<Vec<String>> {
        let begin = tokenizer.bos().or(tokenizer.eos()).ok_or_else(|| {
            Error::conflict(
                "[edit]: the tokenizer has no token to begin a text with, so that the model cannot write contexts; set \
                 `contexts = 0`",
            )
        })?;
        let mut texts = Vec::new();
        for (half, length) in LENGTHS.into_iter().enumerate() {
            let samples = if half == 0 { wanted.div_ceil(2) } else { wanted / 2 };
            if samples == 0 {
                continue;
            }
            let options = GenerateOptions {
                max_new_tokens: length,
                samples,
                sampling: Sampling {
                    temperature: 1.0,
                    top_k: TOP_K,
                    seed: recipe.seed.wrapping_add(half as u64),
                    ..Sampling::default()
                },
                stop_ids: tokenizer.eos_ids().to_vec(),
                ..GenerateOptions::default()
            };
            for generated in model.generate(&[vec![begin]], &options)?.into_iter().flatten() {
                texts.push(tokenizer.decode(&generated.ids, true)?.trim().to_owned());
            }
        }
        Ok(texts)
    })?;
    // A model that ends at once has written nothing to stand behind.
    all.extend(written.into_iter().filter(|text| !text.is_empty()));
    Ok(all)
}

/// The layers to change: those that are given, or those up to the one that was traced.
pub(crate) fn layers(recipe: &EditRecipe, model: &Model, traced: Option<usize>) -> Result<Vec<usize>> {
    let editor = recipe.edit.editor.filler();
    let given = editor.layers();
    let layers = match (given.is_empty(), traced) {
        (false, _) => given,
        (true, Some(last)) => (last + 1 - editor.span().min(last + 1)..last + 1).collect(),
        (true, None) => return Err(Error::conflict("[edit]: no layer is given, and none was traced")),
    };
    check_layers(recipe, model, &layers)?;
    Ok(layers)
}

/// Refuses layers that there are not, or that the editor cannot change.
pub(crate) fn check_layers(recipe: &EditRecipe, model: &Model, layers: &[usize]) -> Result<()> {
    let (editor, name) = (recipe.edit.editor.filler(), recipe.edit.editor.name());
    for &layer in layers {
        let refused =
            |e: amend_engine::Error| Error::conflict_at("edit.editor", format!("[edit]: `{name}`: {e}"));
        model.down_projection(layer).map_err(refused)?;
    }
    if editor.sets_values() && model.spec().names.block.after_mlp.is_some() {
        return Err(Error::conflict_at(
            "edit.editor",
            format!(
                "[edit]: models of this family have a norm behind the feed-forward, which no value written there would pass \
             unchanged; `{name}` does not know how to edit them, `ft-l` does"
            ),
        ));
    }
    Ok(())
}

/// Layers and statistics. These are taken once in the life of a run and kept in its folder `statistics`.
pub(crate) fn bench(
    run: &mut Run<'_>,
    recipe: &EditRecipe,
    model: &Model,
    model_dir: &Path,
    layers: Vec<usize>,
    sets: &Sets,
    encoder: &RecordEncoder<'_>,
) -> Result<Bench> {
    let mut bench = Bench { layers, statistics: BTreeMap::new() };
    if !recipe.edit.editor.filler().uses_statistics() {
        return Ok(bench);
    }
    let dir = run.folder.path().join("statistics");
    let texts = sets.sequences(encoder, recipe.statistics.tokens)?;
    let model_hash = content_hash(model_dir).map_err(amend_run::RunError::from)?;
    let text = text_hash(&texts);
    let layers = bench.layers.clone();
    run.once("statistics", |run| -> Result<()> {
        let mut bar = run.progress.begin("statistics", layers.len() as u64, "layers");
        for &layer in &layers {
            run.check_stop()?;
            let origin = Origin { model: model_hash.clone(), layer, text: text.clone() };
            if read(&dir, &origin)?.is_none() {
                write(&dir, &origin, &second_moment(model, layer, &texts)?)?;
            }
            bar.advance(1, "");
        }
        bar.finish(&format!("{} layers", layers.len()));
        Ok(())
    })?;
    for &layer in &bench.layers {
        let origin = Origin { model: model_hash.clone(), layer, text: text.clone() };
        let moment = read(&dir, &origin)?.ok_or_else(|| {
            Error::invalid(format!(
                "{}: the statistics of layer {layer} are gone, or of another model; start a new run",
                dir.display()
            ))
        })?;
        bench.statistics.insert(layer, Statistics::new(moment, recipe.statistics.ridge));
    }
    Ok(bench)
}

/// SHA-256 of token sequences.
fn text_hash(texts: &[amend_engine::Example]) -> String {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend((text.ids.len() as u64).to_le_bytes());
        bytes.extend(text.ids.iter().flat_map(|id| id.to_le_bytes()));
    }
    amend_run::file::sha256(&bytes)
}

/// Writes the edited model, in the place of what an interrupted attempt left.
pub(crate) fn save(model: &Model, base_dir: &Path, dir: &Path, dtype: Option<SaveType>) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(|e| amend_engine::Error::io(dir, "cannot replace", e))?;
    }
    Ok(model.save(dir, Some(base_dir), dtype.map(SaveType::dtype))?)
}
