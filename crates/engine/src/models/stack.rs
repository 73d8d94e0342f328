//! The blocks of a decoder or a tower, one after the other.

use super::block::Block;
use super::builder::Builder;
use super::cache::KvCache;
use super::rope::Rope;
use super::spec::BlockSpec;
use super::within::Within;
use crate::Result;
use crate::tape::{Graph, Layout, Linear, RotaryTable, Var};
use crate::taps::{Modality, Taps};

/// Blocks, and how their queries and keys are rotated.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    blocks: Vec<Block>,
    /// The ways of rotating there are, each once, and which of them every layer uses.
    ropes: Vec<Rope>,
    rope_of_layer: Vec<usize>,
}

/// What a stack's forward pass needs to know, beside what goes into it.
pub(super) struct ForwardContext<'p, 'm> {
    /// By which the sites go.
    pub(super) tower: Modality,
    /// Where each sequence lies, and what its rows see.
    pub(super) layout: &'p Layout,
    /// Caches, one per sequence: rows continue what those hold and are appended to them.
    pub(super) caches: Option<&'p mut [KvCache]>,
    pub(super) taps: &'m Taps,
    /// Keep only every block's input for the backward pass.
    pub(super) recompute: bool,
}

impl Stack {
    /// As many blocks as there are specs; `ropes` has one entry per block, or none where nothing rotates.
    pub(super) fn build<'s>(
        builder: &mut Builder<'_>,
        specs: impl IntoIterator<Item = BlockSpec<'s>>,
        ropes: &[Rope],
    ) -> Result<Self> {
        let mut stack = Stack { blocks: Vec::new(), ropes: Vec::new(), rope_of_layer: Vec::new() };
        for (l, spec) in specs.into_iter().enumerate() {
            stack.blocks.push(Block::build(builder, spec, l)?);
        }
        for rope in ropes {
            let known = stack.ropes.iter().position(|r| r == rope);
            stack.rope_of_layer.push(known.unwrap_or(stack.ropes.len()));
            if known.is_none() {
                stack.ropes.push(rope.clone());
            }
        }
        Ok(stack)
    }

    /// The block of a layer there is.
    pub(super) fn block(&self, layer: usize) -> &Block {
        &self.blocks[layer]
    }

    /// The same, for changing it.
    pub(super) fn block_mut(&mut self, layer: usize) -> &mut Block {
        &mut self.blocks[layer]
    }

    /// Number of blocks.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The ways of rotating there are.
    pub(super) fn ropes(&self) -> &[Rope] {
        &self.ropes
    }

    /// Every linear layer of every block.
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears)
    }

    /// Every linear layer of every block, in the same order, for changing it.
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut)
    }

    /// The residual stream after the last block: x [T, d] → [T, d].
    pub(super) fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        x: Var,
        context: ForwardContext<'_, 'm>,
    ) -> Result<Var> {
        self.forward_through(g, x, context, self.len())
    }

    /// The residual stream after the first `depth` blocks, the others left out: x [T, d] → [T, d].
    pub(super) fn forward_through<'m>(
        &'m self,
        g: &mut Graph<'m>,
        x: Var,
        context: ForwardContext<'_, 'm>,
        depth: usize,
    ) -> Result<Var> {
        let ForwardContext { tower, layout, mut caches, taps, recompute } = context;
        let tables: Vec<RotaryTable> = self.ropes.iter().map(|rope| rope.table(layout)).collect();
        let mut x = x;
        for (layer, block) in self.blocks.iter().take(depth).enumerate() {
            g.check_interrupted()?;
            let rotary = self.rope_of_layer.get(layer).map(|&rope| &tables[rope]);
            x = if recompute && caches.is_none() {
                let (layout, rotary) = (layout.clone(), rotary.cloned());
                g.checkpoint(&x, move |g, x| {
                    let within = Within { tower, layer, layout: &layout, rotary: rotary.as_ref(), taps };
                    block.forward(g, x, within, None)
                })?
            } else {
                let within = Within { tower, layer, layout, rotary, taps };
                block.forward(g, &x, within, caches.as_deref_mut())?
            };
        }
        Ok(x)
    }
}
