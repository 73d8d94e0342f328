//! The models of one seed: the one that is to forget, and the one that never knew.

use std::path::{Path, PathBuf};

use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Model};
use amend_learn::{Error, Pretrain, RecordEncoder, Result, pretrain};
use amend_run::Run;

use crate::data::Sets;
use crate::recipe::{GivenModel, UnlearnRecipe};

/// The models of one seed.
pub struct Models {
    /// The model that is to forget.
    pub base: Model,
    /// Its folder.
    pub base_dir: PathBuf,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The model that never saw the forget set.
    pub gold: Option<Model>,
}

impl Models {
    /// Opens or trains the models of one seed; stage names start with `tag`.
    pub fn prepare(
        run: &mut Run<'_>,
        recipe: &UnlearnRecipe,
        sets: &Sets,
        base: &Path,
        seed: u64,
        tag: &str,
    ) -> Result<Self> {
        let source = &recipe.model;
        let models = match source.given()? {
            GivenModel::Path(path) => {
                let base_dir = path.resolve(base);
                let gold = source.gold.as_ref().map(|g| recipe.engine.open(g.resolve(base))).transpose()?;
                Models {
                    base: recipe.engine.open(&base_dir)?,
                    tokenizer: Tokenizer::open(&base_dir)?,
                    base_dir,
                    gold,
                }
            }
            GivenModel::Scratch(scratch) => Self::from_scratch(run, recipe, scratch, sets, seed, tag)?,
        };
        check_sizes(&models.base, &models.tokenizer, &models.base_dir)?;
        Ok(models)
    }

    fn from_scratch(
        run: &mut Run<'_>,
        recipe: &UnlearnRecipe,
        options: &Pretrain,
        sets: &Sets,
        seed: u64,
        tag: &str,
    ) -> Result<Self> {
        let texts = sets.texts();
        let tokenizer = options.tokenizer(texts.iter().map(String::as_str))?;
        let encoder = RecordEncoder::new(&tokenizer, recipe.data.template.clone(), options.context);
        // What is cut is told once, when the context encodes the same records.
        let (retain, _) = encoder.encode_all(&sets.retain)?;
        let (forget, _) = encoder.encode_all(&sets.forget)?;
        let all: Vec<Example> = retain.iter().chain(&forget).cloned().collect();
        let base_dir = pretrain(run, &format!("{tag}base"), options, &recipe.engine, &tokenizer, &all, seed)?;
        let gold_dir =
            pretrain(run, &format!("{tag}gold"), options, &recipe.engine, &tokenizer, &retain, seed)?;
        let gold = Some(recipe.engine.open(gold_dir)?);
        Ok(Models { base: recipe.engine.open(&base_dir)?, base_dir, tokenizer, gold })
    }
}

/// A tokenizer that makes ids the model has no embedding for cannot be its own.
fn check_sizes(model: &Model, tokenizer: &Tokenizer, dir: &Path) -> Result<()> {
    let (tokens, rows) = (tokenizer.vocab_size(), model.spec().vocabulary);
    if tokens <= rows {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{}: the tokenizer has {tokens} tokens but the embedding only {rows} rows; they do not belong together",
        dir.display()
    )))
}
