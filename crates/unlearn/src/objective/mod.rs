//! Slot `forget`: what lowers the model's grip on the forget set.

mod gradient_ascent;
mod idk;
mod idk_dpo;
mod npo;
mod preference;
mod simnpo;

use amend_engine::{Batch, Error, Example, Gradients, Graph, Model, Result, Taps, Var};
use amend_run::slot;

pub use gradient_ascent::GradientAscent;
pub use idk::Idk;
pub use idk_dpo::IdkDpo;
pub use npo::Npo;
pub use simnpo::SimNpo;

/// One batch of the forget set, with what some objectives compare against.
pub struct ForgetBatch<'a> {
    /// The questions with the answers to be forgotten.
    pub answers: Vec<&'a Example>,
    /// Summed negative log-likelihood of each answer under the frozen reference.
    pub reference_nll: Vec<f64>,
    /// The same questions with a refusal as their answer.
    pub refusals: Vec<&'a Example>,
    /// Summed negative log-likelihood of each refusal under the frozen reference.
    pub reference_refusal_nll: Vec<f64>,
}

/// What an objective needs besides model and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Likelihoods under the frozen reference.
    pub reference: bool,
    /// A refusal for every question.
    pub refusals: bool,
}

/// A loss whose descent makes the model forget.
pub trait ForgetObjective {
    /// What the batch must hold.
    fn needs(&self) -> Needs;

    /// Weight γ of the forget gradient that the method's authors use.
    fn default_weight(&self) -> f32 {
        1.0
    }

    /// The loss of a batch, in nats, as a value of the graph.
    fn loss<'m>(
        &self,
        g: &mut Graph<'m>,
        model: &'m Model,
        batch: &'m Packed<'_>,
        taps: &'m Taps,
    ) -> Result<Var>;
}

/// A forget batch with its sequences packed.
pub struct Packed<'a> {
    /// What the batch is made of.
    pub source: &'a ForgetBatch<'a>,
    /// The answers.
    pub answers: Batch,
    /// The refusals, where the objective needs them.
    pub refusals: Option<Batch>,
}

impl Packed<'_> {
    fn refusals(&self) -> Result<&Batch> {
        self.refusals
            .as_ref()
            .ok_or_else(|| Error::invalid("the objective needs refusals and was given none"))
    }
}

/// Loss and gradient of a forget batch.
pub fn gradients(
    objective: &dyn ForgetObjective,
    model: &Model,
    batch: &ForgetBatch<'_>,
) -> Result<(f64, Gradients)> {
    if objective.needs().refusals && batch.refusals.len() != batch.answers.len() {
        return Err(Error::invalid(format!(
            "the objective needs a refusal for each of {} answers and was given {}",
            batch.answers.len(),
            batch.refusals.len()
        )));
    }
    let refusals =
        objective.needs().refusals.then(|| Batch::new(batch.refusals.iter().copied())).transpose()?;
    let packed = Packed { source: batch, answers: Batch::new(batch.answers.iter().copied())?, refusals };
    let taps = Taps::none();
    let mut g = Graph::recording(&model.params);
    let loss = objective.loss(&mut g, model, &packed, &taps)?;
    Ok((f64::from(loss.scalar()), g.backward(&loss)?))
}

/// Summed negative log-likelihood of every sequence: [sequences].
fn sequence_nll<'m>(g: &mut Graph<'m>, model: &'m Model, batch: &'m Batch, taps: &'m Taps) -> Result<Var> {
    let logprobs = model.token_logprobs(g, batch, taps)?;
    let sums = g.group_sums(&logprobs, &batch.sequence, batch.sequences())?;
    g.scale(&sums, -1.0)
}

/// `factor ·` the mean cross-entropy over all scored tokens of the batch.
fn token_mean<'m>(
    g: &mut Graph<'m>,
    model: &'m Model,
    batch: &'m Batch,
    factor: f32,
    taps: &'m Taps,
) -> Result<Var> {
    let count = batch.targets.len();
    model.weighted_nll(g, batch, &vec![factor / count.max(1) as f32; count], taps)
}

slot! {
    /// What lowers the model's grip on the forget set.
    pub slot Forget("unlearn", "forget"): dyn ForgetObjective, default GradientAscent {
        "ga" => GradientAscent,
        "npo" => Npo,
        "simnpo" => SimNpo,
        "idk" => Idk,
        "idk-dpo" => IdkDpo,
    }
}

#[cfg(test)]
mod tests;
