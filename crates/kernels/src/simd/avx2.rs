//! AVX2 with FMA and F16C: two registers make the vector.

use super::{LANES, Simd};
use std::arch::x86_64::*;

/// Proof that the processor has AVX2, FMA and F16C. Every processor with the first has the others.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        present.then_some(Avx2(()))
    }

    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    #[inline(always)]
    pub(in super::super) unsafe fn assume() -> Self {
        Avx2(())
    }
}

type Pair = [__m256; 2];

/// Register arithmetic: methods whose body is one intrinsic per half.
macro_rules! intrinsics {
    ($(fn $name:ident($($arg:ident),*) = $body:expr;)*) => { $(
        #[inline(always)]
        fn $name(self, $($arg: Pair),*) -> Pair {
            #[inline(always)]
            fn half($($arg: __m256),*) -> __m256 {
                // SAFETY: only reached through a token that proves AVX2 and FMA.
                unsafe { $body }
            }
            [half($($arg[0]),*), half($($arg[1]),*)]
        }
    )* };
}

impl Simd for Avx2 {
    type V = Pair;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Pair {
        // SAFETY: the array is sixteen readable f32.
        unsafe { self.load_ptr(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: Pair, out: &mut [f32; LANES]) {
        // SAFETY: the array is sixteen writable f32.
        unsafe { self.store_ptr(v, out.as_mut_ptr()) }
    }

    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> Pair {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe { [_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8))] }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, v: Pair, out: *mut f32) {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe {
            _mm256_storeu_ps(out, v[0]);
            _mm256_storeu_ps(out.add(8), v[1]);
        }
    }

    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(x.cast()) }
    }

    #[inline(always)]
    fn prefetch_far(self, x: *const u8) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }

    intrinsics! {
        fn add(a, b) = _mm256_add_ps(a, b);
        fn sub(a, b) = _mm256_sub_ps(a, b);
        fn mul(a, b) = _mm256_mul_ps(a, b);
        fn div(a, b) = _mm256_div_ps(a, b);
        fn fma(a, b, c) = _mm256_fmadd_ps(a, b, c);
        fn max(a, b) = _mm256_max_ps(a, b);
        fn min(a, b) = _mm256_min_ps(a, b);
        fn sqrt(a) = _mm256_sqrt_ps(a);
        fn round(a) = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        fn select_lt(a, b, yes, no) = _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
        fn ldexp(x, n) = {
            // Two steps, for 2ⁿ itself may not be representable; only the second one rounds.
            let first = _mm256_floor_ps(_mm256_mul_ps(n, _mm256_set1_ps(0.5)));
            _mm256_mul_ps(_mm256_mul_ps(x, power_of_two(first)), power_of_two(_mm256_sub_ps(n, first)))
        };
        fn round_bf16(x) = {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            // What rounds up beyond a NaN's bits would become a number.
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
            let rounded = _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), nan);
            _mm256_and_ps(rounded, _mm256_castsi256_ps(_mm256_set1_epi32(UPPER)))
        };
    }

    #[inline(always)]
    unsafe fn load_bf16(self, x: *const u16) -> Pair {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe {
            let first = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.cast()));
            let second = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.add(8).cast()));
            [to_upper(first), to_upper(second)]
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, x: *const u16) -> Pair {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe {
            [_mm256_cvtph_ps(_mm_loadu_si128(x.cast())), _mm256_cvtph_ps(_mm_loadu_si128(x.add(8).cast()))]
        }
    }

    #[inline(always)]
    unsafe fn load_int8(self, x: *const i8) -> Pair {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe {
            let first = _mm256_cvtepi8_epi32(_mm_loadl_epi64(x.cast()));
            let second = _mm256_cvtepi8_epi32(_mm_loadl_epi64(x.add(8).cast()));
            [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second)]
        }
    }

    #[inline(always)]
    fn halves(self, pairs: Pair) -> [Pair; 2] {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe {
            let upper = _mm256_castsi256_ps(_mm256_set1_epi32(UPPER));
            let first = [to_upper(_mm256_castps_si256(pairs[0])), to_upper(_mm256_castps_si256(pairs[1]))];
            [first, [_mm256_and_ps(pairs[0], upper), _mm256_and_ps(pairs[1], upper)]]
        }
    }

    #[inline(always)]
    fn zip_bf16(self, first: Pair, second: Pair) -> Pair {
        let (first, second) = (self.round_bf16(first), self.round_bf16(second));
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe {
            [
                _mm256_or_ps(_mm256_castsi256_ps(to_lower(first[0])), second[0]),
                _mm256_or_ps(_mm256_castsi256_ps(to_lower(first[1])), second[1]),
            ]
        }
    }

    #[inline(always)]
    fn join_bf16(self, first: Pair, second: Pair) -> Pair {
        let (first, second) = (self.round_bf16(first), self.round_bf16(second));
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe { [_mm256_castsi256_ps(upper_halves(first)), _mm256_castsi256_ps(upper_halves(second))] }
    }

    #[inline(always)]
    fn store_bf16(self, x: Pair, out: &mut [u16; LANES]) {
        let x = self.round_bf16(x);
        // SAFETY: the array is sixteen writable u16; `self` vouches for the instructions.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), upper_halves(x)) }
    }

    #[inline(always)]
    fn largest(self, v: Pair) -> f32 {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe {
            let eight = _mm256_max_ps(v[0], v[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn sum(self, v: Pair) -> f32 {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe { sum_of_eight(_mm256_add_ps(v[0], v[1])) }
    }

    #[inline(always)]
    fn transpose(self, x: &mut [Pair; LANES]) {
        // Quadrants change places, each one transposed.
        let [mut a, mut b, mut c, mut d] = [[x[0][0]; 8]; 4];
        for i in 0..8 {
            (a[i], b[i], c[i], d[i]) = (x[i][0], x[i][1], x[8 + i][0], x[8 + i][1]);
        }
        // SAFETY: `self` is the proof that the processor has these instructions.
        let [a, b, c, d] = unsafe { [transpose8(a), transpose8(b), transpose8(c), transpose8(d)] };
        for i in 0..8 {
            x[i] = [a[i], c[i]];
            x[8 + i] = [b[i], d[i]];
        }
    }
}

/// The half of 32 bits that a bf16 has of an f32.
const UPPER: i32 = 0xffff_0000_u32 as i32;

/// The f32 of bf16 in the lower halves of lanes.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn to_upper(x: __m256i) -> __m256 {
    // SAFETY: see above.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x)) }
}

/// The upper half of each lane, as a number of its own.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn to_lower(x: __m256) -> __m256i {
    // SAFETY: see above.
    unsafe { _mm256_srli_epi32::<16>(_mm256_castps_si256(x)) }
}

/// The upper halves of sixteen lanes, one after the other.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn upper_halves(x: Pair) -> __m256i {
    // SAFETY: see above. Packing works within 128 bits, so quarters change places after it.
    unsafe { _mm256_permute4x64_epi64::<0xd8>(_mm256_packus_epi32(to_lower(x[0]), to_lower(x[1]))) }
}

