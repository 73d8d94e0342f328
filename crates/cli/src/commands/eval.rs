//! `amend eval`: a benchmark's figures.

use std::fs;
use std::path::{Path, PathBuf};

use amend_eval::{Benchmark, Items, Sample, SampleLog, Subject, Summary, evaluate, recorded};
use amend_learn::{RecordEncoder, Template};
use amend_run::folder::{LOCK, lock};
use amend_run::{Figure, Method, Stop};
use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};

use super::methods;
use crate::app::Exit;
use crate::args::VERSION;
use crate::completing;
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::open::{ModelArgs, Opened};
use crate::precision::PrecisionArgs;
use crate::table::{self, Align};

const EXAMPLES: &str = "\
Examples:
  amend eval --list
  amend eval --model models/my-model --data facts.jsonl --set max_new_tokens=32
  amend eval --task tofu --model models/my-model --data tofu --out results/mine
  amend eval --task tofu --from-log eval_log_aggregated.json
  amend eval --task tofu --from-log unlearned.json --retain-log retain90.json
  amend eval --task wikitext --model models/my-model --data wikitext-2 --json

--out writes samples.jsonl (every item with answers and scores), results.json
(every figure with n and standard error) and, where the task has one, a log in
its own format. The same command goes on with a folder whose evaluation was
stopped, at the item where it was. --from-log takes such a samples.jsonl, of a
finished evaluation, or a log of the benchmark's own scripts, and asks no model.";

