//! `amend attack`: can what a model was made to forget elsewhere be brought back?

use std::path::{Path, PathBuf};

use amend_run::file::content_hash;
use amend_run::recipe::fill;
use amend_run::{Dataset, RecipeSource};
use clap::Args;

use super::new::{forget_value, path_for};
use super::run::{self, HowArgs};
use crate::app::Exit;
use crate::area::ATTACK;
use crate::completing;
use crate::context::Context;
use crate::error::Error;
use crate::open;

const EXAMPLES: &str = "\
Examples:
  amend attack theirs --forget forget.jsonl --gold retain-only
  amend attack theirs --before original --forget forget.jsonl --retain retain.jsonl
  amend attack theirs --forget forget.jsonl --set unlearn.attack.0.optimizer.lr=1e-4

The model is measured, fine-tuned on one half of the forget set, and measured on
the other half, which the attacker never sees. With a gold model, which never
knew, or the model from before it forgot, the exit code says whether it
withstands: 0 yes, 1 no. Without either there are figures and curves, and 0.
It is a run like any other: amend resume, report and compare know it.";

/// Attack a model that forgot elsewhere
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttackArgs {
    /// The model: a Hugging Face folder or a GGUF file
    #[arg(add = completing::models())]
    model: PathBuf,
    /// Records that it is to have forgotten
    #[arg(long, value_name = "FILE")]
    forget: PathBuf,
    /// Which records of the forget file are meant, such as 'author = "Ann Lee"'
    #[arg(long, value_name = "CHOICE")]
    r#where: Option<String>,
    /// Records that it is to have kept
    #[arg(long, value_name = "FILE")]
    retain: Option<PathBuf>,
    /// A model that never knew
    #[arg(long, value_name = "DIR", add = completing::models())]
    gold: Option<PathBuf>,
    /// The model from before it forgot
    #[arg(long, value_name = "DIR", add = completing::models())]
    before: Option<PathBuf>,
    #[command(flatten)]
    how: HowArgs,
}

pub(crate) fn execute(args: AttackArgs, context: &mut Context) -> Result<Exit, Error> {
    let here = |path: &Path| toml_edit::Value::from(path_for(path, None));
    let same = |path: &PathBuf| path.canonicalize().ok() == args.model.canonicalize().ok();
    if args.before.as_ref().is_some_and(same) {
        return Err(Error::told(
            "--before is the model itself: it cannot have forgotten anything since",
            "name the model from before it forgot, or leave --before out",
        ));
    }
    // The recipe is not one that the user has written: what is wrong is said of the options.
    let models =
        [("MODEL", Some(&args.model)), ("--gold", args.gold.as_ref()), ("--before", args.before.as_ref())];
    for (option, model) in models {
        if let Some(model) = model {
            open::check_model(model).map_err(|e| e.within(option))?;
        }
    }
    if let Some(gold) = &args.gold
        && content_hash(gold)? == content_hash(&args.model)?
    {
        return Err(Error::told(
            "--gold is the model itself, or a copy: it gives away as much under attack, whatever that is",
            "name a model that never saw the forget set, or leave --gold out",
        ));
    }
    if let Some(retain) = &args.retain {
        Dataset::read(&[retain]).map_err(|e| Error::from(amend_learn::Error::from(e)).within("--retain"))?;
    }
    let before = args.before.as_deref().unwrap_or(&args.model);
    let choice = args.r#where.as_deref().map(|choice| (choice, false));
    let mut values = vec![
        ("model.path", here(before)),
        ("compare.0.model", here(&args.model)),
        ("data.forget", forget_value(&args.forget, choice, None)?),
    ];
    values.extend(args.gold.as_deref().map(|gold| ("model.gold", here(gold))));
    values.extend(args.retain.as_deref().map(|retain| ("data.retain", here(retain))));
    if args.gold.is_none() && args.before.is_none() {
        // There is nothing that it could be asked to withstand by.
        values.push(("unlearn.verdict", toml_edit::Array::new().into()));
    }
    let text = fill(ATTACK, &values).map_err(Error::plain)?;
    run::start(RecipeSource { path: "attack".into(), text }, None, args.how, context)
}
