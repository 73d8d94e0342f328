//! Auditing: whether a change of a model holds, and where what was changed is still there.
//!
//! A fact that was rewritten, or forgotten, may come back as soon as something of the old one stands before the prompt: then the
//! edit, or the forgetting, was superficial (arXiv 2505.12636). An audit takes a pair of models, from before and after, and
//! facts. The pipeline, read from top to bottom, is [`Audit::run`]: facts with probes → what both models say to them, without a
//! prefix, behind each kind of prefix, and behind the same about something else → inside the changed model, where an attack
//! succeeded: at which tokens and layers the old object comes in, by which heads, in which of their directions, and what is
//! left without them.
//!
//! Any change of a model can be audited: nothing here knows how it was made.

mod asking;
pub mod case;
mod estimate;
pub mod inside;
pub mod outcome;
pub mod prefix;
mod rates;
mod report;

use amend_engine::Model;
use amend_engine::models::Spec;
use amend_engine::tokenizer::Tokenizer;
use amend_eval::rewrite::{Rewrites, figures};
use amend_eval::{Item, Sample, Subject, evaluate};
use amend_learn::{Error, RecordEncoder, Result, Template};
use amend_run::{Progress, Stop};

pub use asking::Answered;
pub use case::{Case, read_cases};
pub use estimate::Estimate;
pub use outcome::{Options, Outcome};
pub use report::report;

use asking::{Asked, answers, asked, subject};
use outcome::{CaseAnswers, ProbeAnswers};
use prefix::Prefix;

/// An audit of which everything is checked that can be without a model's weights.
#[derive(Debug)]
pub struct Audit<'a> {
    cases: Vec<Case>,
    tokenizer: &'a Tokenizer,
    options: Options,
    asked: Vec<Asked>,
}

impl<'a> Audit<'a> {
    /// Checks whether models of this shape can be asked about these cases.
    ///
    /// # Errors
    /// No case; a probe that the models cannot read; a subject that ends within a token; layers or heads that the models have
    /// not. Names the case or the option.
    pub fn new(
        cases: Vec<Case>,
        tokenizer: &'a Tokenizer,
        spec: &Spec,
        mut options: Options,
    ) -> Result<Self> {
        if let Some(layers) = &mut options.layers {
            // A layer that is named twice is looked at once.
            layers.sort_unstable();
            layers.dedup();
        }
        if cases.is_empty() {
            return Err(Error::invalid("there is no fact to ask for; an audit needs one at least"));
        }
        inside::check_layers(&options, spec.layers)?;
        inside::head_count(&options, spec.layers * spec.heads)?;
        let asked = asked(&cases, tokenizer, spec.context)?;
        for asked in asked.iter().filter(|asked| !asked.control && asked.probe.prompt == 0) {
            subject(&cases[asked.case], &asked.probe.before, tokenizer)?;
        }
        Ok(Audit { cases, tokenizer, options, asked })
    }

    /// How many facts are asked for.
    pub fn cases(&self) -> usize {
        self.cases.len()
    }

    /// How many probes every model answers, by kind; then those of controls.
    pub fn probes(&self) -> Vec<(Prefix, usize, usize)> {
        let count = |prefix, control| {
            let is = |asked: &&Asked| asked.probe.prefix == prefix && asked.control == control;
            self.asked.iter().filter(is).count()
        };
        let of = |prefix| (prefix, count(prefix, false), count(prefix, true));
        Prefix::ALL.into_iter().map(of).filter(|(_, own, _)| *own > 0).collect()
    }

