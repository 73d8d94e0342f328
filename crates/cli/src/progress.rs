//! Progress of long work: bars on a terminal, now and then a line elsewhere, silence on request.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use amend_run::{Activity, Forecast, Progress, Silent};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::console::Console;
use crate::events::Events;
use crate::prospect;
use crate::whole::Whole;

/// Where nobody watches a screen, an activity says something this often during its first minute.
const AT_FIRST: Duration = Duration::from_secs(5);

/// And this often later: a log of hours should not be a log of thousands of lines.
const LATER: Duration = Duration::from_secs(30);

/// The listener that suits the console.
pub(crate) fn listener(console: &Console, no_progress: bool) -> Box<dyn Progress> {
    if console.quiet() {
        Box::new(Silent)
    } else if console.events() {
        Box::new(Events { console: console.clone(), moving: !no_progress })
    } else if no_progress {
        Box::new(Notes(console.clone()))
    } else if console.is_terminal() {
        Box::new(Bars { console: console.clone(), whole: Arc::default() })
    } else {
        Box::new(Lines { console: console.clone(), whole: Arc::default() })
    }
}

/// Says what a run will take, and what one should think about before.
fn announce(console: &Console, forecast: &Forecast) {
    for warning in &forecast.warnings {
        console.warn(warning);
    }
    console.note(&prospect::in_short(forecast));
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

    fn plan(&self, forecast: &Forecast) {
        announce(&self.0, forecast);
    }
}

struct Summary {
    console: Console,
    label: String,
}

impl Activity for Summary {
    fn resumed(&mut self, _n: u64) {}

    fn advance(&mut self, _n: u64, _status: &str) {}

    fn working(&mut self, _status: &str) {}

    fn finish(self: Box<Self>, summary: &str) {
        self.console.note(&format!("{}: {summary}", self.label));
    }
}

/// How far an activity is, and how fast it goes: the average since it began, which a slow unit does not upset.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) unit: String,
    /// 0 where it is unknown.
    pub(crate) total: u64,
    pub(crate) done: u64,
    /// What was done before it began.
    before: u64,
    pub(crate) began: Instant,
}

impl Pace {
    pub(crate) fn new(total: u64, unit: &str) -> Self {
        Pace { unit: unit.to_owned(), total, done: 0, before: 0, began: Instant::now() }
    }

    pub(crate) fn resumed(&mut self, n: u64) {
        self.before += n;
        self.done += n;
    }

    /// `120/500 steps`
    fn position(&self) -> String {
        match self.total {
            0 => format!("{} {}", self.done, self.unit),
            total => format!("{}/{total} {}", self.done, self.unit),
        }
    }

    /// Units per second; nothing before the first one is done.
    pub(crate) fn rate(&self) -> Option<f64> {
        let done = self.done - self.before;
        (done > 0).then(|| done as f64 / self.began.elapsed().as_secs_f64().max(1e-9))
    }

    /// `3.20/s`, or `12.4 s/step` where a unit takes longer than a second; before there is a rate, the time since
    /// the beginning, so that nothing looks as if it hung.
    fn speed(&self) -> String {
        match self.rate() {
            None => format!("{} so far", duration(self.began.elapsed())),
            Some(rate) if rate >= 1.0 => format!("{}/s", three_digits(rate)),
            Some(rate) => format!("{} s/{}", three_digits(1.0 / rate), singular(&self.unit)),
        }
    }

    /// How much of it was done since it began, from 0 to 1.
    fn share_since(&self) -> f64 {
        if self.total == 0 { 1.0 } else { (self.done - self.before) as f64 / self.total as f64 }
    }

    /// How much of it is done, from 0 to 1; all of it where nobody knows how much there is.
    fn share(&self) -> f64 {
        if self.total == 0 { 1.0 } else { self.done as f64 / self.total as f64 }
    }

