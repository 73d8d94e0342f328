//! States of one run put into another.

use std::collections::BTreeSet;

use amend_engine::taps::BlockSite;
use amend_engine::{
    Action, Batch, Error, Example, Graph, Model, Result, SCORING_TOKENS, Selector, Site, Taps, Tensor,
};

/// What is put in the place of a state.
#[derive(Debug, Clone)]
pub struct Patch {
    /// Where: a site of rows of tokens.
    pub site: Site,
    /// At which token.
    pub position: usize,
    /// The state: `[d]`.
    pub state: Vec<f32>,
}

impl Patch {
    /// The residual stream behind block `layer` at a token, as it was in another run: `states` is what
    /// [`states`] gave of that.
    pub fn residual(states: &[Tensor], layer: usize, position: usize) -> Self {
        let width = states[layer].columns();
        let state = states[layer].f32()[position * width..(position + 1) * width].to_vec();
        Patch { site: Site::Block(layer, BlockSite::ResidPost), position, state }
    }

    /// Its token, in one sequence of a batch or in all.
    fn selector(&self, sequence: Option<usize>) -> Selector {
        Selector {
            sequences: sequence.map(|sequence| BTreeSet::from([sequence as u64])),
            positions: Some(BTreeSet::from([self.position as u32])),
            ..Selector::default()
        }
    }

    fn action(&self) -> Result<Action> {
        Ok(Action::Replace(Tensor::from_f32(&self.state, &[1, self.state.len()])?))
    }
}

/// The residual stream behind every block while a model reads these tokens: [T, d] each.
///
/// # Errors
/// Where the model cannot read them.
pub fn states(model: &Model, ids: &[u32]) -> Result<Vec<Tensor>> {
    states_at(model, ids, BlockSite::ResidPost)
}

/// The same at another place of every block.
pub(crate) fn states_at(model: &Model, ids: &[u32], place: BlockSite) -> Result<Vec<Tensor>> {
    let mut taps = Taps::none();
    let sites: Vec<Site> = (0..model.spec().layers).map(|layer| Site::Block(layer, place)).collect();
    for &site in &sites {
        taps.read(site);
    }
    let batch = Batch::new([&Example::text(ids.to_vec())])?;
    model.hidden(&mut Graph::inference(&model.params), &batch, &taps)?;
    Ok(sites.into_iter().flat_map(|site| taps.take(site)).map(|reading| reading.tensor).collect())
}

/// Log-probabilities of an example's scored tokens, in nats, with states of another run in the places of some.
///
/// # Errors
/// Where the model cannot read the example, or a state has another width.
pub fn patched(model: &Model, example: &Example, patches: &[Patch]) -> Result<Vec<f32>> {
    let mut taps = Taps::none();
    for patch in patches {
        taps.add(patch.site, patch.selector(None), patch.action()?);
    }
    let batch = Batch::within(model.spec().context, [example])?;
    let mut g = Graph::inference(&model.params);
    Ok(model.token_logprobs(&mut g, &batch, &taps)?.value().f32().to_vec())
}

/// Probability of what is scored of each example, as a whole, while taps are at work. The examples are read together; a tap
/// for one of them names its number.
///
/// # Errors
/// Where the model cannot read an example, or a tap does not fit.
pub fn probabilities(model: &Model, examples: &[Example], taps: &Taps) -> Result<Vec<f64>> {
    probabilities_within(model, model.spec().context, examples.iter(), taps)
}

/// The same of examples of which `within` tokens are read.
pub(crate) fn probabilities_within<'e>(
    model: &Model,
    within: usize,
    examples: impl IntoIterator<Item = &'e Example>,
    taps: &Taps,
) -> Result<Vec<f64>> {
    let batch = Batch::within(within, examples)?;
    let mut g = Graph::inference(&model.params);
    let logprobs = model.token_logprobs(&mut g, &batch, taps)?;
    let mut sums = vec![0.0; batch.sequences()];
    for (&sequence, &logprob) in batch.sequence.iter().zip(logprobs.value().f32()) {
        sums[sequence] += f64::from(logprob);
    }
    Ok(sums.into_iter().map(f64::exp).collect())
}

/// States of another run that take the place of states of this one, behind one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// The layer, counted from 0.
    pub layer: usize,
    /// Tokens here, each with the token there whose state it gets.
    pub tokens: Vec<(usize, usize)>,
}

/// Probability of an example's scored tokens, as a whole, with each of the swaps by itself. `theirs` is what [`states`] gave of the
/// other run.
///
/// # Errors
/// Where the model cannot read the example, or a swap names a layer or a token that there is not.
pub fn swapped(model: &Model, example: &Example, theirs: &[Tensor], swaps: &[Swap]) -> Result<Vec<f64>> {
    let mut all = Vec::with_capacity(swaps.len());
    let at_a_time = (SCORING_TOKENS / example.ids.len().max(1)).max(1);
    for piece in swaps.chunks(at_a_time) {
        let mut taps = Taps::none();
        for (index, swap) in piece.iter().enumerate() {
            model.check_layer(swap.layer)?;
            for &(here, there) in &swap.tokens {
                let theirs_have = theirs.first().map_or(0, |states| states.shape()[0]);
                if here >= example.ids.len() || there >= theirs_have {
                    return Err(Error::invalid(format!(
                        "there is no token {there} of {theirs_have} to put in the place of token {here} of {}",
                        example.ids.len()
                    )));
                }
                let patch = Patch { position: here, ..Patch::residual(theirs, swap.layer, there) };
                taps.add(patch.site, patch.selector(Some(index)), patch.action()?);
            }
        }
        let examples = std::iter::repeat_n(example, piece.len());
        all.extend(probabilities_within(model, model.spec().context, examples, &taps)?);
    }
    Ok(all)
}
