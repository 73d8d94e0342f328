//! Mixture-of-experts feed-forwards: a router sends every token to its k best experts.

use std::sync::Arc;

use super::config::Config;
use super::decoder::Spec;
use crate::checkpoint::Checkpoint;
use crate::tape::{Dispatch, Expert, Graph, Layout, Linear, Var};
use crate::taps::{BlockSite, Site, Taps};
use crate::{Error, Result, Tensor};

/// The mixtures of a model: their size, and how tokens are routed.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertsSpec {
    /// Experts E of a layer.
    pub count: usize,
    /// Experts k that a token goes to.
    pub per_token: usize,
    /// Width f of an expert.
    pub width: usize,
    /// Whether the weights of the chosen experts are divided by their sum.
    pub renormalise: bool,
    /// Which layers are mixtures; the others have a dense feed-forward.
    pub layers: Vec<bool>,
    /// How the checkpoint names the parts.
    pub names: ExpertNames,
    /// Factor of the load-balancing loss in training; 0 leaves it out.
    pub balance_coefficient: f32,
    /// Factor of the router's z-loss in training; 0 leaves it out.
    pub z_coefficient: f32,
}

/// Names of a mixture's parts within a block: `module.gate` and `module.experts.N.part`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertNames {
    /// The mixture's module.
    pub module: &'static str,
    /// Gate, up and down projection of an expert.
    pub parts: [&'static str; 3],
}

impl ExpertsSpec {
    /// Reads what the families write alike; every layer is a mixture.
    pub(super) fn read(
        config: &Config<'_>,
        names: ExpertNames,
        layers: usize,
        [count, per_token]: [usize; 2],
        width: usize,
    ) -> Result<Self> {
        if per_token == 0 || per_token > count {
            return Err(config.error(format!(
                "\"num_experts_per_tok\" is {per_token}; a layer of {count} experts needs 1 to {count}"
            )));
        }
        // The reference adds the loss to training exactly where the config asks for the router's output.
        let balance = match config.flag("output_router_logits", false)? {
            true => config.float("router_aux_loss_coef")?.unwrap_or(0.001) as f32,
            false => 0.0,
        };
        Ok(ExpertsSpec {
            count,
            per_token,
            width,
            renormalise: true,
            layers: vec![true; layers],
            names,
            balance_coefficient: balance,
            z_coefficient: 0.0,
        })
    }

    /// How many experts a config promises: newer files call the number by one name in all families.
    pub(super) fn count_in(config: &Config<'_>, own: &str, default: usize) -> Result<usize> {
        let other = if own == "num_experts" { "num_local_experts" } else { "num_experts" };
        Ok(config.count(own)?.or(config.count(other)?).unwrap_or(default))
    }
}

/// The parameters of one mixture.
#[derive(Debug, Clone)]
pub(super) struct Experts {
    /// Scores: [E, d].
    router: Linear,
    experts: Vec<Expert>,
    names: ExpertNames,
}

impl Experts {
    /// Builds the mixture of one block; `linear` makes a layer from its name within the block and its
    /// output and input widths.
    pub(super) fn build(
        spec: &ExpertsSpec,
        hidden: usize,
        linear: &mut dyn FnMut(&str, usize, usize) -> Result<Linear>,
    ) -> Result<Self> {
        let module = spec.names.module;
        let [gate, up, down] = spec.names.parts;
        let router = linear(&format!("{module}.gate"), spec.count, hidden)?;
        let expert = |e: usize| {
            let mut part =
                |name: &str, out, inner| linear(&format!("{module}.experts.{e}.{name}"), out, inner);
            let gate = part(gate, spec.width, hidden)?;
            let up = part(up, spec.width, hidden)?;
            Ok(Expert { gate, up, down: part(down, hidden, spec.width)? })
        };
        let experts = (0..spec.count).map(expert).collect::<Result<_>>()?;
        Ok(Experts { router, experts, names: spec.names })
    }

    /// The experts' layers under their names within the block. The router is not among them: it is not
    /// adapted.
    pub(super) fn linears(&self) -> impl Iterator<Item = (String, &Linear)> {
        let ExpertNames { module, parts } = self.names;
        self.experts.iter().enumerate().flat_map(move |(e, expert)| {
            let layers = [&expert.gate, &expert.up, &expert.down];
            layers.into_iter().zip(parts).map(move |(l, part)| (format!("{module}.experts.{e}.{part}"), l))
        })
    }

    /// The layer of this name within the block.
    pub(super) fn linear_mut(&mut self, name: &str) -> Option<&mut Linear> {
        let (expert, part) = name.strip_prefix(self.names.module)?.strip_prefix(".experts.")?.split_once('.')?;
        let expert = self.experts.get_mut(expert.parse::<usize>().ok()?)?;
        let layers = [&mut expert.gate, &mut expert.up, &mut expert.down];
        layers.into_iter().zip(self.names.parts).find(|(_, p)| *p == part).map(|(layer, _)| layer)
    }