    /// Time left at this rate.
    pub(crate) fn left(&self) -> Option<Duration> {
        let rate = self.rate().filter(|_| self.total > self.done)?;
        Some(Duration::from_secs_f64(((self.total - self.done) as f64 / rate).min(1e9)))
    }
}

/// `steps` → `step`.
fn singular(unit: &str) -> &str {
    unit.strip_suffix('s').unwrap_or(unit)
}

/// Bars with rate and time left; a spinner where the total is unknown. Below them, how far the whole run is.
struct Bars {
    console: Console,
    whole: Arc<Mutex<Whole>>,
}

impl Progress for Bars {
    fn begin(&self, label: &str, total: u64, unit: &str) -> Box<dyn Activity> {
        let bar = if total == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(total) };
        let pace = Arc::new(Mutex::new(Pace::new(total, unit)));
        locked(&self.whole).begin(label);
        let within = locked(&self.whole).place(None, 0.0).is_some();
        bar.set_style(style(pace.clone(), total > 0, within.then(|| self.whole.clone())));
        let bar = self.console.bars().add(bar);
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        let (console, whole) = (self.console.clone(), self.whole.clone());
        Box::new(Bar { bar, pace, console, whole, label: label.to_owned() })
    }

    fn note(&self, line: &str) {
        self.console.note(line);
    }

    fn plan(&self, forecast: &Forecast) {
        announce(&self.console, forecast);
        locked(&self.whole).plan(forecast);
    }
}

fn template(bounded: bool, within: bool) -> &'static str {
    match (bounded, within) {
        (true, false) => "{spinner} {prefix:<12} [{bar:24}] {place}  {wide_msg}",
        (true, true) => "{spinner} {prefix:<12} [{bar:24}] {place}  {wide_msg}\n  {whole}",
        (false, false) => "{spinner} {prefix:<12} {place}  {wide_msg}",
        (false, true) => "{spinner} {prefix:<12} {place}  {wide_msg}\n  {whole}",
    }
}

/// A bar of one line, and of a second one for a stage of a whole run.
fn style(pace: Arc<Mutex<Pace>>, bounded: bool, whole: Option<Arc<Mutex<Whole>>>) -> ProgressStyle {
    let template = template(bounded, whole.is_some());
    let of_run = pace.clone();
    let of_run = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let (left, share) = {
            let pace = locked(&of_run);
            (pace.left(), pace.share())
        };
        let place = whole.as_ref().and_then(|whole| locked(whole).place(left, share));
        let _ = write!(out, "{}", place.unwrap_or_default());
    };
    let place = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let pace = locked(&pace);
        let _ = write!(out, "{}  {}", pace.position(), pace.speed());
        if let Some(left) = pace.left() {
            let _ = write!(out, "  {} left", duration(left));
        }
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("place", place).with_key("whole", of_run).progress_chars("=> ")
}

/// What is shared, also after a panic elsewhere: its numbers are whole at any time.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Bar {
    bar: ProgressBar,
    pace: Arc<Mutex<Pace>>,
    console: Console,
    whole: Arc<Mutex<Whole>>,
    label: String,
}

impl Activity for Bar {
    fn resumed(&mut self, n: u64) {
        locked(&self.pace).resumed(n);
        self.bar.inc(n);
    }

    fn advance(&mut self, n: u64, status: &str) {
        locked(&self.pace).done += n;
        self.bar.inc(n);
        self.bar.set_message(status.to_owned());
    }

    fn working(&mut self, status: &str) {
        self.bar.set_message(status.to_owned());
    }

