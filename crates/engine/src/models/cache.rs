//! What is kept of one sequence from token to token.

use std::ops::Range;

use crate::kernels::KeyValues;
use crate::{Error, Result, Tensor};

/// Rotated keys and values of every layer, for the tokens already seen; with them what an adapter of the layer's
/// feed-forward reads of earlier tokens.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<KeyValues>,
    width: usize,
    read_later: Vec<Rows>,
}

/// What a layer keeps of the tokens for its feed-forward's adapter, if that keeps anything.
#[derive(Debug, Clone, Default)]
struct Rows {
    /// [tokens, width].
    values: Vec<f32>,
    width: usize,
}

impl KvCache {
    /// An empty cache for a model of these many layers, key heads and elements per head.
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize) -> Self {
        KvCache {
            layers: vec![KeyValues::new(kv_heads, head_dim); layers],
            width: kv_heads * head_dim,
            read_later: vec![Rows::default(); layers],
        }
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
        self.read_later.iter_mut().for_each(|rows| rows.values.truncate(rows.width.saturating_mul(length)));
    }

    pub(super) fn append(&mut self, layer: usize, rows: Range<usize>, k: &Tensor, v: &Tensor) {
        let span = rows.start * self.width..rows.end * self.width;
        self.layers[layer].append(&k.f32()[span.clone()], &v.f32()[span]);
    }

    /// Keys and values of one layer.
    pub(super) fn layer(&self, layer: usize) -> &KeyValues {
        &self.layers[layer]
    }

    /// Writes the row kept of the last token to `last`, which stays as it is where there was none, and keeps those of
    /// new tokens: `new` [tokens, n], `last` [n]. The tokens' keys have been appended.
    ///
    /// Fails where the tokens before went through the model without the adapter that keeps rows.
    pub(super) fn shift(&mut self, layer: usize, new: &[f32], last: &mut [f32]) -> Result<()> {
        let (Rows { values, width }, n) = (&mut self.read_later[layer], last.len());
        let held = self.layers[layer].len() - new.len() / n;
        if values.len() != held * n {
            return Err(Error::invalid(format!(
                "the cache holds {held} tokens that the model read without its adapter; read them again with an \
                 empty cache"
            )));
        }
        if held > 0 {
            last.copy_from_slice(&values[(held - 1) * n..]);
        }
        values.extend_from_slice(new);
        *width = n;
        Ok(())
    }
}
