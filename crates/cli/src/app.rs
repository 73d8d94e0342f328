//! From the command line to an exit code.

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use amend_engine::kernels;
use clap::Parser;
use serde_json::json;

use crate::args::{Cli, GlobalArgs};
use crate::commands;
use crate::completing;
use crate::context::Context;
use crate::error::{self, Error, Topic};
use crate::output::heard;
use crate::usage::hinted;

/// How a command ended that did what it was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Exit code 0.
    Done,
    /// Exit code 1: the work is done and its verdict is negative.
    Negative,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Negative => 1,
        }
    }
}

/// Exit code of every error, usage errors included.
const FAILED: u8 = 2;

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    std::panic::set_hook(Box::new(report_bug));
    hear_of_full_files();
    completing::answer_shell();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return refuse(usage),
    };
    let json = cli.global.json;
    let finished = set_up(&cli.global).and_then(|mut context| {
        let exit = commands::dispatch(cli.command, &mut context)?;
        heard(context.out.flush())?;
        if context.console.has_told() {
            context.console.event("done", json!({ "exit_code": exit.code() }));
        }
        Ok(exit)
    });
    match finished {
        Ok(exit) => ExitCode::from(exit.code()),
        // Whoever closed the pipe has what they wanted: `amend score … | head` is no failure.
        Err(Error::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            error::report(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn set_up(global: &GlobalArgs) -> Result<Context, Error> {
    let context = Context::new(global);
    let threads = global.threads.map_or(0, |asked| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if asked > cores {
            context.console.warn(&format!(
                "--threads {asked}: this machine runs {cores} at once and more would wait for each other; \
                 {cores} are used"
            ));
        }
        asked.min(cores)
    });
    // This thread works along: handing every product to others and waiting for them would cost two
    // changes of thread each. Results do not depend on the number of threads; to set it is for sharing a
    // machine with others.
    rayon::ThreadPoolBuilder::new().use_current_thread().num_threads(threads).build_global().map_err(
        |e| {
            Error::told(format!("cannot start the threads to compute with: {e}"), "use a smaller --threads")
                .about(Topic::System)
        },
    )?;
    tracing::info!(
        "amend {}, computing on the processor with {} threads and {} kernels",
        crate::args::VERSION,
        rayon::current_num_threads(),
        kernels::simd_level()
    );
    Ok(context)
}

/// Prints what clap has to say. `--help` and `--version` arrive here too, and are no failures.
fn refuse(usage: clap::Error) -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let usage = hinted(usage, &arguments);
    if usage.use_stderr() && asks_for_json() {
        error::report_usage_as_json(&usage.render().to_string());
    } else {
        // A closed pipe is the reader's decision, and there is nobody else left to tell.
        let _ = usage.print();
    }
    if usage.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

/// Whether `--json` is among the arguments, where they are not understood, or nobody is left who has read them.
fn asks_for_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

/// The last resort: errors are values everywhere, so a panic is a bug and says so.
fn report_bug(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    let message = owned.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let bug = Error::told(
        format!("amend has hit a bug of its own: {message}{place}"),
        format!(
            "please report this line and the command to {}/issues (version {})",
            env!("CARGO_PKG_REPOSITORY"),
            crate::args::VERSION,
        ),
    );
    error::report(&bug.about(Topic::Bug), asks_for_json());
    std::process::exit(i32::from(FAILED));
}

/// A file that outgrows the shell's limit is an error like a full disk, and not the end of the process without a word.
#[cfg(unix)]
fn hear_of_full_files() {
    let heard = std::sync::Arc::default();
    // Without it, the process ends as it would have.
    let _ = signal_hook::flag::register(nix::sys::signal::Signal::SIGXFSZ as i32, heard);
}

#[cfg(not(unix))]
fn hear_of_full_files() {}
