//! What every command works with: where its data, its messages and its progress go.

use amend_run::Progress;

use crate::args::GlobalArgs;
use crate::console::Console;
use crate::output::Output;
use crate::progress;

/// Passed to every command.
pub(crate) struct Context {
    /// Standard output, for data.
    pub(crate) out: Output,
    /// Standard error, for messages.
    pub(crate) console: Console,
    /// Standard error, for progress.
    pub(crate) progress: Box<dyn Progress>,
    /// Whether data is to be JSON.
    pub(crate) json: bool,
    /// The flags of every command, as they were given.
    pub(crate) flags: Vec<String>,
}

impl Context {
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        let console = Console::new(global.quiet, global.json);
        console.subscribe(global.verbose);
        let progress = progress::listener(&console, global.no_progress);
        Context {
            out: Output::stdout(&console),
            console,
            progress,
            json: global.json,
            flags: global.as_arguments(),
        }
    }
}
