//! `amend embed`: a vector for every text or picture.

use std::path::{Path, PathBuf};

use amend_engine::images::Picture;
use amend_engine::models::{ENCODING_TOKENS, Encoder, Pooling};
use amend_engine::tokenizer::Tokenizer;
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::app::Exit;
use crate::completing;
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::open;
use crate::texts::Lines;
use crate::token_ids::{self, TokenIds};

const EXAMPLES: &str = "\
Examples:
  amend embed models/all-minilm-l6-v2 --text 'A man is eating.'
  amend embed models/all-minilm-l6-v2 --text-file texts.txt --json > out.jsonl
  amend embed models/clip-vit-base-patch32 --image cat.jpg --image dog.png

Prints one vector per line, its numbers separated by spaces. With --json each
line is {\"embedding\", \"text_index\", \"tokens\"}, or {\"embedding\", \"image_index\",
\"image\"} for a picture; indices are counted from 0.

How rows become one vector is read from the folder (modules.json and what it
names). A folder that does not say gives the mean over all tokens of a text, the
class token of an image, and for CLIP the projected features at length 1.
Texts longer than the model reads are cut, with a warning.";

/// Vectors of texts or pictures under an encoder
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("input").required(true))]
pub(crate) struct EmbedArgs {
    /// Folder of the encoder: config.json, safetensors weights and, for texts, tokenizer.json
    #[arg(value_name = "DIR", add = completing::models())]
    model: PathBuf,
    /// Embed these token ids, special ones included; needs no tokenizer
    #[arg(long, value_name = "ID,ID,…", group = "input", allow_hyphen_values = true)]
    ids: Option<TokenIds>,
    /// Embed this text; may be given several times
    #[arg(long, value_name = "TEXT", group = "input", allow_hyphen_values = true)]
    text: Vec<String>,
    /// Embed every line of this file (`-`: standard input)
    #[arg(long, value_name = "FILE", group = "input")]
    text_file: Option<PathBuf>,
    /// Embed this picture, PNG or JPEG; several may be given
    #[arg(long, value_name = "FILE", group = "input", num_args = 1..)]
    image: Vec<PathBuf>,
    /// How rows become one vector: cls, max, mean, last, pooler, … [default: as the folder says]
    #[arg(long, value_name = "WAY", value_parser = parse_pooling)]
    pooling: Option<Pooling>,
    /// Bring every vector to length 1, whatever the folder says
    #[arg(long)]
    normalize: bool,
    /// Put the folder's prompt of this name before every text
    #[arg(long, value_name = "NAME", conflicts_with_all = ["ids", "image"])]
    prompt_name: Option<String>,
    /// Texts or pictures per forward pass at most. Has no influence on results
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = crate::args::parse_count)]
    batch_size: usize,
}

fn parse_pooling(text: &str) -> Result<Pooling, String> {
    text.parse().map_err(|e: amend_engine::Error| e.to_string())
}

/// What is printed about one text or picture.
#[derive(Debug, Default, Serialize)]
struct Embedding<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a Path>,
    embedding: Vec<f32>,
}

pub(crate) fn execute(args: EmbedArgs, context: &mut Context) -> Result<Exit, Error> {
    open::refuse_run(&args.model)?;
    let mut encoder = Encoder::open(&args.model)?;
    if let Some(pooling) = args.pooling {
        encoder.pipeline.pooling = vec![pooling];
    }
    if args.normalize {
        encoder.pipeline.normalize();
    }
    if !args.image.is_empty() {
        embed_pictures(&encoder, &args, context)?;
        return Ok(Exit::Done);
    }
    let Some((vocabulary, longest)) = encoder.text_limits() else {
        return Err(Error::told(
            format!("{}: the model reads pictures, not texts", args.model.display()),
            "give pictures with --image",
        ));
    };
    if let Some(TokenIds(ids)) = &args.ids {
        token_ids::check(ids, &args.model, vocabulary)?;
        if ids.len() > longest {
            return Err(Error::told(
                format!("{} token ids are given, but the model's context holds {longest}", ids.len()),
                "shorten the list",
            ));
        }
        print(&encoder.embed(&[ids], ENCODING_TOKENS)?, 0, &[ids.len()], context)?;
    } else {
        embed_texts(&encoder, vocabulary, &args, context)?;
    }
    Ok(Exit::Done)
}

