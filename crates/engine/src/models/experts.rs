//! Mixture-of-experts feed-forwards: a router sends every token to its k best experts.

use std::ops::Range;
use std::sync::Arc;

use super::config::Config;
use super::parts::{Builder, Within};
use super::spec::Spec;
use crate::params::ParamId;
use crate::tape::{Dispatch, Expert, Graph, Linear, Var};
use crate::taps::BlockSite::{MlpPost, MlpPre, MlpPreLinear, RouterIndices, RouterLogits, RouterWeights};
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

/// Rows of a checkpoint's tensor that are one tensor of a mixture.
pub(super) struct FusedPart {
    /// Name in the checkpoint.
    pub(super) name: String,
    /// Shape there.
    pub(super) shape: Vec<usize>,
    /// The rows.
    pub(super) rows: Range<usize>,
}

impl ExpertsSpec {
    /// Where a checkpoint in the fused spelling holds the tensor of this name and shape; `find` gives the
    /// name under which it holds a tensor, if it does. `None` where the name is no part of a mixture, and
    /// where the checkpoint has it as it is.
    ///
    /// Fused: `mlp.experts.gate_up_proj` [E, 2f, d], each expert's gate above its up,
    /// `mlp.experts.down_proj` [E, d, f], and `mlp.gate` whatever the family calls the module.
    pub(super) fn fused_part(
        &self,
        name: &str,
        shape: &[usize],
        find: &dyn Fn(&str) -> Option<String>,
    ) -> Option<FusedPart> {
        let ExpertNames { module, parts } = self.names;
        let (block, inner) = name.split_once(&format!(".{module}."))?;
        if find(name).is_some() {
            return None;
        }
        let [rows, columns] = *shape else { return None };
        if inner == "gate.weight" {
            let name = find(&format!("{block}.mlp.{inner}"))?;
            return Some(FusedPart { name, shape: shape.to_vec(), rows: 0..rows });
        }
        let (expert, part) = inner.strip_prefix("experts.")?.strip_suffix(".weight")?.split_once('.')?;
        let expert: usize = expert.parse().ok()?;
        let (stored, pieces, piece) = match parts.iter().position(|p| *p == part)? {
            half @ (0 | 1) => ("gate_up_proj", 2, half),
            _ => ("down_proj", 1, 0),
        };
        let name = ["mlp", module].iter().find_map(|m| find(&format!("{block}.{m}.experts.{stored}")))?;
        let first = (expert * pieces + piece) * rows;
        Some(FusedPart { name, shape: vec![self.count, pieces * rows, columns], rows: first..first + rows })
    }
}

/// The parameters of one mixture.
#[derive(Debug, Clone)]
pub(super) struct Experts {
    /// Scores: [E, d].
    router: Linear,
    experts: Vec<Expert>,
}

impl Experts {
    /// The mixture of block `l`.
    pub(super) fn build(builder: &mut Builder<'_, '_>, spec: &ExpertsSpec, l: usize) -> Result<Self> {
        let (d, f) = (builder.spec.hidden, spec.width);
        let ExpertNames { module, parts } = spec.names;
        let router = builder.linear(l, &format!("{module}.gate"), [spec.count, d], false)?;
        let expert = |e: usize| {
            let mut part =
                |name, shape| builder.linear(l, &format!("{module}.experts.{e}.{name}"), shape, false);
            let [gate, up, down] = parts;
            Ok(Expert { gate: part(gate, [f, d])?, up: part(up, [f, d])?, down: part(down, [d, f])? })
        };
        Ok(Experts { router, experts: (0..spec.count).map(expert).collect::<Result<_>>()? })
    }

    /// The experts' layers. The router is not among them: it is not adapted.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        self.experts.iter().flat_map(|e| [&e.gate, &e.up, &e.down]).collect()
    }

    /// The same, for changing them.
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        self.experts.iter_mut().flat_map(|e| [&mut e.gate, &mut e.up, &mut e.down]).collect()
    }

    /// Gate, up and down projection of an expert, where there is one of this number.
    pub(super) fn expert(&self, expert: usize) -> Option<[ParamId; 3]> {
        self.experts.get(expert).map(Expert::weights)
    }

    /// The mixture's output: h [T, d] → [T, d].
    pub(super) fn forward<'m>(
        &'m self,
        spec: &Spec,
        g: &mut Graph<'m>,
        h: &Var,
        within: Within<'_>,
    ) -> Result<Var> {
        let Some(mixture) = &spec.experts else {
            return Err(Error::invalid("a block is a mixture of experts, the model is not"));
        };
        let logits = g.linear(h, &self.router)?;
        let logits = within.tap(g, RouterLogits, logits)?;
        let probs = g.softmax(&logits)?;
        let mut dispatch = Dispatch::top_k(probs.value(), mixture.per_token)?;
        if within.touches(RouterIndices) {
            dispatch = tapped_choice(g, &dispatch, within)?;
        }
        let dispatch = Arc::new(dispatch);
        g.note_routing(&logits, &dispatch);
        let weights = g.routing_weights(&probs, &dispatch, mixture.renormalise)?;
        let weights = within.tap(g, RouterWeights, weights)?;
        let opened = [MlpPre, MlpPreLinear, MlpPost].into_iter().any(|site| within.touches(site));
        if opened || self.experts.iter().any(Expert::is_adapted) {
            return self.one_by_one(spec, g, h, &weights, &dispatch, within);
        }
        g.experts(h, &weights, &dispatch, &self.experts, spec.activation)
    }

    /// The same bits from general operations, for adapters and for looking inside.
    fn one_by_one<'m>(
        &'m self,
        spec: &Spec,
        g: &mut Graph<'m>,
        h: &Var,
        weights: &Var,
        dispatch: &Arc<Dispatch>,
        within: Within<'_>,
    ) -> Result<Var> {
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
            within.tap(g, site, x)
        };
        let gate = in_order(g, &gates, MlpPre)?;
        let up = in_order(g, &ups, MlpPreLinear)?;
        let inner = g.gated(spec.activation, &gate, &up)?;
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
    let site = within.site(RouterIndices);
    let (k, experts) = (dispatch.per_token(), dispatch.experts());
    let shape = [dispatch.tokens(), k];
    let chosen = Tensor::build(&shape, |out| {
        out.iter_mut().zip(dispatch.chosen()).for_each(|(out, &e)| *out = e as f32);
    });
    let tapped = within.tap(g, RouterIndices, Var::constant(chosen))?;
    let read = |&index: &f32| match index {
        e if e >= 0.0 && e.fract() == 0.0 && (e as usize) < experts => Ok(e as u32),
        e => Err(Error::invalid(format!("{site}: {e} is no expert; there are 0 to {}", experts - 1))),
    };
    let chosen = tapped.value().f32().iter().map(read).collect::<Result<_>>()?;
    Dispatch::new(chosen, experts, k)
}
