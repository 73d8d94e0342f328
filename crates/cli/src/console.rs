//! Standard error: messages, and the bars they must not tear apart.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;
use serde_json::{Value, json};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::{events, table};

/// Where messages for the user go. Clones share the same bars.
#[derive(Clone, Debug)]
pub(crate) struct Console(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bars: MultiProgress,
    quiet: bool,
    terminal: bool,
    /// Whether messages are for programs: a line of JSON each.
    events: bool,
    /// Whether any event was told.
    told: AtomicBool,
}

impl Console {
    pub(crate) fn new(quiet: bool, events: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let told = AtomicBool::new(false);
        Console(Arc::new(Inner { bars: MultiProgress::new(), quiet, terminal, events, told }))
    }

    /// Whether messages are events for programs.
    pub(crate) fn events(&self) -> bool {
        self.0.events
    }

    /// Whether any event was told.
    pub(crate) fn has_told(&self) -> bool {
        self.0.told.load(Ordering::Relaxed)
    }

    /// An event for programs, where they listen and want more than errors; `fields` is an object.
    pub(crate) fn event(&self, kind: &str, fields: Value) {
        if self.0.events && !self.0.quiet {
            self.0.told.store(true, Ordering::Relaxed);
            self.put(&events::line(kind, fields));
        }
    }

    /// Whether only errors are to be shown.
    pub(crate) fn quiet(&self) -> bool {
        self.0.quiet
    }

    /// Whether somebody is looking at a screen rather than at a file.
    pub(crate) fn is_terminal(&self) -> bool {
        self.0.terminal
    }

    /// The bars on this console.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.0.bars
    }

    /// One line for the user, above any bar.
    pub(crate) fn note(&self, line: &str) {
        match line.strip_prefix("warning: ") {
            _ if self.0.quiet => {}
            Some(warning) if self.0.events => self.warn(warning),
            None if self.0.events => self.event("note", json!({ "message": line })),
            // A screen breaks lines between words; a file gets them whole.
            _ if self.0.terminal => {
                let fits = |line: &str| line.chars().count() <= table::width();
                let wrapped = |line: &str| match fits(line) {
                    true => vec![line.to_owned()],
                    false => table::wrap(line, table::width(), 0),
                };
                let lines: Vec<String> = line.lines().flat_map(wrapped).collect();
                self.put(&format!("{}\n", lines.join("\n")));
            }
            _ => self.put(&format!("{line}\n")),
        }
    }

    /// Something the user should know although the command goes on.
    pub(crate) fn warn(&self, message: &str) {
        match self.0.events {
            true => self.event("warning", json!({ "message": message })),
            false => self.note(&format!("{} {message}", painted("1;33", "warning:"))),
        }
    }

    fn put(&self, text: &str) {
        // Where standard error is gone there is nobody left to tell.
        self.0.bars.suspend(|| {
            let mut stderr = io::stderr().lock();
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        });
    }

    /// Sends the libraries' own log events here: warnings always, more with every `-v`.
    pub(crate) fn subscribe(&self, verbose: u8) {
        let level = match (self.0.quiet, verbose) {
            (true, _) => LevelFilter::ERROR,
            (false, 0) => LevelFilter::WARN,
            (false, 1) => LevelFilter::INFO,
            (false, 2) => LevelFilter::DEBUG,
            (false, _) => LevelFilter::TRACE,
        };
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .event_format(Plain { events: self.0.events })
            .with_writer(self.clone())
            .finish();
        // Fails only where a subscriber is set already, which a process does once.
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
}

/// Whether messages may be coloured: on a terminal that can, unless NO_COLOR says no.
fn colored() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !refused && !dumb
}

/// The text in the colour that `code` asks a terminal for, or as it is.
pub(crate) fn painted(code: &str, text: &str) -> String {
    if colored() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Log events as the command's own messages are: the level, what happened, a line. For programs, the level is a key of its
/// own.
struct Plain {
    events: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        if self.events {
            context.format_fields(out.by_ref(), event)?;
            return writeln!(out);
        }
        let level = match *event.metadata().level() {
            Level::ERROR => painted("1;31", "error:"),
            Level::WARN => painted("1;33", "warning:"),
            Level::INFO => painted("2", "info:"),
            Level::DEBUG => painted("2", "debug:"),
            Level::TRACE => painted("2", "trace:"),
        };
        write!(out, "{level} ")?;
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// A log event on its way to the console.
pub(crate) struct Line {
    console: Console,
    level: Level,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        match self.console.events() {
            false => self.console.put(&text),
            true if self.level <= Level::WARN => self.console.warn(text.trim()),
            true => {
                let level = self.level.as_str().to_lowercase();
                self.console.event("log", json!({ "level": level, "message": text.trim() }));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { console: self.clone(), level: Level::INFO }
    }

    fn make_writer_for(&'a self, log: &Metadata<'_>) -> Line {
        Line { console: self.clone(), level: *log.level() }
    }
}
