//! `amend new unlearn --entity`: the records are what the model itself says.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use amend_learn::{RecordEncoder, Template};
use amend_run::Figure;
use amend_unlearn::entity::{Interview, Told, kept};
use serde_json::{Value, json};

use super::NewArgs;
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::open::{self, ModelArgs, Opened};
use crate::precision::PrecisionArgs;

/// Neighbours that are asked about where none is named.
const NEIGHBOURS: usize = 4;

/// The files that were made.
pub(super) struct Made {
    /// What the model says about the entity.
    pub(super) forget: PathBuf,
    /// What it says about the neighbours.
    pub(super) retain: PathBuf,
    /// What there is to tell about them.
    pub(super) told: Value,
}

/// Asks the model about the entity that is named, where one is, and writes what it says beside the recipe.
pub(super) fn make(args: &NewArgs, context: &mut Context) -> Result<Option<Made>, Error> {
    let Some(entity) = args.entity.as_deref().map(str::trim) else { return Ok(None) };
    let (Some(model), Some(out)) = (&args.model, &args.out) else {
        return Err(Error::told("--entity: the model has to be asked", "give --model and --out"));
    };
    let names = || args.neighbour.iter().map(String::as_str).chain([entity]);
    if names().any(|name| name.trim().is_empty()) {
        return Err(Error::plain("--entity and --neighbour: a name is empty"));
    }
    if let Some(same) = args.neighbour.iter().find(|name| name.trim().eq_ignore_ascii_case(entity.trim())) {
        return Err(Error::plain(format!("--neighbour {}: that is what is to be forgotten", same.trim())));
    }
    let [forget, retain] = ["forget", "retain"].map(|set| beside(out, set));
    for file in [out, &forget, &retain] {
        if file.exists() {
            let message = format!("{} exists", file.display());
            return Err(Error::told(message, "choose another --out").about(Topic::Output));
        }
    }
    // What else is wrong is said before the model is asked.
    if let Some(gold) = &args.gold {
        open::check_model(gold).map_err(|e| e.within("--gold"))?;
    }
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        let message = format!("{}: there is no such folder", folder.display());
        return Err(Error::told(message, "create it, or choose another --out").about(Topic::Output));
    }
    let precision = PrecisionArgs::default();
    let opened = Opened::open(&ModelArgs { model: model.clone(), adapter: None, precision })
        .map_err(|e| e.within("--model"))?;
    let tokenizer = opened.tokenizer()?;
    let encoder = RecordEncoder::new(tokenizer, Template::default(), opened.model.spec().context);
    let interview = Interview::new(&opened.model, tokenizer, &encoder, context.progress.as_ref());

    let named_by_user = !args.neighbour.is_empty();
    let neighbours = match named_by_user {
        true => args.neighbour.iter().map(|name| name.trim().to_owned()).collect(),
        false => interview.neighbours(entity, NEIGHBOURS)?,
    };
    if neighbours.is_empty() {
        return Err(Error::told(
            format!("the model names nobody and nothing like {entity}, so that there is nothing to keep"),
            "name some with --neighbour, best those that are easily confused with it",
        ));
    }
    let told = interview.about(entity)?;
    if told.is_empty() {
        return Err(Error::plain(format!("the model says nothing about {entity}")));
    }
    let mut others = Vec::new();
    for neighbour in &neighbours {
        others.extend(interview.about(neighbour)?);
    }
    let others = kept(entity, others)?;
    let [known, invented, more] = interview.lift(entity)?;
    write(&forget, &told)?;
    write(&retain, &others)?;

    let asked = if named_by_user { "" } else { ", which the model named; --neighbour names better ones" };
    context.console.note(&format!(
        "wrote {}: {} answers about {entity}, and {}: {} about {}{asked}",
        forget.display(),
        told.len(),
        retain.display(),
        others.len(),
        neighbours.join(", ")
    ));
    if more.n == 0 {
        context.console.warn(&format!(
            "the model's context has no room for what it says of {entity} and of a made-up name: whether it knows anything to \
             forget was not measured"
        ));
    } else if !is_positive(&more) {
        context.console.warn(&format!(
            "what the model says of {entity} hangs on that name no more ({known} nats per token) than what it makes up hangs on a \
             made-up one ({invented}): it may know nothing to forget. Read what it says in {}",
            forget.display()
        ));
    }
    let told = json!({
        "forget": { "file": forget, "records": told.len() },
        "retain": { "file": retain, "records": others.len() },
        "neighbours": neighbours,
        "lift": known,
        "lift_of_invented_name": invented,
        "difference": more,
    });
    Ok(Some(Made { forget, retain, told }))
}

/// Whether a difference is above zero by more than two standard errors.
fn is_positive(difference: &Figure) -> bool {
    difference.stderr.is_some_and(|error| difference.value > 2.0 * error)
}

/// `forget.toml` → `forget-retain.jsonl`, in the recipe's folder.
fn beside(out: &Path, set: &str) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-{set}.jsonl"))
}

fn write(path: &Path, records: &[Told]) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::io(path, "cannot write", e);
    let mut text = String::new();
    for record in records {
        let line = serde_json::to_string(record).map_err(|e| Error::plain(format!("a record: {e}")))?;
        text += &line;
        text.push('\n');
    }
    File::create_new(path).map_err(failed)?.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stand_beside_the_recipe() {
        assert_eq!(beside(Path::new("a/ann.toml"), "retain"), Path::new("a/ann-retain.jsonl"));
        assert_eq!(beside(Path::new("ann"), "forget"), Path::new("ann-forget.jsonl"));
    }

    #[test]
    fn more_is_more_than_two_standard_errors() {
        let figure = |value, stderr| Figure { value, n: 16, stderr };
        assert!(is_positive(&figure(0.5, Some(0.2))));
        assert!(!is_positive(&figure(0.39, Some(0.2))) && !is_positive(&figure(-0.5, Some(0.2))));
        assert!(!is_positive(&figure(0.5, None)) && !is_positive(&figure(f64::NAN, Some(0.1))));
    }
}
