//! The language-model head, whose logits are made in chunks of rows.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::kernels::{self, Compute, Mat, MatMut, Packed};
use crate::params::{ParamId, Params};
use crate::{Result, Tensor, profile};

/// Logits held at a time, in numbers: large enough for full-speed products, small next to a model.
const CHUNK_LOGITS: usize = 16 << 20;

/// Rows per chunk for a vocabulary. Has no influence on results: rows are computed independently.
pub(super) fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_LOGITS / vocabulary.max(1)).clamp(64, 512)
}

/// How hidden states become logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// W: [V, d].
    pub weight: ParamId,
    /// Bound c on logits, where there is one: `c · tanh(logit / c)`.
    pub softcap: Option<f32>,
}

/// A head's weight, packed once for all chunks of one call.
pub(super) struct PackedHead<'a> {
    pub(super) softcap: Option<f32>,
    weight: &'a [f32],
    pub(super) vocabulary: usize,
    pub(super) width: usize,
    forward: Arc<Packed>,
    /// Packed when the first of several chunks needs it.
    backward: OnceCell<Packed>,
    compute: Compute,
}

impl<'a> PackedHead<'a> {
    pub(super) fn new(weight: &'a Tensor, softcap: Option<f32>) -> Self {
        Self::packed(weight, softcap, Compute::F32, None)
    }

    fn packed(
        weight: &'a Tensor,
        softcap: Option<f32>,
        compute: Compute,
        forward: Option<Arc<Packed>>,
    ) -> Self {
        let _timed = profile::span("head packing");
        let (vocabulary, width) = (weight.rows(), weight.columns());
        let pack = || Arc::new(compute.pack(Mat::new(weight.f32(), vocabulary, width).t()));
        let forward = forward.unwrap_or_else(pack);
        PackedHead {
            softcap,
            weight: weight.f32(),
            vocabulary,
            width,
            forward,
            backward: OnceCell::new(),
            compute,
        }
    }

    /// hidden [n, d] → logits [n, V] into `out`.
    pub(super) fn logits(&self, hidden: &[f32], out: &mut [f32]) {
        let rows = hidden.len() / self.width;
        let _timed = profile::product("forward", "head", [rows, self.vocabulary, self.width]);
        kernels::gemm_packed(
            Mat::new(hidden, rows, self.width),
            &self.forward,
            MatMut::new(out, rows, self.vocabulary),
            false,
        );
        if let Some(cap) = self.softcap {
            kernels::softcap(out, cap);
        }
    }

    /// dLogits [n, V] → dHidden [n, d].
    pub(super) fn hidden_gradient(&self, dlogits: &[f32], out: &mut [f32]) {
        let rows = dlogits.len() / self.vocabulary;
        let weight = Mat::new(self.weight, self.vocabulary, self.width);
        let packed = self.backward.get_or_init(|| {
            let _timed = profile::span("head packing");
            self.compute.pack(weight)
        });
        let _timed = profile::product("input gradient", "head", [rows, self.vocabulary, self.width]);
        let dlogits = Mat::new(dlogits, rows, self.vocabulary);
        kernels::gemm_packed(dlogits, packed, MatMut::new(out, rows, self.width), false);
    }

    /// dW [V, d] += dLogitsᵀ · hidden.
    pub(super) fn weight_gradient(&self, dlogits: &[f32], hidden: &[f32], out: &mut [f32]) {
        let rows = hidden.len() / self.width;
        let _timed = profile::product("weight gradient", "head", [rows, self.vocabulary, self.width]);
        self.compute.product(
            Mat::new(dlogits, rows, self.vocabulary).t(),
            Mat::new(hidden, rows, self.width),
            MatMut::new(out, self.vocabulary, self.width),
            true,
        );
    }
}

/// A parameter as the head, in the model's own precision; inference keeps the packed form.
pub(super) fn packed_head(params: &Params, head: Head, recording: bool) -> PackedHead<'_> {
    PackedHead::packed(
        &params.get(head.weight).tensor,
        head.softcap,
        params.precision().compute,
        params.packed(head.weight, 1, recording).cloned(),
    )
}

/// Logits of rows of hidden states, a chunk of rows at a time.
pub(super) struct Logits {
    buffer: Tensor,
    /// Whether all rows have a place of their own and are made once.
    all: bool,
    made: bool,
}

impl Logits {
    /// A place for one chunk of `rows` rows. It is made anew on every visit.
    pub(super) fn of_chunk(head: &PackedHead<'_>, rows: usize) -> Self {
        let rows = chunk_rows(head.vocabulary).min(rows.max(1));
        Logits { buffer: Tensor::stale(&[rows, head.vocabulary]), all: false, made: false }
    }

    /// A place for all of `rows` rows where they are no more than may be held at a time, so that a second visit
    /// finds what the first one left.
    pub(super) fn kept(head: &PackedHead<'_>, rows: usize) -> Option<Self> {
        let fits = rows * head.vocabulary <= CHUNK_LOGITS;
        fits.then(|| Logits { buffer: Tensor::stale(&[rows, head.vocabulary]), all: true, made: false })
    }

    /// Visits every chunk: `visit(first row, its hidden states, its logits)`; logits are free to be overwritten.
    pub(super) fn for_each_chunk(
        &mut self,
        head: &PackedHead<'_>,
        hidden: &Tensor,
        mut visit: impl FnMut(usize, &[f32], &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let rows = chunk_rows(head.vocabulary);
        for (index, hidden) in hidden.f32().chunks(rows * head.width).enumerate() {
            let first = index * rows;
            let start = if self.all { first * head.vocabulary } else { 0 };
            let logits = &mut self.buffer.f32_mut()[start..][..hidden.len() / head.width * head.vocabulary];
            if !self.made {
                head.logits(hidden, logits);
            }
            visit(first, hidden, logits)?;
        }
        self.made = self.all;
        Ok(())
    }
}
