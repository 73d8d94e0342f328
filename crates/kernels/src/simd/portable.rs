//! Plain loops over sixteen lanes, which the compiler turns into whatever the target has.

use super::{LANES, Simd};

/// The level that every target has.
#[derive(Clone, Copy)]
pub(in super::super) struct Portable;

/// Where the baseline of the target has no fused multiply-add, `mul_add` is a library call of
/// some fifty cycles; rounding twice is the honest alternative.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

type Lanes = [f32; LANES];

macro_rules! lanewise {
    ($(fn $name:ident($($arg:ident),*) = $body:expr;)*) => { $(
        #[inline(always)]
        fn $name(self, $($arg: Lanes),*) -> Lanes {
            let mut out = [0.0; LANES];
            for i in 0..LANES {
                $(let $arg = $arg[i];)*
                out[i] = $body;
            }
            out
        }
    )* };
}

impl Simd for Portable {
    type V = Lanes;

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Lanes {
        *x
    }

    #[inline(always)]
    fn store(self, v: Lanes, out: &mut [f32; LANES]) {
        *out = v;
    }

    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> Lanes {
        // SAFETY: the caller vouches for sixteen readable f32.
        unsafe { x.cast::<Lanes>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, v: Lanes, out: *mut f32) {
        // SAFETY: the caller vouches for sixteen writable f32.
        unsafe { out.cast::<Lanes>().write_unaligned(v) }
    }

    lanewise! {
        fn add(a, b) = a + b;
        fn sub(a, b) = a - b;
        fn mul(a, b) = a * b;
        fn div(a, b) = a / b;
        fn fma(a, b, c) = if FUSED { a.mul_add(b, c) } else { a * b + c };
        fn max(a, b) = if a > b { a } else { b };
        fn min(a, b) = if a < b { a } else { b };
        fn sqrt(a) = a.sqrt();
        // Adding 1.5 · 2²³ leaves no bits for a fraction: the sum is rounded to an integer.
        fn round(a) = (a + 12_582_912.0) - 12_582_912.0;
        fn select_lt(a, b, yes, no) = if a < b { yes } else { no };
        fn ldexp(x, n) = {
            // Two steps, for 2ⁿ itself may not be representable; only the second one rounds.
            let n = n as i32;
            let first = n >> 1;
            x * f32::from_bits(((first + 127) as u32) << 23) * f32::from_bits(((n - first + 127) as u32) << 23)
        };
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [Lanes; LANES]) {
        let old = *rows;
        for (i, row) in rows.iter_mut().enumerate() {
            *row = old.map(|old| old[i]);
        }
    }
}
