//! The micro-kernel: an MR × 16·NV tile of C stays in registers while k runs.
//!
//! Every element of the tile is one chain over k in ascending order that starts at zero and is
//! added to C once. No tile shape changes that, so which tile computes an element never shows in
//! its bits.

#[cfg(target_arch = "x86_64")]
use super::element::PairDot;
use super::element::{Bf16, Element, F16, F32, Format, Int8, Pairs};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{LANES, Portable, Simd};

/// What one tile works on.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Length of the chain.
    pub(super) kc: usize,
    /// The left operand: row i at step k is `a[i * a_row + k * a_k]`.
    pub(super) a: *const f32,
    pub(super) a_row: usize,
    pub(super) a_k: usize,
    /// The right operand: 16·NV contiguous elements at `b + k * b_k`, a distance in bytes.
    pub(super) b: *const u8,
    pub(super) b_k: usize,
    /// A factor per column, of whole vectors, where the right operand is stored as integers.
    pub(super) scales: Option<*const f32>,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
    /// Columns of the last vector that belong to C, 1..=16.
    pub(super) last: usize,
    /// Whether the tile is added to C or replaces it.
    pub(super) accumulate: bool,
    /// What will be read soon: a cache line is asked for at places this far apart, in bytes, [`asks`] of them
    /// per step.
    pub(super) ahead: *const u8,
    pub(super) ahead_step: usize,
}

/// A micro-kernel.
///
/// # Safety
/// Every address that [`Tile`] describes is valid for the kernel's MR and NV, and nobody else
/// touches the tile of C meanwhile.
pub(super) type TileFn = unsafe fn(&Tile);

/// The tile shapes of a level.
pub(super) trait Tiles: Simd {
    /// Rows of the largest tile.
    const MR: usize;
    /// Vectors per row of the largest tile.
    const NV: usize;
    /// Columns of the largest tile.
    const NR: usize = Self::NV * LANES;

    /// The kernel of `rows` ≤ MR by `vectors` ≤ NV; `unit` when `a_row` is 1.
    fn tile(self, format: Format, rows: usize, vectors: usize, unit: bool) -> TileFn;
}

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Cache lines of what will be read soon that a step asks for: tiles of few rows go through the right operand
/// faster than the processor foresees.
pub(super) const fn asks<S: Tiles>(rows: usize, vectors: usize) -> usize {
    if rows < S::MR { vectors } else { 1 }
}

/// Steps that a tile of the largest shape takes between two asks, and a turn of its loop.
const UNROLLED: usize = 4;

/// One step of k. A function and not a closure, which would be compiled without the level's instructions.
///
/// # Safety
/// `a` and `b` are at a step of the operands, see [`TileFn`].
#[inline(always)]
unsafe fn step<S: Tiles, E: Element<S>, const MR: usize, const NV: usize>(
    s: S,
    a: *const f32,
    a_row: usize,
    b: *const u8,
    acc: &mut [[S::V; NV]; MR],
) {
    for part in 0..E::PARTS {
        // Plain loops: `array::from_fn` is not always inlined, and then called at every step.
        let mut row = [s.splat(0.0); NV];
        for (j, y) in row.iter_mut().enumerate() {
            // SAFETY: a step of the right operand, see above.
            *y = unsafe { E::load(s, b.add(j * LANES * E::BYTES), part) };
        }
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: a step of row i of the left operand, see above.
            let x = E::left(s, s.splat(unsafe { *a.add(i * a_row) }), part);
            for (acc, &y) in acc.iter_mut().zip(&row) {
                *acc = E::step(s, x, y, *acc);
            }
        }
    }
}

/// # Safety
/// See [`TileFn`].
#[inline(always)]
unsafe fn body<S: Tiles, E: Element<S>, const MR: usize, const NV: usize, const UNIT: bool>(s: S, t: &Tile) {
    let mut acc = [[s.splat(0.0); NV]; MR];
    // C is read and written once, after all of k; asking for it now hides that.
    for i in 0..MR {
        for j in 0..NV {
            s.prefetch(t.c.wrapping_add(i * t.c_row + j * LANES));
        }
    }
    let (mut a, mut b, mut ahead) = (t.a, t.b, t.ahead);
    let mut left = t.kc;
    // The usual tile: both operands packed, so that steps lie at distances known here. Instructions are
    // scarce before multiply-adds are where a neighbour shares the core; this loop has few beside them.
    let b_step = NV * LANES * E::BYTES;
    let packed = E::PLAIN && UNIT && MR == S::MR && t.a_k == MR && t.b_k == b_step;
    if packed && UNROLLED * t.ahead_step <= LINE {
        while left >= UNROLLED {
            s.prefetch_far(ahead);
            ahead = ahead.wrapping_add(UNROLLED * t.ahead_step);
            for k in 0..UNROLLED {
                // SAFETY: one of `left` steps that are still to come, see `TileFn`.
                unsafe { step::<S, E, MR, NV>(s, a.add(k * MR), 1, b.add(k * b_step), &mut acc) };
            }
            a = a.wrapping_add(UNROLLED * MR);
            b = b.wrapping_add(UNROLLED * b_step);
            left -= UNROLLED;
        }
    }
    for _ in 0..left {
        for _ in 0..asks::<S>(MR, NV) {
            s.prefetch_far(ahead);
            ahead = ahead.wrapping_add(t.ahead_step);
        }
        // SAFETY: one of `left` steps that are still to come, see `TileFn`.
        unsafe { step::<S, E, MR, NV>(s, a, if UNIT { 1 } else { t.a_row }, b, &mut acc) };
        a = a.wrapping_add(t.a_k);
        b = b.wrapping_add(t.b_k);
    }
    for (i, row) in acc.iter().enumerate() {
        for (j, &sum) in row.iter().enumerate() {
            // SAFETY: row i, vector j of the tile of C, of which only `last` columns are ours
            // where the vector is the last.
            unsafe {
                let sum = match t.scales {
                    Some(scales) => s.mul(sum, s.load_ptr(scales.add(j * LANES))),
                    None => sum,
                };
                let c = t.c.add(i * t.c_row + j * LANES);
                if j + 1 < NV || t.last == LANES {
                    s.store_ptr(if t.accumulate { s.add(s.load_ptr(c), sum) } else { sum }, c);
                } else {
                    let c = std::slice::from_raw_parts_mut(c, t.last);
                    s.store_part(if t.accumulate { s.add(s.load_part(c, 0.0), sum) } else { sum }, c);
                }
            }
        }
    }
}