    /// The mixture's output: h [T, d] → [T, d].
    pub(super) fn forward<'m>(
        &'m self,
        spec: &Spec,
        g: &mut Graph<'m>,
        l: usize,
        h: &Var,
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        use BlockSite::*;
        let at = |site| Site::Block(l, site);
        let Some(mixture) = &spec.experts else {
            return Err(Error::invalid("a block is a mixture of experts, the model is not"));
        };
        let logits = g.linear(h, &self.router)?;
        let logits = taps.at(g, at(RouterLogits), logits, layout)?;
        let probs = g.softmax(&logits)?;
        let mut dispatch = Dispatch::top_k(probs.value(), mixture.per_token)?;
        if taps.touches(at(RouterIndices)) {
            dispatch = tapped_choice(g, l, &dispatch, layout, taps)?;
        }
        let dispatch = Arc::new(dispatch);
        g.note_routing(&logits, &dispatch);
        let weights = g.routing_weights(&probs, &dispatch, mixture.renormalise)?;
        let weights = taps.at(g, at(RouterWeights), weights, layout)?;
        let opened = [MlpPre, MlpPreLinear, MlpPost].into_iter().any(|site| taps.touches(at(site)));
        if opened || self.experts.iter().any(Expert::is_adapted) {
            return self.one_by_one(spec, g, l, h, &weights, &dispatch, layout, taps);
        }
        g.experts(h, &weights, &dispatch, &self.experts, spec.activation)
    }

    /// The same bits from general operations, for adapters and for looking inside.
    #[expect(clippy::too_many_arguments, reason = "a forward pass names what it reads")]
    fn one_by_one<'m>(
        &'m self,
        spec: &Spec,
        g: &mut Graph<'m>,
        l: usize,
        h: &Var,
        weights: &Var,
        dispatch: &Arc<Dispatch>,
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        use BlockSite::*;
        let pairs = dispatch.pairs().len();
        let width = spec.experts.as_ref().map_or(0, |mixture| mixture.width);
        let (mut gates, mut ups, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for group in dispatch.groups() {
            let expert = &self.experts[group.expert];
            let tokens: Vec<_> = dispatch.tokens_of(&group.rows).collect();
            let own = g.gather_rows(h, &tokens)?;
            gates.push((g.linear(&own, &expert.gate)?, group.rows.start, 0));
            ups.push((g.linear(&own, &expert.up)?, group.rows.start, 0));
        }
        // Sites see rows in the order of (token, slot), not in that of experts.
        let in_order = |g: &mut Graph<'m>, blocks: &[(Var, usize, usize)], site| -> Result<Var> {
            let sorted = g.assemble([pairs, width], blocks)?;
            let x = g.gather_rows(&sorted, dispatch.place())?;
            taps.at(g, Site::Block(l, site), x, layout)
        };
        let gate = in_order(g, &gates, MlpPre)?;
        let up = in_order(g, &ups, MlpPreLinear)?;
        let inner = g.gated(spec.activation, &gate, &up)?;
        let inner = taps.at(g, Site::Block(l, MlpPost), inner, layout)?;
        for group in dispatch.groups() {
            let own = g.gather_rows(&inner, &dispatch.pairs()[group.rows.clone()])?;
            outputs.push((g.linear(&own, &self.experts[group.expert].down)?, group.rows.start, 0));
        }
        let sorted = g.assemble([pairs, h.value().columns()], &outputs)?;
        let y = g.gather_rows(&sorted, dispatch.place())?;
        g.mix_experts(&y, weights, dispatch)
    }
}

/// Lets taps see, and replace, which experts were chosen. They are numbers of experts in f32.
fn tapped_choice(
    g: &mut Graph<'_>,
    l: usize,
    dispatch: &Dispatch,
    layout: &Layout,
    taps: &Taps,
) -> Result<Dispatch> {
    let site = Site::Block(l, BlockSite::RouterIndices);
    let (k, experts) = (dispatch.per_token(), dispatch.experts());
    let shape = [dispatch.tokens(), k];
    let chosen = Tensor::build(&shape, |out| {
        out.iter_mut().zip(dispatch.chosen()).for_each(|(out, &e)| *out = e as f32);
    });
    let tapped = taps.at(g, site, Var::constant(chosen), layout)?;
    let read = |&index: &f32| match index {
        e if e >= 0.0 && e.fract() == 0.0 && (e as usize) < experts => Ok(e as u32),
        e => Err(Error::invalid(format!("{site}: {e} is no expert; there are 0 to {}", experts - 1))),
    };
    let chosen = tapped.value().f32().iter().map(read).collect::<Result<_>>()?;
    Dispatch::new(chosen, experts, k)
}

/// A tensor of a checkpoint that holds a mixture in the fused form, under its per-expert name.
///
/// Fused: `mlp.experts.gate_up_proj` [E, 2f, d], gates above ups, `mlp.experts.down_proj` [E, d, f], and
/// `mlp.gate` whatever the family calls the module. `None` where the name is no part of a mixture or the
/// checkpoint holds it as it is.
pub(super) fn fused(
    checkpoint: &Checkpoint,
    spec: &ExpertsSpec,
    name: &str,
    shape: &[usize],
) -> Option<Result<Tensor>> {
    if checkpoint.contains(name) {
        return None;
    }
    let (block, inner) = name.split_once(&format!(".{}.", spec.names.module))?;
    if inner == "gate.weight" {
        let other = format!("{block}.mlp.{inner}");
        return checkpoint.contains(&other).then(|| checkpoint.tensor_f32(&other, shape));
    }
    let (expert, part) = inner.strip_prefix("experts.")?.strip_suffix(".weight")?.split_once('.')?;
    let expert: usize = expert.parse().ok()?;
    let part = spec.names.parts.iter().position(|p| *p == part)?;
    let (stored, halves, half) =
        if part < 2 { ("gate_up_proj", 2, part) } else { ("down_proj", 1, 0) };
    let whole = ["mlp", spec.names.module]
        .map(|module| format!("{block}.{module}.experts.{stored}"))
        .into_iter()
        .find(|whole| checkpoint.contains(whole))?;
    let (rows, columns) = (shape[0], shape[1]);
    let first = (expert * halves + half) * rows;
    Some(checkpoint.rows_f32(&whole, &[spec.count, halves * rows, columns], first..first + rows))
}
