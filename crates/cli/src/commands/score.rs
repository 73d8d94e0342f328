//! `amend score`: log-probabilities of given tokens.

use std::path::{Path, PathBuf};

use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Model, SCORING_TOKENS};
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::app::Exit;
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::open::{ModelArgs, Opened};
use crate::table::{self, Align};
use crate::texts::Lines;
use crate::token_ids::TokenIds;

const EXAMPLES: &str = "\
Examples:
  amend score models/my-model --text 'Once upon a time'
  amend score models/my-model --ids 1,403,407 --json
  amend score models/my-model --text-file stories.txt --json > scores.jsonl

With --json one text gives {\"ids\", \"token_logprobs\", \"mean_nll\"}: natural
logarithms, one for every token after the first, and their negative mean. A
file gives one such line per text with \"text_index\", counted from 0. A text of
fewer than two tokens, such as an empty line, has no log-probabilities and a
mean of null. Texts longer than the model's context are cut, with a warning.";

/// Log-probability of every token of a text under a model
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("input").required(true))]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Score these token ids; needs no tokenizer
    #[arg(long, value_name = "ID,ID,…", group = "input", allow_hyphen_values = true)]
    ids: Option<TokenIds>,
    /// Score this text
    #[arg(long, value_name = "TEXT", group = "input", allow_hyphen_values = true)]
    text: Option<String>,
    /// Score every line of this file (`-`: standard input)
    #[arg(long, value_name = "FILE", group = "input")]
    text_file: Option<PathBuf>,
    /// Texts per forward pass at most. Has no influence on results
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = crate::args::parse_count)]
    batch_size: usize,
}

/// What is printed about one text.
#[derive(Debug, Serialize)]
struct Score {
    #[serde(skip_serializing_if = "Option::is_none")]
    text_index: Option<usize>,
    ids: Vec<u32>,
    token_logprobs: Vec<f32>,
    mean_nll: Option<f64>,
}

pub(crate) fn execute(args: ScoreArgs, context: &mut Context) -> Result<Exit, Error> {
    let opened = Opened::open(&args.model)?;
    let mut cut = 0;
    if let Some(path) = &args.text_file {
        cut = score_file(&opened, path, args.batch_size, context)?;
    } else {
        let ids = match (args.ids, args.text) {
            (Some(TokenIds(ids)), _) => ids,
            (None, text) => opened.tokenizer()?.encode(&text.unwrap_or_default(), true)?,
        };
        let examples = vec![example(ids, &opened, &mut cut)?];
        let score = score_batch(&opened.model, examples, 0)?.swap_remove(0);
        if context.json {
            context.out.json_line(&Score { text_index: None, ..score })?;
        } else {
            show(&score, opened.tokenizer.as_ref(), context)?;
        }
    }
    if cut > 0 {
        let were = if cut == 1 { "1 text was".to_owned() } else { format!("{cut} texts were") };
        let limit = opened.model.spec().context;
        context.console.warn(&format!("{were} cut to the model's context of {limit} tokens"));
    }
    Ok(Exit::Done)
}

/// Reads and scores a file batch by batch, so that memory does not grow with it. Returns how many texts were cut.
fn score_file(opened: &Opened, path: &Path, batch: usize, context: &mut Context) -> Result<usize, Error> {
    let tokenizer = opened.tokenizer()?;
    let mut lines = Lines::open(path)?;
    let mut task = context.progress.begin("score", 0, "texts");
    let (mut first, mut cut, mut total, mut tokens) = (0, 0, 0.0, 0);
    loop {
        let texts: Vec<String> = lines.by_ref().take(batch).collect::<Result<_, _>>()?;
        if texts.is_empty() {
            break;
        }
        let encode = |(offset, text): (usize, &String)| {
            let ids = tokenizer.encode(text, true).map_err(Error::from);
            let example = ids.and_then(|ids| example(ids, opened, &mut cut));
            example.map_err(|e| e.within(format_args!("{}:{}", path.display(), first + offset + 1)))
        };
        let examples = texts.iter().enumerate().map(encode).collect::<Result<_, _>>()?;
        for (score, text) in score_batch(&opened.model, examples, first)?.into_iter().zip(&texts) {
            total -= score.token_logprobs.iter().copied().map(f64::from).sum::<f64>();
            tokens += score.token_logprobs.len();
            if context.json { context.out.json_line(&score)? } else { show_line(&score, text, context)? }
        }
        context.out.flush()?;
        task.advance(texts.len() as u64, "");
        first += texts.len();
    }
    task.finish(&format!("{first} texts, {tokens} scored tokens"));
    if !context.json && tokens > 0 {
        context.out.line(mean_line(total / tokens as f64, tokens))?;
    }
    Ok(cut)
}

fn mean_line(mean: f64, tokens: usize) -> String {
    format!("\nmean over {tokens} tokens: {mean:.4} nats, perplexity {:.2}", mean.exp())
}

