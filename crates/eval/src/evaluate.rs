//! From items to samples.

use std::collections::HashSet;
use std::path::Path;

use amend_learn::{Error, Result};
use amend_run::{Progress, RunError, Stop};

use crate::item::{Item, Sample};
use crate::request::{Answer, Answerer};
use crate::samples::SampleLog;
use crate::task::Task;

/// Items that are asked at a time, between two looks at the stop flag. Has no influence on results.
const PIECE: usize = 32;

/// Asks every item, and scores the answers; the samples are in the order of the items.
///
/// With a log, items that it holds answers to are not asked again, and the others are appended to it as they
/// are answered: whoever goes on after a stop or a kill ends with the file of an evaluation that was never
/// interrupted.
///
/// # Errors
/// Two items of one name; a log with samples of other items; an item that cannot be asked or scored; a log that
/// cannot be written; a stop request.
pub fn evaluate(
    task: &dyn Task,
    items: &[Item],
    answerer: &dyn Answerer,
    mut log: Option<&mut SampleLog>,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Vec<Sample>> {
    check_names(items)?;
    if let Some(log) = log.as_deref() {
        log.check(items)?;
    }
    let mut bar = progress.begin("evaluation", items.len() as u64, "items");
    let mut samples = Vec::with_capacity(items.len());
    for piece in items.chunks(PIECE) {
        if stop.requested() {
            return Err(RunError::Interrupted.into());
        }
        let known: Vec<Option<Vec<Answer>>> =
            piece.iter().map(|item| log.as_deref_mut().and_then(|log| log.take(item))).collect();
        let open: Vec<&Item> =
            piece.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(i, _)| i).collect();
        let mut answered =
            ask(task, &open, answerer).map_err(|e| blamed(e, task, &open, answerer))?.into_iter();
        for (item, known) in piece.iter().zip(known) {
            let is_new = known.is_none();
            let answers = known.or_else(|| answered.next()).unwrap_or_default();
            let scores = task.score(item, &answers)?;
            let sample = Sample { item: item.clone(), answers, scores };
            if let Some(log) = log.as_deref_mut().filter(|_| is_new) {
                log.append(&sample)?;
            }
            samples.push(sample);
        }
        bar.resumed((piece.len() - open.len()) as u64);
        bar.advance(open.len() as u64, "");
    }
    bar.finish(&format!("{} items", samples.len()));
    Ok(samples)
}

/// The samples in a log, without asking anybody: one that [`evaluate`] kept, whose answers are scored anew, or one
/// of the benchmark's own scripts.
///
/// # Errors
/// A file that cannot be read or is no such log; an evaluation that is not finished; answers that do not belong to
/// the task.
pub fn recorded(task: &dyn Task, path: &Path) -> Result<Vec<Sample>> {
    if !SampleLog::is_one(path) {
        return task.read_log(path);
    }
    let mut samples = SampleLog::read(path)?;
    for sample in samples.iter_mut().filter(|sample| !sample.answers.is_empty()) {
        sample.scores = task.score(&sample.item, &sample.answers)?;
    }
    Ok(samples)
}

/// All answers to every item: what is asked first, then whatever follows from the answers, until nothing does.
fn ask(task: &dyn Task, items: &[&Item], answerer: &dyn Answerer) -> Result<Vec<Vec<Answer>>> {
    let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); items.len()];
    let mut requests = items.iter().map(|item| task.requests(item)).collect::<Result<Vec<_>>>()?;
    while requests.iter().any(|asked| !asked.is_empty()) {
        let mut replies = answerer.answer(&requests.concat())?.into_iter();
        for ((item, asked), answers) in items.iter().zip(&mut requests).zip(&mut answers) {
            if !asked.is_empty() {
                answers.extend(replies.by_ref().take(asked.len()));
                *asked = task.follow_up(item, answers)?;
            }
        }
    }
    Ok(answers)
}

/// An error of data with the name of the item that is to blame, where asking that alone fails too.
fn blamed(error: Error, task: &dyn Task, items: &[&Item], answerer: &dyn Answerer) -> Error {
    let Error::Invalid(_) = error else { return error };
    for item in items {
        if let Err(Error::Invalid(message)) = ask(task, &[*item], answerer) {
            let Item { set, id, .. } = item;
            let set = if set.is_empty() { String::new() } else { format!(" of set {set}") };
            return Error::invalid(format!("item {id}{set}: {message}"));
        }
    }
    error
}

fn check_names(items: &[Item]) -> Result<()> {
    let mut names = HashSet::new();
    match items.iter().find(|item| !names.insert((&item.set, &item.id))) {
        None => Ok(()),
        Some(Item { set, id, .. }) => {
            let set = if set.is_empty() { String::new() } else { format!(" of set {set}") };
            Err(Error::invalid(format!("two items{set} are called {id}; give every item a name of its own")))
        }
    }
}
