//! Working memory that a thread keeps: steady-state calls allocate nothing.

use super::simd::LANES;
use std::cell::Cell;

/// One vector, aligned to a cache line so that panel loads never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// A growing, 64-byte aligned buffer of f32.
#[derive(Clone, Default)]
pub(super) struct Buffer(Vec<Line>);

impl Buffer {
    /// A buffer of `len` zeros.
    pub(super) fn zeroed(len: usize) -> Self {
        Buffer(vec![Line([0.0; LANES]); len.div_ceil(LANES)])
    }

    /// The first `len` elements, with unspecified content.
    pub(super) fn stale(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(LANES);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; LANES]));
        }
        &mut self.all_mut()[..len]
    }

    /// Everything the buffer holds.
    pub(super) fn all(&self) -> &[f32] {
        // SAFETY: a `Line` is exactly sixteen f32 without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LANES) }
    }

    pub(super) fn all_mut(&mut self) -> &mut [f32] {
        // SAFETY: a `Line` is exactly sixteen f32 without padding.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LANES) }
    }
}

/// Which of a thread's buffers; two uses that overlap in time need two names.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Left,
    Right,
    RightWhole,
    AttentionKeys,
    AttentionKeysTransposed,
    AttentionValues,
    AttentionScores,
    AttentionGradient,
}

const USES: usize = 8;

thread_local!(static BUFFERS: [Cell<Buffer>; USES] = const { [const { Cell::new(Buffer(Vec::new())) }; USES] });

/// Lends the thread's buffers to `f`.
///
/// They are taken out for the time of the call, so that a nested use of the same name would get
/// a fresh buffer instead of a shared one.
pub(super) fn with<const N: usize, R>(uses: [Use; N], f: impl FnOnce(&mut [Buffer; N]) -> R) -> R {
    BUFFERS.with(|buffers| {
        let mut lent = uses.map(|u| buffers[u as usize].take());
        let result = f(&mut lent);
        for (u, buffer) in uses.into_iter().zip(lent) {
            buffers[u as usize].set(buffer);
        }
        result
    })
}
