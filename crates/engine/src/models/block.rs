//! The block that decoders and encoders share: attention, then a feed-forward, each with its norms.

use super::adapters::EditPoint;
use super::attention::Attention;
use super::builder::{BlockBuilder, Builder};
use super::cache::KvCache;
use super::feed_forward::FeedForward;
use super::norm::Norm;
use super::spec::BlockSpec;
use super::within::Within;
use crate::Result;
use crate::tape::{Graph, Linear, Var};
use crate::taps::BlockSite::{self, *};

/// The parameters of one block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) attention: Attention,
    around_attention: Norms,
    pub(super) feed_forward: FeedForward,
    around_mlp: Norms,
    /// Whether attention and feed-forward read the same residual stream, side by side.
    parallel: bool,
}

/// The norms around one branch of a block.
#[derive(Debug, Clone)]
struct Norms {
    /// Of what the branch reads.
    before: Option<Norm>,
    /// Of what it adds.
    after: Option<Norm>,
    /// Of its sum with the residual stream (BERT).
    after_sum: Option<Norm>,
    /// Scale and quotient of the first of them there is; the others have no sites.
    sites: [BlockSite; 2],
}

impl Norms {
    fn build(
        builder: &mut BlockBuilder<'_, '_>,
        names: [Option<&str>; 3],
        sites: [BlockSite; 2],
    ) -> Result<Self> {
        let [before, after, after_sum] = names;
        Ok(Norms {
            before: builder.norm_if_any(before)?,
            after: builder.norm_if_any(after)?,
            after_sum: builder.norm_if_any(after_sum)?,
            sites,
        })
    }

    fn before(&self, g: &mut Graph<'_>, x: &Var, within: Within<'_>) -> Result<Var> {
        self.normed(g, x, &self.before, true, within)
    }

    fn after(&self, g: &mut Graph<'_>, x: &Var, within: Within<'_>) -> Result<Var> {
        self.normed(g, x, &self.after, self.before.is_none(), within)
    }

    fn after_sum(&self, g: &mut Graph<'_>, x: &Var, within: Within<'_>) -> Result<Var> {
        let first = self.before.is_none() && self.after.is_none();
        self.normed(g, x, &self.after_sum, first, within)
    }

    fn normed(
        &self,
        g: &mut Graph<'_>,
        x: &Var,
        norm: &Option<Norm>,
        has_sites: bool,
        within: Within<'_>,
    ) -> Result<Var> {
        match norm {
            None => Ok(x.clone()),
            Some(norm) if has_sites => within.norm(g, x, norm, self.sites),
            Some(norm) => norm.forward(g, x),
        }
    }
}

impl Block {
    /// Block `l` of a model or tower.
    pub(super) fn build(builder: &mut Builder<'_>, spec: BlockSpec<'_>, l: usize) -> Result<Self> {
        let mut builder = BlockBuilder::new(builder, spec, l);
        let (names, builder) = (spec.names, &mut builder);
        let mut attention = Attention::build(builder)?;
        let feed_forward = FeedForward::build(builder)?;
        attention.build_norms(builder)?;
        let attention_norms = [names.before_attention, names.after_attention, names.after_attention_sum];
        let mlp_norms = [names.before_mlp, names.after_mlp, names.after_mlp_sum];
        Ok(Block {
            attention,
            around_attention: Norms::build(builder, attention_norms, [Ln1Scale, Ln1Normalized])?,
            feed_forward,
            around_mlp: Norms::build(builder, mlp_norms, [Ln2Scale, Ln2Normalized])?,
            parallel: spec.parallel,
        })
    }

    /// Rows of attention's output as they are added to the residual stream: [n, d] → [n, d].
    pub(super) fn behind_attention(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        match &self.around_attention.after {
            Some(norm) => norm.forward(g, x),
            None => Ok(x.clone()),
        }
    }

    /// Every linear layer that adapters may change.
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.attention.linears().into_iter().chain(self.feed_forward.linears())
    }

    /// Every linear layer, in the same order, for changing it.
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.attention.linears_mut().into_iter().chain(self.feed_forward.linears_mut())
    }

    /// The residual stream x [T, d] → [T, d].
    pub(super) fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        x: &Var,
        within: Within<'_>,
        mut caches: Option<&mut [KvCache]>,
    ) -> Result<Var> {
        let x = within.tap(g, ResidPre, x.clone())?;
        let h = self.around_attention.before(g, &x, within)?;
        let a = self.attention.forward(g, &h, within, caches.as_deref_mut())?;
        let a = self.around_attention.after(g, &a, within)?;
        let a = within.tap(g, AttnOut, a)?;
        let mid = g.add(&x, &a)?;
        let mid = self.around_attention.after_sum(g, &mid, within)?;
        let mid = within.tap(g, ResidMid, mid)?;
        let read = if self.parallel { &x } else { &mid };
        let read =
            self.feed_forward.edited(g, read.clone(), EditPoint::PreNorm, within, caches.as_deref_mut())?;
        let h = self.around_mlp.before(g, &read, within)?;
        let h = self.feed_forward.edited(g, h, EditPoint::PostNorm, within, caches)?;
        let m = self.feed_forward.forward(g, &h, within)?;
        let m = self.around_mlp.after(g, &m, within)?;
        let m = within.tap(g, MlpOut, m)?;
        let x = g.add(&mid, &m)?;
        let x = self.around_mlp.after_sum(g, &x, within)?;
        within.tap(g, ResidPost, x)
    }
}
