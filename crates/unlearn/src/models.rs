//! The models of one seed: the one that is to forget, and the one that never knew.

use std::path::{Path, PathBuf};

use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Model};
use amend_learn::{Error, Pretrain, RecordEncoder, Result, pretrain};
use amend_run::{RecipePath, Run};

use crate::data::Sets;
use crate::recipe::{GivenModel, UnlearnRecipe};
use crate::stages::Stages;

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
    /// Opens or trains the models of one seed.
    pub(crate) fn prepare(
        run: &mut Run<'_>,
        recipe: &UnlearnRecipe,
        sets: &Sets,
        base: &Path,
        seed: u64,
        stages: &Stages,
    ) -> Result<Self> {
        match recipe.model.given()? {
            GivenModel::Path(path) => Self::open(recipe, path, base),
            GivenModel::Scratch(scratch) => Self::from_scratch(run, recipe, scratch, sets, seed, stages),
        }
    }

    /// Models of the shapes that those of one seed will have, with all that can be checked before anything is trained:
    /// what is on the disk is what will be used, what is to be made has random weights.
    pub(crate) fn outline(recipe: &UnlearnRecipe, sets: &Sets, base: &Path, seed: u64) -> Result<Self> {
        match recipe.model.given()? {
            GivenModel::Path(path) => Self::open(recipe, path, base),
            GivenModel::Scratch(scratch) => {
                let texts = sets.texts();
                let tokenizer = scratch.tokenizer(texts.iter().map(String::as_str))?;
                let mut model = scratch.untrained(&tokenizer, seed)?;
                recipe.engine.apply(&mut model);
                Ok(Models { gold: Some(model.clone()), base: model, base_dir: PathBuf::new(), tokenizer })
            }
        }
    }

    /// Refuses a model that forgot elsewhere and cannot be compared with the base model: one of another tokenizer or shape.
    pub(crate) fn check_same_shape(
        &self,
        path: &RecipePath,
        recipe: &UnlearnRecipe,
        base: &Path,
    ) -> Result<()> {
        let dir = path.resolve(base);
        if let Some(own) = Tokenizer::open_optional(&dir)? {
            check_same_tokens((&self.tokenizer, &self.base_dir), (&own, &dir))?;
        }
        let model = recipe.engine.open(&dir)?;
        check_sizes(&model, &self.tokenizer, &dir)?;
        model.changes_since(&self.base).map(|_| ()).map_err(|e| {
            Error::invalid(format!("{}: not of the shape of {}: {e}", dir.display(), self.base_dir.display()))
        })
    }

    fn open(recipe: &UnlearnRecipe, path: &RecipePath, base: &Path) -> Result<Self> {
        let base_dir = path.resolve(base);
        let tokenizer = Tokenizer::open(&base_dir)?;
        let open = |dir: &Path| {
            let model = recipe.engine.open(dir)?;
            check_sizes(&model, &tokenizer, dir)?;
            Ok::<_, Error>(model)
        };
        let gold = recipe.model.gold.as_ref().map(|gold| {
            let dir = gold.resolve(base);
            if let Some(own) = Tokenizer::open_optional(&dir)? {
                check_same_tokens((&tokenizer, &base_dir), (&own, &dir))?;
            }
            open(&dir)
        });
        Ok(Models { gold: gold.transpose()?, base: open(&base_dir)?, tokenizer, base_dir })
    }

    fn from_scratch(
        run: &mut Run<'_>,
        recipe: &UnlearnRecipe,
        options: &Pretrain,
        sets: &Sets,
        seed: u64,
        stages: &Stages,
    ) -> Result<Self> {
        let texts = sets.texts();
        let tokenizer = options.tokenizer(texts.iter().map(String::as_str))?;
        let encoder = RecordEncoder::new(&tokenizer, recipe.data.template.clone(), options.context);
        // What is cut is told once, when the context encodes the same records.
        let (retain, _) = encoder.encode_all(&sets.retain)?;
        let (forget, _) = encoder.encode_all(&sets.forget)?;
        let all: Vec<Example> = retain.iter().chain(&forget).cloned().collect();
        let base_dir = pretrain(run, &stages.base(), options, &recipe.engine, &tokenizer, &all, seed)?;
        let gold_dir = pretrain(run, &stages.gold(), options, &recipe.engine, &tokenizer, &retain, seed)?;
        let gold = Some(recipe.engine.open(gold_dir)?);
        Ok(Models { base: recipe.engine.open(&base_dir)?, base_dir, tokenizer, gold })
    }
}

/// Every model reads what the base model's tokenizer makes of a text, which must mean the same to it.
fn check_same_tokens(base: (&Tokenizer, &Path), other: (&Tokenizer, &Path)) -> Result<()> {
    let Some((id, [ours, theirs])) = base.0.first_difference(other.0) else { return Ok(()) };
    let spelled = |token: Option<String>| token.map_or("no token".to_owned(), |token| format!("{token:?}"));
    Err(Error::conflict_at(
        "model",
        format!(
            "[model]: `path` {} and {} have different vocabularies: token {id} is {} in the one and {} in the other; all models \
         of a run must be of one tokenizer",
            base.1.display(),
            other.1.display(),
            spelled(ours),
            spelled(theirs)
        ),
    ))
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
            assert!(error.contains("`path` here and there") && error.contains("token "), "{error}");
        }
    }
}
