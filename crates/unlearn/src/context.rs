//! What the fillers of a seed work from: models, data, and what is derived of them. Derived things are computed
//! once, when a filler first asks, and are the same for all arms.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use amend_engine::generate::{GenerateOptions, Sampling};
use amend_engine::tokenizer::Tokenizer;
use amend_engine::{
    Batch, Error as EngineError, Example, Graph, Model, Reading, Rng, SCORING_TOKENS, Site, Taps,
    split_by_tokens,
};
use amend_eval::refusals::refusal;
use amend_learn::{Conversation, Error, RecordEncoder, Result};
use amend_run::{Content, Progress, Record};

use crate::data::Sets;
use crate::features::Features;
use crate::measure::{Choice, choices};
use crate::recipe::Evaluation;
use crate::reinforcement::Reinforcement;

/// One of the two sets that unlearning is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What is to be forgotten.
    Forget,
    /// What is to be kept.
    Retain,
}

/// What was read of the reference, by set and site.
type HiddenStates = BTreeMap<(Side, Site), Rc<[Reading]>>;

/// Answers that the reference made up for the questions of the forget set, item by item.
#[derive(Debug)]
pub struct Alternatives {
    /// The questions with these answers.
    pub examples: Vec<Example>,
    /// Summed negative log-likelihood of each under the reference.
    pub nll: Vec<f64>,
}

/// Draws of an alternative, each at twice the temperature of the one before. At the last one a model says anything.
const DRAWS: u32 = 8;

/// What the fillers of one seed work from.
pub struct Context<'a> {
    /// The frozen model that is to forget; objectives compare with it.
    pub reference: &'a Model,
    /// The model that never saw the forget set, where there is one.
    pub gold: Option<&'a Model>,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How records become tokens.
    pub encoder: &'a RecordEncoder<'a>,
    /// The record sets.
    pub sets: &'a Sets,
    /// How thoroughly models are asked.
    pub evaluation: &'a Evaluation,
    /// The seed.
    pub seed: u64,
    /// Whether all this is only to find out what a run will take: what would be trained for many steps is trained for one.
    pub(crate) is_rehearsal: bool,
    /// The forget set, encoded.
    pub forget: Vec<Example>,
    /// The retain set, encoded.
    pub retain: Vec<Example>,
    /// The attacker's half of the forget set, encoded.
    pub attack: Vec<Example>,
    /// The half the attacker wants back, encoded.
    pub attack_test: Vec<Example>,
    /// What has nothing to do with either set, encoded, where the recipe names it.
    unrelated: Option<Vec<Example>>,
    answer_logprobs: OnceCell<Vec<Vec<f32>>>,
    answer_nll: OnceCell<Vec<f64>>,
    refusals: OnceCell<Vec<Example>>,
    refusal_nll: OnceCell<Vec<f64>>,
    retain_refusals: OnceCell<Vec<Example>>,
    choices: OnceCell<Vec<Choice>>,
    /// By the bits of the temperature.
    alternatives: RefCell<BTreeMap<u32, Rc<Alternatives>>>,
    reinforced: RefCell<Vec<(Reinforcement, Rc<Model>)>>,
    hidden: RefCell<HiddenStates>,
    pub(crate) features: Features,
}

impl<'a> Context<'a> {
    /// Encodes the data; `progress` is told how many records were cut to the model's context.
    pub fn new(
        reference: &'a Model,
        tokenizer: &'a Tokenizer,
        encoder: &'a RecordEncoder<'a>,
        sets: &'a Sets,
        evaluation: &'a Evaluation,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let context = reference.spec().context;
        let encode = |what: &str, records: &[Record]| encode(progress, what, encoder, records, context);
        Ok(Context {
            forget: encode("to forget", &sets.forget)?,
            retain: encode("to keep", &sets.retain)?,
            attack: encode("of the attack", &sets.attack)?,
            attack_test: encode("of the attack's test", &sets.attack_test)?,
            unrelated: sets.unrelated.as_deref().map(|set| encode("unrelated", set)).transpose()?,
            reference,
            gold: None,
            tokenizer,
            encoder,
            sets,
            evaluation,
            seed,
            is_rehearsal: false,
            answer_logprobs: OnceCell::new(),
            answer_nll: OnceCell::new(),
            refusals: OnceCell::new(),
            refusal_nll: OnceCell::new(),
            retain_refusals: OnceCell::new(),
            choices: OnceCell::new(),
            alternatives: RefCell::default(),
            reinforced: RefCell::default(),
            hidden: RefCell::default(),
            features: Features::default(),
        })
    }

    /// Log-probabilities of every forget item's answer tokens under the reference, item by item.
    pub fn answer_logprobs(&self) -> amend_engine::Result<&[Vec<f32>]> {
        let make = || self.reference.score(&self.forget, SCORING_TOKENS);
        once(&self.answer_logprobs, make).map(Vec::as_slice)
    }