/// The rest of the tree of [`Simd::sum`], once lanes eight apart are added.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
pub(super) unsafe fn sum_of_eight(v: __m256) -> f32 {
    // SAFETY: see above.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// 2ⁿ for integral `n` of a normal number's exponent.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn power_of_two(n: __m256) -> __m256 {
    // SAFETY: see above.
    unsafe {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    }
}

/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn transpose8(x: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: see above.
    unsafe {
        let mut y = x;
        for i in 0..4 {
            y[2 * i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
            y[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
        }
        let mut z = y;
        for i in 0..2 {
            let (a, b, c, d) = (y[4 * i], y[4 * i + 1], y[4 * i + 2], y[4 * i + 3]);
            z[4 * i] = _mm256_shuffle_ps::<0x44>(a, c);
            z[4 * i + 1] = _mm256_shuffle_ps::<0xee>(a, c);
            z[4 * i + 2] = _mm256_shuffle_ps::<0x44>(b, d);
            z[4 * i + 3] = _mm256_shuffle_ps::<0xee>(b, d);
        }
        for i in 0..4 {
            y[i] = _mm256_permute2f128_ps::<0x20>(z[i], z[4 + i]);
            y[4 + i] = _mm256_permute2f128_ps::<0x31>(z[i], z[4 + i]);
        }
        y
    }
}
