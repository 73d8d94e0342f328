//! Measuring one model on all sets of a run.

use std::cell::RefCell;

use amend_engine::{Example, Model, SCORING_TOKENS};
use amend_eval::Subject;
use amend_eval::questions::{self, Answered, Replies, SetFigures};
use amend_eval::scorers::{multiple_choice, word_for_word};
use amend_eval::stats::{KsTest, ks_two_sample};
use amend_eval::tofu::{AnswerLoss, TofuLog, aggregate, rows, tofu_items};
use amend_learn::{RecordEncoder, Result};
use amend_run::{Activity, Content, Figure, Record, Run};
use serde::{Deserialize, Serialize};

use crate::answers::{AnswerLog, Row};
use crate::context::Context;

/// A question and what a model says to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The question.
    pub question: String,
    /// The right answer.
    pub expected: String,
    /// The model's answer; empty where it says nothing.
    pub answer: String,
}

/// Everything measured on one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// On what is to be forgotten.
    pub forget: SetFigures,
    /// On what is to be kept.
    pub retain: SetFigures,
    /// On real authors, where the recipe names them.
    pub real_authors: Option<SetFigures>,
    /// On world facts, where the recipe names them.
    pub world_facts: Option<SetFigures>,
    /// TOFU's model utility, where all its sets are there.
    pub model_utility: Option<Figure>,
    /// Per-item ln R of the forget set's truth ratios R, for forget quality.
    pub forget_log_ratios: Vec<f64>,
}

impl Snapshot {
    /// Forget quality: the KS test of this model's truth ratios against the gold model's.
    pub fn forget_quality(&self, gold: &Snapshot) -> Option<KsTest> {
        ks_two_sample(&self.forget_log_ratios, &gold.forget_log_ratios).ok()
    }

    /// log₁₀ of the forget quality, over the items of both models.
    pub fn forget_quality_log10(&self, gold: &Snapshot) -> Option<Figure> {
        self.forget_quality(gold).map(|quality| Figure::exact(quality.log10_p, quality.n + quality.m))
    }

    /// TOFU's model utility, or the retain set's alone where the other sets are missing.
    pub fn utility(&self) -> Option<Figure> {
        let of_retain = || self.retain.utility.map(|u| Figure::exact(u, self.retain.probability.n));
        self.model_utility.or_else(of_retain)
    }
}

/// The figures of a set that say how much of its answers a model has, by the names that attacks have for them: the larger
/// the more.
pub(crate) fn recalled(set: &SetFigures) -> Vec<(&'static str, Figure)> {
    let figures = [
        ("accuracy", Some(set.accuracy)),
        ("probability", Some(set.probability)),
        ("leak", set.leak),
        ("right among wrong", set.choice),
        ("extraction strength", Some(set.extraction_strength)),
    ];
    figures.into_iter().filter_map(|(name, figure)| Some((name, figure?))).collect()
}

/// Questions that are asked at a time: enough for full batches, few enough to lose where a process is killed.
const PIECE: usize = 32;

/// Measures a model as stage `name`. Answers are kept as they come, in `answers/<name>.jsonl`, from which an interrupted
/// measurement goes on; in the end they are also written in TOFU's log format to `eval/<name>.json`.
pub(crate) fn snapshot(
    run: &mut Run<'_>,
    name: &str,
    model: &Model,
    context: &Context<'_>,
) -> Result<Snapshot> {
    run.once(name, |run| {
        let sets = context.sets;
        let wanted = [
            ("forget", Some(&sets.forget_eval)),
            ("retain", Some(&sets.retain_eval)),
            ("real authors", sets.real_authors.as_ref()),
            ("world facts", sets.world_facts.as_ref()),
        ];
        let limited = |records: &Vec<Record>| records.len().min(context.evaluation.limit);
        let total: usize = wanted.iter().filter_map(|(_, records)| *records).map(limited).sum();
        let log = AnswerLog::open(run.folder.path(), name)?;
        let mut bar = run.progress.begin(name, total as u64, "questions");
        bar.resumed(log.len() as u64);
        let mut survey = Survey { model, context, log, bar: RefCell::new(bar) };
        let mut ask = |(set, records): (&str, Option<&Vec<Record>>)| {
            records.map(|records| survey.ask(set, &records[..limited(records)])).transpose()
        };
        let [forget, retain, authors, facts] = wanted;
        let forget = ask(forget)?.unwrap_or_default();
        let retain = ask(retain)?.unwrap_or_default();
        let (authors, facts) = (ask(authors)?, ask(facts)?);
        survey.bar.into_inner().finish(&format!("{total} questions"));
        let log = TofuLog {
            forget: logged(&forget),
            retain: logged(&retain),
            real_authors: authors.as_deref().and_then(logged),
            world_facts: facts.as_deref().and_then(logged),
        };
        write_log(run, name, &log)?;
        Ok(Snapshot {
            forget: SetFigures::of(&forget),
            retain: SetFigures::of(&retain),
            real_authors: authors.as_deref().map(SetFigures::of),
            world_facts: facts.as_deref().map(SetFigures::of),
            model_utility: aggregate(&rows(&log), None).model_utility.ok(),
            forget_log_ratios: forget.iter().filter_map(|a| a.measured.log_truth_ratio()).collect(),
        })
    })
}

