//! `amend convert`: a model in another file format or number type.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use amend_engine::DType;
use amend_engine::checkpoint::{
    Checkpoint, DEFAULT_SHARD_BYTES, GgufType, Rounding, WrittenTensor, write_folder, write_gguf,
};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::app::Exit;
use crate::completing;
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::open;
use crate::table::{self, Align};

const EXAMPLES: &str = "\
Examples:
  amend convert models/my-model my-model.gguf --dtype q8_0
  amend convert my-model.gguf models/my-model --dtype bf16
  amend convert models/my-model models/half --dtype f16 --shard-bytes 1000000000

The summary says what the new number type does to the weights: the largest and
the root mean square difference, by type, and the latter as a share of the root
mean square of the weights. Vectors (norms, biases) stay f32 in GGUF, and
matrices whose rows are no multiple of 32 become f16 instead of q8_0.
Every command for language models takes a .gguf file instead of a folder.";

/// Write a model as GGUF or as a Hugging Face folder, or in another number type
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConvertArgs {
    /// The model: a Hugging Face folder or a GGUF file
    #[arg(value_name = "SRC", add = completing::models())]
    source: PathBuf,
    /// What to write; must not exist
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// Format to write [default: gguf where DST ends in .gguf, otherwise hf]
    #[arg(long, value_name = "FORMAT")]
    to: Option<Format>,
    /// Number type to write weights in [default: the one they have]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<Type>,
    /// Largest weights file of a folder, in bytes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SHARD_BYTES, value_parser = crate::args::parse_count)]
    shard_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One file, as llama.cpp reads it
    Gguf,
    /// A folder, as transformers reads it
    Hf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Type {
    /// 32-bit float
    F32,
    /// 16-bit float
    F16,
    /// The upper half of a 32-bit float
    Bf16,
    /// 8 bits with a scale per 32 weights (GGUF only)
    #[value(name = "q8_0")]
    Q8_0,
}

/// What was written in one number type.
#[derive(Debug, Default)]
struct Tally {
    tensors: usize,
    rounding: Rounding,
}

/// What was written, by number type before and after.
type Tallies = BTreeMap<(String, String), Tally>;

pub(crate) fn execute(args: ConvertArgs, context: &mut Context) -> Result<Exit, Error> {
    let named_gguf = args.target.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    let format = args.to.unwrap_or(if named_gguf { Format::Gguf } else { Format::Hf });
    refuse_existing(&args.target)?;
    let dtype = float_type(args.dtype, format)?;
    open::refuse_run(&args.source)?;
    let source = Checkpoint::open(&args.source)?;

    let mut bar = context.progress.begin("convert", source.names().count() as u64, "tensors");
    let mut groups = Tallies::new();
    let mut count = |tensor: &WrittenTensor| {
        let group = groups.entry((tensor.from.clone(), tensor.to.clone())).or_default();
        group.tensors += 1;
        group.rounding = group.rounding.and(tensor.rounding);
        bar.advance(1, "");
    };
    let notes = match format {
        Format::Gguf => write_gguf(&args.target, &source, args.dtype.map(Type::gguf), &mut count)?,
        Format::Hf => {
            write_folder(&args.target, &source, dtype, args.shard_bytes, &mut count)?;
            Vec::new()
        }
    };
    bar.finish(&format!("written to {}", args.target.display()));
    for note in &notes {
        context.console.warn(note);
    }
    if context.json {
        context.out.json_line(&summary(&args, format, &groups, &notes))?;
    } else {
        show(&groups, context)?;
    }
    Ok(Exit::Done)
}

impl Type {
    fn gguf(self) -> GgufType {
        match self {
            Type::F32 => GgufType::F32,
            Type::F16 => GgufType::F16,
            Type::Bf16 => GgufType::BF16,
            Type::Q8_0 => GgufType::Q8_0,
        }
    }
}

/// The type as tensors have it, which a folder needs.
fn float_type(dtype: Option<Type>, format: Format) -> Result<Option<DType>, Error> {
    let native = dtype.and_then(|dtype| dtype.gguf().native());
    if format == Format::Hf && dtype.is_some() && native.is_none() {
        return Err(Error::told(
            "q8_0 is a number type of GGUF, which a Hugging Face folder cannot hold",
            "write GGUF with --to gguf, or choose f32, f16 or bf16",
        ));
    }
    Ok(native)
}

fn refuse_existing(target: &Path) -> Result<(), Error> {
    let occupied = match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => target.symlink_metadata().is_ok(),
    };
    if occupied {
        return Err(Error::told(
            format!("{} exists", target.display()),
            "choose another DST, or remove it first",
        )
        .about(Topic::Output));
    }
    Ok(())
}

fn total(groups: &Tallies) -> Tally {
    groups.values().fold(Tally::default(), |sum, group| Tally {
        tensors: sum.tensors + group.tensors,
        rounding: sum.rounding.and(group.rounding),
    })
}

fn summary(args: &ConvertArgs, format: Format, groups: &Tallies, notes: &[String]) -> serde_json::Value {
    let figures = |group: &Tally| {
        json!({
            "tensors": group.tensors,
            "weights": group.rounding.values,
            "largest_error": group.rounding.largest,
            "rms_error": group.rounding.root_mean_square(),
            "relative_rms_error": group.rounding.relative(),
        })
    };
    let with_types = |((from, to), group): (&(String, String), &Tally)| {
        let mut row = figures(group);
        row["from"] = from.as_str().into();
        row["to"] = to.as_str().into();
        row
    };
    let mut value = figures(&total(groups));
    value["source"] = json!(args.source);
    value["target"] = json!(args.target);
    value["format"] = if format == Format::Gguf { "gguf" } else { "hf" }.into();
    value["types"] = groups.iter().map(with_types).collect();
    value["notes"] = notes.into();
    value
}

/// One line per pair of number types.
fn show(groups: &Tallies, context: &mut Context) -> Result<(), Error> {
    let row = |from: &str, to: &str, group: &Tally| {
        vec![
            from.to_owned(),
            to.to_owned(),
            group.tensors.to_string(),
            group.rounding.values.to_string(),
            format!("{:.3e}", group.rounding.largest),
            format!("{:.3e}", group.rounding.root_mean_square()),
            format!("{:.4}%", 100.0 * group.rounding.relative()),
        ]
    };
    let mut rows: Vec<_> = groups.iter().map(|((from, to), group)| row(from, to, group)).collect();
    if groups.len() > 1 {
        rows.push(row("all", "", &total(groups)));
    }
    let columns = [
        ("from", Align::Left),
        ("to", Align::Left),
        ("tensors", Align::Right),
        ("weights", Align::Right),
        ("largest error", Align::Right),
        ("rms error", Align::Right),
        ("relative", Align::Right),
    ];
    for line in table::lines(&columns, &rows) {
        context.out.line(line)?;
    }
    Ok(())
}