    fn finish(self: Box<Self>, summary: &str) {
        self.bar.finish_and_clear();
        locked(&self.whole).finish(&self.label, locked(&self.pace).share_since());
        self.console.note(&format!("{}: {summary}", self.label));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Log lines.
struct Lines {
    console: Console,
    whole: Arc<Mutex<Whole>>,
}

impl Progress for Lines {
    fn begin(&self, label: &str, total: u64, unit: &str) -> Box<dyn Activity> {
        let pace = Pace::new(total, unit);
        locked(&self.whole).begin(label);
        let (console, whole) = (self.console.clone(), self.whole.clone());
        Box::new(LineActivity { console, whole, label: label.to_owned(), said: pace.began, pace })
    }

    fn note(&self, line: &str) {
        self.console.note(line);
    }

    fn plan(&self, forecast: &Forecast) {
        announce(&self.console, forecast);
        locked(&self.whole).plan(forecast);
    }
}

struct LineActivity {
    console: Console,
    whole: Arc<Mutex<Whole>>,
    label: String,
    pace: Pace,
    said: Instant,
}

impl Activity for LineActivity {
    fn resumed(&mut self, n: u64) {
        self.pace.resumed(n);
    }

    fn advance(&mut self, n: u64, status: &str) {
        self.pace.done += n;
        self.working(status);
    }

    fn working(&mut self, status: &str) {
        let young = self.pace.began.elapsed() < Duration::from_secs(60);
        if self.said.elapsed() >= if young { AT_FIRST } else { LATER } {
            self.said = Instant::now();
            self.console.note(&self.line(status));
        }
    }

    fn finish(self: Box<Self>, summary: &str) {
        locked(&self.whole).finish(&self.label, self.pace.share_since());
        self.console.note(&format!("{}: {summary}", self.label));
    }
}

impl LineActivity {
    /// `forget: 120/500 steps, 3.20/s, 2m 00s left, loss 1.23; stage 2 of 5, about 10m 00s left`
    fn line(&self, status: &str) -> String {
        let mut line = format!("{}: {}, {}", self.label, self.pace.position(), self.pace.speed());
        if let Some(left) = self.pace.left() {
            let _ = write!(line, ", {} left", duration(left));
        }
        if !status.is_empty() {
            let _ = write!(line, ", {status}");
        }
        if let Some(place) = locked(&self.whole).place(self.pace.left(), self.pace.share()) {
            let _ = write!(line, "; {place}");
        }
        line
    }
}

/// A number with three significant digits.
fn three_digits(x: f64) -> String {
    match x {
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 10.0 => format!("{x:.1}"),
        x => format!("{x:.2}"),
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

    /// An activity that began `seconds` ago.
    fn activity(seconds: u64, total: u64, done: u64) -> LineActivity {
        let began = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let pace = Pace { done, began, ..Pace::new(total, "steps") };
        let (console, whole) = (Console::new(true, false), Arc::default());
        LineActivity { console, whole, label: "forget".into(), pace, said: began }
    }

    #[test]
    fn lines_tell_rate_and_time_left() {
        let mut resumed = activity(10, 500, 0);
        resumed.resumed(20);
        resumed.pace.done += 200;
        let line = resumed.line("loss 1.2");
        assert!(line.starts_with("forget: 220/500 steps, 20.0/s, 14s left, loss 1.2"), "{line}");
        assert!(!activity(10, 0, 220).line("").contains("left"));
    }

    /// A first unit that takes minutes looked as if the program hung, and its rate was told in units per second.
    #[test]
    fn slow_units_tell_their_time() {
        assert_eq!(activity(85, 500, 0).line(""), "forget: 0/500 steps, 1m 25s so far");
        let slow = activity(50, 500, 4).line("");
        assert!(slow.starts_with("forget: 4/500 steps, 12.5 s/step, 1h 43m left"), "{slow}");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(duration(Duration::from_secs(59)), "59s");
        assert_eq!(duration(Duration::from_secs(150)), "2m 30s");
        assert_eq!(duration(Duration::from_secs(7260)), "2h 01m");
    }

    #[test]
    fn templates_are_valid() {
        for (bounded, within) in [(true, true), (true, false), (false, true), (false, false)] {
            ProgressStyle::with_template(template(bounded, within)).unwrap();
            let bar = ProgressBar::hidden();
            let whole = within.then(Arc::default);
            bar.set_style(style(Arc::new(Mutex::new(Pace::new(10, "steps"))), bounded, whole));
            bar.inc(1);
        }
    }
}
