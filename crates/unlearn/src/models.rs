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
                let tokenizer = Tokenizer::open(&base_dir)?;
                let gold = source.gold.as_ref().map(|gold| {
                    let dir = gold.resolve(base);
                    if let Some(own) = Tokenizer::open_optional(&dir)? {
                        check_same_tokens((&tokenizer, &base_dir), (&own, &dir))?;
                    }
                    let gold = recipe.engine.open(&dir)?;
                    check_sizes(&gold, &tokenizer, &dir)?;
                    Ok::<_, Error>(gold)
                });
                Models { gold: gold.transpose()?, base: recipe.engine.open(&base_dir)?, tokenizer, base_dir }
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

/// The gold model reads what the base model's tokenizer makes of a text, which must mean the same to it.
fn check_same_tokens(base: (&Tokenizer, &Path), gold: (&Tokenizer, &Path)) -> Result<()> {
    let ids = base.0.vocab_size().max(gold.0.vocab_size()) as u32;
    let tokens = |id| [base.0.token_of(id), gold.0.token_of(id)];
    let Some((id, [ours, theirs])) =
        (0..ids).map(|id| (id, tokens(id))).find(|(_, [ours, theirs])| ours != theirs)
    else {
        return Ok(());
    };
    let spelled = |token: Option<String>| token.map_or("no token".to_owned(), |token| format!("{token:?}"));
    Err(Error::conflict(format!(
        "[model]: `path` {} and `gold` {} have different vocabularies: token {id} is {} in the one and {} in the other; \
         the gold model must be one of the same tokenizer",
        base.1.display(),
        gold.1.display(),
        spelled(ours),
        spelled(theirs)
    )))
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

#[cfg(test)]
mod tests {
    use amend_engine::tokenizer::train_bpe;

    use super::*;

    #[test]
    fn a_gold_model_of_another_vocabulary_is_refused_with_both_folders() {
        let trained = |text: &str, size| train_bpe([text].into_iter(), size, &[]).unwrap();
        let (one, same) = (trained("the old town by the sea", 280), trained("the old town by the sea", 280));
        let check =
            |other: &Tokenizer| check_same_tokens((&one, Path::new("here")), (other, Path::new("there")));
        assert!(check(&same).is_ok());
        for other in [trained("a writer of long novels", 280), trained("the old town by the sea", 270)] {
            let error = check(&other).unwrap_err().to_string();
            assert!(error.contains("`path` here and `gold` there") && error.contains("token "), "{error}");
        }
    }
}
