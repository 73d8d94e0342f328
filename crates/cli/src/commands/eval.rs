//! `amend eval`: a benchmark's figures.

use std::fs;
use std::path::{Path, PathBuf};

use amend_eval::stats::Mean;
use amend_eval::tofu::{SetScores, TofuLog, TofuRow, TofuScores, aggregate, rows};
use amend_run::Figure;
use amend_run::file::write_atomic;
use clap::{ArgGroup, Args, ValueEnum};

use crate::app::Exit;
use crate::context::Context;
use crate::error::Error;
use crate::table::{self, Align};

const EXAMPLES: &str = "\
Examples:
  amend eval --task tofu --from-log eval_log_aggregated.json
  amend eval --task tofu --from-log unlearned.json --retain-log retain90.json

A log is the official scripts' eval_log_aggregated.json. The log of a model
trained without the forget set (--retain-log) makes the forget quality
computable. --out writes results.json (every figure with n and standard error)
and rows.jsonl (every item's scores) into a new folder.";

/// Compute a benchmark's figures, each with its standard error
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("source").required(true))]
pub(crate) struct EvalArgs {
    /// The benchmark
    #[arg(long, value_name = "TASK")]
    task: Task,
    /// Log of an evaluated model
    #[arg(long, value_name = "FILE", group = "source")]
    from_log: Option<PathBuf>,
    /// Folder of a model to evaluate
    #[arg(long, value_name = "DIR", group = "source", requires = "data")]
    model: Option<PathBuf>,
    /// Folder of the benchmark's data files, for --model
    #[arg(long, value_name = "DIR", requires = "model")]
    data: Option<PathBuf>,
    /// Log of a model trained without the forget set
    #[arg(long, value_name = "FILE")]
    retain_log: Option<PathBuf>,
    /// New folder for results.json and rows.jsonl
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Task {
    /// TOFU: a task of fictitious unlearning (arXiv 2401.06121)
    Tofu,
}

pub(crate) fn execute(args: EvalArgs, context: &mut Context) -> Result<Exit, Error> {
    let Task::Tofu = args.task;
    if let Some(out) = &args.out {
        refuse_existing(out)?;
    }
    let log = match (&args.from_log, &args.model, &args.data) {
        (Some(path), ..) => TofuLog::read(path)?,
        (None, model, data) => run_on_model(model.as_deref(), data.as_deref())?,
    };
    let retain = args.retain_log.as_deref().map(TofuLog::read).transpose()?;
    let scores = aggregate(&log, retain.as_ref());
    if let Some(out) = &args.out {
        write(out, &scores, &rows(&log))?;
    }
    if context.json {
        context.out.json_document(&scores)?;
    } else {
        show(&scores, context)?;
    }
    if let Some(out) = &args.out {
        context.console.note(&format!("written to {}", out.display()));
    }
    Ok(Exit::Done)
}

/// Asks a model all of the benchmark's questions.
fn run_on_model(model: Option<&Path>, data: Option<&Path>) -> Result<TofuLog, Error> {
    let shown = |path: Option<&Path>| path.unwrap_or(Path::new("")).display().to_string();
    Err(Error::told(
        format!("{} cannot be asked the questions in {} by this version", shown(model), shown(data)),
        "give the log of an evaluated model with --from-log",
    ))
}

fn refuse_existing(out: &Path) -> Result<(), Error> {
    let occupied = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    };
    if occupied {
        return Err(Error::told(format!("{} exists", out.display()), "choose another --out"));
    }
    Ok(())
}

fn write(out: &Path, scores: &TofuScores, rows: &[TofuRow]) -> Result<(), Error> {
    let plain = |e: &dyn std::fmt::Display| Error::plain(format!("{}: {e}", out.display()));
    fs::create_dir_all(out).map_err(|e| plain(&e))?;
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, row).map_err(|e| plain(&e))?;
        lines.push(b'\n');
    }
    write_atomic(&out.join("rows.jsonl"), &lines)?;
    Ok(amend_run::write_results(out, scores)?)
}

fn figure(mean: Mean) -> Figure {
    Figure { value: mean.value, n: mean.n, stderr: mean.standard_error }
}

fn show(scores: &TofuScores, context: &mut Context) -> Result<(), Error> {
    let sets = [
        ("retain", &scores.retain),
        ("real authors", &scores.real_authors),
        ("world facts", &scores.world_facts),
        ("forget", &scores.forget),
    ];
    let cell = |mean: Mean| {
        let figure = figure(mean);
        figure.format_error().map_or(figure.format_value(), |e| format!("{} ± {e}", figure.format_value()))
    };
    let row = |(name, set): &(&str, &Option<SetScores>)| {
        let set = set.as_ref()?;
        let means = [set.probability, set.rouge_l_recall, set.truth_ratio].map(cell);
        Some([vec![(*name).to_owned(), set.probability.n.to_string()], means.to_vec()].concat())
    };
    let rows: Vec<_> = sets.iter().filter_map(row).collect();
    let columns = [
        ("set", Align::Left),
        ("n", Align::Right),
        ("probability", Align::Right),
        ("ROUGE-L recall", Align::Right),
        ("truth ratio", Align::Right),
    ];
    for line in table::lines(&columns, &rows) {
        context.out.line(line)?;
    }
    context.out.line("")?;
    let unknown = |reason: &Option<String>| format!("n/a: {}", reason.as_deref().unwrap_or("not computed"));
    let utility = match scores.model_utility {
        Some(mean) => figure(mean).to_string(),
        None => unknown(&scores.model_utility_reason),
    };
    context.out.line(format_args!("model utility   {utility}"))?;
    let quality = match &scores.forget_quality {
        Some(test) => format!(
            "p = {:.3e} (log10 p = {:.2}, KS D = {:.4}, n = {} and {})",
            test.p_value, test.log10_p, test.statistic, test.n, test.m
        ),
        None => unknown(&scores.forget_quality_reason),
    };
    context.out.line(format_args!("forget quality  {quality}"))?;
    for note in &scores.notes {
        context.console.warn(note);
    }
    Ok(())
}
