//! The logit lens: what a model would say if it ended at a state that it holds on the way (nostalgebraist 2020).
//!
//! A state goes through the model's last norm and its head, soft bound included, as the last one does. So does what a part
//! of the model adds: there the norm brings it to the length that states have.

use amend_engine::tape::Layout;
use amend_engine::taps::BlockSite;
use amend_engine::{Batch, Example, Graph, Model, Result, Selector, Site, Taps, Tensor, Var};

/// What a model holds at one token while it reads, layer by layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The residual stream that enters each block: `[d]` each.
    pub before: Vec<Vec<f32>>,
    /// The residual stream between attention and feed-forward: `[d]` each.
    pub between: Vec<Vec<f32>>,
    /// The residual stream that leaves each block: `[d]` each.
    pub after: Vec<Vec<f32>>,
    /// Every head's mix of values, one head behind the other: `[heads·head_dim]` each.
    pub mixes: Vec<Vec<f32>>,
}

/// What a model holds at some tokens of a text, in the order in which they are asked for.
///
/// # Errors
/// Where the model cannot read the text.
pub fn held(model: &Model, ids: &[u32], positions: &[usize]) -> Result<Vec<Held>> {
    let places = [BlockSite::ResidPre, BlockSite::ResidMid, BlockSite::ResidPost, BlockSite::Z];
    let layers = model.spec().layers;
    let wanted = Selector {
        positions: Some(positions.iter().map(|&position| position as u32).collect()),
        ..Selector::default()
    };
    let mut taps = Taps::none();
    for layer in 0..layers {
        for place in places {
            taps.add(Site::Block(layer, place), wanted.clone(), amend_engine::Action::Read);
        }
    }
    let batch = Batch::new([&Example::text(ids.to_vec())])?;
    model.hidden(&mut Graph::inference(&model.params), &batch, &taps)?;
    let mut all = vec![
        Held { before: Vec::new(), between: Vec::new(), after: Vec::new(), mixes: Vec::new() };
        positions.len()
    ];
    for layer in 0..layers {
        for place in places {
            for reading in taps.take(Site::Block(layer, place)) {
                let width = reading.tensor.columns();
                for (held, &position) in all.iter_mut().zip(positions) {
                    let row = reading.origins.iter().position(|origin| origin.position as usize == position);
                    let row = row.map(|row| reading.tensor.f32()[row * width..(row + 1) * width].to_vec());
                    let kept = match place {
                        BlockSite::ResidPre => &mut held.before,
                        BlockSite::ResidMid => &mut held.between,
                        BlockSite::ResidPost => &mut held.after,
                        _ => &mut held.mixes,
                    };
                    kept.extend(row);
                }
            }
        }
    }
    Ok(all)
}

/// Log-probability of a token, in nats, at each of these states: `[d]` each.
///
/// # Errors
/// Where a state has another width.
pub fn lens(model: &Model, states: &[Vec<f32>], token: u32) -> Result<Vec<f64>> {
    if states.is_empty() {
        return Ok(Vec::new());
    }
    let mut g = Graph::inference(&model.params);
    let normed = normed(model, &mut g, states)?;
    let logprobs = g.token_logprobs(&normed, model.head(), &vec![token; states.len()])?;
    Ok(logprobs.value().f32().iter().map(|&logprob| f64::from(logprob)).collect())
}

/// How many tokens are likelier than this one at each of these states: 0 where it is the first choice.
///
/// # Errors
/// Where a state has another width.
pub fn ranks(model: &Model, states: &[Vec<f32>], token: u32) -> Result<Vec<usize>> {
    let mut all = Vec::with_capacity(states.len());
    // One at a time: logits are as wide as the vocabulary.
    for state in states {
        let mut g = Graph::inference(&model.params);
        let normed = normed(model, &mut g, std::slice::from_ref(state))?;
        let taps = Taps::none();
        let logits = model.logits(&mut g, &normed, &Layout::packed([1]), &[0], &taps)?;
        let logits = logits.value().f32();
        let own = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        all.push(logits.iter().filter(|&&logit| logit > own).count());
    }
    Ok(all)
}

fn normed<'m>(model: &'m Model, g: &mut Graph<'m>, states: &[Vec<f32>]) -> Result<Var> {
    let rows = Var::constant(Tensor::from_f32(&states.concat(), &[states.len(), model.spec().hidden])?);
    model.final_norm(g, &rows)
}
