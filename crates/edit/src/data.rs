//! What a run reads: edits, and the texts that a model learns and statistics are taken of.

use std::path::Path;

use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Model};
use amend_eval::Item;
use amend_eval::rewrite::{Rewrite, Rewrites};
use amend_eval::world::{Split, World, WorldConfig, jsonl};
use amend_interpret::subject_tokens;
use amend_learn::{Error, RecordEncoder, Result, pretrain};
use amend_run::file::write_atomic;
use amend_run::records::{Chosen, ReadOptions, Row, Rows};
use amend_run::{Content, Dataset, Record, Run};

use crate::recipe::EditRecipe;

/// The edits of a run, and its texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sets {
    /// The edits as items, which they are asked about as.
    pub(crate) items: Vec<Item>,
    /// The same, understood.
    pub(crate) rewrites: Vec<Rewrite>,
    /// What a model made on the spot learns.
    pub(crate) learn: Vec<Record>,
    /// What statistics are taken of.
    pub(crate) text: Vec<Record>,
}

impl Sets {
    /// Reads or makes the data, whose files' paths start at `base`.
    pub(crate) fn prepare(recipe: &EditRecipe, base: &Path) -> Result<Self> {
        let data = &recipe.data;
        let records = |chosen: &Chosen| -> Result<Vec<Record>> {
            let records = Dataset::read(&[chosen.resolve(base)])?.records;
            let Some(filter) = chosen.filter() else { return Ok(records) };
            let [meant, _] =
                filter.split(records).map_err(|e| Error::invalid(format!("{}: {e}", chosen.path())))?;
            Ok(meant)
        };
        let (mut items, learn) = match (&data.world, &data.edits) {
            (Some(config), _) => {
                let world = world(config, recipe.seed)?;
                let rows = rewrites(&world, recipe).iter().map(Row::from).collect();
                let text = world_lines(&world)?;
                let facts = text.lines().map(|line| {
                    let row = serde_json::from_str::<Row>(line).map_err(|e| Error::invalid(e.to_string()))?;
                    Record::try_from(row).map_err(Error::invalid)
                });
                (Rewrites::items_of(rows, "world")?, facts.collect::<Result<_>>()?)
            }
            (None, Some(edits)) => {
                let rows = Rows::read(&[edits.resolve(base)], &ReadOptions::default())?.rows;
                let refused = |e: String| Error::invalid(format!("{}: {e}", edits.path()));
                let meant = match edits.filter() {
                    Some(filter) => filter.split_rows(rows).map_err(refused)?[0].clone(),
                    None => rows,
                };
                let learn = data.learn.as_ref().map(records).transpose()?.unwrap_or_default();
                (Rewrites::items_of(meant, edits.path().as_str())?, learn)
            }
            (None, None) => return Err(Error::conflict("[data]: `edits` is missing")),
        };
        items.truncate(data.limit.unwrap_or(usize::MAX));
        let rewrites = items.iter().map(Rewrites::rewrite).collect::<Result<_>>()?;
        let text = data.text.as_ref().map(records).transpose()?.unwrap_or_else(|| learn.clone());
        Ok(Sets { items, rewrites, learn, text })
    }

    /// Refuses an edit that the model cannot be asked for: whose prompt and target it cannot read at once, or whose subject
    /// ends within a token.
    pub(crate) fn check(&self, tokenizer: &Tokenizer, model: &Model) -> Result<()> {
        let context = model.spec().context;
        for (item, rewrite) in self.items.iter().zip(&self.rewrites) {
            let prompts = std::iter::once(&rewrite.prompt).chain(&rewrite.paraphrases);
            for prompt in prompts {
                let text = Rewrite::statement(prompt, &rewrite.target_new);
                let encoded = tokenizer.encode_offsets(&text, true)?;
                let refused = |reason: String| Error::invalid(format!("edit {}: {reason}", item.id));
                if encoded.ids.len() > context {
                    let tokens = encoded.ids.len();
                    return Err(refused(format!(
                        "{prompt:?} with its target has {tokens} tokens, and the model reads {context}"
                    )));
                }
                if std::ptr::eq(prompt, &rewrite.prompt) {
                    subject_tokens(&text, &encoded, rewrite.place.clone())
                        .map_err(|e| refused(e.to_string()))?;
                }
            }
        }
        Ok(())
    }