/// The shapes of one level: kernel functions with their target features, and the tables of their
/// instances by format, then indexed by rows, then vectors, then whether the left operand is packed.
macro_rules! tiles {
    ($level:ty, $token:expr, $nv:tt, $mr:tt, $features:tt, $pairs:ident $pair_features:tt) => {
        impl Tiles for $level {
            const MR: usize = tiles!(@count $mr);
            const NV: usize = $nv;

            #[inline(always)]
            fn tile(self, format: Format, rows: usize, vectors: usize, unit: bool) -> TileFn {
                tiles!(@kernel plain, $level, $token, $features);
                tiles!(@kernel paired, $level, $token, $pair_features);
                type Table = &'static [[[TileFn; 2]; $nv]];
                const OF_F32: Table = tiles!(@table plain F32 $nv $mr);
                const OF_PAIRS: Table = tiles!(@table plain Pairs $nv $mr);
                const OF_HARDWARE_PAIRS: Table = tiles!(@table paired $pairs $nv $mr);
                const OF_BF16: Table = tiles!(@table plain Bf16 $nv $mr);
                const OF_F16: Table = tiles!(@table plain F16 $nv $mr);
                const OF_INT8: Table = tiles!(@table plain Int8 $nv $mr);
                let table = match format {
                    Format::F32 => OF_F32,
                    Format::Pairs => OF_PAIRS,
                    Format::HardwarePairs => OF_HARDWARE_PAIRS,
                    Format::Bf16 => OF_BF16,
                    Format::F16 => OF_F16,
                    Format::Int8 => OF_INT8,
                };
                table[rows - 1][vectors - 1][usize::from(unit)]
            }
        }
    };
    (@count [$($mr:literal)*]) => { [$($mr),*].len() };
    (@kernel $name:ident, $level:ty, $token:expr, [$($feature:literal)?]) => {
        $(#[target_feature(enable = $feature)])?
        unsafe fn $name<E: Element<$level>, const MR: usize, const NV: usize, const UNIT: bool>(t: &Tile) {
            // SAFETY: the table is reached through a token, which is why assuming one here is
            // right; the addresses are the caller's to vouch for.
            unsafe { body::<_, E, MR, NV, UNIT>($token, t) }
        }
    };
    (@table $kernel:ident $e:ident 3 [$($mr:literal)*]) => { &[$([
        [$kernel::<$e, $mr, 1, false>, $kernel::<$e, $mr, 1, true>],
        [$kernel::<$e, $mr, 2, false>, $kernel::<$e, $mr, 2, true>],
        [$kernel::<$e, $mr, 3, false>, $kernel::<$e, $mr, 3, true>],
    ]),*] };
    (@table $kernel:ident $e:ident 1 [$($mr:literal)*]) => {
        &[$([[$kernel::<$e, $mr, 1, false>, $kernel::<$e, $mr, 1, true>]]),*]
    };
}

// 8 × 48: 24 accumulators, 3 vectors of B and a broadcast of A in 32 registers.
#[cfg(target_arch = "x86_64")]
tiles!(
    Avx512, Avx512::assume(), 3, [1 2 3 4 5 6 7 8], ["avx512f,avx2,fma"],
    PairDot ["avx512f,avx512bf16,avx2,fma"]
);
// 6 × 16: 12 accumulators, 2 halves of B and a broadcast of A in 16 registers.
#[cfg(target_arch = "x86_64")]
tiles!(Avx2, Avx2::assume(), 1, [1 2 3 4 5 6], ["avx2,fma,f16c"], Pairs ["avx2,fma,f16c"]);
// Six rows of four registers fit the 32 of aarch64; the 16 of the x86-64 baseline hold two.
#[cfg(not(target_arch = "x86_64"))]
tiles!(Portable, Portable, 1, [1 2 3 4 5 6], [], Pairs []);
#[cfg(target_arch = "x86_64")]
tiles!(Portable, Portable, 1, [1 2], [], Pairs []);
