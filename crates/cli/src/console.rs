//! Standard error: messages, and the bars they must not tear apart.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use indicatif::MultiProgress;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Where messages for the user go. Clones share the same bars.
#[derive(Clone, Debug)]
pub(crate) struct Console(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bars: MultiProgress,
    quiet: bool,
    terminal: bool,
}

impl Console {
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Console(Arc::new(Inner { bars: MultiProgress::new(), quiet, terminal }))
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
        if !self.0.quiet {
            self.write(&format!("{line}\n"));
        }
    }

    /// Something the user should know although the command goes on.
    pub(crate) fn warn(&self, message: &str) {
        self.note(&format!("{} {message}", painted("1;33", "warning:")));
    }

    /// Text without a line of its own, such as a prompt.
    pub(crate) fn write(&self, text: &str) {
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
            .event_format(Plain)
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

/// Log events as the command's own messages are: the level, what happened, a line.
struct Plain;

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
pub(crate) struct Line(Console);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(self.clone())
    }
}