/// A measurement at work.
struct Survey<'a> {
    model: &'a Model,
    context: &'a Context<'a>,
    log: AnswerLog,
    bar: RefCell<Box<dyn Activity>>,
}

impl Survey<'_> {
    /// Asks the questions of one set that have not been answered yet.
    fn ask(&mut self, set: &str, records: &[Record]) -> Result<Vec<Answered>> {
        let mut all = Vec::with_capacity(records.len());
        while let Some(record) = records.get(all.len()) {
            let Some(answers) = self.log.take(set, all.len()) else { break };
            all.push(questions::answered(record, &answers)?);
        }
        let max_new_tokens = self.context.evaluation.max_new_tokens;
        while all.len() < records.len() {
            let piece = &records[all.len()..records.len().min(all.len() + PIECE)];
            let hears = |how_far: &str| self.bar.borrow_mut().working(how_far);
            let mut subject = subject(self.model, self.context);
            subject.hears = Some(&hears);
            for (record, answers) in piece.iter().zip(questions::answers(piece, max_new_tokens, &subject)?) {
                let answered = questions::answered(record, &answers)?;
                self.log.append(&Row::new(set, all.len(), &answered, answers))?;
                all.push(answered);
            }
            self.bar.borrow_mut().advance(piece.len() as u64, "");
        }
        Ok(all)
    }
}

/// What a model says to the first `count` records; nothing where the recipe asks for no free answers.
pub(crate) fn ask(
    model: &Model,
    context: &Context<'_>,
    records: &[Record],
    count: usize,
) -> Result<Vec<Said>> {
    let max_new_tokens = context.evaluation.max_new_tokens;
    if max_new_tokens == 0 {
        return Ok(Vec::new());
    }
    let records = &records[..count.min(records.len())];
    let answered = questions::ask(records, max_new_tokens, &subject(model, context))?;
    Ok(answered.iter().filter_map(said).collect())
}

/// What a model makes of the forget set as it is measured, with free answers of so many tokens at most; none with 0.
pub(crate) fn ask_of_forget(
    model: &Model,
    context: &Context<'_>,
    max_new_tokens: usize,
) -> Result<(SetFigures, Vec<Said>)> {
    let answered = questions::ask(context.measured_forget(), max_new_tokens, &subject(model, context))?;
    Ok((SetFigures::of(&answered), answered.iter().filter_map(said).collect()))
}

pub(crate) fn subject<'s>(model: &'s Model, context: &'s Context<'_>) -> Subject<'s> {
    Subject::new(model, context.tokenizer, context.encoder)
}

fn said(answered: &Answered) -> Option<Said> {
    let answer = answered.measured.generation.clone()?;
    Some(Said { question: answered.question.clone(), expected: answered.measured.answer.clone(), answer })
}

/// The log format has no place for questions without wrong answers, nor for questions that were not asked.
fn logged(answered: &[Answered]) -> Option<Vec<amend_eval::tofu::TofuItem>> {
    let whole = |a: &Answered| !a.measured.perturbed_losses.is_empty() && a.measured.generation.is_some();
    (!answered.is_empty() && answered.iter().all(whole)).then(|| tofu_items(answered))
}

