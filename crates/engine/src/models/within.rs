//! What every part of a block's forward pass needs to know.

use super::norm::Norm;
use crate::Result;
use crate::tape::{Graph, Layout, RotaryTable, Var};
use crate::taps::{BlockSite, Check, Modality, Site, Taps, TowerSite};

/// Which block of which batch a part computes for, and who looks on.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    pub(super) tower: Modality,
    pub(super) layer: usize,
    pub(super) layout: &'a Layout,
    /// Rotation of queries and keys, where the family rotates.
    pub(super) rotary: Option<&'a RotaryTable>,
    pub(super) taps: &'a Taps,
}

impl Within<'_> {
    fn site(&self, site: BlockSite) -> TowerSite {
        self.tower.at(Site::Block(self.layer, site))
    }

    /// The name of a site of this block, for errors.
    pub(super) fn name(&self, site: BlockSite) -> String {
        self.site(site).to_string()
    }

    /// Whether anything happens at a site of this block.
    pub(super) fn touches(&self, site: BlockSite) -> bool {
        self.taps.touches(self.site(site))
    }

    /// Passes a value through the taps at a site of this block.
    pub(super) fn tap<'m>(&self, g: &mut Graph<'m>, site: BlockSite, x: Var) -> Result<Var> {
        self.taps.at(g, self.site(site), x, self.layout)
    }

    /// Passes a value of which not everything will do through the taps at a site of this block.
    pub(super) fn tap_checked<'m>(
        &self,
        g: &mut Graph<'m>,
        site: BlockSite,
        x: Var,
        check: &Check<'_>,
    ) -> Result<Var> {
        self.taps.at_checked(g, self.site(site), x, self.layout, check)
    }

    /// Passes a value of another layout through the taps at a site of this block.
    pub(super) fn tap_rows<'m>(
        &self,
        g: &mut Graph<'m>,
        site: BlockSite,
        x: Var,
        layout: &Layout,
    ) -> Result<Var> {
        self.taps.at(g, self.site(site), x, layout)
    }

    /// x through a norm of this block, which is taken apart where somebody looks inside.
    pub(super) fn norm(&self, g: &mut Graph<'_>, x: &Var, norm: &Norm, sites: [BlockSite; 2]) -> Result<Var> {
        norm.tapped(g, x, sites.map(|site| self.site(site)), self.layout, self.taps)
    }
}
