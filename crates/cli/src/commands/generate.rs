//! `amend generate`: continuations of prompts.

use std::path::PathBuf;

use amend_engine::generate::{Event, Finish, GenerateOptions, Generated, Session, SessionOptions};
use amend_engine::tokenizer::Message;
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::app::Exit;
use crate::constraint::ConstraintArgs;
use crate::context::Context;
use crate::error::Error;
use crate::finish;
use crate::open::{ModelArgs, Opened};
use crate::sampling::SamplingArgs;
use crate::texts::Lines;
use crate::token_ids::TokenIds;

const EXAMPLES: &str = "\
Examples:
  amend generate models/my-model --prompt 'Once upon a time'
  amend generate models/my-model --prompt 'Who wrote Faust?' --chat
  amend generate models/my-model --prompt 'Is it?' --choice yes --choice no
  amend generate models/my-model --prompt 'A person:' --json-schema person.json
  amend generate models/my-model --prompt-file questions.txt --json \\
    --temperature 0.8 --samples 4 > answers.jsonl

With --json one prompt gives {\"ids\", \"text\", \"finish\"}: the new ids (a stop id
included), their text (null without a tokenizer, cut before a stop string) and
what ended it: stop, length or context. --ids goes on after ends of a text. A
file, or --samples above 1, gives one line per continuation with
\"prompt_index\" and \"sample\", both counted from 0.
What a prompt is continued with depends on neither the batch size nor on the
other prompts; a prompt given twice counts as two samples of it. Sampling
settings in the model's own files are not used.

An answer to --json-schema, --json-object, --regex or --choice always matches:
it is never cut short, and where --max-new-tokens is too small for any answer,
that is an error. --logprobs are the model's own, as if nothing were forbidden.";

/// Continue prompts
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("input").required(true))]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Continue these token ids; needs no tokenizer
    #[arg(long, value_name = "ID,ID,…", group = "input", allow_hyphen_values = true)]
    ids: Option<TokenIds>,
    /// Continue this text
    #[arg(long, value_name = "TEXT", group = "input", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Continue every line of this file (`-`: standard input)
    #[arg(long, value_name = "FILE", group = "input")]
    prompt_file: Option<PathBuf>,
    /// Put each prompt to the model as a user's message, in its chat template
    #[arg(long, conflicts_with = "ids")]
    chat: bool,
    /// New tokens per continuation at most
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = crate::args::parse_count)]
    max_new_tokens: usize,
    /// End a continuation before this text; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Go on after the tokens that the model's files list as ends of a text
    #[arg(long)]
    ignore_eos: bool,
    /// End at those tokens with --ids too, which otherwise takes them for tokens like any other
    #[arg(long, conflicts_with = "ignore_eos")]
    stop_at_eos: bool,
    /// Continuations of every prompt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = crate::args::parse_count)]
    samples: usize,
    /// Continuations in progress at a time. Has no influence on results
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = crate::args::parse_count)]
    batch_size: usize,
    /// Add the log-probability of every new token, before temperature and filters (with --json)
    #[arg(long, requires = "json")]
    logprobs: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    constraint: ConstraintArgs,
}

/// What is printed about one continuation.
#[derive(Debug, Serialize)]
struct Continuation {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<usize>,
    ids: Vec<u32>,
    text: Option<String>,
    finish: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<f32>>,
}

pub(crate) fn execute(args: GenerateArgs, context: &mut Context) -> Result<Exit, Error> {
    if let Some(empty) = args.stop.iter().position(String::is_empty) {
        return Err(Error::told(
            format!("--stop number {} is empty", empty + 1),
            "an empty text is everywhere, so nothing could be generated",
        ));
    }
    args.sampling.warn_of_ignored(args.samples, &context.console);
    let opened = Opened::open(&args.model)?;
    let constraint = args.constraint.compile(&opened)?;
    if constraint.is_some() && !args.stop.is_empty() {
        return Err(Error::told(
            "--stop would cut short an answer that has to match",
            "leave out --stop; the answer ends where it is complete",
        ));
    }
    // Bare ids are continued by as many as are asked for, unless the answer has a form that has to end.
    let ends = !args.ignore_eos && (args.ids.is_none() || args.stop_at_eos || constraint.is_some());
    let prompts = prompts(&args, &opened)?;
    if !args.stop.is_empty() {
        opened.tokenizer()?;
    }
    let options = GenerateOptions {
        max_new_tokens: args.max_new_tokens,
        samples: args.samples,
        sampling: args.sampling.settings(0),
        stop_ids: if ends { opened.stop_ids() } else { Vec::new() },
        stop_strings: args.stop.clone(),
        constraint,
        ..Default::default()
    };
    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    tracing::debug!("tokens of each prompt: {lengths:?}");
    let batch_size = args.batch_size;
    let mut session = opened.session(SessionOptions { batch_size, ..Default::default() });
    session.submit_all(&prompts, options)?;
    let many = args.prompt_file.is_some() || args.samples > 1;
    let mut finishes = Vec::new();
    if !many && !context.json && context.out.is_terminal() && opened.tokenizer.is_some() {
        finishes.push(show_live(session, context)?);
    } else {
        for (prompt, samples) in collect(session, many, context)?.into_iter().enumerate() {
            for generated in samples {
                finishes.push(generated.finish);
                print(&describe(generated, &args, many.then_some(prompt)), context)?;
            }
        }
    }
    if !context.json {
        context.out.flush()?;
        // Where nothing but the number of tokens can end a text, that it did is no news.
        let may_end = ends || !args.stop.is_empty();
        tell_of_cuts(&finishes, may_end, &args, opened.model.spec().context, context);
    }
    Ok(Exit::Done)
}

