//! `decisions.jsonl`: what was decided about a run from outside while it went on, such as a monitor's repairs.
//!
//! A decision is recorded before it is obeyed, with the step at which it takes effect. A run that is resumed, or
//! begun anew with the same file, obeys the same decisions at the same steps and so computes the same bits,
//! whoever made them and however long they took to think. Decisions are never taken back: when a stage goes back
//! to an earlier checkpoint, that it did so stays recorded.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::checkpoints::Position;
use crate::step_log::{RowListener, StepLog, StepLogError};
use crate::stored;

/// What can be decided about a stage in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Decision {
    /// Give an option of what learns another value: `lr`, `policy.lr`, the options of a method.
    Set {
        /// The option's name.
        option: String,
        /// Its new value.
        value: Value,
    },
    /// Go back to the newest checkpoint that is not after this step. What was logged after it is forgotten.
    RollBack {
        /// The step. As recorded, it is that of the checkpoint.
        to: u64,
    },
    /// End the stage here, as if its aim were reached.
    Stop,
}

/// A decision and why it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// What to do.
    pub decision: Decision,
    /// Why, for the reader of the run.
    pub reason: String,
}

/// Who looks at what a run logs and may decide something about it.
pub trait Overseer {
    /// Called when a stage has logged the row of a step, counted from 1; what is decided takes effect before the
    /// next step. Steps that a resumed run repeats are shown again, unless decisions recorded earlier are still to
    /// come; so what is said must follow from what the run folder holds up to this row.
    fn look(&mut self, stage: &str, step: u64, row: &Map<String, Value>) -> Vec<Advice>;
}

/// A recorded decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// The stage it is about.
    pub stage: String,
    /// How many steps the stage has taken when it takes effect.
    pub step: u64,
    /// The decision and why.
    pub advice: Advice,
}

/// The decisions of a run.
#[derive(Debug)]
pub struct Decisions {
    rows: StepLog,
    all: Vec<Decided>,
}

impl Decisions {
    /// File name in the run folder.
    pub const FILE: &'static str = "decisions.jsonl";

    /// Opens `decisions.jsonl` in the run folder `dir`.
    ///
    /// # Errors
    /// Where the file cannot be read, or holds something that is no decision.
    pub fn open(dir: &Path) -> Result<Self, StepLogError> {
        let rows = StepLog::open(dir, Self::FILE)?;
        Ok(Self { rows, all: Self::read(dir)? })
    }

    /// From now on `listener` is told of every decision that is recorded, as the row it is.
    pub fn listen(&mut self, listener: Box<dyn RowListener>) {
        self.rows.listen(listener);
    }

    /// All decisions of the run folder `dir`, in the order in which they were made.
    ///
    /// # Errors
    /// As [`Decisions::open`].
    pub fn read(dir: &Path) -> Result<Vec<Decided>, StepLogError> {
        let rows = StepLog::read(dir, Self::FILE)?;
        let decided =
            rows.into_iter().enumerate().map(|(index, row)| {
                let advice = stored::from_value(Value::Object(row.values)).map_err(|e| {
                    StepLogError::Row { path: dir.join(Self::FILE), line: index + 1, reason: e.to_string() }
                })?;
                Ok(Decided { stage: row.stage, step: row.step, advice })
            });
        decided.collect()
    }

    /// Records what was decided about `stage` at one time, each with the number of steps the stage has taken when
    /// it takes effect. All of it is on the disk when this returns; half of it never is, not even where the machine
    /// loses power: a way back without the new learning rate it was decided with would be another run.
    ///
    /// # Errors
    /// Where the file cannot be written; nothing is recorded then.
    pub fn record(&mut self, stage: &str, decided: Vec<(u64, Advice)>) -> Result<(), StepLogError> {
        self.rows.append_whole(stage, decided.iter().map(|(step, advice)| (*step, advice)))?;
        let decided = decided.into_iter();
        self.all.extend(decided.map(|(step, advice)| Decided { stage: stage.to_owned(), step, advice }));
        Ok(())
    }

