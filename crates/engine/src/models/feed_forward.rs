//! The feed-forward part of a block.

use super::experts::Experts;
use super::parts::{Builder, Within};
use super::spec::{InnerNames, Spec};
use crate::Result;
use crate::params::ParamId;
use crate::tape::{Graph, Linear, Var};
use crate::taps::BlockSite::{MlpPost, MlpPre, MlpPreLinear};

/// What follows attention in a block.
#[derive(Debug, Clone)]
pub(super) enum FeedForward {
    /// One network for all tokens.
    Dense(Mlp),
    /// A few of many networks for each token.
    Experts(Experts),
}

/// A network of one inner layer.
#[derive(Debug, Clone)]
pub(super) struct Mlp {
    inner: Inner,
    down: Linear,
}

#[derive(Debug, Clone)]
enum Inner {
    Gated { gate: Linear, up: Linear },
    GatedFused { gate_up: Linear },
    Plain { up: Linear },
}

impl FeedForward {
    pub(super) fn build(builder: &mut Builder<'_, '_>, l: usize) -> Result<Self> {
        Ok(match &builder.spec.experts {
            Some(experts) if experts.layers[l] => FeedForward::Experts(Experts::build(builder, experts, l)?),
            _ => FeedForward::Dense(Mlp::build(builder, l)?),
        })
    }

    /// Every linear layer that adapters may change.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            FeedForward::Dense(mlp) => mlp.linears(),
            FeedForward::Experts(experts) => experts.linears(),
        }
    }

    /// Every linear layer, in the same order, for changing it.
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match self {
            FeedForward::Dense(mlp) => mlp.linears_mut(),
            FeedForward::Experts(experts) => experts.linears_mut(),
        }
    }

    /// Gate, up and down projection of an expert, where there is one of this number.
    pub(super) fn expert(&self, expert: usize) -> Option<[ParamId; 3]> {
        match self {
            FeedForward::Dense(_) => None,
            FeedForward::Experts(experts) => experts.expert(expert),
        }
    }

    /// h [T, d] → [T, d].
    pub(super) fn forward<'m>(
        &'m self,
        spec: &Spec,
        g: &mut Graph<'m>,
        h: &Var,
        within: Within<'_>,
    ) -> Result<Var> {
        match self {
            FeedForward::Dense(mlp) => mlp.forward(spec, g, h, within),
            FeedForward::Experts(experts) => experts.forward(spec, g, h, within),
        }
    }
}

impl Mlp {
    pub(super) fn build(builder: &mut Builder<'_, '_>, l: usize) -> Result<Self> {
        let spec = builder.spec;
        let (d, f, bias) = (spec.hidden, spec.intermediate, spec.mlp_bias);
        let inner = match spec.names.inner {
            InnerNames::Gated([gate, up]) => Inner::Gated {
                gate: builder.linear(l, gate, [f, d], bias)?,
                up: builder.linear(l, up, [f, d], bias)?,
            },
            InnerNames::GatedFused(gate_up) => {
                Inner::GatedFused { gate_up: builder.linear(l, gate_up, [2 * f, d], bias)? }
            }
            InnerNames::Plain(up) => Inner::Plain { up: builder.linear(l, up, [f, d], bias)? },
        };
        Ok(Mlp { inner, down: builder.linear(l, spec.names.down, [d, f], bias)? })
    }

    fn linears(&self) -> Vec<&Linear> {
        match &self.inner {
            Inner::Gated { gate, up } => vec![gate, up, &self.down],
            Inner::GatedFused { gate_up: only } | Inner::Plain { up: only } => vec![only, &self.down],
        }
    }

    fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match &mut self.inner {
            Inner::Gated { gate, up } => vec![gate, up, &mut self.down],
            Inner::GatedFused { gate_up: only } | Inner::Plain { up: only } => vec![only, &mut self.down],
        }
    }

    fn forward<'m>(&'m self, spec: &Spec, g: &mut Graph<'m>, h: &Var, within: Within<'_>) -> Result<Var> {
        let (gate, up) = match &self.inner {
            Inner::Gated { gate, up } => {
                let gate = g.linear(h, gate)?;
                (within.tap(g, MlpPre, gate)?, g.linear(h, up)?)
            }
            Inner::GatedFused { gate_up } => {
                let both = g.linear(h, gate_up)?;
                let f = spec.intermediate;
                let gate = g.gather_columns(&both, std::slice::from_ref(&(0..f)))?;
                (within.tap(g, MlpPre, gate)?, g.gather_columns(&both, std::slice::from_ref(&(f..2 * f)))?)
            }
            Inner::Plain { up } => {
                let x = g.linear(h, up)?;
                let x = within.tap(g, MlpPre, x)?;
                let a = g.activate(spec.activation, &x)?;
                let a = within.tap(g, MlpPost, a)?;
                return g.linear(&a, &self.down);
            }
        };
        let up = within.tap(g, MlpPreLinear, up)?;
        let a = g.gated(spec.activation, &gate, &up)?;
        let a = within.tap(g, MlpPost, a)?;
        g.linear(&a, &self.down)
    }
}
