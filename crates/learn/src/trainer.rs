//! The training loop: steps, rows, checkpoints, decisions from outside, and going on after an interruption.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use amend_run::checkpoints::Position;
use amend_run::decisions::{Advice, Decision};
use amend_run::{Activity, Run, RunError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::state::{StateReader, StateWriter};
use crate::{Error, Result};

/// Whatever learns step by step: one model or several with their optimisers, multipliers, buffers.
///
/// A step must depend on nothing but the learner's state and the step's number. Then a stage that was interrupted
/// ends with the same bits as one that ran through. What the state is, the learner says itself, in
/// [`save`](Learner::save) and [`load`](Learner::load).
pub trait Learner {
    /// Takes step number `step`, counted from 0: everything up to its update, which comes last. Where it is interrupted, it
    /// is as if it had not been begun.
    ///
    /// # Errors
    /// What keeps the step from being taken. The stage ends there; its last checkpoint is kept.
    fn step(&mut self, step: u64) -> Result<Step>;

    /// Looks at what `taken` steps have made of it, adds to the last step's row and says whether the aim is reached. Where
    /// it is interrupted, it is asked again when the stage goes on.
    ///
    /// # Errors
    /// What keeps it from looking.
    fn look(&mut self, taken: u64, step: &mut Step) -> Result<()> {
        let _ = (taken, step);
        Ok(())
    }

    /// Keeps everything that later steps depend on.
    ///
    /// # Errors
    /// Where something cannot be kept.
    fn save(&self, to: &mut StateWriter) -> Result<()>;

    /// Takes up what [`save`](Learner::save) kept.
    ///
    /// # Errors
    /// Where something is missing or does not fit.
    fn load(&mut self, from: &StateReader) -> Result<()>;

    /// Gives an option another value from the next step on, because somebody outside decided so. The value must be
    /// part of the state from then on.
    ///
    /// # Errors
    /// Where there is no such option, or the value is none of its. Nothing is changed then.
    fn set(&mut self, option: &str, value: &Value) -> Result<()>;
}

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What it measured, for `metrics.jsonl`.
    pub row: Map<String, Value>,
    /// What it sampled, for `trajectories.jsonl`.
    pub trajectories: Vec<Map<String, Value>>,
    /// What is shown beside the progress bar.
    pub shown: String,
    /// Whether the aim is reached; the stage ends with this step.
    pub done: bool,
}

/// Under this name a checkpoint has a step that was taken and not looked at yet.
const TAKEN: &str = "step taken";

/// Checkpoints may take this share of the time.
const CHECKPOINT_SHARE: f64 = 0.1;

