//! The decoder: what all families share. They differ in their [`Spec`].

use super::attention::Attention;
use super::cache::KvCache;
use super::feed_forward::FeedForward;
use super::parts::{Builder, Norm, TensorSource, Within};
use super::rope::Rope;
use super::spec::{Positions, Spec};
use super::tokens::{SoftTokens, Tokens};
use crate::params::{ParamId, Params};
use crate::tape::{Graph, Head, Layout, Linear, RotaryTable, Var};
use crate::taps::{BlockSite, Site, Taps};
use crate::{Error, Result};

/// One layer: attention, then a feed-forward, each with its norms.
#[derive(Debug, Clone)]
struct Block {
    attention: Attention,
    feed_forward: FeedForward,
    before_attention: Option<Norm>,
    after_attention: Option<Norm>,
    before_mlp: Option<Norm>,
    after_mlp: Option<Norm>,
}

/// A decoder: handles into the model's parameters, and the forward pass.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(super) spec: Spec,
    embedding: ParamId,
    positions: Option<ParamId>,
    blocks: Vec<Block>,
    norm: Norm,
    head: ParamId,
    /// The ways of rotating there are, each once, and which of them every layer uses.
    ropes: Vec<Rope>,
    rope_of_layer: Vec<usize>,
}

impl Decoder {
    /// Builds the decoder, taking every tensor from `source` under the name the checkpoint uses.
    pub(super) fn build(spec: Spec, params: &mut Params, source: &mut TensorSource<'_>) -> Result<Self> {
        let mut builder = Builder { spec: &spec, params, source };
        let (names, d) = (spec.names, spec.hidden);
        let embedding = builder.table(names.embedding, spec.vocabulary, d)?;
        let positions = match &spec.positions {
            Positions::Learned(name) => Some(builder.table(name, spec.context, d)?),
            Positions::Rotary(_) => None,
        };
        let blocks = (0..spec.layers).map(|l| Block::build(&mut builder, l)).collect::<Result<_>>()?;
        let norm = builder.norm(names.final_norm, d)?;
        let head = match spec.tied {
            true => embedding,
            false => builder.table(names.head, spec.vocabulary, d)?,
        };
        let (mut ropes, mut rope_of_layer) = (Vec::<Rope>::new(), Vec::new());
        if let Positions::Rotary(layers) = &spec.positions {
            for rope in layers {
                let known = ropes.iter().position(|r| r == rope);
                rope_of_layer.push(known.unwrap_or(ropes.len()));
                if known.is_none() {
                    ropes.push(rope.clone());
                }
            }
        }
        Ok(Decoder { spec, embedding, positions, blocks, norm, head, ropes, rope_of_layer })
    }

    /// How hidden states become logits.
    pub fn head(&self) -> Head {
        Head { weight: self.head, softcap: self.spec.logit_softcap }
    }

    /// The attention of a block.
    pub(super) fn attention(&self, layer: usize) -> &Attention {
        &self.blocks[layer].attention
    }

    /// The feed-forward of a block.
    pub(super) fn feed_forward(&self, layer: usize) -> &FeedForward {
        &self.blocks[layer].feed_forward
    }

