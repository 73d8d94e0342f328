//! The transformer-encoder block that BERT, ViT and CLIP share.
//!
//! What differs between them is data: whether norms stand before a branch (ViT, CLIP) or after its sum
//! (BERT), what rows see (CLIP's texts are causal), which activation the feed-forward has. Sites are
//! those of a decoder; `ln1` and `ln2` are the norms of attention and feed-forward wherever they stand,
//! and with norms after the sum `hook_resid_mid` and `hook_resid_post` are what leaves them.

use crate::Result;
use crate::kernels::Activation;
use crate::models::opened;
use crate::models::parts::{Norm, Within};
use crate::tape::{AttentionKind, Graph, Layout, Linear, Var, Visibility};
use crate::taps::BlockSite::{self, *};
use crate::taps::Taps;

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
    /// What the rows of every sequence see.
    pub(super) visibility: Visibility,
}

impl Stack {
    /// The residual stream after the last block: [T, d] → [T, d].
    pub(super) fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        x: Var,
        layout: &Layout,
        taps: &'m Taps,
        recompute: bool,
    ) -> Result<Var> {
        let layout = layout.clone().seen(self.visibility);
        let mut x = x;
        for l in 0..self.blocks.len() {
            x = if recompute {
                let layout = layout.clone();
                g.checkpoint(&x, move |g, x| self.block(g, l, x, &layout, taps))?
            } else {
                self.block(g, l, &x, &layout, taps)?
            };
        }
        Ok(x)
    }

    fn block<'m>(
        &'m self,
        g: &mut Graph<'m>,
        layer: usize,
        x: &Var,
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        let block = &self.blocks[layer];
        let within = Within { layer, layout, rotary: None, taps };
        let norm = |g: &mut Graph<'m>, place, norm: &Norm, x: Var, sites: [BlockSite; 2]| {
            let sites = sites.map(|site| within.site(site));
            if self.norms == place { norm.tapped(g, &x, sites, layout, taps) } else { Ok(x) }
        };
        let sites = [Ln1Scale, Ln1Normalized];
        let x = within.tap(g, ResidPre, x.clone())?;
        let h = norm(g, Norms::Before, &block.norm1, x.clone(), sites)?;
        let a = self.attend(g, block, &h, within)?;
        let a = within.tap(g, AttnOut, a)?;
        let x = g.add(&x, &a)?;
        let x = norm(g, Norms::After, &block.norm1, x, sites)?;
        let x = within.tap(g, ResidMid, x)?;

        let sites = [Ln2Scale, Ln2Normalized];
        let h = norm(g, Norms::Before, &block.norm2, x.clone(), sites)?;
        let pre = g.linear(&h, &block.up)?;
        let pre = within.tap(g, MlpPre, pre)?;
        let post = g.activate(self.activation, &pre)?;
        let post = within.tap(g, MlpPost, post)?;
        let m = g.linear(&post, &block.down)?;
        let m = within.tap(g, MlpOut, m)?;
        let x = g.add(&x, &m)?;
        let x = norm(g, Norms::After, &block.norm2, x, sites)?;
        within.tap(g, ResidPost, x)
    }

    fn attend<'m>(&'m self, g: &mut Graph<'m>, block: &'m Block, h: &Var, within: Within<'_>) -> Result<Var> {
        let q = g.linear(h, &block.query)?;
        let q = within.tap(g, Q, q)?;
        let k = g.linear(h, &block.key)?;
        let k = within.tap(g, K, k)?;
        let v = g.linear(h, &block.value)?;
        let v = within.tap(g, V, v)?;
        let z = match within.touches(Scores) || within.touches(Pattern) {
            true => opened::attention(g, [&q, &k, &v], &self.attention, within)?,
            false => g.attention(&q, &k, &v, within.layout, &self.attention)?,
        };
        let z = within.tap(g, Z, z)?;
        let out = g.linear(&z, &block.output)?;
        match within.touches(HeadResult) {
            true => opened::per_head_result(g, &z, out, &block.output, &self.attention, within),
            false => Ok(out),
        }
    }
}