/// Trains for at most `total` steps as the stage in progress, from its latest checkpoint where there is one.
/// Returns the number of steps that led to the learner's final state.
///
/// # Errors
/// Those of the learner and of the run folder; [`RunError::Interrupted`] once a stop was asked for.
pub fn train(run: &mut Run<'_>, total: u64, learner: &mut dyn Learner) -> Result<u64> {
    let stage = run.stage()?.to_owned();
    let mut at = Position::default();
    // A step that was taken and not looked at yet.
    let mut taken: Option<Step> = None;
    if let Some((latest, dir)) = run.begin_steps()? {
        let state = StateReader::open(&dir)?;
        learner.load(&state)?;
        taken = state.value_if_any(TAKEN)?;
        at = latest;
    }
    let looked_at = Position { step: at.step - u64::from(taken.is_some()), ..at };
    let mut bar = begin_bar(run, &stage, looked_at, total);
    let mut pace = Pace::new(run.checkpoint_every);
    let mut done = false;
    loop {
        if let Some(mut step) = taken.take() {
            match learner.look(at.step, &mut step) {
                Ok(()) => {}
                Err(e @ Error::Run(RunError::Interrupted)) => {
                    keep(run, &stage, at, learner, Some(&step))?;
                    return Err(e);
                }
                Err(e) => return Err(failed(run, &stage, at, e)),
            }
            log(run, &stage, at, &step)?;
            bar.advance(1, &step.shown);
            listen(run, &stage, at, &step.row)?;
            done = step.done;
        }
        while let Some(decided) = run.decisions.next(&stage, at).filter(|d| d.step == at.step).cloned() {
            at.decisions += 1;
            let Advice { decision, reason } = decided.advice;
            run.progress.note(&format!("{stage}, step {}: {} ({reason})", at.step, in_words(&decision)));
            match decision {
                Decision::Stop => done = true,
                Decision::Set { option, value } => {
                    if let Err(e) = learner.set(&option, &value) {
                        run.progress.note(&format!("warning: {stage}: {e}; nothing was changed"));
                    }
                }
                Decision::RollBack { to } => {
                    go_back(run, &stage, &mut at, to, learner)?;
                    bar = begin_bar(run, &stage, at, total);
                    done = false;
                }
            }
        }
        if done || at.step >= total {
            break;
        }
        if run.stop.requested() {
            save(run, &stage, at, learner)?;
            return Err(RunError::Interrupted.into());
        }
        if pace.is_due() || run.decisions.targets(&stage, at).contains(&at.step) {
            pace.spend(|| save(run, &stage, at, learner))?;
        }
        match learner.step(at.step) {
            Ok(step) => taken = Some(step),
            Err(e @ Error::Run(RunError::Interrupted)) => {
                // The step is given up; those before it are kept.
                save(run, &stage, at, learner)?;
                return Err(e);
            }
            Err(e) => return Err(failed(run, &stage, at, e)),
        }
        at.step += 1;
    }
    bar.finish(&format!("{} steps", at.step));
    Ok(at.step)
}

fn begin_bar(run: &Run<'_>, stage: &str, at: Position, total: u64) -> Box<dyn Activity> {
    let mut bar = run.progress.begin(stage, total, "steps");
    bar.resumed(at.step);
    bar
}

fn log(run: &mut Run<'_>, stage: &str, at: Position, step: &Step) -> Result<()> {
    if !step.trajectories.is_empty() {
        run.trajectories.append_all(stage, step.trajectories.iter().map(|t| (at.step, t)))?;
    }
    Ok(run.metrics.append(stage, at.step, &step.row)?)
}

/// Asks whoever oversees the run, and records what is decided. While decisions recorded earlier are still to come,
/// nobody is asked: this part of the run has been decided about.
fn listen(run: &mut Run<'_>, stage: &str, at: Position, row: &Map<String, Value>) -> Result<()> {
    if run.decisions.next(stage, at).is_some() {
        return Ok(());
    }
    let Some(overseer) = &mut run.overseer else { return Ok(()) };
    let mut takes_effect = at;
    let mut decided = Vec::new();
    for Advice { mut decision, reason } in overseer.look(stage, at.step, row) {
        if let Decision::RollBack { to } = &mut decision {
            let checkpoints = run.checkpoints.of(stage)?;
            let passed = |earlier: &Position| {
                earlier.step <= *to && run.decisions.passed(stage, *earlier, takes_effect)
            };
            match checkpoints.iter().map(|(earlier, _)| *earlier).filter(passed).max() {
                Some(earlier) => *to = earlier.step,
                None => {
                    run.progress
                        .note(&format!("warning: {stage}: no checkpoint up to step {to} to go back to"));
                    continue;
                }
            }
        }
        let step = takes_effect.step;
        takes_effect.decisions += 1;
        if let Decision::RollBack { to } = decision {
            // What was decided along with it takes effect there.
            takes_effect.step = to;
        }
        decided.push((step, Advice { decision, reason }));
    }
    if decided.is_empty() { Ok(()) } else { Ok(run.decisions.record(stage, decided)?) }
}

