//! Cached keys and values of one sequence.

use std::ops::Range;

use crate::Tensor;
use crate::kernels::KeyValues;

/// Rotated keys and values of every layer, for the tokens already seen.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<KeyValues>,
    width: usize,
}

impl KvCache {
    /// An empty cache for a model of these many layers, key heads and elements per head.
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize) -> Self {
        KvCache { layers: vec![KeyValues::new(kv_heads, head_dim); layers], width: kv_heads * head_dim }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, KeyValues::len)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all tokens from position `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.layers.iter_mut().for_each(|layer| layer.truncate(length));
    }

    pub(super) fn append(&mut self, layer: usize, rows: Range<usize>, k: &Tensor, v: &Tensor) {
        let span = rows.start * self.width..rows.end * self.width;
        self.layers[layer].append(&k.f32()[span.clone()], &v.f32()[span]);
    }

    /// Keys and values of one layer.
    pub(super) fn layer(&self, layer: usize) -> &KeyValues {
        &self.layers[layer]
    }
}
