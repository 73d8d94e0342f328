//! Taps: every named place of a forward pass can be read, changed, or differentiated.
//!
//! With no tap at a site the value passes through untouched, so plain inference stays bit-identical.

mod site;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

pub use site::{BlockSite, Site};

use crate::tape::{Graph, Layout, Var};
use crate::{Error, Result, Tensor};

/// What is done to the selected part of a site's value.
pub enum Action {
    /// Copy it out; fetch it with [`Taps::take`].
    Read,
    /// Put these values in its place. Shape: [selected rows, selected columns], or one row for all.
    Replace(Tensor),
    /// Add these values. Shape as for `Replace`.
    Add(Tensor),
    /// Multiply by a number.
    Scale(f32),
    /// Set to zero.
    Zero,
    /// Ask for the gradient with respect to the whole value; it comes with the backward pass.
    Leaf,
}

/// Which part of a site's value an action touches: rows by sequence and position, and columns.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// Sequences of the batch; `None` means all.
    pub sequences: Option<Vec<usize>>,
    /// Token positions within the sequence, cached ones counted; `None` means all.
    pub positions: Option<Vec<usize>>,
    /// Columns of the flattened last dimension (head h of width w is `h·w..(h+1)·w`); `None` means all.
    pub columns: Option<Range<usize>>,
}

impl Selector {
    /// Rows of a site's value in which a sequence's position is selected. `repeats` rows stand for
    /// one token at sites that hold several rows per token.
    fn rows(&self, layout: &Layout, total: usize) -> Vec<usize> {
        let repeats = total / layout.rows().max(1);
        let chosen = |wanted: &Option<Vec<usize>>, i: usize| wanted.as_ref().is_none_or(|w| w.contains(&i));
        let mut rows = Vec::new();
        for (index, range) in layout.sequences.iter().enumerate() {
            for row in range.clone() {
                if chosen(&self.sequences, index) && chosen(&self.positions, layout.positions[row] as usize) {
                    rows.extend(row * repeats..(row + 1) * repeats);
                }
            }
        }
        rows
    }
}

/// A set of taps, and what the reading ones have read.
#[derive(Default)]
pub struct Taps {
    actions: BTreeMap<Site, Vec<(Selector, Action)>>,
    readings: Mutex<BTreeMap<Site, Vec<Tensor>>>,
}

impl Taps {
    /// No taps.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds an action at a site; several at one site happen in the order they were added.
    pub fn add(&mut self, site: Site, selector: Selector, action: Action) -> &mut Self {
        self.actions.entry(site).or_default().push((selector, action));
        self
    }

    /// Adds a reading of the whole value of a site.
    pub fn read(&mut self, site: Site) -> &mut Self {
        self.add(site, Selector::default(), Action::Read)
    }

    /// Whether anything happens at this site.
    pub fn touches(&self, site: Site) -> bool {
        self.actions.contains_key(&site)
    }

    /// Whether nothing happens anywhere.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// What was read at a site since the last call, in order of the forward passes.
    pub fn take(&self, site: Site) -> Vec<Tensor> {
        self.readings.lock().map(|mut r| r.remove(&site).unwrap_or_default()).unwrap_or_default()
    }

    /// Passes a value through the taps at `site`.
    pub fn at<'m>(&self, g: &mut Graph<'m>, site: Site, x: Var, layout: &Layout) -> Result<Var> {
        let Some(actions) = self.actions.get(&site) else { return Ok(x) };
        let mut x = x;
        for (selector, action) in actions {
            x = self.apply(g, site, x, layout, selector, action)?;
        }
        Ok(x)
    }

    fn apply<'m>(
        &self,
        g: &mut Graph<'m>,
        site: Site,
        x: Var,
        layout: &Layout,
        selector: &Selector,
        action: &Action,
    ) -> Result<Var> {
        let width = x.value().columns();
        let columns = selector.columns.clone().unwrap_or(0..width);
        if columns.end > width {
            return Err(Error::invalid(format!("{site}: columns {columns:?} selected of {width}")));
        }
        let rows = selector.rows(layout, x.value().rows());
        match action {
            Action::Read => {
                // Under activation checkpointing a block runs twice; the first run has been read.
                if !g.is_replaying()
                    && let Ok(mut readings) = self.readings.lock()
                {
                    readings.entry(site).or_default().push(pick(x.value(), &rows, &columns));
                }
                Ok(x)
            }
            Action::Leaf => Ok(g.leaf(&x, site)),
            Action::Scale(factor) => self.scaled(g, &x, &rows, &columns, *factor),
            Action::Zero => self.scaled(g, &x, &rows, &columns, 0.0),
            Action::Replace(values) => {
                let cleared = self.scaled(g, &x, &rows, &columns, 0.0)?;
                let placed = Var::constant(place(x.value(), &rows, &columns, values, site)?);
                g.add(&cleared, &placed)
            }
            Action::Add(values) => {
                let placed = Var::constant(place(x.value(), &rows, &columns, values, site)?);
                g.add(&x, &placed)
            }
        }
    }

    fn scaled<'m>(
        &self,
        g: &mut Graph<'m>,
        x: &Var,
        rows: &[usize],
        columns: &Range<usize>,
        factor: f32,
    ) -> Result<Var> {
        let mut mask = Tensor::build(x.shape(), |m| m.fill(1.0));
        let width = mask.columns();
        let values = mask.f32_mut();
        for &row in rows {
            values[row * width + columns.start..row * width + columns.end].fill(factor);
        }
        g.mul(x, &Var::constant(mask))
    }
}

/// Copies the selected block out.
fn pick(x: &Tensor, rows: &[usize], columns: &Range<usize>) -> Tensor {
    let width = x.columns();
    Tensor::build(&[rows.len(), columns.len()], |out| {
        for (out, &row) in out.chunks_exact_mut(columns.len().max(1)).zip(rows) {
            out.copy_from_slice(&x.f32()[row * width + columns.start..row * width + columns.end]);
        }
    })
}

/// Zeros in the shape of x with `values` at the selected block.
fn place(x: &Tensor, rows: &[usize], columns: &Range<usize>, values: &Tensor, site: Site) -> Result<Tensor> {
    let block = columns.len();
    let whole = values.len() == rows.len() * block;
    if !whole && values.len() != block {
        return Err(Error::shape(site.to_string(), &[rows.len(), block], values.shape()));
    }
    let mut out = Tensor::zeros(x.shape(), crate::DType::F32);
    let width = out.columns();
    for (i, &row) in rows.iter().enumerate() {
        let source = if whole { i * block } else { 0 };
        out.f32_mut()[row * width + columns.start..row * width + columns.end]
            .copy_from_slice(&values.f32()[source..source + block]);
    }
    Ok(out)
}
