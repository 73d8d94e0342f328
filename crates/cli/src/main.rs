//! `amend`: change a trained language model, and prove the change.

mod app;
mod area;
mod args;
mod chosen;
mod commands;
mod completing;
mod console;
mod constraint;
mod context;
mod error;
mod events;
mod finish;
mod interrupt;
mod listening;
mod logged;
mod open;
mod output;
mod precision;
mod progress;
mod prospect;
mod provenance;
mod resuming;
mod running;
mod sampling;
mod snippet;
mod table;
mod texts;
mod token_ids;
mod usage;
mod whole;

fn main() -> std::process::ExitCode {
    app::run()
}
