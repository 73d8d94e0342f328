//! The commands, one file each.

mod attack;
mod audit;
mod bench;
mod certify;
mod chat;
mod check;
mod compare;
mod completions;
mod convert;
mod demo;
mod doctor;
mod embed;
mod eval;
mod generate;
mod methods;
mod new;
mod report;
mod resume;
mod run;
mod runs;
mod schema;
mod score;
mod sweep;

use clap::Subcommand;

use crate::app::Exit;
use crate::context::Context;
use crate::error::Error;

pub(crate) use methods::first_sentence;

/// What the user can ask for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::DemoArgs),
    New(new::NewArgs),
    Check(check::CheckArgs),
    Run(run::RunArgs),
    Resume(resume::ResumeArgs),
    Report(report::ReportArgs),
    Compare(compare::CompareArgs),
    Runs(runs::RunsArgs),
    Sweep(sweep::SweepArgs),
    Certify(certify::CertifyArgs),
    Attack(attack::AttackArgs),
    Audit(audit::AuditArgs),
    Methods(methods::MethodsArgs),
    Schema(schema::SchemaArgs),
    Eval(eval::EvalArgs),
    Score(score::ScoreArgs),
    Embed(embed::EmbedArgs),
    Generate(generate::GenerateArgs),
    Chat(chat::ChatArgs),
    Convert(convert::ConvertArgs),
    Bench(bench::BenchArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
}

/// Does what was asked for.
pub(crate) fn dispatch(command: Command, context: &mut Context) -> Result<Exit, Error> {
    match command {
        Command::Run(args) => run::execute(args, context),
        Command::Check(args) => check::execute(args, context),
        Command::Resume(args) => resume::execute(args, context),
        Command::Demo(args) => demo::execute(args, context),
        Command::Attack(args) => attack::execute(args, context),
        Command::Audit(args) => audit::execute(args, context),
        Command::New(args) => new::execute(args, context),
        Command::Methods(args) => methods::execute(args, context),
        Command::Schema(args) => schema::execute(args, context),
        Command::Report(args) => report::execute(args, context),
        Command::Runs(args) => runs::execute(args, context),
        Command::Compare(args) => compare::execute(args, context),
        Command::Certify(args) => certify::execute(args, context),
        Command::Sweep(args) => sweep::execute(args, context),
        Command::Eval(args) => eval::execute(args, context),
        Command::Score(args) => score::execute(args, context),
        Command::Embed(args) => embed::execute(args, context),
        Command::Generate(args) => generate::execute(args, context),
        Command::Chat(args) => chat::execute(args, context),
        Command::Convert(args) => convert::execute(args, context),
        Command::Bench(args) => bench::execute(args, context),
        Command::Doctor(args) => doctor::execute(args, context),
        Command::Completions(args) => completions::execute(args, context),
    }
}