/// Reads and embeds texts batch by batch, so that memory does not grow with their number.
fn embed_texts(
    encoder: &Encoder,
    vocabulary: usize,
    args: &EmbedArgs,
    context: &mut Context,
) -> Result<(), Error> {
    let tokenizer = Tokenizer::open(encoder.folder().unwrap_or(&args.model))?;
    let mut texts: Box<dyn Iterator<Item = Result<String, Error>> + '_> = match &args.text_file {
        Some(path) => Box::new(Lines::open(path)?),
        None => Box::new(args.text.iter().cloned().map(Ok)),
    };
    // A file is not read to its end to know how many there are.
    let mut task = context.progress.begin("embed", args.text.len() as u64, "texts");
    let (mut first, mut cut) = (0, 0);
    loop {
        let batch: Vec<String> = texts.by_ref().take(args.batch_size).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            break;
        }
        let encode = |(offset, text): (usize, &String)| -> Result<Vec<u32>, Error> {
            let place = || match &args.text_file {
                Some(path) => format!("{}:{}", path.display(), first + offset + 1),
                None => format!("text {}", first + offset),
            };
            let encoded = encoder.tokens_of(&tokenizer, text, args.prompt_name.as_deref());
            let (ids, was_cut) = encoded.map_err(|e| Error::from(e).within(place()))?;
            token_ids::check(&ids, &args.model, vocabulary)?;
            if ids.is_empty() {
                return Err(Error::told(
                    format!("{}: the text is empty and the tokenizer adds nothing to it", place()),
                    "there is no vector of nothing",
                ));
            }
            cut += usize::from(was_cut);
            Ok(ids)
        };
        let sequences: Vec<_> = batch.iter().enumerate().map(encode).collect::<Result<_, _>>()?;
        let lengths: Vec<_> = sequences.iter().map(Vec::len).collect();
        print(&encoder.embed(&sequences, ENCODING_TOKENS)?, first, &lengths, context)?;
        task.advance(batch.len() as u64, "");
        first += batch.len();
    }
    if first > 1 {
        task.finish(&format!("{first} texts"));
    }
    if cut > 0 {
        let were = if cut == 1 { "1 text was".to_owned() } else { format!("{cut} texts were") };
        let limit = encoder.longest_text().unwrap_or_default();
        context.console.warn(&format!("{were} cut to the {limit} tokens that the model reads"));
    }
    Ok(())
}

fn embed_pictures(encoder: &Encoder, args: &EmbedArgs, context: &mut Context) -> Result<(), Error> {
    let Some(grid) = encoder.image_grid() else {
        return Err(Error::told(
            format!("{}: the model reads texts, not pictures", args.model.display()),
            "give texts with --text",
        ));
    };
    let preparation = encoder.preparation()?;
    let mut task = context.progress.begin("embed", args.image.len() as u64, "pictures");
    for (number, batch) in args.image.chunks(args.batch_size).enumerate() {
        let prepare = |path: &PathBuf| preparation.apply(&Picture::open(path, grid.channels)?);
        let pixels: Vec<_> = batch.iter().map(prepare).collect::<Result<_, _>>()?;
        let embeddings = encoder.embed_images(&pixels, ENCODING_TOKENS)?;
        for (offset, (embedding, path)) in embeddings.into_iter().zip(batch).enumerate() {
            let image_index = Some(number * args.batch_size + offset);
            let image = Some(path.as_path());
            show(&Embedding { image_index, image, embedding, ..Default::default() }, context)?;
        }
        context.out.flush()?;
        task.advance(batch.len() as u64, "");
    }
    if args.image.len() > 1 {
        task.finish(&format!("{} pictures", args.image.len()));
    }
    Ok(())
}

/// Prints the embeddings of texts that are numbered from `first`.
fn print(
    embeddings: &[Vec<f32>],
    first: usize,
    lengths: &[usize],
    context: &mut Context,
) -> Result<(), Error> {
    for (offset, (embedding, &tokens)) in embeddings.iter().zip(lengths).enumerate() {
        let (text_index, tokens) = (Some(first + offset), Some(tokens));
        show(&Embedding { text_index, tokens, embedding: embedding.clone(), ..Default::default() }, context)?;
    }
    context.out.flush()
}

fn show(embedding: &Embedding<'_>, context: &mut Context) -> Result<(), Error> {
    if let Some(value) = embedding.embedding.iter().find(|v| !v.is_finite()) {
        return Err(Error::told(
            format!("a vector holds {value}"),
            "the model computes numbers beyond what f32 can hold; its weights are broken",
        )
        .about(Topic::Numbers));
    }
    if context.json {
        return context.out.json_line(embedding);
    }
    let numbers: Vec<String> = embedding.embedding.iter().map(f32::to_string).collect();
    context.out.line(numbers.join(" "))
}
