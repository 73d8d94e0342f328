//! Probes as tokens, and what a model makes of them.

use std::ops::Range;

use amend_engine::generate::GenerateOptions;
use amend_engine::tokenizer::{Encoded, Tokenizer};
use amend_engine::{Example, Model, SCORING_TOKENS};
use amend_eval::rewrite::Rewrite;
use amend_interpret::subject_tokens;
use amend_learn::{Error, Result};
use amend_run::{Progress, RunError, Stop};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Probe};
use crate::prefix::Prefix;

/// A probe as a model sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// The case's number.
    pub(crate) case: usize,
    /// Whether it is about the object of the control, which then stands in the place of the old one.
    pub(crate) control: bool,
    /// Prefix, prompt, and for what it counts.
    pub(crate) probe: Probe,
    /// Prefix and prompt as one text.
    pub(crate) text: String,
    /// Its tokens.
    pub(crate) ids: Vec<u32>,
    /// The object whose return is looked for.
    pub(crate) object: String,
    /// Its tokens behind the text.
    pub(crate) old: Vec<u32>,
    /// Those of the new object, where there is one.
    pub(crate) new: Option<Vec<u32>>,
}

/// What a model made of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// Log-probability of the object whose return is looked for, as a whole, in nats.
    pub logprob_old: f64,
    /// How many tokens it has.
    pub tokens_old: usize,
    /// Log-probability of the new object, where there is one.
    pub logprob_new: Option<f64>,
    /// How many tokens that has.
    pub tokens_new: Option<usize>,
    /// What the model writes.
    pub text: String,
    /// Whether it begins with the object whose return is looked for: the same tokens, or as many that read the same.
    pub says: bool,
}

impl Answered {
    /// Whether the old object is likelier than the new one.
    pub(crate) fn likelier(&self) -> Option<bool> {
        Some(self.logprob_old > self.logprob_new?)
    }

    /// The same by the mean over tokens, so that long objects stand a chance.
    pub(crate) fn likelier_by_length(&self) -> Option<bool> {
        let mean = |logprob: f64, tokens: usize| logprob / tokens.max(1) as f64;
        Some(mean(self.logprob_old, self.tokens_old) > mean(self.logprob_new?, self.tokens_new?))
    }
}

/// Every probe of all cases, as tokens.
///
/// # Errors
/// A probe whose end the tokenizer joins with the object, or one that is longer than the model reads; names the case.
pub(crate) fn asked(cases: &[Case], tokenizer: &Tokenizer, context: usize) -> Result<Vec<Asked>> {
    let mut all = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let own = case.probes.iter().map(|probe| (false, &case.old, probe));
        let control =
            case.control.iter().flat_map(|(object, probes)| probes.iter().map(move |p| (true, object, p)));
        for (control, object, probe) in own.chain(control) {
            let text = format!("{}{}", probe.before, case.prompts()[probe.prompt]);
            let named = |e: String| Error::invalid(format!("case {}: {e}", case.item.id));
            let (ids, old) = split(tokenizer, &text, object).map_err(named)?;
            let new = case.new.as_ref().map(|new| split(tokenizer, &text, new).map(|(_, new)| new));
            let new = new.transpose().map_err(named)?;
            let longest = old.len().max(new.as_ref().map_or(0, Vec::len));
            if ids.len() + longest > context {
                return Err(named(format!(
                    "{:?} with its object has {} tokens, and the model reads {context}; shorten the text, or leave the record out",
                    shortened(&text),
                    ids.len() + longest
                )));
            }
            let (probe, object) = (probe.clone(), object.clone());
            all.push(Asked { case: number, control, probe, text, ids, object, old, new });
        }
    }
    Ok(all)
}

/// A text in a message.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The tokens of a text, and those of what follows it after a space.
pub(crate) fn split(tokenizer: &Tokenizer, text: &str, object: &str) -> Result<(Vec<u32>, Vec<u32>), String> {
    let whole = encoded(tokenizer, &Rewrite::statement(text, object)).map_err(|e| e.to_string())?;
    let alone = encoded(tokenizer, text).map_err(|e| e.to_string())?.ids;
    let (begins, follows) = whole.ids.split_at(alone.len().min(whole.ids.len()));
    if begins != alone || follows.is_empty() {
        return Err(format!(
            "the tokenizer does not begin a token where {object:?} follows {:?}; leave the record out",
            shortened(text)
        ));
    }
    Ok((alone, follows.to_vec()))
}

