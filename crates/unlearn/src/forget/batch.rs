//! The forget items of one step, with what objectives compare them to.

use std::cell::OnceCell;

use amend_engine::{Batch, Error, Graph, Model, Result, Site, Taps, Tensor};
use amend_learn::epoch_batches;

use crate::context::{Context, Side, once};
use crate::minor::{Tokens, each_site};
use crate::reinforcement::Reinforcement;

/// The forget items of one step. What an objective does not ask for is not computed.
pub struct ForgetBatch<'a> {
    context: &'a Context<'a>,
    /// Which items of the forget set these are.
    pub items: Vec<usize>,
    /// The questions with the answers to be forgotten.
    pub answers: Batch,
    step: u64,
    refusals: OnceCell<Batch>,
    random_answers: OnceCell<Batch>,
    alternatives: OnceCell<Batch>,
}

impl<'a> ForgetBatch<'a> {
    /// Draws the items of step `step`, counted from 0: every item once per epoch.
    pub fn draw(context: &'a Context<'a>, size: usize, step: u64) -> Result<Self> {
        let items = epoch_batches(context.seed, "forget", context.forget.len(), size, step);
        let answers = Batch::new(items.iter().map(|&i| &context.forget[i]))?;
        Ok(ForgetBatch {
            context,
            items,
            answers,
            step,
            refusals: OnceCell::new(),
            random_answers: OnceCell::new(),
            alternatives: OnceCell::new(),
        })
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.context.seed
    }

    /// What the items are compared with.
    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// The positions of these tokens in every item.
    ///
    /// # Errors
    /// As [`Context::positions`].
    pub fn positions(&self, tokens: Tokens) -> Result<Vec<Vec<usize>>> {
        self.items.iter().map(|&i| self.context.positions(Side::Forget, i, tokens)).collect()
    }

    /// The same questions with answers to other questions, drawn anew in every step.
    pub fn random_answers(&self) -> Result<&Batch> {
        once(&self.random_answers, || {
            let answers: Vec<_> = self
                .items
                .iter()
                .map(|&i| self.context.random_answer(i, self.step))
                .collect::<Result<_>>()?;
            Batch::new(&answers)
        })
    }

    /// The same questions with answers that the reference made up at `temperature`, and the summed negative log-likelihood of
    /// each under the reference. An objective asks at one temperature.
    pub fn alternatives(&self, temperature: f32) -> Result<(&Batch, Vec<f64>)> {
        let all = self.context.alternatives(temperature)?;
        let batch = once(&self.alternatives, || Batch::new(self.items.iter().map(|&i| &all.examples[i])))?;
        Ok((batch, self.pick(&all.nll)))
    }

    /// The same questions with a refusal as their answer.
    pub fn refusals(&self) -> Result<&Batch> {
        once(&self.refusals, || {
            let refusals = self.context.refusals()?;
            Batch::new(self.items.iter().map(|&i| &refusals[i]))
        })
    }

    /// Summed negative log-likelihood of each answer under the reference.
    pub fn answer_nll(&self) -> Result<Vec<f64>> {
        Ok(self.pick(self.context.answer_nll()?))
    }

    /// Log-probability of every scored token of the answers under the reference, in the batch's order, in nats.
    pub fn answer_logprobs(&self) -> Result<Vec<f64>> {
        let all = self.context.answer_logprobs()?;
        Ok(self.items.iter().flat_map(|&i| &all[i]).map(|&logprob| f64::from(logprob)).collect())
    }

    /// What the reference holds at sites within its blocks while it reads the answers, site by site: [T, d] each. The blocks
    /// behind the last site are not run.
    pub fn reference_outputs(&self, sites: &[Site]) -> Result<Vec<Tensor>> {
        let mut found = vec![None; sites.len()];
        each_site(self.context.reference, &self.answers, sites, |at, tensor| {
            found[at] = Some(tensor);
            Ok(())
        })?;
        let missing =
            |site: &Site| Error::invalid(format!("{site} is no site of this model's hidden states"));
        found.into_iter().zip(sites).map(|(tensor, site)| tensor.ok_or_else(|| missing(site))).collect()
    }

    /// Logits of the reference that predict every scored token of the answers: [n, V].
    pub fn reference_logits(&self) -> Result<Tensor> {
        self.logits_of(self.context.reference)
    }

    /// The same of the reference after further training on the forget set.
    pub fn reinforced_logits(&self, how: &Reinforcement) -> Result<Tensor> {
        self.logits_of(&*self.context.reinforced(how)?)
    }

    fn logits_of(&self, model: &Model) -> Result<Tensor> {
        let taps = Taps::none();
        let mut g = Graph::inference(&model.params);
        let hidden = model.hidden(&mut g, &self.answers, &taps)?;
        let logits = model.logits(&mut g, &hidden, &self.answers.layout, &self.answers.rows, &taps)?;
        Ok(logits.value().clone())
    }

    /// Summed negative log-likelihood of each refusal under the reference.
    pub fn refusal_nll(&self) -> Result<Vec<f64>> {
        Ok(self.pick(self.context.refusal_nll()?))
    }

    fn pick(&self, values: &[f64]) -> Vec<f64> {
        self.items.iter().map(|&i| values[i]).collect()
    }
}