/// Goes back to the checkpoint of step `to` on the way here. `at` counts the decision already.
fn go_back(
    run: &mut Run<'_>,
    stage: &str,
    at: &mut Position,
    to: u64,
    learner: &mut dyn Learner,
) -> Result<()> {
    let before = Position { decisions: at.decisions - 1, ..*at };
    let checkpoints = run.checkpoints.of(stage)?;
    let wanted = |(earlier, _): &&(Position, PathBuf)| {
        earlier.step == to && run.decisions.passed(stage, *earlier, before)
    };
    let (_, dir) = checkpoints.iter().rfind(wanted).ok_or_else(|| {
        Error::invalid(format!(
            "{stage}: the checkpoint of step {to} is gone, but decisions.jsonl says to go back to it; \
             remove the stage's checkpoints to begin it anew"
        ))
    })?;
    learner.load(&StateReader::open(dir)?)?;
    at.step = to;
    // First the checkpoint, then the rows: killed in between, the run resumes here and cuts the rows then.
    write(run, stage, *at, learner, None)?;
    Ok(run.rewind(Some(to))?)
}

/// Writes a checkpoint. While the stage has yet to go back, only those are written that it goes back to: others
/// would take their places.
fn save(run: &mut Run<'_>, stage: &str, at: Position, learner: &dyn Learner) -> Result<()> {
    keep(run, stage, at, learner, None)
}

/// The same with a step that was taken and not looked at yet.
fn keep(
    run: &mut Run<'_>,
    stage: &str,
    at: Position,
    learner: &dyn Learner,
    taken: Option<&Step>,
) -> Result<()> {
    let targets = run.decisions.targets(stage, at);
    if targets.is_empty() || targets.contains(&at.step) {
        write(run, stage, at, learner, taken)
    } else {
        Ok(())
    }
}

fn write(
    run: &mut Run<'_>,
    stage: &str,
    at: Position,
    learner: &dyn Learner,
    taken: Option<&Step>,
) -> Result<()> {
    let mut state = StateWriter::default();
    learner.save(&mut state)?;
    if let Some(step) = taken {
        state.value(TAKEN, step)?;
    }
    run.checkpoints.save(stage, at, |dir: &Path| state.write(dir))?;
    Ok(run.folder.note_time()?)
}

fn in_words(decision: &Decision) -> String {
    match decision {
        Decision::Set { option, value } => format!("{option} is set to {value}"),
        Decision::RollBack { to } => format!("back to step {to}"),
        Decision::Stop => "the stage ends here".into(),
    }
}

/// Errors of the engine say at which step they happened, and what is left.
fn failed(run: &mut Run<'_>, stage: &str, at: Position, error: Error) -> Error {
    let Error::Engine(source) = error else { return error };
    let kept = match run.checkpoints.latest(stage) {
        Ok(Some((kept, path))) => {
            format!("; the checkpoint of step {} is kept in {}", kept.step, path.display())
        }
        _ => String::new(),
    };
    Error::Step { stage: stage.to_owned(), step: at.step + 1, kept, source: Box::new(source) }
}

/// When the next checkpoint is due.
struct Pace {
    every: Duration,
    last: Instant,
    cost: Duration,
}

impl Pace {
    fn new(every: Duration) -> Self {
        Pace { every, last: Instant::now(), cost: Duration::ZERO }
    }

    fn is_due(&self) -> bool {
        self.last.elapsed() >= wait(self.every, self.cost)
    }

    fn spend<T>(&mut self, save: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let saved = save();
        self.last = Instant::now();
        self.cost = self.last - began;
        saved
    }
}

/// Time from one checkpoint to the next: what was asked for, or as much longer as keeps the checkpoints' share of
/// the time within its bound when the last one took `cost`.
fn wait(every: Duration, cost: Duration) -> Duration {
    every.max(cost.mul_f64(1.0 / CHECKPOINT_SHARE - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At a billion parameters a checkpoint is 12 GB; one every 20 seconds would be all the run does.
    #[test]
    fn checkpoints_take_a_tenth_of_the_time_at_most() {
        let seconds = Duration::from_secs;
        assert_eq!(wait(seconds(20), seconds(1)), seconds(20));
        assert_eq!(wait(seconds(20), seconds(60)), seconds(540));
        assert_eq!(wait(seconds(0), seconds(0)), seconds(0));
    }
}
