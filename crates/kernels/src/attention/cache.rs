//! Keys and values that stay from token to token.

use crate::element::Format;
use crate::gemm::{Right, columns_per_panel};
use crate::matrix::Mat;
use crate::packed::{Panels, pack_panel};
use crate::scratch::Buffer;

/// Keys and values of one sequence in one layer, head by head, as the products of attention read
/// them: a new token costs a column of a panel, and nothing is packed when a query comes.
#[derive(Clone, Debug)]
pub struct KeyValues {
    heads: Vec<Head>,
    head_dim: usize,
    len: usize,
    /// Keys in a panel: NR of the level that wrote them.
    nr: usize,
}

#[derive(Clone, Default)]
struct Head {
    /// Panels of `[head_dim, NR]`: the transpose of NR keys.
    keys: Buffer,
    /// `[len, head_dim]`
    values: Buffer,
}

impl KeyValues {
    /// Of no token.
    pub fn new(kv_heads: usize, head_dim: usize) -> Self {
        KeyValues { heads: vec![Head::default(); kv_heads], head_dim, len: 0, nr: columns_per_panel() }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all tokens from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Adds tokens: `k` and `v` `[tokens, kv_heads · head_dim]`.
    ///
    /// # Panics
    /// When the lengths are not those of whole tokens.
    pub fn append(&mut self, k: &[f32], v: &[f32]) {
        let (width, hd, nr, len) = (self.heads.len() * self.head_dim, self.head_dim, self.nr, self.len);
        let tokens = k.len().checked_div(width).unwrap_or(0);
        assert!(
            k.len() == tokens * width && v.len() == k.len(),
            "{} keys and {} values are not rows of {width}",
            k.len(),
            v.len()
        );
        if tokens == 0 {
            return;
        }
        for (h, head) in self.heads.iter_mut().enumerate() {
            let row = |t: usize| t * width + h * hd..t * width + (h + 1) * hd;
            let keys = head.keys.stale((len + tokens).next_multiple_of(nr) * hd);
            let mut at = 0;
            while at < tokens {
                let column = (len + at) % nr;
                let panel = &mut keys[(len + at - column) * hd..][..nr * hd];
                if column == 0 && at + 1 < tokens {
                    let whole = nr.min(tokens - at);
                    pack_panel(Mat::strided(&k[row(at).start..], whole, hd, width).t(), false, panel);
                    at += whole;
                } else {
                    panel[column..]
                        .iter_mut()
                        .step_by(nr)
                        .zip(&k[row(at)])
                        .for_each(|(place, &x)| *place = x);
                    at += 1;
                }
            }
            let values = &mut head.values.stale((len + tokens) * hd)[len * hd..];
            values.chunks_exact_mut(hd).enumerate().for_each(|(t, place)| place.copy_from_slice(&v[row(t)]));
        }
        self.len += tokens;
    }

    /// Keys and values as they were added, `[tokens, kv_heads · head_dim]` each.
    pub fn rows(&self) -> [Vec<f32>; 2] {
        let (hd, nr) = (self.head_dim, self.nr);
        let [mut k, mut v] = [(); 2].map(|()| Vec::with_capacity(self.len * self.heads.len() * hd));
        for t in 0..self.len {
            for head in &self.heads {
                let panel = &head.keys.all()[(t - t % nr) * hd..][..nr * hd];
                k.extend(panel[t % nr..].iter().step_by(nr));
                v.extend_from_slice(&head.values.all()[t * hd..(t + 1) * hd]);
            }
        }
        [k, v]
    }

    /// Head `head` of the keys from `first` on, a multiple of NR, transposed: `[head_dim, keys]`.
    pub(super) fn keys(&self, head: usize, first: usize) -> Right<'_> {
        assert_eq!(self.nr, columns_per_panel(), "the keys were kept for another instruction set");
        let data = bytemuck::cast_slice(self.heads[head].keys.all());
        // Whole panels, of which a product uses the columns it needs.
        let n = self.len.next_multiple_of(self.nr);
        let panels = Panels { data, format: Format::F32, scales: &[], k: self.head_dim, n, skip: 0 };
        Right::Panels(panels).columns(first..n)
    }

    /// Head `head` of the values from `first` on: `[values, head_dim]`.
    pub(super) fn values(&self, head: usize, first: usize) -> Mat<'_> {
        let values = &self.heads[head].values.all()[first * self.head_dim..self.len * self.head_dim];
        Mat::new(values, self.len - first, self.head_dim)
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Head")
    }
}
