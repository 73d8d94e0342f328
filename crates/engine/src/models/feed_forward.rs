//! The feed-forward part of a block.

use std::sync::Arc;

use super::adapters::{EditPoint, FeedForwardAdapter};
use super::builder::BlockBuilder;
use super::cache::KvCache;
use super::experts::Experts;
use super::spec::InnerNames;
use super::within::Within;
use crate::Result;
use crate::kernels::Activation;
use crate::params::ParamId;
use crate::tape::{Graph, Linear, Var};
use crate::taps::BlockSite::{MlpPost, MlpPre, MlpPreLinear};

/// What follows attention in a block.
#[derive(Debug, Clone)]
pub(super) struct FeedForward {
    network: Network,
    /// What edits its input, where an adapter is attached that does.
    pub(super) adapter: Option<Arc<dyn FeedForwardAdapter>>,
}

#[derive(Debug, Clone)]
enum Network {
    /// One network for all tokens.
    Dense(Mlp),
    /// A few of many networks for each token.
    Experts(Experts),
}

/// A network of one inner layer.
#[derive(Debug, Clone)]
pub(super) struct Mlp {
    inner: Inner,
    activation: Activation,
    down: Linear,
}

#[derive(Debug, Clone)]
enum Inner {
    Gated {
        gate: Linear,
        up: Linear,
    },
    /// Both in one product, and the width f of each.
    GatedFused {
        gate_up: Linear,
        width: usize,
    },
    Plain {
        up: Linear,
    },
}

impl FeedForward {
    pub(super) fn build(builder: &mut BlockBuilder<'_, '_>) -> Result<Self> {
        let network = match builder.spec.experts {
            Some(experts) => Network::Experts(Experts::build(builder, experts)?),
            None => Network::Dense(Mlp::build(builder)?),
        };
        Ok(FeedForward { network, adapter: None })
    }

    /// Every linear layer that adapters may change.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match &self.network {
            Network::Dense(mlp) => mlp.linears(),
            Network::Experts(experts) => experts.linears(),
        }
    }

    /// Every linear layer, in the same order, for changing it.
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match &mut self.network {
            Network::Dense(mlp) => mlp.linears_mut(),
            Network::Experts(experts) => experts.linears_mut(),
        }
    }

    /// The layers by which it writes to the residual stream: one, or one per expert.
    pub(super) fn outputs(&self) -> Vec<&Linear> {
        match &self.network {
            Network::Dense(mlp) => vec![&mlp.down],
            Network::Experts(experts) => experts.outputs(),
        }
    }

    /// The projection back to the residual stream; a mixture of experts has many.
    pub(super) fn down(&self) -> Option<&Linear> {
        match &self.network {
            Network::Dense(mlp) => Some(&mlp.down),
            Network::Experts(_) => None,
        }
    }

    /// Gate, up and down projection of an expert, where there is one of this number.
    pub(super) fn expert(&self, expert: usize) -> Option<[ParamId; 3]> {
        match &self.network {
            Network::Dense(_) => None,
            Network::Experts(experts) => experts.expert(expert),
        }
    }

    /// Its input on the way x [T, d], edited where this is the adapter's point: [T, d]. With caches, one per sequence,
    /// what the adapter keeps of x is appended to them.
    pub(super) fn edited(
        &self,
        g: &mut Graph<'_>,
        x: Var,
        point: EditPoint,
        within: Within<'_>,
        caches: Option<&mut [KvCache]>,
    ) -> Result<Var> {
        match &self.adapter {
            Some(adapter) if adapter.point() == point => adapter.edit(g, &x, within, caches),
            _ => Ok(x),
        }
    }

    /// h [T, d] → [T, d].
    pub(super) fn forward<'m>(&'m self, g: &mut Graph<'m>, h: &Var, within: Within<'_>) -> Result<Var> {
        match &self.network {
            Network::Dense(mlp) => mlp.forward(g, h, within),
            Network::Experts(experts) => experts.forward(g, h, within),
        }
    }
}

impl Mlp {
    fn build(builder: &mut BlockBuilder<'_, '_>) -> Result<Self> {
        let spec = builder.spec;
        let (d, f, bias) = (spec.hidden, spec.intermediate, spec.mlp_bias);
        let inner = match spec.names.inner {
            InnerNames::Gated([gate, up]) => Inner::Gated {
                gate: builder.linear(gate, [f, d], bias)?,
                up: builder.linear(up, [f, d], bias)?,
            },
            InnerNames::GatedFused(gate_up) => {
                Inner::GatedFused { gate_up: builder.linear(gate_up, [2 * f, d], bias)?, width: f }
            }
            InnerNames::Plain(up) => Inner::Plain { up: builder.linear(up, [f, d], bias)? },
        };
        Ok(Mlp { inner, activation: spec.activation, down: builder.linear(spec.names.down, [d, f], bias)? })
    }

    fn linears(&self) -> Vec<&Linear> {
        match &self.inner {
            Inner::Gated { gate, up } => vec![gate, up, &self.down],
            Inner::GatedFused { gate_up: only, .. } | Inner::Plain { up: only } => vec![only, &self.down],
        }
    }

    fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match &mut self.inner {
            Inner::Gated { gate, up } => vec![gate, up, &mut self.down],
            Inner::GatedFused { gate_up: only, .. } | Inner::Plain { up: only } => vec![only, &mut self.down],
        }
    }

    fn forward<'m>(&'m self, g: &mut Graph<'m>, h: &Var, within: Within<'_>) -> Result<Var> {
        let (gate, up) = match &self.inner {
            Inner::Gated { gate, up } => {
                let gate = g.linear(h, gate)?;
                (within.tap(g, MlpPre, gate)?, g.linear(h, up)?)
            }
            Inner::GatedFused { gate_up, width } => {
                let (both, f) = (g.linear(h, gate_up)?, *width);
                let gate = g.gather_columns(&both, std::slice::from_ref(&(0..f)))?;
                (within.tap(g, MlpPre, gate)?, g.gather_columns(&both, std::slice::from_ref(&(f..2 * f)))?)
            }
            Inner::Plain { up } => {
                let x = g.linear(h, up)?;
                let x = within.tap(g, MlpPre, x)?;
                let a = g.activate(self.activation, &x)?;
                let a = within.tap(g, MlpPost, a)?;
                return g.linear(&a, &self.down);
            }
        };
        let up = within.tap(g, MlpPreLinear, up)?;
        let a = g.gated(self.activation, &gate, &up)?;
        let a = within.tap(g, MlpPost, a)?;
        g.linear(&a, &self.down)
    }
}
