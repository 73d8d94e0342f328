//! Where a model's tensors come from, and the small parts it is built of.

use super::spec::{NormKind, Spec};
use crate::Result;
use crate::Tensor;
use crate::params::{ParamId, Params};
use crate::tape::{Graph, Layout, Linear, RotaryTable, Var};
use crate::taps::{BlockSite, Site, Taps};

/// One named tensor that a model asks for.
pub(crate) struct Wanted<'a> {
    /// The name the checkpoint uses.
    pub(crate) name: &'a str,
    /// The shape it has in memory.
    pub(crate) shape: &'a [usize],
    /// Whether checkpoints hold its transpose.
    pub(crate) transposed: bool,
    /// What it starts from where there is no checkpoint.
    pub(crate) start: Start,
}

/// First values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    /// Normally distributed.
    Random,
    /// The same number everywhere.
    Constant(f32),
}

/// Makes or loads one tensor.
pub(super) type TensorSource<'a> = dyn FnMut(&Wanted<'_>) -> Result<Tensor> + 'a;

/// Adds a model's parameters one by one, taking their values from a source.
pub(super) struct Builder<'a, 'b> {
    pub(super) spec: &'a Spec,
    pub(super) params: &'a mut Params,
    pub(super) source: &'a mut TensorSource<'b>,
}

impl Builder<'_, '_> {
    fn add(&mut self, name: String, shape: &[usize], transposed: bool, start: Start) -> Result<ParamId> {
        let tensor = (self.source)(&Wanted { name: &name, shape, transposed, start })?;
        self.params.add(name, tensor)
    }

    /// A matrix [rows, columns] that is looked up, not multiplied by.
    pub(super) fn table(&mut self, module: &str, rows: usize, columns: usize) -> Result<ParamId> {
        self.add(format!("{module}.weight"), &[rows, columns], false, Start::Random)
    }

    /// A linear layer of block `l`: [out, inner], and its bias.
    pub(super) fn linear(
        &mut self,
        l: usize,
        part: &str,
        [out, inner]: [usize; 2],
        bias: bool,
    ) -> Result<Linear> {
        let names = self.spec.names;
        let module = format!("{}.{l}.{part}", names.blocks);
        let weight = self.add(format!("{module}.weight"), &[out, inner], names.transposed, Start::Random)?;
        let bias = match bias {
            true => Some(self.add(format!("{module}.bias"), &[out], false, Start::Constant(0.0))?),
            false => None,
        };
        Ok(Linear { weight, bias, low_rank: None })
    }

    /// A norm over `width` elements.
    pub(super) fn norm(&mut self, module: &str, width: usize) -> Result<Norm> {
        let (kind, eps) = (self.spec.norm, self.spec.eps);
        let start = Start::Constant(if kind == NormKind::RmsFromOne { 0.0 } else { 1.0 });
        let weight = self.add(format!("{module}.weight"), &[width], false, start)?;
        let bias = match kind {
            NormKind::Layer => {
                Some(self.add(format!("{module}.bias"), &[width], false, Start::Constant(0.0))?)
            }
            NormKind::Rms | NormKind::RmsFromOne => None,
        };
        Ok(Norm { kind, weight, bias, eps })
    }

    /// A norm of block `l`, where the family has it.
    pub(super) fn block_norm(&mut self, l: usize, part: Option<&str>, width: usize) -> Result<Option<Norm>> {
        let blocks = self.spec.names.blocks;
        part.map(|part| self.norm(&format!("{blocks}.{l}.{part}"), width)).transpose()
    }
}

/// The parameters of a norm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    pub(super) kind: NormKind,
    pub(super) weight: ParamId,
    pub(super) bias: Option<ParamId>,
    pub(super) eps: f32,
}

impl Norm {
    /// The normalised rows: x [T, d] → [T, d]; pieces of a row where the norm is narrower than x.
    pub(super) fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        match self.kind {
            NormKind::Rms => g.rms_norm(x, self.weight, 0.0, self.eps),
            NormKind::RmsFromOne => g.rms_norm(x, self.weight, 1.0, self.eps),
            NormKind::Layer => g.layer_norm(x, self.weight, self.bias, self.eps),
        }
    }

    /// The same, taken apart into scale, division and gain only where somebody looks inside.
    pub(super) fn tapped(
        &self,
        g: &mut Graph<'_>,
        x: &Var,
        sites: [Site; 2],
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        match sites.iter().any(|&site| taps.touches(site)) {
            true => super::opened::norm(g, x, self, sites, layout, taps),
            false => self.forward(g, x),
        }
    }
}

/// What every part of a block's forward pass needs to know.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    pub(super) layer: usize,
    pub(super) layout: &'a Layout,
    /// Rotation of queries and keys, where the family rotates.
    pub(super) rotary: Option<&'a RotaryTable>,
    pub(super) taps: &'a Taps,
}

impl Within<'_> {
    pub(super) fn site(&self, site: BlockSite) -> Site {
        Site::Block(self.layer, site)
    }

    /// Whether anything happens at a site of this block.
    pub(super) fn touches(&self, site: BlockSite) -> bool {
        self.taps.touches(self.site(site))
    }

    /// Passes a value through the taps at a site of this block.
    pub(super) fn tap<'m>(&self, g: &mut Graph<'m>, site: BlockSite, x: Var) -> Result<Var> {
        self.taps.at(g, self.site(site), x, self.layout)
    }
}