/// The tokens to score: all after the first, as far as the model's context reaches.
fn example(ids: Vec<u32>, opened: &Opened, cut: &mut usize) -> Result<Example, Error> {
    opened.check_ids(&ids)?;
    let mut example = Example::text(ids);
    *cut += usize::from(example.truncate(opened.model.spec().context));
    Ok(example)
}

/// Scores one batch, whose texts are numbered from `first`, in its own forward passes.
fn score_batch(model: &Model, examples: Vec<Example>, first: usize) -> Result<Vec<Score>, Error> {
    // Where there is nothing to predict the model need not run, and with an empty text it could not.
    let scorable: Vec<Example> = examples.iter().filter(|e| e.ids.len() > 1).cloned().collect();
    let mut scored = model.score(&scorable, SCORING_TOKENS)?.into_iter();
    let mut scores = Vec::with_capacity(examples.len());
    for (offset, Example { ids, .. }) in examples.into_iter().enumerate() {
        let token_logprobs = if ids.len() > 1 { scored.next().unwrap_or_default() } else { Vec::new() };
        let text_index = first + offset;
        if let Some(i) = token_logprobs.iter().position(|l| !l.is_finite()) {
            let value = token_logprobs[i];
            return Err(Error::told(
                format!("text {text_index}: the log-probability of token {} is {value}", i + 1),
                "the model computes numbers beyond what f32 can hold; its weights are broken",
            )
            .about(Topic::Numbers));
        }
        let mean_nll = mean_nll(&token_logprobs);
        scores.push(Score { text_index: Some(text_index), ids, token_logprobs, mean_nll });
    }
    Ok(scores)
}

fn mean_nll(logprobs: &[f32]) -> Option<f64> {
    let sum: f64 = logprobs.iter().copied().map(f64::from).sum();
    // 0 − sum and not −sum: a text that is certain has a mean of 0, not of −0.
    (!logprobs.is_empty()).then(|| (0.0 - sum) / logprobs.len() as f64)
}

/// One line per text: number, tokens, mean, perplexity, and how the text begins.
fn show_line(score: &Score, text: &str, context: &mut Context) -> Result<(), Error> {
    let beginning: String = crate::output::harmless(text).chars().take(48).collect();
    let figures = match score.mean_nll {
        Some(mean) => format!("{mean:9.4} nats  ppl {:9.2}", mean.exp()),
        None => format!("{:>14}  {:>13}", "n/a", ""),
    };
    let index = score.text_index.unwrap_or_default();
    context.out.line(format_args!("{index:>6}  {:>5} tokens  {figures}  {beginning}", score.ids.len()))
}

/// One line per token, then the mean.
fn show(score: &Score, tokenizer: Option<&Tokenizer>, context: &mut Context) -> Result<(), Error> {
    let pieces = tokenizer.map(|t| pieces(t, &score.ids)).transpose()?;
    let row = |(i, id): (usize, &u32)| {
        let logprob = i.checked_sub(1).map(|before| f64::from(score.token_logprobs[before]));
        vec![
            i.to_string(),
            id.to_string(),
            logprob.map_or("-".into(), |l| format!("{l:.4}")),
            logprob.map_or("-".into(), |l| format!("{:.2}%", 100.0 * l.exp())),
            pieces.as_ref().map_or(String::new(), |pieces| pieces[i].clone()),
        ]
    };
    let rows: Vec<_> = score.ids.iter().enumerate().map(row).collect();
    let columns = [
        ("", Align::Right),
        ("id", Align::Right),
        ("log p", Align::Right),
        ("p", Align::Right),
        (if pieces.is_some() { "token" } else { "" }, Align::Left),
    ];
    for line in table::lines(&columns, &rows) {
        context.out.line(line)?;
    }
    match score.mean_nll {
        Some(mean) => context.out.line(mean_line(mean, score.token_logprobs.len())),
        None => context.out.line("\nnothing to score: the text has fewer than two tokens"),
    }
}

/// What each token adds to the text, quoted; its spelling in the vocabulary where it adds no whole character.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Vec<String>, Error> {
    let mut stream = tokenizer.stream(false);
    let piece = |&id: &u32| {
        let text = stream.push(id)?;
        Ok(if text.is_empty() { tokenizer.token_of(id).unwrap_or_default() } else { format!("{text:?}") })
    };
    ids.iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_survive_being_written() {
        let token_logprobs = vec![-0.1, -1.234_567_9e-8, f32::MIN_POSITIVE, -103.278_93];
        let score = Score { text_index: None, ids: vec![1], mean_nll: mean_nll(&[-1.0]), token_logprobs };
        let text = serde_json::to_string(&score).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let again: Vec<f32> = serde_json::from_value(value["token_logprobs"].clone()).unwrap();
        assert_eq!(again, score.token_logprobs);
        assert!(text.contains("[-0.1,"), "the shortest digits that give the same f32: {text}");
    }

    #[test]
    fn means_of_nothing_and_of_certainty() {
        assert_eq!(mean_nll(&[]), None);
        assert!(mean_nll(&[0.0]).is_some_and(f64::is_sign_positive));
        assert_eq!(mean_nll(&[-1.0, -2.0]), Some(1.5));
    }
}
