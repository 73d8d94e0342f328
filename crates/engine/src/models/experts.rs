//! Mixture-of-experts feed-forwards: a router sends every token to its k best experts.

use std::sync::Arc;

use super::builder::BlockBuilder;
use super::mixture::{ExpertNames, ExpertsSpec};
use super::within::Within;
use crate::kernels::Activation;
use crate::params::ParamId;
use crate::tape::{Dispatch, Expert, Graph, Linear, Var};
use crate::taps::BlockSite::{MlpPost, MlpPre, MlpPreLinear, RouterIndices, RouterLogits, RouterWeights};
use crate::{Error, Result, Tensor};

/// The parameters of one mixture.
#[derive(Debug, Clone)]
pub(super) struct Experts {
    /// Scores: [E, d].
    router: Linear,
    experts: Vec<Expert>,
    /// Experts k that a token goes to.
    per_token: usize,
    /// Whether the weights of the chosen experts are divided by their sum.
    renormalise: bool,
    /// Width f of an expert.
    width: usize,
    activation: Activation,
}

impl Experts {
    /// The mixture of a block.
    pub(super) fn build(builder: &mut BlockBuilder<'_, '_>, spec: &ExpertsSpec) -> Result<Self> {
        let (d, f) = (builder.spec.hidden, spec.width);
        let ExpertNames { module, parts } = spec.names;
        let router = builder.linear(&format!("{module}.gate"), [spec.count, d], false)?;
        let expert = |e: usize| {
            let mut part =
                |name, shape| builder.linear(&format!("{module}.experts.{e}.{name}"), shape, false);
            let [gate, up, down] = parts;
            Ok(Expert { gate: part(gate, [f, d])?, up: part(up, [f, d])?, down: part(down, [d, f])? })
        };
        let experts = (0..spec.count).map(expert).collect::<Result<_>>()?;
        Ok(Experts {
            router,
            experts,
            per_token: spec.per_token,
            renormalise: spec.renormalise,
            width: f,
            activation: builder.spec.activation,
        })
    }

    /// The experts' layers. The router is not among them: it is not adapted.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        self.experts.iter().flat_map(|e| [&e.gate, &e.up, &e.down]).collect()
    }

    /// The same, for changing them.
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        self.experts.iter_mut().flat_map(|e| [&mut e.gate, &mut e.up, &mut e.down]).collect()
    }

    /// The layers by which the experts write to the residual stream.
    pub(super) fn outputs(&self) -> Vec<&Linear> {
        self.experts.iter().map(|expert| &expert.down).collect()
    }

    /// Gate, up and down projection of an expert, where there is one of this number.
    pub(super) fn expert(&self, expert: usize) -> Option<[ParamId; 3]> {
        self.experts.get(expert).map(Expert::weights)
    }

    /// The mixture's output: h [T, d] → [T, d].
    pub(super) fn forward<'m>(&'m self, g: &mut Graph<'m>, h: &Var, within: Within<'_>) -> Result<Var> {
        let logits = g.linear(h, &self.router)?;
        let logits = within.tap(g, RouterLogits, logits)?;
        let probs = g.softmax(&logits)?;
        let mut dispatch = Dispatch::top_k(probs.value(), self.per_token)?;
        if within.touches(RouterIndices) {
            dispatch = tapped_choice(g, &dispatch, within)?;
        }
        let dispatch = Arc::new(dispatch);
        g.note_routing(&logits, &dispatch);
        let weights = g.routing_weights(&probs, &dispatch, self.renormalise)?;
        let weights = within.tap(g, RouterWeights, weights)?;
        let opened = [MlpPre, MlpPreLinear, MlpPost].into_iter().any(|site| within.touches(site));
        if opened || self.experts.iter().any(Expert::is_adapted) {
            return self.one_by_one(g, h, &weights, &dispatch, within);
        }
        g.experts(h, &weights, &dispatch, &self.experts, self.activation)
    }

    /// The same bits from general operations, for adapters and for looking inside.
    fn one_by_one<'m>(
        &'m self,
        g: &mut Graph<'m>,
        h: &Var,
        weights: &Var,
        dispatch: &Arc<Dispatch>,
        within: Within<'_>,
    ) -> Result<Var> {
        let pairs = dispatch.pairs().len();
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
            let sorted = g.assemble([pairs, self.width], blocks)?;
            let x = g.gather_rows(&sorted, dispatch.place())?;
            within.tap(g, site, x)
        };
        let gate = in_order(g, &gates, MlpPre)?;
        let up = in_order(g, &ups, MlpPreLinear)?;
        let inner = g.gated(self.activation, &gate, &up)?;
        let inner = within.tap(g, MlpPost, inner)?;
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
fn tapped_choice(g: &mut Graph<'_>, dispatch: &Dispatch, within: Within<'_>) -> Result<Dispatch> {
    let site = within.name(RouterIndices);
    let experts = dispatch.experts();
    let chosen = Tensor::build(&dispatch.shape(), |out| {
        out.iter_mut().zip(dispatch.chosen()).for_each(|(out, &e)| *out = e as f32);
    });
    let is_expert = |e: f32| e >= 0.0 && e.fract() == 0.0 && (e as usize) < experts;
    let check = |chosen: &Tensor| match chosen.f32().iter().find(|&&e| !is_expert(e)) {
        Some(e) => Err(Error::invalid(format!("{site}: {e} is no expert; there are 0 to {}", experts - 1))),
        None => Ok(()),
    };
    let tapped = within.tap_checked(g, RouterIndices, Var::constant(chosen), &check)?;
    let chosen = tapped.value().f32().iter().map(|&e| e as u32).collect();
    let counts = (0..dispatch.tokens()).map(|token| dispatch.of_token(token).len());
    Dispatch::new(chosen, counts, experts)
}
