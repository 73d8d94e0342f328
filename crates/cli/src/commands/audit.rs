//! `amend audit`: whether a change of a model holds, and where what was changed is still there.

use std::fs;
use std::path::{Path, PathBuf};

use amend_audit::{Audit, Options, Outcome, Side, read_cases, report};
use amend_engine::Model;
use amend_engine::checkpoint::Checkpoint;
use amend_engine::models::Spec;
use amend_engine::tokenizer::Tokenizer;
use amend_run::file::write_atomic;
use amend_run::records::{ReadOptions, Rows};
use amend_run::report::Section;
use amend_run::{Report, Stop, stored};
use clap::Args;
use serde_json::{Value, json};

use crate::app::Exit;
use crate::args::parse_count;
use crate::completing;
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::open;
use crate::table;

const EXAMPLES: &str = "\
Examples:
  amend audit original edited --probes edits.jsonl --out audits/edited
  amend audit original edited --probes counterfact_wiki.json --limit 50
  amend audit before forgotten --probes facts.jsonl --at-most 0.1

A fact that was rewritten, or forgotten, may come back as soon as something of
the old one stands before the prompt. FILE has a fact per record: subject,
prompt (with {} for the subject), target_true (what is to be gone), and what
there is of target_new, paraphrases, neighbours, context (a text about the old
object), probes (whole texts that end with the prompt), control (another
object). CounterFact and zsRE with attack probes are read as published. What is
not given is made: the old object ten times, a question that asserts it, and the
same about the old object of another record, as a control.
--out writes report.html, report.json, and every table as CSV.
Exit codes: 0 done, 1 more comes back than --at-most allows, 2 error.";

/// Tell whether what was changed comes back, and from where
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// The model from before the change: a Hugging Face folder or a GGUF file
    #[arg(add = completing::models())]
    before: PathBuf,
    /// The changed model
    #[arg(add = completing::models())]
    after: PathBuf,
    /// The facts, with the probes there are
    #[arg(long, value_name = "FILE")]
    probes: PathBuf,
    /// Ask for the first N facts only
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<usize>,
    /// A new folder for report.html, report.json and the tables
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only check that it can be done, and say what is asked
    #[arg(long)]
    check: bool,
    /// Exit with 1 where the old object is said of more than this share of the facts, behind any prefix or without one
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    at_most: Option<f64>,
    /// Most facts to look into, of those that a prefix brings back; 0: none
    #[arg(long, value_name = "N", default_value_t = Options::default().inside)]
    inside: usize,
    /// Layers behind which states are swapped, such as 0,4,8 [default: all]
    #[arg(long, value_name = "L,L,…", value_delimiter = ',')]
    layers: Option<Vec<usize>>,
    /// Heads to take out [default: a fiftieth of all, at least two]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    heads: Option<usize>,
    /// Share of a head's singular vectors to take out, at least one vector; above 0, at most 0.5
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().share, value_parser = parse_half)]
    share: f64,
    /// Draws of as many heads and vectors at random
    #[arg(long, value_name = "N", default_value_t = Options::default().draws, value_parser = parse_draws)]
    draws: usize,
    /// Most tokens that models write to the edits' own prompts; 0: none
    #[arg(long, value_name = "N", default_value_t = Options::default().max_new_tokens)]
    max_new_tokens: usize,
    /// Seed of controls, draws and intervals
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a share from 0 to 1".into()),
    }
}

fn parse_half(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 0.5 => Ok(share),
        _ => Err("give a share above 0 and at most 0.5: as many vectors again are drawn at random".into()),
    }
}

fn parse_draws(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(draws @ 1..=1000) => Ok(draws),
        _ => Err("give a number from 1 to 1000".into()),
    }
}

impl AuditArgs {
    fn options(&self) -> Options {
        Options {
            seed: self.seed,
            heads: self.heads,
            share: self.share,
            draws: self.draws,
            inside: self.inside,
            layers: self.layers.clone(),
            max_new_tokens: self.max_new_tokens,
        }
    }
}

pub(crate) fn execute(args: AuditArgs, context: &mut Context) -> Result<Exit, Error> {
    if let Some(out) = &args.out {
        check_folder(out)?;
    }
    let read = Rows::read(&[&args.probes], &ReadOptions::default());
    let mut rows = read.map_err(|e| Error::from(amend_learn::Error::from(e)).within("--probes"))?.rows;
    rows.truncate(args.limit.unwrap_or(usize::MAX));
    let cases = read_cases(rows, &args.probes.display().to_string(), args.seed)?;
    let (spec, tokenizer) = models(&args)?;
    let audit = Audit::new(cases, &tokenizer, &spec, args.options())?;
    if args.check {
        return told(&audit, context);
    }
    if let Some(out) = &args.out {
        fs::create_dir_all(out).map_err(|e| Error::io(out, "cannot create", e))?;
    }
    let mut open = |side: Side| -> amend_learn::Result<Model> {
        let path = if side == Side::Before { &args.before } else { &args.after };
        Ok(Model::open(path)?)
    };
    let outcome = audit.run(&mut open, context.progress.as_ref(), &Stop::default())?;
    let passed = args.at_most.map(|most| holds(&outcome, most));
    let report = report(&outcome);
    let results = results(&args, &outcome, passed)?;
    // What was found is told even where it cannot be written.
    if context.json {
        context.out.json_document(&results)?;
    } else {
        context.out.text(&report.to_terminal(table::width()))?;
    }
    if let Some(out) = &args.out {
        write(out, &report, &results)?;
        context.console.note(&format!("written to {}", out.display()));
    }
    Ok(if passed == Some(false) { Exit::Negative } else { Exit::Done })
}

