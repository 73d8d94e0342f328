//! Asking a model TOFU's questions from the benchmark's own files.

use std::path::Path;

use amend_learn::Result;
use amend_run::{Dataset, Progress, Stop};

use super::log::TofuLog;
use crate::questions::{Answered, Asking, Subject, tofu_items};

/// Questions asked between two looks at the progress bar and at the stop flag.
const PIECE: usize = 32;

/// Asks the four sets in `dir` (`<split>_perturbed.json`, `retain_perturbed.json`,
/// `real_authors_perturbed.json`, `world_facts_perturbed.json`), where `split` is forget01, forget05 or
/// forget10.
///
/// # Errors
/// A file that is missing or cannot be read, a question longer than the model's context, a stop request.
pub fn ask(
    subject: &Subject<'_>,
    dir: &Path,
    split: &str,
    asking: &Asking,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<TofuLog> {
    let ask = |name: &str| -> Result<Vec<super::TofuItem>> {
        let records = Dataset::read(&[dir.join(format!("{name}_perturbed.json"))])?.records;
        let records = &records[..asking.limit.unwrap_or(records.len()).min(records.len())];
        let mut bar = progress.begin(name, records.len() as u64, "questions");
        let mut answered: Vec<Answered> = Vec::with_capacity(records.len());
        for piece in records.chunks(PIECE) {
            if stop.requested() {
                return Err(amend_run::RunError::Interrupted.into());
            }
            answered.extend(subject.ask(piece, &Asking { limit: None, ..asking.clone() })?);
            bar.advance(piece.len() as u64, "");
        }
        bar.finish(&format!("{} questions", answered.len()));
        Ok(tofu_items(&answered))
    };
    Ok(TofuLog {
        forget: Some(ask(split)?),
        retain: Some(ask("retain")?),
        real_authors: Some(ask("real_authors")?),
        world_facts: Some(ask("world_facts")?),
    })
}
