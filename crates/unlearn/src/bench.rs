//! The workbench of one seed: base model, gold model, data, all ready to be worked with.

use std::path::{Path, PathBuf};

use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Model};
use amend_learn::{Encoder, Error, Pretrain, Result, pretrain};
use amend_run::{Record, Run};

use crate::data::Sets;
use crate::measure::{Choice, Snapshot, choices, snapshot};
use crate::recipe::{GivenModel, StopRule, UnlearnRecipe, Watched};

/// Models and folders of one seed, before any record is encoded.
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

/// Everything the arms of one seed share.
pub struct Workbench<'a> {
    /// The record sets.
    pub sets: &'a Sets,
    /// How records become tokens.
    pub encoder: &'a Encoder<'a>,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The model that is to forget.
    pub base: Model,
    /// Its folder.
    pub base_dir: PathBuf,
    /// The model that never saw the forget set.
    pub gold: Option<Model>,
    /// The forget set, encoded.
    pub forget: Vec<Example>,
    /// The retain set, encoded.
    pub retain: Vec<Example>,
    /// The attacker's half, encoded.
    pub attack: Vec<Example>,
    /// The half the attacker wants back, encoded.
    pub attack_test: Vec<Example>,
    /// The forget set's right and wrong answers, encoded; empty where there are no wrong ones.
    pub choices: Vec<Choice>,
    /// Measurement of the base model.
    pub before: Snapshot,
    /// Measurement of the gold model.
    pub gold_snapshot: Option<Snapshot>,
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
        match source.given()? {
            GivenModel::Folder(path) => {
                let base_dir = path.resolve(base);
                let gold = source.gold.as_ref().map(|g| recipe.engine.open(g.resolve(base))).transpose()?;
                Ok(Models {
                    base: recipe.engine.open(&base_dir)?,
                    tokenizer: Tokenizer::open(&base_dir)?,
                    base_dir,
                    gold,
                })
            }
            GivenModel::Scratch(scratch) => Self::from_scratch(run, recipe, scratch, sets, seed, tag),
        }
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
        let encoder = Encoder::new(&tokenizer, recipe.data.template.clone(), options.context);
        // What is cut is told once, when the workbench encodes the same records.
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

/// Encodes records, and says how many were cut to the context.
fn encode(
    run: &Run<'_>,
    what: &str,
    encoder: &Encoder<'_>,
    records: &[Record],
    context: usize,
) -> Result<Vec<Example>> {
    let (examples, cut) = encoder.encode_all(records)?;
    if cut > 0 {
        run.progress.note(&format!(
            "warning: {cut} of {} records {what} are longer than the model's context of {context} tokens and were cut",
            records.len()
        ));
    }
    let unscored = examples.iter().filter(|e| e.scored_len() == 0).count();
    if unscored > 0 {
        return Err(Error::invalid(format!(
            "{unscored} of {} records have no token to score; their prompts fill the context of {context} tokens",
            records.len()
        )));
    }
    Ok(examples)
}

impl<'a> Workbench<'a> {
    /// Encodes the data and measures base and gold model.
    pub fn prepare(
        run: &mut Run<'_>,
        recipe: &UnlearnRecipe,
        sets: &'a Sets,
        encoder: &'a Encoder<'a>,
        tokenizer: &'a Tokenizer,
        models: (Model, PathBuf, Option<Model>),
        tag: &str,
    ) -> Result<Self> {
        let (base, base_dir, gold) = models;
        check_sizes(&base, tokenizer, &base_dir)?;
        let context = base.spec().context;
        let before =
            snapshot(run, &format!("{tag}base-eval"), &base, tokenizer, encoder, sets, &recipe.eval)?;
        let gold_snapshot = gold
            .as_ref()
            .map(|g| snapshot(run, &format!("{tag}gold-eval"), g, tokenizer, encoder, sets, &recipe.eval))
            .transpose()?;
        Ok(Workbench {
            forget: encode(run, "to forget", encoder, &sets.forget, context)?,
            retain: encode(run, "to keep", encoder, &sets.retain, context)?,
            attack: encode(run, "of the attack", encoder, &sets.attack, context)?,
            attack_test: encode(run, "of the attack's test", encoder, &sets.attack_test, context)?,
            choices: choices(encoder, &sets.forget_eval, recipe.eval.limit)?,
            sets,
            encoder,
            tokenizer,
            base,
            base_dir,
            gold,
            before,
            gold_snapshot,
        })
    }

    /// The value of the watched figure at which enough is forgotten.
    pub fn aim(&self, stop: &StopRule) -> Result<f64> {
        if stop.watch == Watched::Choice && self.choices.is_empty() {
            return Err(Error::invalid(
                "[stop]: watch = \"choice\" needs perturbed answers in the forget set; use \"probability\"",
            ));
        }
        Ok(stop.aim(self.gold_snapshot.as_ref()))
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
