//! One differentiated pass of a model over a batch, and what objectives are made of.

use amend_engine::{Batch, Error, Graph, Model, Result, Site, Taps, Tensor, Var};

/// A model and the graph that its losses are recorded in.
pub struct Pass<'m> {
    /// The graph.
    pub g: Graph<'m>,
    /// The model.
    pub model: &'m Model,
    taps: &'m Taps,
}

impl<'m> Pass<'m> {
    /// A pass of `model` with nothing recorded yet.
    pub(crate) fn new(model: &'m Model, taps: &'m Taps) -> Self {
        Pass { g: Graph::recording(&model.params), model, taps }
    }

    /// Summed negative log-likelihood of every sequence, in nats: `[sequences]`.
    pub fn sequence_nll(&mut self, batch: &'m Batch) -> Result<Var> {
        let logprobs = self.token_logprobs(batch)?;
        let sums = self.g.group_sums(&logprobs, &batch.sequence, batch.sequences())?;
        self.g.scale(&sums, -1.0)
    }

    /// Log-probability of every scored token, in the batch's order: `[n]`, in nats.
    pub fn token_logprobs(&mut self, batch: &'m Batch) -> Result<Var> {
        self.model.token_logprobs(&mut self.g, batch, self.taps)
    }

    /// Logits that predict every scored token, in the batch's order: [n, V]. They are held as a whole.
    pub fn logits(&mut self, batch: &'m Batch) -> Result<Var> {
        let hidden = self.model.hidden(&mut self.g, batch, self.taps)?;
        self.model.logits(&mut self.g, &hidden, &batch.layout, &batch.rows, self.taps)
    }

    /// The residual stream after block `layer`: [T, d].
    pub fn residual(&mut self, batch: &'m Batch, layer: usize) -> Result<Var> {
        self.model.residual(&mut self.g, batch, layer, self.taps)
    }

    /// What the pass has held of a site that the objective's taps hold.
    ///
    /// # Errors
    /// Where they do not, or the pass did not come there.
    pub fn held(&self, site: Site) -> Result<Var> {
        self.taps.held(site).ok_or_else(|| Error::invalid(format!("nothing is held of {site}")))
    }

    /// `mean weight(ln p_t) · ln p_t` over the scored tokens: gradient ascent in which each counts by a weight of its own, a
    /// constant.
    pub fn reweighted_ascent(&mut self, batch: &'m Batch, weight: impl Fn(f32) -> f32) -> Result<Var> {
        let logprobs = self.token_logprobs(batch)?;
        let mean = 1.0 / batch.targets.len().max(1) as f32;
        let weights: Vec<f32> = logprobs.value().f32().iter().map(|&l| mean * weight(l)).collect();
        self.g.weighted_sum(&logprobs, &weights)
    }

    /// `factor ·` the mean cross-entropy over all scored tokens of the batch, in nats.
    pub fn token_mean(&mut self, batch: &'m Batch, factor: f32) -> Result<Var> {
        let count = batch.targets.len();
        let weights = vec![factor / count.max(1) as f32; count];
        self.model.weighted_nll(&mut self.g, batch, &weights, self.taps)
    }

    /// The same with other tokens in place of those that follow, one per scored token.
    pub fn token_mean_of(&mut self, batch: &'m Batch, targets: &[u32], factor: f32) -> Result<Var> {
        let hidden = self.model.scored_hidden(&mut self.g, batch, self.taps)?;
        let weights = vec![factor / targets.len().max(1) as f32; targets.len()];
        self.g.cross_entropy(&hidden, self.model.head(), targets, &weights)
    }

    /// `values − constants`, element by element.
    pub fn minus(&mut self, values: &Var, constants: &[f64]) -> Result<Var> {
        let constants: Vec<f32> = constants.iter().map(|&c| c as f32).collect();
        let constants = Var::constant(Tensor::from_f32(&constants, values.shape())?);
        self.g.sub(values, &constants)
    }

    /// `−(2/β) · mean log σ(β · margin)`: what the preference objectives come down to.
    ///
    /// Where the margin is 0 the loss is (2/β)·ln 2 and its slope with respect to each margin is −1/n,
    /// so at the reference these objectives pull exactly as hard as gradient ascent.
    pub fn logistic(&mut self, margin: &Var, beta: f32) -> Result<Var> {
        let scaled = self.g.scale(margin, beta)?;
        let log_sigmoid = self.g.log_sigmoid(&scaled)?;
        let mean = self.g.mean(&log_sigmoid)?;
        self.g.scale(&mean, -2.0 / beta)
    }
}