/// Says how many texts were cut by a limit rather than ended by the model.
fn tell_of_cuts(finishes: &[Finish], may_end: bool, args: &GenerateArgs, limit: usize, context: &Context) {
    for cut in [Finish::Length, Finish::Context] {
        let count = finishes.iter().filter(|&&finish| finish == cut).count();
        let Some(place) = finish::cut(cut, args.max_new_tokens, limit).filter(|_| count > 0) else {
            continue;
        };
        if cut == Finish::Length && !may_end {
            continue;
        }
        let which = match (finishes.len(), count) {
            (1, _) => "the text was cut".to_owned(),
            (all, 1) => format!("1 of {all} texts was cut"),
            (all, count) => format!("{count} of {all} texts were cut"),
        };
        context.console.note(&format!("{which} {place}"));
    }
}

/// The prompts as token ids that the model can take.
fn prompts(args: &GenerateArgs, opened: &Opened) -> Result<Vec<Vec<u32>>, Error> {
    let encode = |text: &String| -> Result<Vec<u32>, Error> {
        let tokenizer = opened.tokenizer()?;
        Ok(if args.chat {
            tokenizer.encode_chat_prompt(&[Message::new("user", text)])?
        } else {
            tokenizer.encode(text, true)?
        })
    };
    let fits = |ids: Vec<u32>| {
        opened.check_ids(&ids)?;
        let limit = opened.model.spec().context;
        match ids.len() {
            0 => Err(Error::told(
                "the prompt is empty and the tokenizer adds nothing to it",
                "give at least one token to start from",
            )),
            n if n > limit => Err(Error::told(
                format!("the prompt has {n} tokens, but the model's context holds {limit}"),
                "shorten the prompt",
            )),
            _ => Ok(ids),
        }
    };
    if let Some(TokenIds(ids)) = &args.ids {
        return Ok(vec![fits(ids.clone())?]);
    }
    if let Some(prompt) = &args.prompt {
        return Ok(vec![fits(encode(prompt)?)?]);
    }
    let path = args.prompt_file.clone().unwrap_or_default();
    let line = |(index, text): (usize, Result<String, Error>)| {
        let ids = encode(&text?).and_then(fits);
        ids.map_err(|e| e.within(format_args!("{}:{}", path.display(), index + 1)))
    };
    Lines::open(&path)?.enumerate().map(line).collect()
}

/// Generates everything, telling progress; the samples of every prompt.
fn collect(session: Session<'_>, many: bool, context: &Context) -> Result<Vec<Vec<Generated>>, Error> {
    let mut task = context.progress.begin("generate", 0, "tokens");
    let mut tokens = 0;
    let all = session.run(|event| {
        if let Event::Token { .. } = event {
            tokens += 1;
            task.advance(1, "");
        }
    })?;
    if many {
        let continuations: usize = all.iter().map(Vec::len).sum();
        task.finish(&format!("{continuations} continuations, {tokens} tokens"));
    }
    Ok(all)
}

/// Shows the only continuation as it comes, and says what ended it.
fn show_live(mut session: Session<'_>, context: &mut Context) -> Result<Finish, Error> {
    let mut finish = Finish::Cancelled;
    while !session.is_idle() {
        for event in session.step()? {
            match event {
                Event::Token { token, .. } => context.out.said(&token.text)?,
                Event::Finished { generated, .. } => finish = generated.finish,
                Event::Failed { error, .. } => return Err(error.into()),
            }
        }
        context.out.flush()?;
    }
    context.out.line("")?;
    Ok(finish)
}

fn describe(generated: Generated, args: &GenerateArgs, prompt_index: Option<usize>) -> Continuation {
    Continuation {
        prompt_index,
        sample: prompt_index.map(|_| generated.sample),
        ids: generated.ids,
        text: generated.text,
        finish: finish::name(generated.finish),
        logprobs: args.logprobs.then_some(generated.logprobs),
    }
}

fn print(continuation: &Continuation, context: &mut Context) -> Result<(), Error> {
    if context.json {
        return context.out.json_line(continuation);
    }
    if let (Some(prompt), Some(sample)) = (continuation.prompt_index, continuation.sample) {
        context.out.line(format_args!("── prompt {prompt}, sample {sample} ({})", continuation.finish))?;
    }
    match &continuation.text {
        Some(text) => {
            context.out.said(text)?;
            context.out.line("")
        }
        None => {
            let ids: Vec<String> = continuation.ids.iter().map(u32::to_string).collect();
            context.out.line(ids.join(","))
        }
    }
}