    /// Summed negative log-likelihood of every forget item's answer under the reference.
    pub fn answer_nll(&self) -> amend_engine::Result<&[f64]> {
        once(&self.answer_nll, || Ok(sums(self.answer_logprobs()?))).map(Vec::as_slice)
    }

    /// Every forget item's question with a refusal as its answer: one for the whole run, so that results do not
    /// depend on the number of epochs.
    pub fn refusals(&self) -> amend_engine::Result<&[Example]> {
        once(&self.refusals, || self.refused(&self.sets.forget)).map(Vec::as_slice)
    }

    /// The same of every retain item.
    pub fn retain_refusals(&self) -> amend_engine::Result<&[Example]> {
        once(&self.retain_refusals, || self.refused(&self.sets.retain)).map(Vec::as_slice)
    }

    fn refused(&self, records: &[Record]) -> amend_engine::Result<Vec<Example>> {
        let items = records.iter().enumerate();
        items.map(|(i, record)| self.encoder.reply(&record.content, refusal(self.seed, i))).collect()
    }

    /// A forget item's question with the answer to some question of the retain set, drawn for this step. One that is word for
    /// word the right answer is drawn again.
    ///
    /// # Errors
    /// Where the retain set has no other answer.
    pub fn random_answer(&self, item: usize, step: u64) -> amend_engine::Result<Example> {
        let record = &self.sets.forget[item];
        let right = answer_of(record);
        let others: Vec<&str> =
            self.sets.retain.iter().map(answer_of).filter(|answer| *answer != right).collect();
        if others.is_empty() {
            return Err(EngineError::invalid("the retain set has no answer but those to be forgotten"));
        }
        let key = Rng::named(self.seed, "random answers").next_u64();
        let drawn = Rng::at(&[key, step, item as u64]).below(others.len());
        self.encoder.reply(&record.content, others[drawn])
    }

    /// Every forget item's question with an answer that the reference made up: sampled at `temperature`, and where that is word
    /// for word the right one, again at twice the temperature. One for the whole run.
    pub fn alternatives(&self, temperature: f32) -> amend_engine::Result<Rc<Alternatives>> {
        if let Some(known) = self.alternatives.borrow().get(&temperature.to_bits()) {
            return Ok(known.clone());
        }
        let examples = self.made_up(temperature)?;
        let nll = sums(&self.reference.score(&examples, SCORING_TOKENS)?);
        let made = Rc::new(Alternatives { examples, nll });
        self.alternatives.borrow_mut().insert(temperature.to_bits(), made.clone());
        Ok(made)
    }

    /// The reference after further training on the forget set. Interrupted in it, a run begins it anew when it goes on.
    pub fn reinforced(&self, how: &Reinforcement) -> amend_engine::Result<Rc<Model>> {
        if let Some((_, known)) = self.reinforced.borrow().iter().find(|(known, _)| known == how) {
            return Ok(known.clone());
        }
        let model = Rc::new(how.of(self)?);
        self.reinforced.borrow_mut().push((how.clone(), model.clone()));
        Ok(model)
    }

    fn made_up(&self, temperature: f32) -> amend_engine::Result<Vec<Example>> {
        let records = &self.sets.forget;
        if let Some(i) = records.iter().position(|record| matches!(record.content, Content::Text(_))) {
            return Err(EngineError::invalid(format!(
                "record {} to forget is plain text, and only questions have other answers; take another forget objective",
                i + 1
            )));
        }
        let seed = Rng::named(self.seed, "alternatives").next_u64();
        let mut said: Vec<String> = records.iter().map(|record| answer_of(record).to_owned()).collect();
        let longest = self.forget.iter().map(Example::scored_len).max().unwrap_or(1);
        for draw in 0..DRAWS {
            let asked: Vec<usize> =
                (0..records.len()).filter(|&i| same_words(&said[i], answer_of(&records[i]))).collect();
            let prompts: Vec<Vec<u32>> =
                asked.iter().map(|&i| self.encoder.prompt(&records[i].content)).collect::<Result<_, _>>()?;
            let options = GenerateOptions {
                max_new_tokens: longest,
                sampling: Sampling {
                    temperature: temperature * 2f32.powi(draw as i32),
                    seed: seed.wrapping_add(u64::from(draw)),
                    ..Sampling::default()
                },
                stop_ids: self.tokenizer.eos_ids().to_vec(),
                ..GenerateOptions::default()
            };
            for (&i, samples) in asked.iter().zip(self.reference.generate(&prompts, &options)?) {
                let ids = samples.into_iter().next().map(|sample| sample.ids).unwrap_or_default();
                said[i] = self.tokenizer.decode(&ids, true)?.trim().to_owned();
            }
        }
        records.iter().zip(&said).map(|(record, said)| self.encoder.reply(&record.content, said)).collect()
    }

