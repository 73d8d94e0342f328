//! Progress of long work: bars on a terminal, now and then a line elsewhere, silence on request.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use amend_run::{Activity, Progress, Silent};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::console::Console;

/// Where nobody watches a screen, an activity says something this often during its first minute.
const AT_FIRST: Duration = Duration::from_secs(5);

/// And this often later: a log of hours should not be a log of thousands of lines.
const LATER: Duration = Duration::from_secs(30);

/// The listener that suits the console.
pub(crate) fn listener(console: &Console, no_progress: bool) -> Box<dyn Progress> {
    if console.quiet() {
        Box::new(Silent)
    } else if no_progress {
        Box::new(Notes(console.clone()))
    } else if console.is_terminal() {
        Box::new(Bars(console.clone()))
    } else {
        Box::new(Lines(console.clone()))
    }
}

/// Notes and summaries, but nothing that moves.
struct Notes(Console);

impl Progress for Notes {
    fn begin(&self, label: &str, _total: u64, _unit: &str) -> Box<dyn Activity> {
        Box::new(Summary { console: self.0.clone(), label: label.to_owned() })
    }

    fn note(&self, line: &str) {
        self.0.note(line);
    }
}

struct Summary {
    console: Console,
    label: String,
}

impl Activity for Summary {
    fn advance(&mut self, _n: u64, _status: &str) {}

    fn finish(self: Box<Self>, summary: &str) {
        self.console.note(&format!("{}: {summary}", self.label));
    }
}

/// Bars with rate and time left; a spinner where the total is unknown.
struct Bars(Console);

impl Progress for Bars {
    fn begin(&self, label: &str, total: u64, unit: &str) -> Box<dyn Activity> {
        let bar = if total == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(total) };
        bar.set_style(style(total > 0, unit));
        let bar = self.0.bars().add(bar);
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Box::new(Bar { bar, console: self.0.clone(), label: label.to_owned(), first: true })
    }

    fn note(&self, line: &str) {
        self.0.note(line);
    }
}

fn style(bounded: bool, unit: &str) -> ProgressStyle {
    let template = if bounded {
        "{prefix:<12} [{bar:24}] {pos}/{len} {speed}  {left}  {msg}"
    } else {
        "{spinner} {prefix:<12} {pos} {speed}  {elapsed}  {msg}"
    };
    let unit = unit.to_owned();
    let speed = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{unit}  {}/s", rate(state.per_sec()));
    };
    let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // Before the first unit is done there is no telling.
        if state.pos() > 0 {
            let _ = write!(out, "{} left", duration(state.eta()));
        }
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("speed", speed).with_key("left", left).progress_chars("=> ")
}

struct Bar {
    bar: ProgressBar,
    console: Console,
    label: String,
    first: bool,
}

impl Activity for Bar {
    fn advance(&mut self, n: u64, status: &str) {
        self.bar.inc(n);
        // What a resumed activity starts with took no time and must not count in its rate.
        if std::mem::take(&mut self.first) && status.is_empty() {
            self.bar.reset_eta();
        }
        self.bar.set_message(status.to_owned());
    }

    fn finish(self: Box<Self>, summary: &str) {
        self.bar.finish_and_clear();
        self.console.note(&format!("{}: {summary}", self.label));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Log lines.
struct Lines(Console);

impl Progress for Lines {
    fn begin(&self, label: &str, total: u64, unit: &str) -> Box<dyn Activity> {
        let now = Instant::now();
        Box::new(LineActivity {
            console: self.0.clone(),
            label: label.to_owned(),
            unit: unit.to_owned(),
            total,
            done: 0,
            counted_from: 0,
            began: now,
            said: now,
        })
    }

    fn note(&self, line: &str) {
        self.0.note(line);
    }
}

struct LineActivity {
    console: Console,
    label: String,
    unit: String,
    total: u64,
    done: u64,
    /// What was done already when the clock started.
    counted_from: u64,
    began: Instant,
    said: Instant,
}

impl Activity for LineActivity {
    fn advance(&mut self, n: u64, status: &str) {
        if self.done == 0 && status.is_empty() {
            self.counted_from = n;
        }
        self.done += n;
        let young = self.began.elapsed() < Duration::from_secs(60);
        if self.said.elapsed() >= if young { AT_FIRST } else { LATER } {
            self.said = Instant::now();
            self.console.note(&self.line(status));
        }
    }

    fn finish(self: Box<Self>, summary: &str) {
        self.console.note(&format!("{}: {summary}", self.label));
    }
}

impl LineActivity {
    /// `forget: 120/500 steps, 3.2/s, 2m left, loss 1.23`
    fn line(&self, status: &str) -> String {
        let speed = (self.done - self.counted_from) as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        let mut line = format!("{}: {}", self.label, self.done);
        if self.total > 0 {
            let _ = write!(line, "/{}", self.total);
        }
        let _ = write!(line, " {}, {}/s", self.unit, rate(speed));
        if self.total > self.done && speed > 0.0 {
            let left = ((self.total - self.done) as f64 / speed).min(1e9);
            let _ = write!(line, ", {} left", duration(Duration::from_secs_f64(left)));
        }
        if !status.is_empty() {
            let _ = write!(line, ", {status}");
        }
        line
    }
}

/// A rate with three significant digits.
fn rate(per_second: f64) -> String {
    match per_second {
        r if r >= 100.0 => format!("{r:.0}"),
        r if r >= 10.0 => format!("{r:.1}"),
        r => format!("{r:.2}"),
    }
}

/// A duration with its two largest units.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs() {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m {:02}s", s / 60, s % 60),
        s => format!("{}h {:02}m", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_rate_and_time_left() {
        let began = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let activity = LineActivity {
            console: Console::new(true),
            label: "forget".into(),
            unit: "steps".into(),
            total: 500,
            done: 220,
            counted_from: 20,
            began,
            said: began,
        };
        let line = activity.line("loss 1.2");
        assert!(line.starts_with("forget: 220/500 steps, 20.0/s, 14s left, loss 1.2"), "{line}");
        let open = LineActivity { total: 0, ..activity };
        assert!(!open.line("").contains("left"));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(duration(Duration::from_secs(59)), "59s");
        assert_eq!(duration(Duration::from_secs(150)), "2m 30s");
        assert_eq!(duration(Duration::from_secs(7260)), "2h 01m");
    }

    #[test]
    fn templates_are_valid() {
        for bounded in [true, false] {
            let bar = ProgressBar::hidden();
            bar.set_style(style(bounded, "steps"));
            bar.inc(1);
        }
        ProgressStyle::with_template("{prefix:<12} [{bar:24}] {pos}/{len} {speed}  {left}  {msg}").unwrap();
        ProgressStyle::with_template("{spinner} {prefix:<12} {pos} {speed}  {elapsed}  {msg}").unwrap();
    }
}
