//! A tower: one stack of blocks over tokens or patches, and the vector it sums a sequence up in.

use super::entry::Entry;
use super::input::{Content, Input};
use crate::Result;
use crate::kernels::Activation;
use crate::models::norm::Norm;
use crate::models::spec::BlockSpec;
use crate::models::stack::{ForwardContext, Stack};
use crate::models::tower_sites::TowerSites;
use crate::tape::{Graph, Linear, Var, Visibility};
use crate::taps::{Modality, Site, Taps};

/// One encoder over one kind of input.
#[derive(Debug, Clone)]
pub(super) struct Tower {
    /// Residual width d.
    pub(super) hidden: usize,
    pub(super) entry: Entry,
    /// The norm between embeddings and first block (BERT, CLIP's images).
    pub(super) entry_norm: Option<Norm>,
    pub(super) stack: Stack,
    pub(super) paths: TowerPaths,
    /// What the rows of every sequence see.
    pub(super) visibility: Visibility,
    /// The norm over all rows after the last block (ViT, CLIP's texts).
    pub(super) final_norm: Option<Norm>,
    pub(super) summary: Summary,
    /// Into the space that texts and images share.
    pub(super) projection: Option<Linear>,
}

/// Where a checkpoint has what is a site of the tower.
#[derive(Debug, Clone)]
pub(super) struct TowerPaths {
    /// In front of all others: `bert.`, `vision_model.`, or nothing.
    pub(super) prefix: String,
    /// The module whose output enters the first block.
    pub(super) embed: &'static str,
    /// The position embedding.
    pub(super) positions: &'static str,
    /// What every block is made of, and is called.
    pub(super) block: BlockSpec<'static>,
}

/// How a model sums a sequence up by itself: one row, and what is done to it.
#[derive(Debug, Clone)]
pub(super) struct Summary {
    pub(super) row: SummaryRow,
    /// A norm of just that row (CLIP's images).
    pub(super) norm: Option<Norm>,
    /// The pooler.
    pub(super) dense: Option<Dense>,
}

/// The row that stands for a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SummaryRow {
    /// The class token.
    First,
    /// The token with the largest id: the end of a text in CLIP's vocabulary.
    LargestId,
    /// The first token with this id; the first of all where there is none, as in the reference.
    FirstOf(u32),
}

/// A linear layer and what follows it.
#[derive(Debug, Clone)]
pub(super) struct Dense {
    pub(super) linear: Linear,
    /// `None`: nothing follows.
    pub(super) activation: Option<Activation>,
}

impl Dense {
    pub(super) fn forward<'m>(&'m self, g: &mut Graph<'m>, x: &Var) -> Result<Var> {
        let x = g.linear(x, &self.linear)?;
        match self.activation {
            Some(activation) => g.activate(activation, &x),
            None => Ok(x),
        }
    }
}

impl Tower {
    /// Hidden states of all rows after the last block and, where there is one, the final norm: [T, d].
    pub(super) fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        input: &Input,
        taps: &'m Taps,
        recompute: bool,
    ) -> Result<Var> {
        let layout = &input.layout.clone().seen(self.visibility);
        let tower = self.modality();
        let mut x = self.entry.forward(g, input, taps)?;
        if let Some(norm) = &self.entry_norm {
            x = norm.forward(g, &x)?;
        }
        let x = taps.at(g, tower.at(Site::Embed), x, layout)?;
        let x = self.stack.forward(g, x, ForwardContext { tower, layout, caches: None, taps, recompute })?;
        match &self.final_norm {
            Some(norm) => {
                let sites = [Site::FinalScale, Site::FinalNormalized].map(|site| tower.at(site));
                norm.tapped(g, &x, sites, layout, taps)
            }
            None => Ok(x),
        }
    }

    /// What it reads.
    pub(super) fn modality(&self) -> Modality {
        self.entry.modality()
    }

    /// The sites it has.
    pub(super) fn sites(&self) -> TowerSites<'_> {
        let TowerPaths { prefix, embed, positions, block } = &self.paths;
        let path = |module: &str| Some(format!("{prefix}{module}"));
        let mut outer = vec![(Site::Embed, path(embed)), (Site::PosEmbed, path(positions))];
        if self.final_norm.is_some() {
            outer.extend([(Site::FinalScale, None), (Site::FinalNormalized, None)]);
        }
        TowerSites {
            tower: self.modality(),
            prefix,
            blocks: format!("{prefix}{}", block.names.blocks),
            specs: vec![*block; self.stack.len()],
            outer,
        }
    }

    /// The model's own summary of every sequence: hidden [T, d] → [sequences, width], not yet projected.
    pub(super) fn summarise<'m>(&'m self, g: &mut Graph<'m>, hidden: &Var, input: &Input) -> Result<Var> {
        let rows = self.summary.row.of(input);
        let mut x = g.gather_rows(hidden, &rows)?;
        if let Some(norm) = &self.summary.norm {
            x = norm.forward(g, &x)?;
        }
        match &self.summary.dense {
            Some(dense) => dense.forward(g, &x),
            None => Ok(x),
        }
    }

    /// The summary in the space that texts and images share, where the model has one.
    pub(super) fn features<'m>(&'m self, g: &mut Graph<'m>, hidden: &Var, input: &Input) -> Result<Var> {
        let x = self.summarise(g, hidden, input)?;
        match &self.projection {
            Some(projection) => g.linear(&x, projection),
            None => Ok(x),
        }
    }
}

impl SummaryRow {
    /// The row of every sequence.
    fn of(self, input: &Input) -> Vec<usize> {
        let ids: &[u32] = match &input.content {
            Content::Tokens { ids, .. } => ids,
            Content::Pixels(_) => &[],
        };
        let row = |rows: &std::ops::Range<usize>| {
            let own = ids.get(rows.clone()).unwrap_or_default();
            let offset = match self {
                SummaryRow::First => None,
                // The first of equal ids, which `max_by_key` would not give.
                SummaryRow::LargestId => {
                    own.iter().max().and_then(|largest| own.iter().position(|id| id == largest))
                }
                SummaryRow::FirstOf(end) => own.iter().position(|&id| id == end),
            };
            rows.start + offset.unwrap_or(0)
        };
        input.layout.sequences.iter().map(row).collect()
    }
}
