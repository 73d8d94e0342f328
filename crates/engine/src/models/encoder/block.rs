//! The transformer-encoder block that BERT, ViT and CLIP share.
//!
//! What differs between them is data: whether norms stand before a branch (ViT, CLIP) or after its sum
//! (BERT), whether attention is causal (CLIP's text), which activation the feed-forward has. Sites are
//! those of a decoder; `ln1` and `ln2` are the norms of attention and feed-forward wherever they stand,
//! and with norms after the sum `hook_resid_mid` and `hook_resid_post` are what leaves them.

use super::super::opened;
use crate::Result;
use crate::kernels::Activation;
use crate::params::ParamId;
use crate::tape::{AttentionKind, Graph, Layout, Linear, Var};
use crate::taps::{BlockSite, Site, Taps};

/// A layer norm's parameters.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub(super) weight: ParamId,
    pub(super) bias: Option<ParamId>,
    pub(super) eps: f32,
}

/// Where the norms of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Norms {
    /// Before attention and before the feed-forward.
    Before,
    /// After the sum of each with the residual stream.
    After,
}

/// The parameters of one block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    pub(super) norm1: Norm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) norm2: Norm,
}

/// A tower's blocks, and what they have in common.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    pub(super) blocks: Vec<Block>,
    pub(super) norms: Norms,
    pub(super) activation: Activation,
    pub(super) attention: AttentionKind,
}

impl Norm {
    pub(super) fn forward<'m>(&self, g: &mut Graph<'m>, x: &Var) -> Result<Var> {
        g.layer_norm(x, self.weight, self.bias, self.eps)
    }

    /// The same, taken apart where somebody looks inside.
    pub(super) fn tapped<'m>(
        &self,
        g: &mut Graph<'m>,
        x: &Var,
        sites: [Site; 2],
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        if sites.iter().any(|&site| taps.touches(site)) {
            return opened::layer_norm(g, x, self.weight, self.bias, self.eps, sites, layout, taps);
        }
        self.forward(g, x)
    }
}

impl Stack {
    /// The residual stream after the last block: [T, d] → [T, d].
    pub(super) fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        x: Var,
        layout: &'m Layout,
        taps: &'m Taps,
        recompute: bool,
    ) -> Result<Var> {
        let mut x = x;
        for l in 0..self.blocks.len() {
            x = if recompute {
                g.checkpoint(&x, move |g, x| self.block(g, l, x, layout, taps))?
            } else {
                self.block(g, l, &x, layout, taps)?
            };
        }
        Ok(x)
    }

    fn block<'m>(
        &'m self,
        g: &mut Graph<'m>,
        l: usize,
        x: &Var,
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        use BlockSite::*;
        let block = &self.blocks[l];
        let at = |site| Site::Block(l, site);
        let norm = |g: &mut Graph<'m>, place, norm: &Norm, x: Var, sites| {
            if self.norms == place { norm.tapped(g, &x, sites, layout, taps) } else { Ok(x) }
        };
        let sites = [at(Ln1Scale), at(Ln1Normalized)];
        let x = taps.at(g, at(ResidPre), x.clone(), layout)?;
        let h = norm(g, Norms::Before, &block.norm1, x.clone(), sites)?;
        let a = self.attend(g, l, &h, layout, taps)?;
        let a = taps.at(g, at(AttnOut), a, layout)?;
        let x = g.add(&x, &a)?;
        let x = norm(g, Norms::After, &block.norm1, x, sites)?;
        let x = taps.at(g, at(ResidMid), x, layout)?;

        let sites = [at(Ln2Scale), at(Ln2Normalized)];
        let h = norm(g, Norms::Before, &block.norm2, x.clone(), sites)?;
        let pre = g.linear(&h, &block.up)?;
        let pre = taps.at(g, at(MlpPre), pre, layout)?;
        let post = g.activate(self.activation, &pre)?;
        let post = taps.at(g, at(MlpPost), post, layout)?;
        let m = g.linear(&post, &block.down)?;
        let m = taps.at(g, at(MlpOut), m, layout)?;
        let x = g.add(&x, &m)?;
        let x = norm(g, Norms::After, &block.norm2, x, sites)?;
        taps.at(g, at(ResidPost), x, layout)
    }

    fn attend<'m>(
        &'m self,
        g: &mut Graph<'m>,
        l: usize,
        h: &Var,
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        use BlockSite::*;
        let block = &self.blocks[l];
        let at = |site| Site::Block(l, site);
        let q = g.linear(h, &block.query)?;
        let q = taps.at(g, at(Q), q, layout)?;
        let k = g.linear(h, &block.key)?;
        let k = taps.at(g, at(K), k, layout)?;
        let v = g.linear(h, &block.value)?;
        let v = taps.at(g, at(V), v, layout)?;
        let z = if taps.touches(at(Scores)) || taps.touches(at(Pattern)) {
            opened::attention(g, l, [&q, &k, &v], layout, &self.attention, taps)?
        } else {
            g.attention(&q, &k, &v, layout, &self.attention)?
        };
        let z = taps.at(g, at(Z), z, layout)?;
        let out = g.linear(&z, &block.output)?;
        if taps.touches(at(HeadResult)) {
            return opened::per_head_result(g, l, &z, out, &block.output, layout, &self.attention, taps);
        }
        Ok(out)
    }
}
