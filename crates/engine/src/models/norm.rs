//! Norms, whole and taken apart.

use crate::Result;
use crate::params::ParamId;
use crate::tape::{Graph, Layout, Var};
use crate::taps::{Taps, TowerSite};

/// Kind of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Division by the root mean square, then the gain.
    Rms,
    /// The same, with checkpoints that store the gain minus one.
    RmsFromOne,
    /// Subtraction of the mean, division by the standard deviation, gain and bias.
    Layer,
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
        sites: [TowerSite; 2],
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        match sites.iter().any(|&site| taps.touches(site)) {
            true => self.opened(g, x, sites, layout, taps),
            false => self.forward(g, x),
        }
    }

    /// In steps, with taps on scale and quotient. Their kernels keep the order of arithmetic of the whole.
    fn opened(
        &self,
        g: &mut Graph<'_>,
        x: &Var,
        [scale_site, normalized_site]: [TowerSite; 2],
        layout: &Layout,
        taps: &Taps,
    ) -> Result<Var> {
        // The standard deviation is the root mean square of what is left without the mean.
        let x = if self.kind == NormKind::Layer { g.centre(x)? } else { x.clone() };
        let inverse = g.inverse_rms(&x, self.eps)?;
        let inverse = if taps.touches(scale_site) {
            let scale = g.reciprocal(&inverse)?;
            let tapped = taps.at(g, scale_site, scale.clone(), layout)?;
            // Dividing twice would cost the last bit of a scale that nobody changed.
            if tapped.is(&scale) { inverse } else { g.reciprocal_back(&tapped, &scale, &inverse)? }
        } else {
            inverse
        };
        let normalized = g.mul_rows(&x, &inverse)?;
        let normalized = taps.at(g, normalized_site, normalized, layout)?;
        let gain = g.parameter(self.weight);
        let gain = if self.kind == NormKind::RmsFromOne { g.shift(&gain, 1.0)? } else { gain };
        let out = g.mul_columns(&normalized, &gain)?;
        match self.bias {
            Some(bias) => {
                let bias = g.parameter(bias);
                g.add_columns(&out, &bias)
            }
            None => Ok(out),
        }
    }
}
