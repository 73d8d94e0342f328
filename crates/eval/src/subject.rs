//! A model that runs here, and answers.

use std::cell::Cell;

use amend_engine::generate::{Event, GenerateOptions, Session, SessionOptions};
use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Model, SCORING_TOKENS};
use amend_learn::{Error, RecordEncoder, Result};
use amend_run::Content;

use crate::request::{Answer, Answerer, Generation, Likelihood, Request, Written};

/// A model with its tokenizer, ready to be asked.
pub struct Subject<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How texts become tokens.
    pub encoder: &'a RecordEncoder<'a>,
    /// Hears now and then how far a long answer is.
    pub hears: Option<&'a dyn Fn(&str)>,
    /// How many requests the context had no room for; see [`Request`] for what is cut of them.
    cut: Cell<usize>,
}

/// Tokens between two reports of how far answers are.
const HEARD_EVERY: usize = 16;

impl Answerer for Subject<'_> {
    fn answer(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        let examples = requests.iter().map(|request| self.examples(request)).collect::<Result<Vec<_>>>()?;
        let examples_of_all = examples.concat();
        if !examples_of_all.is_empty() {
            self.tell(&format!("scoring {} texts", examples_of_all.len()));
        }
        let mut scored = self.model.scored(&examples_of_all, SCORING_TOKENS)?.into_iter();
        let mut written = self.written(requests)?.into_iter();
        let answer = |(request, examples): (&Request, &Vec<Example>)| match request {
            Request::Generation(_) => Answer::Written(written.next().unwrap_or_default()),
            Request::Likelihood(_)
            | Request::Beginning(_)
            | Request::Continuation { .. }
            | Request::Rolling(_) => {
                let mut whole = Likelihood::default();
                for window in scored.by_ref().take(examples.len()) {
                    whole.logprobs.extend(window.logprobs);
                    whole.greedy.extend(window.greedy);
                }
                Answer::Likelihood(whole)
            }
        };
        Ok(requests.iter().zip(&examples).map(answer).collect())
    }
}

impl<'a> Subject<'a> {
    /// A model, its tokenizer, and how texts become tokens.
    pub fn new(model: &'a Model, tokenizer: &'a Tokenizer, encoder: &'a RecordEncoder<'a>) -> Self {
        Subject { model, tokenizer, encoder, hears: None, cut: Cell::new(0) }
    }

    /// How many requests the context had no room for: of texts the end was cut off, and questions that fill it were not
    /// answered.
    pub fn cut(&self) -> usize {
        self.cut.get()
    }
}

