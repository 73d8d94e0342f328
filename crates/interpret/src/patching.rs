//! States of one run put into another.

use std::collections::BTreeSet;

use amend_engine::taps::BlockSite;
use amend_engine::{Action, Batch, Example, Graph, Model, Result, Selector, Site, Taps, Tensor};

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
    for Patch { site, position, state } in patches {
        let here = Selector { positions: Some(BTreeSet::from([*position as u32])), ..Selector::default() };
        taps.add(*site, here, Action::Replace(Tensor::from_f32(state, &[1, state.len()])?));
    }
    let batch = Batch::within(model.spec().context, [example])?;
    let mut g = Graph::inference(&model.params);
    Ok(model.token_logprobs(&mut g, &batch, &taps)?.value().f32().to_vec())
}
