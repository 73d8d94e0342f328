//! Cached keys and values of one sequence.

use std::ops::Range;

use crate::Tensor;

/// Rotated keys and values of every layer, for the tokens already seen.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    width: usize,
}

impl KvCache {
    /// An empty cache for a model with these many layers and kv_heads·head_dim columns.
    pub fn new(layers: usize, width: usize) -> Self {
        KvCache { layers: vec![Default::default(); layers], width }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |(k, _)| k.len() / self.width.max(1))
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all tokens from position `length` on.
    pub fn truncate(&mut self, length: usize) {
        for (k, v) in &mut self.layers {
            k.truncate(length * self.width);
            v.truncate(length * self.width);
        }
    }

    pub(super) fn append(&mut self, layer: usize, rows: Range<usize>, k: &Tensor, v: &Tensor) {
        let span = rows.start * self.width..rows.end * self.width;
        let (keys, values) = &mut self.layers[layer];
        keys.extend_from_slice(&k.f32()[span.clone()]);
        values.extend_from_slice(&v.f32()[span]);
    }

    /// Keys and values of one layer: [tokens, width] each.
    pub(super) fn layer(&self, layer: usize) -> (&[f32], &[f32]) {
        let (k, v) = &self.layers[layer];
        (k, v)
    }
}
