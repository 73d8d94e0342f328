//! Messages and progress for programs: with `--json`, each is a line of JSON on standard error.
//!
//! Every line has `event`, its kind, and `time`; docs/guide.md lists the kinds and what else each has.

use std::time::{Duration, Instant};

use amend_run::clock::now_to_the_millisecond;
use amend_run::step_log::{RowListener, StepRow};
use amend_run::{Activity, FileError, Forecast, Progress, RunFolder};
use serde_json::{Map, Value, json};

use crate::console::Console;
use crate::progress::Pace;

/// Time between two events of an activity's progress.
const APART: Duration = Duration::from_millis(500);

/// An event as a line, with what `fields`, an object, says about it.
pub(crate) fn line(kind: &str, fields: Value) -> String {
    let mut event =
        Map::from_iter([("event".into(), kind.into()), ("time".into(), now_to_the_millisecond().into())]);
    if let Value::Object(fields) = fields {
        event.extend(fields);
    }
    format!("{}\n", Value::Object(event))
}

/// Says which run this is, before anything else about it.
pub(crate) fn run(console: &Console, folder: &RunFolder) {
    let state = folder.state();
    let dir = folder.path();
    console.event(
        "run",
        json!({
            "folder": dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf()),
            "resumed": !state.resumed.is_empty(),
            "stages_done": state.stages.keys().collect::<Vec<_>>(),
            "seed": state.info.seed,
            "version": crate::args::VERSION,
        }),
    );
}

/// The listener that tells programs.
pub(crate) struct Events {
    pub(crate) console: Console,
    /// Whether what moves is told as well, and not its beginning and its end alone.
    pub(crate) moving: bool,
}

impl Progress for Events {
    fn begin(&self, label: &str, total: u64, unit: &str) -> Box<dyn Activity> {
        let activity = EventActivity {
            console: self.console.clone(),
            moving: self.moving,
            stage: label.to_owned(),
            pace: Pace::new(total, unit),
            told: None,
            ended: false,
        };
        activity.tell_stage("begun", json!({ "total": activity.total(), "unit": unit }));
        Box::new(activity)
    }

    fn note(&self, line: &str) {
        self.console.note(line);
    }

    fn plan(&self, forecast: &Forecast) {
        forecast.warnings.iter().for_each(|warning| self.console.warn(warning));
        let fields = json!({
            "seconds": forecast.seconds(),
            "memory": forecast.memory,
            "disk": forecast.disk(),
            "stages": forecast.stages,
        });
        self.console.event("forecast", fields);
    }
}

struct EventActivity {
    console: Console,
    moving: bool,
    stage: String,
    pace: Pace,
    told: Option<Instant>,
    ended: bool,
}

impl EventActivity {
    fn total(&self) -> Option<u64> {
        (self.pace.total > 0).then_some(self.pace.total)
    }

    fn tell_stage(&self, state: &str, more: Value) {
        let mut fields = json!({ "stage": self.stage, "state": state });
        if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
            fields.extend(more);
        }
        self.console.event("stage", fields);
    }

    fn end(&mut self, state: &str, summary: Option<&str>) {
        if !std::mem::replace(&mut self.ended, true) {
            let seconds = self.pace.began.elapsed().as_secs_f64();
            let end = json!({ "done": self.pace.done, "seconds": seconds, "summary": summary });
            self.tell_stage(state, end);
        }
    }
}

impl Activity for EventActivity {
    fn resumed(&mut self, n: u64) {
        self.pace.resumed(n);
    }

    fn advance(&mut self, n: u64, status: &str) {
        self.pace.done += n;
        self.working(status);
    }

    fn working(&mut self, status: &str) {
        if !self.moving || self.told.is_some_and(|told| told.elapsed() < APART) {
            return;
        }
        self.told = Some(Instant::now());
        self.console.event(
            "progress",
            json!({
                "stage": self.stage,
                "done": self.pace.done,
                "total": self.total(),
                "unit": self.pace.unit,
                "rate": self.pace.rate(),
                "left_s": self.pace.left().map(|left| left.as_secs_f64()),
                "status": status,
            }),
        );
    }

    fn finish(mut self: Box<Self>, summary: &str) {
        self.end("finished", Some(summary));
    }
}

impl Drop for EventActivity {
    fn drop(&mut self) {
        self.end("given-up", None);
    }
}

/// Tells of the rows of `metrics.jsonl`.
pub(crate) struct Metrics(pub(crate) Console);

impl RowListener for Metrics {
    fn logged(&mut self, row: &StepRow) -> Result<(), FileError> {
        let fields = json!({ "stage": row.stage, "step": row.step, "values": row.values });
        self.0.event("metrics", fields);
        Ok(())
    }

    fn rewound(&mut self, stage: &str, step: Option<u64>, _kept: &[StepRow]) -> Result<(), FileError> {
        self.0.event("rewind", json!({ "stage": stage, "step": step.unwrap_or(0) }));
        Ok(())
    }
}

/// Tells of the rows of `decisions.jsonl`, which are never taken back.
pub(crate) struct Decided(pub(crate) Console);

impl RowListener for Decided {
    fn logged(&mut self, row: &StepRow) -> Result<(), FileError> {
        let mut fields = json!({ "stage": row.stage, "step": row.step });
        if let Value::Object(fields) = &mut fields {
            fields.extend(row.values.clone());
        }
        self.0.event("decision", fields);
        Ok(())
    }

    fn rewound(&mut self, _stage: &str, _step: Option<u64>, _kept: &[StepRow]) -> Result<(), FileError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_kind_and_time() {
        let line = line("note", json!({ "message": "a\nb" }));
        assert_eq!(line.matches('\n').count(), 1);
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["event"], &event["message"]), (&json!("note"), &json!("a\nb")));
        assert!(
            amend_run::clock::seconds_between(event["time"].as_str().unwrap(), "2999-01-01T00:00:00Z")
                .is_some()
        );
    }

    #[test]
    fn a_listener_of_a_quiet_console_says_nothing_and_counts_on() {
        let events = Events { console: Console::new(true, true), moving: true };
        let mut activity = events.begin("forget", 10, "steps");
        activity.resumed(3);
        activity.advance(1, "");
        activity.finish("4 steps");
        assert!(!events.console.has_told());
    }
}