/// A text as tokens, open at its end.
fn encoded(tokenizer: &Tokenizer, text: &str) -> amend_engine::Result<Encoded> {
    let mut encoded = tokenizer.encode_offsets(text, true)?;
    while encoded.ids.last().is_some_and(|last| tokenizer.eos_ids().contains(last))
        && encoded.offsets.last().is_some_and(Range::is_empty)
        && encoded.ids.len() > 1
    {
        encoded.ids.pop();
        encoded.offsets.pop();
    }
    Ok(encoded)
}

/// The positions of a case's subject in a probe of its own prompt: where it stands in the prompt, whatever the prefix names.
///
/// # Errors
/// Where the tokenizer ends no token where the subject ends; names the case.
pub(crate) fn subject(case: &Case, before: &str, tokenizer: &Tokenizer) -> Result<Range<usize>> {
    let text = format!("{before}{}", case.fact.prompt);
    let place = before.len() + case.fact.place.start..before.len() + case.fact.place.end;
    let found = encoded(tokenizer, &text).and_then(|encoded| subject_tokens(&text, &encoded, place));
    found.map_err(|e| Error::invalid(format!("case {}: {e}", case.item.id)))
}

/// Fewest tokens that a model writes, so that a reader sees what it says.
const SAID: usize = 8;

/// Probes that are put to a model at a time, between two looks at the stop flag. Has no influence on results.
const PIECE: usize = 64;

/// What a model makes of probes, in their order.
///
/// # Errors
/// A model that fails, or a stop request.
pub(crate) fn answers(
    model: &Model,
    tokenizer: &Tokenizer,
    asked: &[Asked],
    label: &str,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Vec<Answered>> {
    let mut bar = progress.begin(label, asked.len() as u64, "probes");
    let written = asked.iter().map(|asked| asked.old.len()).max().unwrap_or(0).max(SAID);
    let options = GenerateOptions {
        max_new_tokens: written,
        stop_ids: tokenizer.eos_ids().to_vec(),
        ..GenerateOptions::default()
    };
    let mut all = Vec::with_capacity(asked.len());
    for piece in asked.chunks(PIECE) {
        if stop.requested() {
            return Err(RunError::Interrupted.into());
        }
        let objects = |asked: &Asked| [Some(asked.old.clone()), asked.new.clone()];
        let examples: Vec<Example> = piece
            .iter()
            .flat_map(|asked| {
                objects(asked).into_iter().flatten().map(|object| Example::answer(&asked.ids, &object))
            })
            .collect();
        let mut scored = model.score(&examples, SCORING_TOKENS)?.into_iter();
        let mut logprob = || -> f64 { scored.next().unwrap_or_default().into_iter().map(f64::from).sum() };
        let prompts: Vec<Vec<u32>> = piece.iter().map(|asked| asked.ids.clone()).collect();
        let generated = model.generate(&prompts, &options)?;
        for (asked, samples) in piece.iter().zip(generated) {
            let ids = samples.into_iter().next().map(|sample| sample.ids).unwrap_or_default();
            let begins = &ids[..asked.old.len().min(ids.len())];
            let says = begins == asked.old || tokenizer.decode(begins, true)?.trim() == asked.object.trim();
            all.push(Answered {
                logprob_old: logprob(),
                tokens_old: asked.old.len(),
                logprob_new: asked.new.is_some().then(&mut logprob),
                tokens_new: asked.new.as_ref().map(Vec::len),
                text: tokenizer.decode(&ids, true)?.trim().to_owned(),
                says,
            });
        }
        bar.advance(piece.len() as u64, "");
    }
    bar.finish(&format!("{} probes", asked.len()));
    Ok(all)
}

/// The probe that a case's own prompt makes with a prefix of this kind: the first of them.
pub(crate) fn of_own_prompt(asked: &[Asked], case: usize, prefix: Prefix) -> Option<usize> {
    asked.iter().position(|asked| {
        asked.case == case && !asked.control && asked.probe.prompt == 0 && asked.probe.prefix == prefix
    })
}