/// What both models are made of, and their tokenizer; no weight is read.
fn models(args: &AuditArgs) -> Result<(Spec, Tokenizer), Error> {
    let opened = |name: &str, path: &Path| -> Result<(Spec, Tokenizer), Error> {
        open::check_model(path).map_err(|e| e.within(name))?;
        let spec = Spec::of_checkpoint(&Checkpoint::open(path)?).map_err(|e| Error::from(e).within(name))?;
        Ok((spec, Tokenizer::open(path).map_err(|e| Error::from(e).within(name))?))
    };
    let (before, theirs) = opened("BEFORE", &args.before)?;
    let (after, tokenizer) = opened("AFTER", &args.after)?;
    if let Some((what, [before, after])) = difference(&before, &after) {
        return Err(Error::told(
            format!(
                "the models are of different architectures: {} has {before} {what}, and {} has {after}",
                args.before.display(),
                args.after.display()
            ),
            "an audit compares a model with what became of it; name the model that AFTER was made from",
        ));
    }
    if let Some((id, _)) = tokenizer.first_difference(&theirs) {
        return Err(Error::told(
            format!(
                "{} and {} have different vocabularies, from token {id} on",
                args.before.display(),
                args.after.display()
            ),
            "an audit puts the same tokens to both; name the model that AFTER was made from",
        ));
    }
    Ok((after, tokenizer))
}

/// In what two models differ that should not, with how much each has of it.
fn difference(before: &Spec, after: &Spec) -> Option<(&'static str, [String; 2])> {
    let numbers = |spec: &Spec| {
        [
            ("layers", spec.layers),
            ("heads in a layer", spec.heads),
            ("heads of keys and values in a layer", spec.kv_heads),
            ("numbers in a head", spec.head_dim),
            ("numbers in a state", spec.hidden),
            ("numbers within a feed-forward", spec.intermediate),
            ("tokens in its vocabulary", spec.vocabulary),
        ]
    };
    let pairs = numbers(before).into_iter().zip(numbers(after));
    let mut differ = pairs.filter(|((_, before), (_, after))| before != after);
    let found = differ.next().map(|((what, b), (_, a))| (what, [b.to_string(), a.to_string()]));
    let names = [before, after].map(|spec| format!("{}*", spec.names.block.blocks));
    found.or_else(|| (before.names != after.names).then_some(("as names of its blocks, among others", names)))
}

/// Whether the old object is said of no more than `most` of the facts, behind any prefix or without one.
fn holds(outcome: &Outcome, most: f64) -> bool {
    outcome.prefixes.iter().all(|brought| brought.after.says.is_none_or(|says| says.value <= most))
}

fn results(args: &AuditArgs, outcome: &Outcome, passed: Option<bool>) -> Result<Value, Error> {
    let found = stored::to_value(outcome);
    let mut found = found.map_err(|e| Error::plain(format!("the results cannot be written: {e}")))?;
    if let Some(found) = found.as_object_mut() {
        let mut before = serde_json::Map::from_iter([
            ("before".to_owned(), json!(args.before)),
            ("after".to_owned(), json!(args.after)),
            ("probes".to_owned(), json!(args.probes)),
            ("at_most".to_owned(), json!(args.at_most)),
            ("passed".to_owned(), json!(passed)),
        ]);
        before.append(found);
        *found = before;
    }
    Ok(found)
}

/// Says what would be asked.
fn told(audit: &Audit<'_>, context: &mut Context) -> Result<Exit, Error> {
    let probes = audit.probes();
    if context.json {
        let of = |(prefix, own, control): &(_, usize, usize)| json!({ "prefix": prefix, "probes": own, "control": control });
        let all: Vec<Value> = probes.iter().map(of).collect();
        context.out.json_line(&json!({ "cases": audit.cases(), "probes": all }))?;
        return Ok(Exit::Done);
    }
    context.out.line(format_args!("{} facts can be asked for; every model answers", audit.cases()))?;
    for (prefix, own, control) in probes {
        let control = if control > 0 { format!(", and {control} of the control") } else { String::new() };
        context.out.line(format_args!("  {own} probes with {}{control}", prefix.words()))?;
    }
    Ok(Exit::Done)
}

/// Accepts a folder that is new or empty.
fn check_folder(out: &Path) -> Result<(), Error> {
    let occupied = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    };
    match occupied {
        true => {
            Err(Error::told(format!("{} exists", out.display()), "choose another --out").about(Topic::Output))
        }
        false => Ok(()),
    }
}

fn write(out: &Path, report: &Report, results: &Value) -> Result<(), Error> {
    fs::create_dir_all(out).map_err(|e| Error::io(out, "cannot create", e))?;
    let tables = report.sections.iter().filter_map(|section| match section {
        Section::Table(table) => Some((&table.caption, table.to_csv())),
        Section::Plot(plot) => Some((&plot.title, plot.to_csv())),
        _ => None,
    });
    for (number, (title, csv)) in tables.enumerate() {
        let words = title.split([':', ';', ',']).next().unwrap_or_default().to_lowercase();
        let name: Vec<&str> =
            words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        write_atomic(&out.join(format!("{:02}-{}.csv", number + 1, name.join("-"))), csv.as_bytes())?;
    }
    let mut text = serde_json::to_string_pretty(results)
        .map_err(|e| Error::plain(format!("the results cannot be written: {e}")))?;
    text.push('\n');
    write_atomic(&out.join("report.json"), text.as_bytes())?;
    Ok(write_atomic(&out.join("report.html"), report.to_html().as_bytes())?)
}
