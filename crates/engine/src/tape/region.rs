//! A region of a matrix, taken out and put back: how a tap reaches some rows and leaves the others alone.

use std::ops::Range;

use super::{Edge, Graph, Var};
use crate::{Error, Result, Tensor};

/// Some rows of a matrix, each but once, and a range of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// The rows, ascending.
    pub rows: Vec<usize>,
    /// The columns.
    pub columns: Range<usize>,
}

impl Region {
    /// Whether it is all of x.
    fn is_whole(&self, x: &Tensor) -> bool {
        self.rows.len() == x.rows() && self.columns == (0..x.columns())
    }

    /// Where its rows' elements lie in a matrix of `width` columns.
    fn spans(&self, width: usize) -> impl Iterator<Item = Range<usize>> {
        self.rows.iter().map(move |row| row * width + self.columns.start..row * width + self.columns.end)
    }

    /// Its part of x.
    pub(crate) fn of(&self, x: &Tensor) -> Tensor {
        if self.is_whole(x) {
            return x.clone();
        }
        Tensor::build(&[self.rows.len(), self.columns.len()], |out| {
            let rows = out.chunks_exact_mut(self.columns.len().max(1));
            rows.zip(self.spans(x.columns())).for_each(|(out, span)| out.copy_from_slice(&x.f32()[span]));
        })
    }

    fn check(&self, x: &Var) -> Result<()> {
        // Ascending and each once, so that the last is the largest and none takes a gradient twice.
        let ordered = self.rows.is_sorted_by(|a, b| a < b) && self.columns.start <= self.columns.end;
        let fits = self.rows.last().is_none_or(|&row| row < x.value.rows());
        match ordered && fits && self.columns.end <= x.value.columns() {
            true => Ok(()),
            false => {
                let end = [self.rows.last().map_or(0, |row| row + 1), self.columns.end];
                Err(Error::shape("region", &end, x.shape()))
            }
        }
    }
}

impl<'m> Graph<'m> {
    /// The region of x: [T, n] → [rows, columns].
    pub fn pick(&mut self, x: &Var, region: &Region) -> Result<Var> {
        region.check(x)?;
        if region.is_whole(&x.value) {
            return Ok(x.clone());
        }
        let (shape, needs, region) = (x.shape().to_vec(), x.needs_gradient(), region.clone());
        let (value, x) = (region.of(&x.value), Edge::from(x));
        Ok(self.push(value, needs, move |back, gradient| {
            back.add_within(x, &shape, |dx| {
                let rows = gradient.f32().chunks_exact(region.columns.len().max(1));
                for (g, span) in rows.zip(region.spans(shape[shape.len() - 1])) {
                    crate::kernels::axpy(1.0, g, &mut dx[span]);
                }
            });
            Ok(())
        }))
    }

    /// x [T, n] with `values` [rows, columns] in place of the region. What was there has no influence, not
    /// even where it was infinite or no number; everything else keeps its bits.
    pub fn put(&mut self, x: &Var, region: &Region, values: &Var) -> Result<Var> {
        region.check(x)?;
        let shape = [region.rows.len(), region.columns.len()];
        if values.value.len() != shape[0] * shape[1] {
            return Err(Error::shape("values of a region", &shape, values.shape()));
        }
        if region.is_whole(&x.value) && values.shape() == x.shape() {
            return Ok(values.clone());
        }
        let (width, region) = (x.value.columns(), region.clone());
        let mut value = x.value.clone();
        let rows = values.value.f32().chunks_exact(shape[1].max(1));
        let out = value.f32_mut();
        rows.zip(region.spans(width)).for_each(|(row, span)| out[span].copy_from_slice(row));
        let needs = x.needs_gradient() || values.needs_gradient();
        let (x, values) = (Edge::from(x), Edge::from(values));
        Ok(self.push(value, needs, move |back, mut gradient| {
            back.add(values, region.of(&gradient))?;
            region.spans(width).for_each(|span| gradient.f32_mut()[span].fill(0.0));
            back.add(x, gradient)
        }))
    }
}
