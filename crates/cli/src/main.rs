//! `amend`: change a trained language model, and prove the change.

mod app;
mod area;
mod args;
mod chosen;
mod commands;
mod console;
mod constraint;
mod context;
mod error;
mod events;
mod interrupt;
mod listening;
mod open;
mod output;
mod precision;
mod progress;
mod provenance;
mod running;
mod sampling;
mod snippet;
mod table;
mod texts;
mod token_ids;
mod usage;

fn main() -> std::process::ExitCode {
    app::run()
}