fn write_log(run: &Run<'_>, name: &str, log: &TofuLog) -> Result<()> {
    if log.forget.is_none() {
        return Ok(());
    }
    let dir = run.folder.path().join("eval");
    std::fs::create_dir_all(&dir).map_err(|e| amend_engine::Error::io(&dir, "cannot create", e))?;
    if let Err(error) = log.write(&dir.join(format!("{name}.json"))) {
        // A model that diverged has numbers the format cannot hold; the figures say so by themselves.
        run.progress.note(&format!("no evaluation log for {name}: {error}"));
    }
    Ok(())
}

/// Share of answers given word for word.
pub(crate) fn share_exact(model: &Model, examples: &[Example]) -> Result<Figure> {
    let scored = model.scored(examples, SCORING_TOKENS)?;
    let exact: Vec<f64> = scored.iter().filter_map(|scored| word_for_word(&scored.greedy)).collect();
    Ok(Figure::mean(&exact))
}

/// Mean length-normalised probability of the answers.
pub(crate) fn mean_probability(model: &Model, examples: &[Example]) -> Result<Figure> {
    let losses = losses(model, examples)?;
    let probabilities: Vec<f64> = losses.iter().flatten().map(AnswerLoss::probability).collect();
    Ok(Figure::mean(&probabilities))
}

/// The loss of every answer; none where no token of it is scored.
fn losses(model: &Model, examples: &[Example]) -> Result<Vec<Option<AnswerLoss>>> {
    let scored = model.score(examples, SCORING_TOKENS)?;
    Ok(scored.iter().map(|logprobs| AnswerLoss::of(logprobs)).collect())
}

/// A question's right answer and its wrong ones in the same frame.
#[derive(Debug, Clone)]
pub struct Choice {
    right: Example,
    wrong: Vec<Example>,
}

impl Choice {
    /// Tokens of all its answers, questions included.
    pub(crate) fn tokens(&self) -> usize {
        std::iter::once(&self.right).chain(&self.wrong).map(|example| example.ids.len()).sum()
    }
}

/// The choices of a set's first `limit` records that have wrong answers.
pub(crate) fn choices(
    encoder: &RecordEncoder<'_>,
    records: &[Record],
    limit: usize,
) -> amend_engine::Result<Vec<Choice>> {
    let mut out = Vec::new();
    for record in records.iter().take(limit) {
        let Replies { paraphrased, perturbed } = Replies::of(record);
        let Content::Question { answer, .. } = &record.content else { continue };
        if !perturbed.is_empty() {
            let right = encoder.reply(&record.content, paraphrased.unwrap_or(answer))?;
            let wrong = perturbed.into_iter().map(|wrong| encoder.reply(&record.content, wrong));
            out.push(Choice { right, wrong: wrong.collect::<amend_engine::Result<_>>()? });
        }
    }
    Ok(out)
}

/// Mean probability of the right answer among the wrong ones, each by the mean of its tokens.
pub(crate) fn mean_choice(model: &Model, choices: &[Choice]) -> Result<Figure> {
    mean_share(model, choices, AnswerLoss::mean)
}

/// The same by whole answers: exp(−NLL) of the right one, renormalised over all. What answers have in common, the frame in
/// which they are given, has no influence.
pub(crate) fn mean_renormalised(model: &Model, choices: &[Choice]) -> Result<Figure> {
    mean_share(model, choices, |loss| loss.nll)
}

fn mean_share(model: &Model, choices: &[Choice], of: fn(&AnswerLoss) -> f64) -> Result<Figure> {
    let flat: Vec<Example> =
        choices.iter().flat_map(|c| std::iter::once(&c.right).chain(&c.wrong)).cloned().collect();
    // An answer of which no token is scored has no probability, and leaves the figure without a value.
    let mut losses = losses(model, &flat)?.into_iter().map(|loss| loss.as_ref().map_or(f64::NAN, of));
    let mut chosen = Vec::with_capacity(choices.len());
    for choice in choices {
        let right = losses.next().unwrap_or(f64::NAN);
        let wrong: Vec<f64> = losses.by_ref().take(choice.wrong.len()).collect();
        chosen.push(multiple_choice(right, &wrong));
    }
    Ok(Figure::mean(&chosen))
}