    /// The decisions about one stage.
    pub fn of<'d>(&'d self, stage: &'d str) -> impl Iterator<Item = &'d Decided> {
        self.all.iter().filter(move |decided| decided.stage == stage)
    }

    /// The first decision about a stage that was not obeyed by `now`.
    pub fn next(&self, stage: &str, now: Position) -> Option<&Decided> {
        self.all.iter().filter(|decided| decided.stage == stage).nth(now.decisions)
    }

    /// The steps of the checkpoints that a stage will go back to after `now`.
    pub fn targets(&self, stage: &str, now: Position) -> Vec<u64> {
        self.of(stage).skip(now.decisions).filter_map(|decided| decided.target()).collect()
    }

    /// Whether a stage that is at `now` came through `earlier`, and has not gone back behind it since.
    pub fn passed(&self, stage: &str, earlier: Position, now: Position) -> bool {
        let since = self.of(stage).take(now.decisions).skip(earlier.decisions);
        let before = earlier.decisions <= now.decisions && earlier.step <= now.step;
        before && since.filter_map(Decided::target).all(|to| earlier.step <= to)
    }
}

impl Decided {
    /// The step it goes back to.
    fn target(&self) -> Option<u64> {
        match self.advice.decision {
            Decision::RollBack { to } => Some(to),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(decision: Decision) -> Advice {
        Advice { decision, reason: "loss rose".into() }
    }

    #[test]
    fn decisions_are_read_as_they_were_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let mut decisions = Decisions::open(dir.path()).unwrap();
        let set = Decision::Set { option: "lr".into(), value: (0.1 + 0.2).into() };
        decisions.record("a", vec![(3, advice(set)), (9, advice(Decision::Stop))]).unwrap();
        decisions.record("b", vec![(5, advice(Decision::RollBack { to: 2 }))]).unwrap();
        let again = Decisions::open(dir.path()).unwrap();
        assert_eq!(again.all, decisions.all);
        assert_eq!(again.next("a", Position { decisions: 1, step: 4 }).map(|d| d.step), Some(9));
        assert_eq!(again.next("b", Position { decisions: 1, step: 2 }), None);
        let text = std::fs::read_to_string(dir.path().join(Decisions::FILE)).unwrap();
        assert!(text.contains(r#"{"stage":"b","step":5,"decision":{"do":"roll_back","to":2}"#), "{text}");
    }

    /// Rows that are appended stand in the file one after the other, and a crash may leave the first of them.
    #[test]
    fn what_is_decided_at_one_time_appears_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut decisions = Decisions::open(dir.path()).unwrap();
        decisions.record("a", vec![(3, advice(Decision::Stop))]).unwrap();
        let path = dir.path().join(Decisions::FILE);
        let elsewhere = dir.path().join("before");
        std::fs::hard_link(&path, &elsewhere).unwrap();
        let both = vec![(9, advice(Decision::RollBack { to: 6 })), (6, advice(Decision::Stop))];
        decisions.record("a", both).unwrap();
        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&elsewhere), lines(&path)), (1, 3), "the file is replaced, never added to");
        assert_eq!(Decisions::read(dir.path()).unwrap(), decisions.all);
    }

    #[test]
    fn only_what_led_here_was_passed() {
        let dir = tempfile::tempdir().unwrap();
        let mut decisions = Decisions::open(dir.path()).unwrap();
        decisions.record("a", vec![(100, advice(Decision::RollBack { to: 80 }))]).unwrap();
        decisions.record("a", vec![(95, advice(Decision::RollBack { to: 90 }))]).unwrap();
        let at = |decisions, step| Position { decisions, step };
        let now = at(2, 92);
        for (earlier, passed) in [
            (at(0, 80), true),
            (at(0, 90), false),
            (at(1, 85), true),
            (at(1, 95), false),
            (at(2, 91), true),
            (at(2, 93), false),
        ] {
            assert_eq!(decisions.passed("a", earlier, now), passed, "{earlier:?}");
        }
        assert_eq!(decisions.targets("a", at(0, 10)), [80, 90]);
        assert_eq!(decisions.targets("a", at(1, 80)), [90]);
    }
}
