//! The decoder: what all families share. They differ in their [`Spec`].

use super::block::Block;
use super::builder::Builder;
use super::norm::Norm;
use super::rope::Rope;
use super::source::Source;
use super::spec::{Positions, Spec};
use super::stack::{ForwardContext, Stack};
use super::tokens::{SoftTokens, Tokens};
use super::tower_sites::TowerSites;
use crate::params::{ParamId, Params};
use crate::tape::{Graph, Head, Layout, Linear, Var};
use crate::taps::{Modality, Site, Taps};
use crate::{Error, Result};

/// What the sites of a decoder go by.
pub(super) const TOWER: Modality = Modality::Text;

/// A decoder: handles into the model's parameters, and the forward pass.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(super) spec: Spec,
    embedding: ParamId,
    positions: Option<ParamId>,
    stack: Stack,
    norm: Norm,
    head: ParamId,
}

impl Decoder {
    /// Builds the decoder, taking every tensor from `source` under the name the checkpoint uses.
    pub(super) fn build(spec: Spec, params: &mut Params, source: &mut dyn Source) -> Result<Self> {
        let mut builder = Builder::new(params, source);
        let (names, d) = (spec.names, spec.hidden);
        let table = |builder: &mut Builder<'_>, module: &str, rows: usize| {
            builder.tensor(&format!("{module}.weight"), &[rows, d])
        };
        let embedding = table(&mut builder, names.embedding, spec.vocabulary)?;
        let (positions, ropes): (_, &[Rope]) = match &spec.positions {
            Positions::Learned(name) => (Some(table(&mut builder, name, spec.context)?), &[]),
            Positions::Rotary(ropes) => (None, ropes),
        };
        let stack = Stack::build(&mut builder, (0..spec.layers).map(|l| spec.block(l)), ropes)?;
        let norm = builder.norm(names.final_norm, d, spec.norm, spec.eps)?;
        let head = match spec.tied {
            true => embedding,
            false => table(&mut builder, names.head, spec.vocabulary)?,
        };
        Ok(Decoder { spec, embedding, positions, stack, norm, head })
    }

    /// How hidden states become logits.
    pub fn head(&self) -> Head {
        Head { weight: self.head, softcap: self.spec.logit_softcap }
    }

    /// The sites it has.
    pub(super) fn sites(&self) -> TowerSites<'_> {
        let Spec { names, layers, .. } = self.spec;
        // The site is behind the scaling, which some families do in the module and others outside of it.
        let embedding = self.spec.embedding_scale.is_none().then(|| names.embedding.to_owned());
        let mut outer = vec![
            (Site::Embed, embedding),
            (Site::FinalScale, None),
            (Site::FinalNormalized, None),
            (Site::Logits, Some(names.head.to_owned())),
        ];
        if let Positions::Learned(table) = self.spec.positions {
            outer.push((Site::PosEmbed, Some(table.to_owned())));
        }
        TowerSites {
            tower: TOWER,
            prefix: names.base,
            blocks: names.block.blocks.to_owned(),
            specs: (0..layers).map(|l| self.spec.block(l)).collect(),
            outer,
        }
    }

    /// The last norm, of any rows of a residual stream: [n, d] → [n, d].
    pub(super) fn final_norm(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        self.norm.forward(g, x)
    }

    /// The block of a layer there is.
    pub(super) fn block(&self, layer: usize) -> &Block {
        self.stack.block(layer)
    }

    /// The same, for changing it.
    pub(super) fn block_mut(&mut self, layer: usize) -> &mut Block {
        self.stack.block_mut(layer)
    }

    /// Every linear layer of every block.
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.stack.linears()
    }

    /// Every linear layer of every block, in the same order, for changing it.
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.stack.linears_mut()
    }

    /// Whether rows that continue a sequence of `held` tokens to `total` fit what a cache holds: some
    /// rotations change for all positions once a sequence is long.
    pub(super) fn continues(&self, held: usize, total: usize) -> bool {
        held == 0 || self.stack.ropes().iter().all(|rope| rope.continues(held, total))
    }

    /// Whether a sequence of `total` tokens may be read in pieces.
    pub(super) fn reads_in_pieces(&self, total: usize) -> bool {
        self.stack.ropes().iter().all(|rope| rope.steady(total))
    }

    /// Final hidden states after the last norm: T tokens → [T, d].
    ///
    /// Fails for a sequence beyond the model's context, and where what sees both ways is to be cached in parts.
    pub(super) fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        tokens: Tokens<'_>,
        context: ForwardContext<'_, 'm>,
    ) -> Result<Var> {
        let (layout, taps) = (context.layout, context.taps);
        let x = self.residual(g, tokens, context, self.stack.len())?;
        self.norm.tapped(
            g,
            &x,
            [Site::FinalScale, Site::FinalNormalized].map(|site| TOWER.at(site)),
            layout,
            taps,
        )
    }

    /// The residual stream after the first `depth` blocks, with nothing of what is behind them computed: T tokens →
    /// [T, d]. Fails as [`forward`](Self::forward).
    pub(super) fn residual<'m>(
        &'m self,
        g: &mut Graph<'m>,
        tokens: Tokens<'_>,
        context: ForwardContext<'_, 'm>,
        depth: usize,
    ) -> Result<Var> {
        let (layout, taps) = (context.layout, context.taps);
        if tokens.ids.len() != layout.rows() {
            return Err(Error::shape("token ids", &[layout.rows()], &[tokens.ids.len()]));
        }
        if context.caches.is_some() {
            layout.check_cached()?;
        }
        let longest = layout.positions.iter().max().map_or(0, |&p| p as usize + 1);
        if longest > self.spec.context {
            return Err(Error::invalid(format!(
                "a sequence of {longest} tokens is longer than the model's context of {}",
                self.spec.context
            )));
        }
        let x = self.embed(g, tokens, layout, taps)?;
        self.stack.forward_through(g, x, context, depth)
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
        let x = taps.at(g, TOWER.at(Site::Embed), x, layout)?;
        let Some(table) = self.positions else { return Ok(x) };
        let positions = g.embed(&layout.positions, table)?;
        let positions = taps.at(g, TOWER.at(Site::PosEmbed), positions, layout)?;
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