impl Subject<'_> {
    /// What the model writes after prompts of tokens, of each as many samples as are asked for, without white space around
    /// them; `None` where the context has no room. They end where the tokenizer's texts do.
    ///
    /// # Errors
    /// Options that no prompt could be continued with, or a model that fails.
    pub fn continued(
        &self,
        prompts: &[Vec<u32>],
        options: GenerateOptions,
    ) -> Result<Vec<Option<Vec<String>>>> {
        let context = self.model.spec().context;
        prompts.iter().for_each(|prompt| self.count_cut(prompt.len() >= context));
        let fits = |prompt: &Vec<u32>| !prompt.is_empty() && prompt.len() < context;
        let fitting: Vec<Vec<u32>> = prompts.iter().filter(|prompt| fits(prompt)).cloned().collect();
        let options = GenerateOptions { stop_ids: self.tokenizer.eos_ids().to_vec(), ..options };
        let (mut tokens, mut done, all) = (0, 0, fitting.len() * options.samples);
        let mut session = Session::new(self.model, SessionOptions::default());
        session.submit_all(&fitting, options)?;
        let answers = session.run(|event| match event {
            Event::Token { .. } => {
                tokens += 1;
                if tokens % HEARD_EVERY == 0 {
                    self.tell(&format!("answering: {tokens} tokens, {done} of {all} done"));
                }
            }
            Event::Finished { .. } | Event::Failed { .. } => done += 1,
        })?;
        let text = |ids: &[u32]| Ok(self.tokenizer.decode(ids, true)?.trim().to_owned());
        let mut texts = Vec::with_capacity(answers.len());
        for samples in &answers {
            texts.push(samples.iter().map(|sample| text(&sample.ids)).collect::<Result<Vec<_>>>()?);
        }
        let mut texts = texts.into_iter();
        Ok(prompts.iter().map(|prompt| fits(prompt).then(|| texts.next()).flatten()).collect())
    }

    fn tell(&self, how_far: &str) {
        if let Some(hears) = self.hears {
            hears(how_far);
        }
    }

    fn count_cut(&self, is_cut: bool) {
        self.cut.set(self.cut.get() + usize::from(is_cut));
    }

    /// The sequences to score for a request.
    fn examples(&self, request: &Request) -> Result<Vec<Example>> {
        match request {
            Request::Generation(_) => Ok(Vec::new()),
            Request::Likelihood(content) => {
                Ok(vec![self.likelihood(content, self.encoder.encode(content)?)?])
            }
            Request::Beginning(content) => {
                Ok(vec![self.likelihood(content, self.encoder.beginning(content)?)?])
            }
            Request::Continuation { context, continuation } => {
                Ok(vec![self.continuation(context, continuation)?])
            }
            Request::Rolling(text) => {
                let ids = self.tokenizer.encode(text, false)?;
                Ok(windows(self.beginning()?, &ids, self.model.spec().context))
            }
        }
    }

    /// The sequence of an answer, cut to the context.
    fn likelihood(&self, content: &Content, mut example: Example) -> Result<Example> {
        let (context, whole) = (self.model.spec().context, example.ids.len());
        self.count_cut(whole > context);
        example.truncate(context);
        if example.scored_len() == 0 {
            // A mean over no token would pass for a perfect score.
            let what: String = self.encoder.prompt_text(content).chars().take(80).collect();
            let reason = match whole > context {
                true => {
                    format!("what is asked takes {context} tokens or more, and the model reads {context}")
                }
                false => "it is too short".to_owned(),
            };
            return Err(Error::invalid(format!("{what:?} has no token to score: {reason}")));
        }
        Ok(example)
    }

    /// The token that conditions the first of a text.
    fn beginning(&self) -> Result<u32> {
        let none = "the tokenizer has neither a token for the beginning of text nor one for its end";
        self.tokenizer.bos().or(self.tokenizer.eos()).ok_or_else(|| Error::invalid(none))
    }

    fn continuation(&self, context: &str, continuation: &str) -> Result<Example> {
        // Both as one text, so that no token boundary is forced between them.
        let whole = self.tokenizer.encode(&format!("{context}{continuation}"), false)?;
        let (mut ids, given) = match context.trim_end() {
            "" => (vec![self.beginning()?], 1),
            given => (Vec::new(), self.tokenizer.encode(given, false)?.len()),
        };
        ids.extend(whole);
        let (scored, room) = (ids.len().saturating_sub(given), self.model.spec().context);
        if scored == 0 || scored > room {
            let detail = format!("{scored} tokens of its own, and the model reads {room}");
            return Err(Error::invalid(format!("the continuation {continuation:?} has {detail}")));
        }
        let start = ids.len().saturating_sub(room + 1);
        self.count_cut(start > 0);
        let ids = ids.split_off(start);
        Ok(Example { scored: (0..ids.len()).map(|i| i >= ids.len() - scored).collect(), ids })
    }

    /// What the model writes, for the requests that ask for it.
    fn written(&self, requests: &[Request]) -> Result<Vec<Written>> {
        let asked: Vec<&Generation> = requests.iter().filter_map(generation).collect();
        let mut written = Vec::with_capacity(asked.len());
        for asked in &asked {
            written.push(Written { prompt: self.encoder.prompt_text(&asked.content), text: None });
        }
        // Requests of one length are decoded together.
        let mut lengths: Vec<usize> =
            asked.iter().map(|asked| asked.max_new_tokens).filter(|&n| n > 0).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for length in lengths {
            let (mut prompts, mut places) = (Vec::new(), Vec::new());
            for (place, asked) in asked.iter().enumerate().filter(|(_, a)| a.max_new_tokens == length) {
                prompts.push(self.encoder.prompt(&asked.content)?);
                places.push(place);
            }
            let options = GenerateOptions { max_new_tokens: length, ..Default::default() };
            for (place, answer) in places.into_iter().zip(self.continued(&prompts, options)?) {
                written[place].text = answer.and_then(|samples| samples.into_iter().next());
            }
        }
        Ok(written)
    }
}

fn generation(request: &Request) -> Option<&Generation> {
    match request {
        Request::Generation(generation) => Some(generation),
        _ => None,
    }
}

/// The windows in which a text is scored: each token once, `context` inputs at most.
///
/// Windows are disjoint but for the one token that conditions the first of the next; the last window reaches
/// back to fill the context. So does lm-evaluation-harness (`get_rolling_token_windows`).
fn windows(first: u32, ids: &[u32], context: usize) -> Vec<Example> {
    let all: Vec<u32> = std::iter::once(first).chain(ids.iter().copied()).collect();
    let mut windows = Vec::new();
    let mut scored = 0;
    while scored < ids.len() {
        let end = ids.len().min(scored + context);
        // Inputs and targets are shifted by one: `context` inputs are `context` + 1 tokens.
        let start = end.saturating_sub(context);
        let window = all[start..=end].to_vec();
        let counts = (0..window.len()).map(|i| start + i > scored).collect();
        windows.push(Example { ids: window, scored: counts });
        scored = end;
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The windows of lm-evaluation-harness's own tests: 10 tokens in a context of 4, prefix 100.
    #[test]
    fn every_token_is_scored_once_and_the_last_window_reaches_back() {
        let ids: Vec<u32> = (0..10).collect();
        let found = windows(100, &ids, 4);
        let shown: Vec<(Vec<u32>, Vec<u32>)> = found
            .iter()
            .map(|w| {
                let scored = w.ids.iter().zip(&w.scored).filter(|(_, s)| **s).map(|(id, _)| *id).collect();
                (w.ids.clone(), scored)
            })
            .collect();
        assert_eq!(
            shown,
            [
                (vec![100, 0, 1, 2, 3], vec![0, 1, 2, 3]),
                (vec![3, 4, 5, 6, 7], vec![4, 5, 6, 7]),
                (vec![5, 6, 7, 8, 9], vec![8, 9]),
            ]
        );
        assert_eq!(windows(100, &ids[..4], 4).len(), 1);
        assert_eq!(windows(100, &ids, 64)[0].scored_len(), 10);
        assert!(windows(100, &[], 4).is_empty());
    }
}