    /// Summed negative log-likelihood of every refusal under the reference.
    pub fn refusal_nll(&self) -> amend_engine::Result<&[f64]> {
        let make = || Ok(sums(&self.reference.score(self.refusals()?, SCORING_TOKENS)?));
        once(&self.refusal_nll, make).map(Vec::as_slice)
    }

    /// The right and wrong answers of the forget set as it is measured; empty where there are no wrong ones.
    pub fn choices(&self) -> amend_engine::Result<&[Choice]> {
        let make = || choices(self.encoder, &self.sets.forget_eval, self.evaluation.limit);
        once(&self.choices, make).map(Vec::as_slice)
    }

    /// What has nothing to do with the forget set: what the recipe names, or the retain set.
    pub fn unrelated(&self) -> &[Example] {
        self.unrelated.as_ref().unwrap_or(&self.retain)
    }

    /// The records of the forget set that models are measured on.
    pub fn measured_forget(&self) -> &[Record] {
        let records = &self.sets.forget_eval;
        &records[..records.len().min(self.evaluation.limit)]
    }

    /// The records of the holdout set that are as many as models are measured on.
    pub fn measured_holdout(&self) -> &[Record] {
        let records = &self.sets.holdout;
        &records[..records.len().min(self.evaluation.limit)]
    }

    /// What the reference holds at a site while it reads a set, in pieces of some thousand tokens: one row per token,
    /// whose origin is the item's index in the set and the position there. They take as much memory as they have
    /// rows and columns, for as long as the context lives.
    pub fn hidden(&self, side: Side, site: Site) -> amend_engine::Result<Rc<[Reading]>> {
        if let Some(known) = self.hidden.borrow().get(&(side, site)) {
            return Ok(known.clone());
        }
        let examples = match side {
            Side::Forget => &self.forget,
            Side::Retain => &self.retain,
        };
        let read = self.read(examples, site)?;
        self.hidden.borrow_mut().insert((side, site), read.clone());
        Ok(read)
    }

    fn read(&self, examples: &[Example], site: Site) -> amend_engine::Result<Rc<[Reading]>> {
        let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
        let mut taps = Taps::none();
        taps.read(site);
        let mut all = Vec::new();
        for piece in split_by_tokens(&lengths, SCORING_TOKENS)? {
            let first = piece.start as u64;
            let batch = Batch::new(&examples[piece])?;
            let mut g = Graph::inference(&self.reference.params);
            self.reference.hidden(&mut g, &batch, &taps)?;
            let mut readings = taps.take(site);
            if readings.is_empty() {
                return Err(EngineError::invalid(format!("{site} is no site of this model's hidden states")));
            }
            for origin in readings.iter_mut().flat_map(|reading| &mut reading.origins) {
                origin.sequence += first;
            }
            all.append(&mut readings);
        }
        Ok(all.into())
    }
}

/// Summed negative log-likelihoods of items with these log-probabilities.
fn sums(logprobs: &[Vec<f32>]) -> Vec<f64> {
    logprobs.iter().map(|item| -item.iter().map(|&l| f64::from(l)).sum::<f64>()).collect()
}

/// The answer of a record; of plain text all of it.
fn answer_of(record: &Record) -> &str {
    match &record.content {
        Content::Question { answer, .. } => answer,
        Content::PromptCompletion { completion, .. } => completion,
        Content::Messages(turns) => Conversation::of(turns).answer.unwrap_or_default(),
        Content::Text(text) => text,
    }
}

/// Whether a made-up answer will not do: one that says the same, or nothing.
fn same_words(said: &str, right: &str) -> bool {
    said.split_whitespace().eq(right.split_whitespace()) || said.trim().is_empty()
}

/// The value of a cell, made where there is none yet.
pub(crate) fn once<T>(
    cell: &OnceCell<T>,
    make: impl FnOnce() -> amend_engine::Result<T>,
) -> amend_engine::Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}

/// Encodes records, and says how many were cut to the context.
fn encode(
    progress: &dyn Progress,
    what: &str,
    encoder: &RecordEncoder<'_>,
    records: &[Record],
    context: usize,
) -> Result<Vec<Example>> {
    let (examples, cut) = encoder.encode_all(records)?;
    if cut > 0 {
        progress.note(&format!(
            "warning: {cut} of {} records {what} are longer than the model's context of {context} tokens and were cut",
            records.len()
        ));
    }
    let unscored = examples.iter().filter(|e| e.scored_len() == 0).count();
    if unscored > 0 {
        return Err(Error::invalid(format!(
            "{unscored} of {} records have no token to score; their prompts fill the context of {context} tokens",
            records.len()
        )));
    }
    Ok(examples)
}
