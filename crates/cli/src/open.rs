//! Opening what a command works on: a model's folder or file, its tokenizer, an adapter.

use std::path::{Path, PathBuf};

use amend_engine::Model;
use amend_engine::checkpoint::Checkpoint;
use amend_engine::generate::{Session, SessionOptions};
use amend_engine::models::Adapter;
use amend_engine::tokenizer::{Tokenizer, configured_ids};
use amend_run::folder::read_state;
use amend_run::shell;
use clap::Args;
use serde_json::Map;

use crate::completing;
use crate::error::{Error, Topic};
use crate::precision::PrecisionArgs;
use crate::token_ids;

/// Which model a command works on.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// The model: a folder with config.json, safetensors weights and, for texts, tokenizer.json; or a
    /// GGUF file
    #[arg(value_name = "MODEL", add = completing::models())]
    pub(crate) model: PathBuf,
    /// Folder of an adapter to put on the model: LoRA in PEFT's format, Shift-FFN, or both
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
}

/// A model that is ready to run.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The model, with its adapter where one was given.
    pub(crate) model: Model,
    /// Its tokenizer, where there is one.
    pub(crate) tokenizer: Option<Tokenizer>,
    dir: PathBuf,
}

impl Opened {
    /// Opens the model and checks that its parts fit together.
    pub(crate) fn open(args: &ModelArgs) -> Result<Self, Error> {
        refuse_run(&args.model)?;
        let mut model = Model::open(&args.model)?;
        let tokenizer = Tokenizer::open_optional(&args.model)?;
        if let Some(tokenizer) = &tokenizer {
            check_sizes(tokenizer.path(), tokenizer.vocab_size(), &args.model, model.spec().vocabulary)?;
            let template = if tokenizer.has_chat_template() { "with a" } else { "without a" };
            tracing::info!(
                "{}: tokenizer of {} tokens, {template} chat template",
                tokenizer.path().display(),
                tokenizer.vocab_size()
            );
        }
        if let Some(dir) = &args.adapter {
            let adapter = Adapter::open(dir)?;
            model.attach_adapter(&adapter).map_err(|e| {
                Error::from(e).within(format!("{} does not fit {}", dir.display(), args.model.display()))
            })?;
        }
        args.precision.apply(&mut model);
        Ok(Opened { model, tokenizer, dir: args.model.clone() })
    }

    /// Fails where an id has no row in the model's embedding.
    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<(), Error> {
        token_ids::check(ids, &self.dir, self.model.spec().vocabulary)
    }

    /// The tokenizer, which working with texts needs.
    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer.as_ref().ok_or_else(|| {
            Error::told(
                if self.dir.is_dir() {
                    format!(
                        "{}: the folder has no tokenizer.json, so texts cannot be read",
                        self.dir.display()
                    )
                } else {
                    format!("{}: the file holds no tokenizer, so texts cannot be read", self.dir.display())
                },
                "give token ids with --ids, or copy the tokenizer's files into the model's folder",
            )
            .about(Topic::Missing)
        })
    }

    /// A session on the model, which tells text where there is a tokenizer.
    pub(crate) fn session(&self, options: SessionOptions) -> Session<'_> {
        let session = Session::new(&self.model, options);
        match &self.tokenizer {
            Some(tokenizer) => session.with_tokenizer(tokenizer),
            None => session,
        }
    }

    /// Every token that ends a generated text: what the tokenizer says, or the model's own files where there is none.
    pub(crate) fn stop_ids(&self) -> Vec<u32> {
        if let Some(tokenizer) = &self.tokenizer {
            return tokenizer.eos_ids().to_vec();
        }
        let nothing = Map::new();
        let generation = self.model.generation_config().unwrap_or(&nothing);
        configured_ids("eos_token_id", [generation, self.model.config()])
    }
}

/// Looks at a model without loading it: at the headers of its weights, and at its tokenizer.
pub(crate) fn check_model(path: &Path) -> Result<(), Error> {
    refuse_run(path)?;
    Checkpoint::open(path)?;
    Tokenizer::open(path)?;
    Ok(())
}

/// Fails where `path` is the folder of a run, and names the models in it.
pub(crate) fn refuse_run(path: &Path) -> Result<(), Error> {
    // A model may have been put into the folder beside the run's files.
    if path.join("config.json").exists() || read_state(path).is_err() {
        return Ok(());
    }
    let several = std::fs::read_dir(path.join("models")).into_iter().flatten().flatten();
    let mut models: Vec<PathBuf> = several.map(|entry| entry.path()).collect();
    models.sort();
    models.insert(0, path.join("model"));
    models.retain(|model| model.join("config.json").is_file());
    let names: Vec<String> = models.iter().map(|model| model.display().to_string()).collect();
    let hint = match names.as_slice() {
        [] => format!("it has written none yet; `amend report {}` says how far it is", shell::path(path)),
        [one] => format!("its model is {one}"),
        several => format!("its models are\n  {}", several.join("\n  ")),
    };
    Err(Error::told(format!("{} is the folder of a run, not a model", path.display()), hint))
}

/// A padded embedding has rows that no token uses, which is fine; a token without a row is not.
fn check_sizes(tokenizer: &Path, tokens: usize, model: &Path, rows: usize) -> Result<(), Error> {
    if tokens <= rows {
        return Ok(());
    }
    Err(Error::told(
        format!(
            "{} has {tokens} tokens, but the embedding in {} has only {rows} rows",
            tokenizer.display(),
            model.display()
        ),
        "take the tokenizer that came with the model, or resize the model's embedding",
    ))
}