    /// Every linear layer of every block.
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(|b| b.attention.linears().into_iter().chain(b.feed_forward.linears()))
    }

    /// Every linear layer of every block, in the same order, for changing it.
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks
            .iter_mut()
            .flat_map(|b| b.attention.linears_mut().into_iter().chain(b.feed_forward.linears_mut()))
    }

    /// Whether rows that continue a sequence of `held` tokens to `total` fit what a cache holds: some
    /// rotations change for all positions once a sequence is long.
    pub(super) fn continues(&self, held: usize, total: usize) -> bool {
        held == 0 || self.ropes.iter().all(|rope| rope.continues(held, total))
    }

    /// Whether a sequence of `total` tokens may be read in pieces.
    pub(super) fn reads_in_pieces(&self, total: usize) -> bool {
        self.ropes.iter().all(|rope| rope.steady(total))
    }

    /// Final hidden states after the last norm: T tokens → [T, d].
    ///
    /// With caches, one per sequence, the rows continue what those hold and are appended to them.
    /// `recompute` keeps only every block's input for the backward pass.
    pub fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        tokens: Tokens<'_>,
        layout: &Layout,
        mut caches: Option<&mut [KvCache]>,
        taps: &'m Taps,
        recompute: bool,
    ) -> Result<Var> {
        if tokens.ids.len() != layout.rows() {
            return Err(Error::shape("token ids", &[layout.rows()], &[tokens.ids.len()]));
        }
        if caches.is_some() {
            layout.check_cached()?;
        }
        let longest = layout.positions.iter().max().map_or(0, |&p| p as usize + 1);
        if longest > self.spec.context {
            return Err(Error::invalid(format!(
                "a sequence of {longest} tokens is longer than the model's context of {}",
                self.spec.context
            )));
        }
        let tables: Vec<RotaryTable> = self.ropes.iter().map(|rope| rope.table(layout)).collect();
        let mut x = self.embed(g, tokens, layout, taps)?;
        for (l, block) in self.blocks.iter().enumerate() {
            let table = self.rope_of_layer.get(l).map(|&rope| &tables[rope]);
            let within = Within { layer: l, layout, rotary: table, taps };
            x = match &mut caches {
                Some(caches) => block.forward(&self.spec, g, &x, within, Some(caches))?,
                None if recompute => {
                    let (layout, table) = (layout.clone(), table.cloned());
                    g.checkpoint(&x, move |g, x| {
                        let within = Within { layer: l, layout: &layout, rotary: table.as_ref(), taps };
                        block.forward(&self.spec, g, x, within, None)
                    })?
                }
                None => block.forward(&self.spec, g, &x, within, None)?,
            };
        }
        self.norm.tapped(g, &x, [Site::FinalScale, Site::FinalNormalized], layout, taps)
    }

    fn embed<'m>(
        &'m self,
        g: &mut Graph<'m>,
        tokens: Tokens<'_>,
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        let x = match tokens.soft {
            None => self.embed_ids(g, tokens.ids)?,
            Some(soft) => self.embed_with(g, tokens.ids, soft)?,
        };
        let x = taps.at(g, Site::Embed, x, layout)?;
        let Some(table) = self.positions else { return Ok(x) };
        let positions = g.embed(&layout.positions, table)?;
        let positions = taps.at(g, Site::PosEmbed, positions, layout)?;
        g.add(&x, &positions)
    }

    fn embed_ids(&self, g: &mut Graph<'_>, ids: &[u32]) -> Result<Var> {
        let x = g.embed(ids, self.embedding)?;
        match self.spec.embedding_scale {
            Some(scale) => g.scale(&x, scale),
            None => Ok(x),
        }
    }

    /// The embeddings of tokens, and soft tokens in their rows.
    fn embed_with(&self, g: &mut Graph<'_>, ids: &[u32], soft: SoftTokens<'_>) -> Result<Var> {
        let by_row = soft.by_row(ids.len(), self.spec.hidden)?;
        let hard: Vec<u32> =
            ids.iter().zip(&by_row).filter(|(_, soft)| soft.is_none()).map(|(&id, _)| id).collect();
        // Ids first, then soft tokens; the gather puts every row into its place.
        let mut next = 0..hard.len();
        let order: Vec<usize> =
            by_row.iter().filter_map(|soft| soft.map(|i| hard.len() + i).or_else(|| next.next())).collect();
        let x = self.embed_ids(g, &hard)?;
        let parts = [(x, 0, 0), (soft.embeddings.clone(), hard.len(), 0)];
        let x = g.assemble([ids.len(), self.spec.hidden], &parts)?;
        g.gather_rows(&x, &order)
    }
}

impl Block {
    fn build(builder: &mut Builder<'_, '_>, l: usize) -> Result<Self> {
        let (names, d) = (builder.spec.names, builder.spec.hidden);
        let mut attention = Attention::build(builder, l)?;
        let feed_forward = FeedForward::build(builder, l)?;
        attention.build_norms(builder, l)?;
        Ok(Block {
            attention,
            feed_forward,
            before_attention: builder.block_norm(l, names.before_attention, d)?,
            after_attention: builder.block_norm(l, names.after_attention, d)?,
            before_mlp: builder.block_norm(l, names.before_mlp, d)?,
            after_mlp: builder.block_norm(l, names.after_mlp, d)?,
        })
    }

    /// x [T, d] → [T, d].
    fn forward<'m>(
        &'m self,
        spec: &Spec,
        g: &mut Graph<'m>,
        x: &Var,
        within: Within<'_>,
        caches: Option<&mut [KvCache]>,
    ) -> Result<Var> {
        use BlockSite::*;
        let x = within.tap(g, ResidPre, x.clone())?;
        let sites = [Ln1Scale, Ln1Normalized];
        let h = normed(g, &x, &self.before_attention, Some(sites), within)?;
        let a = self.attention.forward(g, &h, within, caches)?;
        let a =
            normed(g, &a, &self.after_attention, self.before_attention.is_none().then_some(sites), within)?;
        let a = within.tap(g, AttnOut, a)?;
        let mid = g.add(&x, &a)?;
        let mid = within.tap(g, ResidMid, mid)?;
        let sites = [Ln2Scale, Ln2Normalized];
        let read = if spec.parallel { &x } else { &mid };
        let h = normed(g, read, &self.before_mlp, Some(sites), within)?;
        let m = self.feed_forward.forward(spec, g, &h, within)?;
        let m = normed(g, &m, &self.after_mlp, self.before_mlp.is_none().then_some(sites), within)?;
        let m = within.tap(g, MlpOut, m)?;
        let x = g.add(&mid, &m)?;
        within.tap(g, ResidPost, x)
    }
}

/// x through a norm, where there is one; `sites` are those of the norm's parts, where it has names for them.
fn normed(
    g: &mut Graph<'_>,
    x: &Var,
    norm: &Option<Norm>,
    sites: Option<[BlockSite; 2]>,
    within: Within<'_>,
) -> Result<Var> {
    match (norm, sites) {
        (None, _) => Ok(x.clone()),
        (Some(norm), None) => norm.forward(g, x),
        (Some(norm), Some(sites)) => {
            norm.tapped(g, x, sites.map(|site| within.site(site)), within.layout, within.taps)
        }
    }
}
