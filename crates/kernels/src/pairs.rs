//! Two neighbours along k rounded to bf16 and joined in 32 bits, on the way into the packed form.
//!
//! Packed pairs are handled like f32 with half the k: only the micro-kernel looks inside. Where k is
//! odd the last pair has a zero in its upper half.

use super::matrix::Mat;
use super::pack::Step;
use super::simd::{LANES, Simd};

/// A step is a pair of bf16.
pub(super) struct Paired;

impl Step for Paired {
    const WIDTH: usize = 2;

    #[inline(always)]
    fn across<S: Simd>(s: S, m: Mat, k: usize, at: usize, out: &mut [f32]) {
        let row = |k: usize| &m.data[k * m.row_stride + at..][..out.len()];
        let first = row(2 * k);
        let second = if 2 * k + 1 < m.rows { row(2 * k + 1) } else { &[] };
        for (i, out) in out.chunks_mut(LANES).enumerate() {
            let part = i * LANES..i * LANES + out.len();
            let x = s.load_part(&first[part.clone()], 0.0);
            let y = second.get(part).map_or(
                s.splat(0.0),
                #[inline(always)]
                |y| s.load_part(y, 0.0),
            );
            s.store_part(s.zip_bf16(x, y), out);
        }
    }

    #[inline(always)]
    fn along<S: Simd>(s: S, x: &[f32]) -> S::V {
        let x = &x[..2 * LANES];
        // SAFETY: the slice has twice sixteen elements.
        unsafe { s.join_bf16(s.load_ptr(x.as_ptr()), s.load_ptr(x.as_ptr().add(LANES))) }
    }

    #[inline(always)]
    fn along_part<S: Simd>(s: S, x: &[f32]) -> S::V {
        let (first, second) = x.split_at(x.len().min(LANES));
        s.join_bf16(s.load_part(first, 0.0), s.load_part(second, 0.0))
    }
}