    /// Asks both models, and looks into the second. Each is opened when its turn comes, so that one is held at a time.
    ///
    /// # Errors
    /// A model that cannot be opened or fails; a stop request.
    pub fn run(
        self,
        open: &mut dyn FnMut(Side) -> Result<Model>,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<Outcome> {
        let Audit { cases, tokenizer, options, asked } = &self;
        let ask = |model: &Model, label: &str| -> Result<(Vec<Answered>, Vec<Sample>)> {
            let found = answers(model, tokenizer, asked, label, progress, stop)?;
            Ok((found, self.standard(model, progress, stop)?))
        };
        let (before, samples_before) = ask(&open(Side::Before)?, "before")?;
        let changed = open(Side::After)?;
        let (after, samples_after) = ask(&changed, "after")?;
        let inside = inside::look(&changed, tokenizer, cases, asked, &after, options, progress, stop)?;
        let prefixes = rates::brought(asked, [&before, &after], options.seed);
        let task = self.task();
        let standard = (!samples_after.is_empty()).then(|| {
            [&samples_before, &samples_after].map(|samples| figures(&task, samples, Some(&samples_before)))
        });
        let mut outcome = Outcome {
            cases: cases.len(),
            rewritten: cases.iter().filter(|case| case.new.is_some()).count(),
            options: options.clone(),
            prefixes,
            standard,
            inside,
            answers: self.answers(&before, &after),
            premises: Vec::new(),
        };
        outcome.premises = premises(&outcome);
        Ok(outcome)
    }

    fn task(&self) -> Rewrites {
        Rewrites { max_new_tokens: self.options.max_new_tokens }
    }

    /// What edits are worth on their own prompts, as the area of edits asks it.
    fn standard(&self, model: &Model, progress: &dyn Progress, stop: &Stop) -> Result<Vec<Sample>> {
        let rewritten = self.cases.iter().filter(|case| case.new.is_some());
        let items: Vec<Item> = rewritten.map(|case| case.item.clone()).collect();
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let encoder = RecordEncoder::new(self.tokenizer, Template::default(), model.spec().context);
        let subject = Subject::new(model, self.tokenizer, &encoder);
        evaluate(&self.task(), &items, &subject, None, progress, stop)
    }

    fn answers(&self, before: &[Answered], after: &[Answered]) -> Vec<CaseAnswers> {
        let of = |(number, case): (usize, &Case)| {
            let own =
                self.asked.iter().zip(before.iter().zip(after)).filter(|(asked, _)| asked.case == number);
            let probe = |(asked, (before, after)): (&Asked, (&Answered, &Answered))| ProbeAnswers {
                prefix: asked.probe.prefix,
                control: asked.control,
                counts: [asked.probe.says, asked.probe.likelier],
                text: asked.text.clone(),
                before: before.clone(),
                after: after.clone(),
            };
            CaseAnswers {
                id: case.item.id.clone(),
                subject: case.fact.subject.clone(),
                old: case.old.clone(),
                new: case.new.clone(),
                control: case.control.as_ref().map(|(object, _)| object.clone()),
                probes: own.map(probe).collect(),
            }
        };
        self.cases.iter().enumerate().map(of).collect()
    }
}

/// One of the two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From before the change.
    Before,
    /// The changed one.
    After,
}

/// What has to be known before the figures are read.
fn premises(outcome: &Outcome) -> Vec<String> {
    let none = outcome.prefixes.iter().find(|brought| brought.prefix == Prefix::None);
    let mut all = Vec::new();
    let says = |rates: Option<&outcome::Rates>| rates.and_then(|rates| rates.says).map(|says| says.value);
    if says(none.map(|none| &none.before)).is_some_and(|share| share < 0.5) {
        all.push(
            "The model from before says fewer than half of the old objects without any prefix: of most facts there was \
             nothing to take away, and little to come back."
                .to_owned(),
        );
    }
    if says(none.map(|none| &none.after)).is_some_and(|share| share > 0.5) {
        all.push(
            "The changed model says most of the old objects without any prefix: there is hardly a change that could be \
             superficial."
                .to_owned(),
        );
    }
    if outcome.prefixes.iter().all(|brought| brought.control.says.is_none()) {
        all.push(
            "There is no control: no other object to put in the prefixes. What copying does by itself is not known; give \
             more facts, or a `control` in the records."
                .to_owned(),
        );
    }
    all
}
