//! `amend eval`: a benchmark's figures.

use std::fs;
use std::path::{Path, PathBuf};

use amend_eval::questions::{Asking, Subject};
use amend_eval::stats::Mean;
use amend_eval::tofu::{self, SetScores, TofuLog, TofuRow, TofuScores, aggregate, rows};
use amend_learn::{Encoder, Template};
use amend_run::file::write_atomic;
use amend_run::{Figure, Stop};
use clap::{ArgGroup, Args, ValueEnum};

use crate::app::Exit;
use crate::context::Context;
use crate::error::Error;
use crate::open::{ModelArgs, Opened};
use crate::precision::PrecisionArgs;
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
    /// Folder or GGUF file of a model to evaluate
    #[arg(long, value_name = "MODEL", group = "source", requires = "data")]
    model: Option<PathBuf>,
    /// Folder of the benchmark's data files, for --model
    #[arg(long, value_name = "DIR", requires = "model")]
    data: Option<PathBuf>,
    /// Which authors were to be forgotten: forget01, forget05 or forget10, for --model
    #[arg(long, value_name = "SPLIT", default_value = "forget10", requires = "model")]
    split: String,
    /// Questions per set, for --model
    #[arg(long, value_name = "N", default_value_t = 300, requires = "model")]
    limit: usize,
    /// Most tokens of an answer, for --model
    #[arg(long, value_name = "N", default_value_t = 200, requires = "model")]
    max_new_tokens: usize,
    #[command(flatten)]
    precision: PrecisionArgs,
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
    let log = match &args.from_log {
        Some(path) => TofuLog::read(path)?,
        None => run_on_model(&args, context)?,
    };
    let retain = args.retain_log.as_deref().map(TofuLog::read).transpose()?;
    let scores = aggregate(&log, retain.as_ref());
    if let Some(out) = &args.out {
        write(out, &scores, &rows(&log))?;
    }
    if context.json {
        context.out.json_document(&flat(&scores))?;
    } else {
        show(&scores, context)?;
    }
    if let Some(out) = &args.out {
        context.console.note(&format!("written to {}", out.display()));
    }
    Ok(Exit::Done)
}

/// Asks a model all of the benchmark's questions.
fn run_on_model(args: &EvalArgs, context: &mut Context) -> Result<TofuLog, Error> {
    let (Some(model), Some(data)) = (&args.model, &args.data) else {
        return Err(Error::told("there is nothing to evaluate", "give --from-log, or --model with --data"));
    };
    let opened = Opened::open(&ModelArgs { model: model.clone(), adapter: None, precision: args.precision })?;
    let tokenizer = opened.tokenizer()?;
    let encoder = Encoder::new(tokenizer, Template::default(), opened.model.spec().context);
    let subject = Subject { model: &opened.model, tokenizer, encoder: &encoder };
    let asking = Asking { limit: Some(args.limit), max_new_tokens: args.max_new_tokens };
    let stop = Stop::default();
    let log = tofu::ask(&subject, data, &args.split, &asking, context.progress.as_ref(), &stop)?;
    if let Some(out) = &args.out {
        let plain = |e: &dyn std::fmt::Display| Error::plain(format!("{}: {e}", out.display()));
        fs::create_dir_all(out).map_err(|e| plain(&e))?;
        log.write(&out.join("log.json")).map_err(|e| plain(&e))?;
    }
    Ok(log)
}

/// The benchmark's two figures as plain numbers, for programs, with everything behind them.
fn flat(scores: &TofuScores) -> serde_json::Value {
    let utility = scores.model_utility.as_ref();
    let quality = scores.forget_quality.as_ref();
    serde_json::json!({
        "task": "tofu",
        "model_utility": utility.map(|m| m.value),
        "model_utility_stderr": utility.and_then(|m| m.standard_error),
        "model_utility_n": utility.map(|m| m.n),
        "model_utility_reason": scores.model_utility_reason,
        "forget_quality": quality.map(|q| q.p_value),
        "forget_quality_log10": quality.map(|q| q.log10_p),
        "forget_quality_statistic": quality.map(|q| q.statistic),
        "forget_quality_n": quality.map(|q| [q.n, q.m]),
        "forget_quality_reason": scores.forget_quality_reason,
        "retain": scores.retain,
        "real_authors": scores.real_authors,
        "world_facts": scores.world_facts,
        "forget": scores.forget,
        "notes": scores.notes,
    })
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
