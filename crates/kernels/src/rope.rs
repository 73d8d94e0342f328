//! Rotary position embedding, in the half-split layout of Hugging Face's `rotate_half`.

use super::simd::{LANES, Simd, multiversion};
use rayon::prelude::*;

/// Elements below which a second thread does not pay.
const SERIAL: usize = 1 << 16;

/// Rotates each head's pairs (i, i + rotary_dim/2) by the angle of the row's position, in place.
///
/// `x` `[positions.len(), heads * head_dim]`; `cos`, `sin` `[max_pos, rotary_dim / 2]`. Dimensions
/// from `rotary_dim` on pass through. `inverse` rotates back, which is also what the backward
/// pass does to gradients.
///
/// # Panics
/// When lengths disagree, when `rotary_dim` is odd or exceeds `head_dim`, or when a position has
/// no row in the tables.
#[expect(clippy::too_many_arguments, reason = "two tables, two shapes and a direction")]
pub fn rope(
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    rotary_dim: usize,
    positions: &[u32],
    cos: &[f32],
    sin: &[f32],
    inverse: bool,
) {
    let width = heads * head_dim;
    assert_eq!(
        x.len(),
        width * positions.len(),
        "rope: x is not [{}, {heads} * {head_dim}]",
        positions.len()
    );
    assert!(
        rotary_dim <= head_dim && rotary_dim.is_multiple_of(2),
        "rope: {rotary_dim} rotary dimensions of a head of {head_dim}"
    );
    let half = rotary_dim / 2;
    assert_eq!(cos.len(), sin.len(), "rope: cos and sin differ in length");
    if x.is_empty() || half == 0 {
        return;
    }
    let row = |(x, &position): (&mut [f32], &u32)| {
        let start = position as usize * half;
        assert!(
            start + half <= cos.len(),
            "rope: position {position} is beyond the {} positions of the tables",
            cos.len() / half
        );
        rotate(x, head_dim, &cos[start..start + half], &sin[start..start + half], inverse);
    };
    if x.len() < SERIAL {
        x.chunks_exact_mut(width).zip(positions).for_each(row);
    } else {
        let rows = x.par_chunks_exact_mut(width).zip(positions);
        rows.with_min_len((SERIAL / 4).div_ceil(width)).for_each(row);
    }
}

multiversion! {
    fn rotate(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], inverse: bool) = rotate_body;
}

#[inline(always)]
fn rotate_body<S: Simd>(s: S, x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], inverse: bool) {
    let half = cos.len();
    let sign = s.splat(if inverse { -1.0 } else { 1.0 });
    for head in x.chunks_exact_mut(head_dim) {
        let (first, second) = head[..2 * half].split_at_mut(half);
        let chunks = first.chunks_mut(LANES).zip(second.chunks_mut(LANES));
        for ((a, b), (cos, sin)) in chunks.zip(cos.chunks(LANES).zip(sin.chunks(LANES))) {
            let (x, y) = (s.load_part(a, 0.0), s.load_part(b, 0.0));
            let (cos, sin) = (s.load_part(cos, 0.0), s.mul(sign, s.load_part(sin, 0.0)));
            s.store_part(s.fma(x, cos, s.neg(s.mul(y, sin))), a);
            s.store_part(s.fma(y, cos, s.mul(x, sin)), b);
        }
    }
}