    /// The texts of which statistics are taken, as tokens: so many of them, from the beginning.
    pub(crate) fn sequences(&self, encoder: &RecordEncoder<'_>, tokens: usize) -> Result<Vec<Example>> {
        let (mut all, mut left) = (Vec::new(), tokens);
        for record in &self.text {
            if left == 0 {
                break;
            }
            let mut example = encoder.encode_all(std::slice::from_ref(record))?.0.remove(0);
            example.truncate(left);
            left -= example.ids.len();
            all.push(example);
        }
        Ok(all)
    }

    /// All text that a tokenizer is trained on.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.learn.iter().flat_map(|record| match &record.content {
            Content::Question { question, answer } => vec![question.as_str(), answer],
            Content::PromptCompletion { prompt, completion } => vec![prompt.as_str(), completion],
            Content::Messages(turns) => turns.iter().map(|turn| turn.content.as_str()).collect(),
            Content::Text(text) => vec![text.as_str()],
        })
    }
}

/// A world makes one file of facts to learn: those that are to be rewritten among them.
fn world_lines(world: &World) -> Result<String> {
    let mut facts = world.records(Split::Forget);
    facts.extend(world.records(Split::Retain));
    jsonl(&facts).map_err(|e| Error::invalid(e.to_string()))
}

fn world(config: &WorldConfig, seed: u64) -> Result<World> {
    let config = WorldConfig { seed, ..config.clone() };
    World::generate(config).map_err(|e| Error::invalid(format!("[data.world]: {e}")))
}

/// The world's edits, asked in the frame in which questions are learnt.
fn rewrites(world: &World, recipe: &EditRecipe) -> Vec<Rewrite> {
    let template = &recipe.data.template;
    let asked =
        |prompt: &str| format!("{}{prompt}{}", template.before, template.between).trim_end().to_owned();
    world.rewrites(Split::Forget, asked)
}

/// Writes the world into the run folder, so that a run on one's own files can start from what this one used.
pub(crate) fn write_world(run: &Run<'_>, recipe: &EditRecipe, config: &WorldConfig) -> Result<()> {
    let dir = run.folder.path().join("data");
    std::fs::create_dir_all(&dir).map_err(|e| amend_engine::Error::io(&dir, "cannot create", e))?;
    let world = world(config, recipe.seed)?;
    write_atomic(&dir.join("learn.jsonl"), world_lines(&world)?.as_bytes())?;
    let line = |rewrite: &Rewrite| serde_json::Value::Object(Row::from(rewrite)).to_string() + "\n";
    let edits: String = rewrites(&world, recipe).iter().map(line).collect();
    Ok(write_atomic(&dir.join("edits.jsonl"), edits.as_bytes())?)
}

/// The model to be edited, its tokenizer and its folder: opened, or trained as the stage `base`.
pub(crate) fn base_model(
    run: &mut Run<'_>,
    recipe: &EditRecipe,
    sets: &Sets,
    base: &Path,
) -> Result<(Model, Tokenizer, std::path::PathBuf)> {
    let dir = match (&recipe.model.path, &recipe.model.scratch) {
        (Some(path), _) => path.resolve(base),
        (None, Some(scratch)) => {
            let tokenizer = scratch.tokenizer(sets.texts())?;
            let encoder = RecordEncoder::new(&tokenizer, recipe.data.template.clone(), scratch.context);
            let (examples, _) = encoder.encode_all(&sets.learn)?;
            pretrain(run, "base", scratch, &recipe.engine, &tokenizer, &examples, recipe.seed)?
        }
        (None, None) => return Err(Error::conflict("[model]: `path` is missing")),
    };
    let (model, tokenizer) = (recipe.engine.open(&dir)?, Tokenizer::open(&dir)?);
    Ok((model, tokenizer, dir))
}