/// Compute a benchmark's figures, each with its standard error
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    group = ArgGroup::new("source").args(["list", "from_log", "model"]).required(true)
)]
pub(crate) struct EvalArgs {
    /// List the tasks there are, with their options
    #[arg(long)]
    list: bool,
    /// The task [default: records, where --data is a file]
    #[arg(long, value_name = "TASK", add = completing::tasks())]
    task: Option<String>,
    /// Change an option of the task
    #[arg(long = "set", value_name = "KEY=VALUE", add = completing::task_options())]
    sets: Vec<String>,
    /// Log of an evaluated model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dtype", "weights"])]
    from_log: Option<PathBuf>,
    /// Folder or GGUF file of a model to evaluate
    #[arg(long, value_name = "MODEL", requires = "data", add = completing::models())]
    model: Option<PathBuf>,
    /// Folder of the task's data files, for --model; for the task `records`, the file of one's own
    #[arg(long, value_name = "PATH", requires = "model")]
    data: Option<PathBuf>,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Log of the model that the task compares with; TOFU's is a model trained without the forget set
    #[arg(long, value_name = "FILE", visible_alias = "retain-log")]
    reference_log: Option<PathBuf>,
    /// Folder for samples.jsonl and results.json: a new one, or one to go on with
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn execute(args: EvalArgs, context: &mut Context) -> Result<Exit, Error> {
    if args.list {
        return list(context);
    }
    let recorded_task = args.from_log.as_deref().and_then(amend_eval::task_of);
    let name = match (&args.task, &args.data) {
        (Some(task), _) => task.as_str(),
        (None, None) if recorded_task.is_some() => recorded_task.as_deref().unwrap_or_default(),
        (None, Some(data)) if data.is_file() => "records",
        (None, Some(data)) if !data.exists() => {
            return Err(Error::read(data, std::io::ErrorKind::NotFound.into()));
        }
        (None, _) => {
            return Err(Error::told(
                "--task is missing: nothing says what to measure",
                "`amend eval --list` lists the tasks; with a file as --data it is `records`",
            ));
        }
    };
    if let Some(set) = args.sets.iter().find(|set| !set.contains('=')) {
        return Err(Error::told(format!("--set {set}: expected KEY=VALUE"), "for example --set limit=100"));
    }
    let benchmark = Benchmark::choose(name, &args.sets)?;
    let task = benchmark.filler();
    if args.reference_log.is_some() && !task.uses_reference() {
        return Err(Error::told(
            format!("--reference-log: {name} has no figure that compares with another model"),
            "leave it out",
        ));
    }
    if let Some(out) = &args.out {
        check_folder(out, args.from_log.is_none())?;
    }
    // The log is held until everything is written: it is what keeps other processes out of the folder.
    let (samples, _log) = match &args.from_log {
        Some(path) => (recorded(task, path)?, None),
        None => ask_model(&args, &benchmark, context)?,
    };
    let reference = args.reference_log.as_ref().map(|path| recorded(task, path)).transpose()?;
    let summary = task.aggregate(&samples, reference.as_deref());
    let results = results(&benchmark, &summary)?;
    if let Some(out) = &args.out {
        write(out, &args, &benchmark, &samples, &results, context)?;
    }
    if context.json {
        context.out.json_document(&results)?;
    } else {
        show(&summary, context)?;
    }
    if let Some(out) = &args.out {
        context.console.note(&format!("written to {}", out.display()));
    }
    Ok(Exit::Done)
}

/// Asks a model everything that a folder does not hold the answers to yet.
fn ask_model(
    args: &EvalArgs,
    benchmark: &Benchmark,
    context: &mut Context,
) -> Result<(Vec<Sample>, Option<SampleLog>), Error> {
    let (Some(path), Some(data)) = (&args.model, &args.data) else {
        return Err(Error::told("there is nothing to evaluate", "give --from-log, or --model with --data"));
    };
    let data = benchmark.filler().items(data)?;
    let opened = Opened::open(&ModelArgs { model: path.clone(), adapter: None, precision: args.precision })?;
    let tokenizer = opened.tokenizer()?;
    let encoder = RecordEncoder::new(tokenizer, Template::default(), opened.model.spec().context);
    let subject = Subject::new(&opened.model, tokenizer, &encoder);
    let mut log = match &args.out {
        Some(out) => Some(open_log(out, path, args.precision, benchmark, &data)?),
        None => None,
    };
    if let Some(done) = log.as_ref().map(SampleLog::len).filter(|&done| done > 0) {
        context.console.note(&format!("going on: {done} of {} items are answered", data.items.len()));
    }
    let progress = context.progress.as_ref();
    let samples =
        evaluate(benchmark.filler(), &data.items, &subject, log.as_mut(), progress, &Stop::default())?;
    if subject.cut() > 0 {
        context.console.warn(&format!(
            "{} requests are longer than the model's context of {} tokens: texts were cut, and questions that fill it were not \
             answered",
            subject.cut(),
            opened.model.spec().context
        ));
    }
    Ok((samples, log))
}

/// Opens the folder's samples, which must be answers of the same model to the same task.
fn open_log(
    out: &Path,
    model: &Path,
    precision: PrecisionArgs,
    benchmark: &Benchmark,
    data: &Items,
) -> Result<SampleLog, Error> {
    create(out)?;
    let made_with = [
        ("task", options(benchmark)?),
        ("model", amend_run::file::content_hash(model)?.into()),
        ("dtype", json!(precision.dtype)),
        ("weights", json!(precision.weights)),
        ("program", VERSION.into()),
    ];
    let made_with: Map<String, Value> =
        made_with.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    let log = SampleLog::open(out, &made_with, data)?;
    // Between looking and locking, another process may have finished the evaluation.
    check_folder(out, true)?;
    Ok(log)
}

/// A task and its options, as recipes write them.
fn options(benchmark: &Benchmark) -> Result<Value, Error> {
    serde_json::to_value(benchmark).map_err(|e| Error::plain(format!("the task's options: {e}")))
}

fn results(benchmark: &Benchmark, summary: &Summary) -> Result<Value, Error> {
    let mut results = Map::from_iter([("task".to_owned(), options(benchmark)?)]);
    results.extend(summary.to_json());
    Ok(results.into())
}

/// Accepts a folder that is new, empty, or holds an evaluation that can be gone on with.
fn check_folder(out: &Path, resumable: bool) -> Result<(), Error> {
    let occupied = match fs::read_dir(out) {
        // A process that ended before it wrote anything leaves the file of its lock.
        Ok(mut entries) => entries.any(|entry| !entry.is_ok_and(|entry| entry.file_name() == LOCK)),
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    };
    let unfinished = resumable && SampleLog::is_in(out) && !out.join("results.json").exists();
    if occupied && !unfinished {
        return Err(
            Error::told(format!("{} exists", out.display()), "choose another --out").about(Topic::Output)
        );
    }
    Ok(())
}

fn write(
    out: &Path,
    args: &EvalArgs,
    benchmark: &Benchmark,
    samples: &[Sample],
    results: &Value,
    context: &Context,
) -> Result<(), Error> {
    // Held until the last file is written, as an evaluation holds its own.
    let _lock = match &args.from_log {
        Some(_) => {
            create(out)?;
            let lock = lock(out)?;
            check_folder(out, false)?;
            SampleLog::write(out, samples)?;
            Some(lock)
        }
        None => {
            if let Err(e) = benchmark.filler().write_log(samples, out) {
                // Figures that may have taken hours are not lost over a log that cannot hold them.
                context.console.warn(&format!("the benchmark's own log was not written: {e}"));
            }
            None
        }
    };
    // Last, because it is what says that the evaluation is complete.
    Ok(amend_run::write_results(out, results)?)
}

fn create(out: &Path) -> Result<(), Error> {
    fs::create_dir_all(out).map_err(|e| Error::io(out, "cannot create", e))
}

fn show(summary: &Summary, context: &mut Context) -> Result<(), Error> {
    let row = |(name, figure): &(String, Figure)| {
        let error = figure.format_error().map_or(String::new(), |e| format!("± {e}"));
        let cases = if figure.n > 0 { figure.n.to_string() } else { String::new() };
        vec![name.clone(), figure.format_value(), error, cases]
    };
    let rows: Vec<_> = summary.figures.iter().map(row).collect();
    let columns = [("figure", Align::Left), ("value", Align::Right), ("", Align::Left), ("n", Align::Right)];
    for line in table::lines(&columns, &rows) {
        context.out.line(line)?;
    }
    for (name, reason) in &summary.missing {
        context.out.line(format_args!("{name}  n/a: {reason}"))?;
    }
    Ok(())
}

fn list(context: &mut Context) -> Result<Exit, Error> {
    let tasks = amend_eval::task::tasks();
    if context.json {
        let all: Vec<Value> = tasks.iter().map(|task| methods::to_json(*task, true)).collect();
        context.out.json_document(&all)?;
        return Ok(Exit::Done);
    }
    let widest = tasks.iter().map(|task| task.name().len()).max().unwrap_or(0);
    for task in tasks {
        let text = methods::first_sentence(&task.doc());
        let text = table::wrap(&text, table::width(), widest + 2).join("\n");
        context.out.line(format_args!("{:<widest$}  {}", task.name(), text.trim_start()))?;
        let options = default_options(*task);
        context.out.line(format_args!("{:<widest$}  options: {options}", ""))?;
    }
    context.out.line("\nWith --json each has its whole description and the schema of its options.")?;
    Ok(Exit::Done)
}

/// `split="forget10", limit=300`
fn default_options(task: &dyn Method) -> String {
    let Value::Object(defaults) = task.defaults() else { return "none".into() };
    let shown = |(name, value): (&String, &Value)| match value {
        Value::Null => name.clone(),
        value => format!("{name}={value}"),
    };
    defaults.iter().map(shown).collect::<Vec<_>>().join(", ")
}
