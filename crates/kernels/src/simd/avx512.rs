//! AVX-512: one register is the vector.

use super::{LANES, Simd};
use std::arch::x86_64::*;

/// Proof that the processor has AVX-512F, AVX2 and FMA.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        present.then_some(Avx512(()))
    }

    /// # Safety
    /// The processor has AVX-512F, AVX2 and FMA.
    #[inline(always)]
    pub(in super::super) unsafe fn assume() -> Self {
        Avx512(())
    }
}

/// Register arithmetic: methods whose body is one intrinsic.
macro_rules! intrinsics {
    ($(fn $name:ident($($arg:ident),*) = $body:expr;)*) => { $(
        #[inline(always)]
        fn $name(self, $($arg: __m512),*) -> __m512 {
            // SAFETY: `self` is the proof that the processor has these instructions.
            unsafe { $body }
        }
    )* };
}

impl Simd for Avx512 {
    type V = __m512;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        // SAFETY: the array is sixteen readable f32.
        unsafe { self.load_ptr(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32; LANES]) {
        // SAFETY: the array is sixteen writable f32.
        unsafe { self.store_ptr(v, out.as_mut_ptr()) }
    }

    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> __m512 {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe { _mm512_loadu_ps(x) }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, v: __m512, out: *mut f32) {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe { _mm512_storeu_ps(out, v) }
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
        fn add(a, b) = _mm512_add_ps(a, b);
        fn sub(a, b) = _mm512_sub_ps(a, b);
        fn mul(a, b) = _mm512_mul_ps(a, b);
        fn div(a, b) = _mm512_div_ps(a, b);
        fn fma(a, b, c) = _mm512_fmadd_ps(a, b, c);
        fn max(a, b) = _mm512_max_ps(a, b);
        fn min(a, b) = _mm512_min_ps(a, b);
        fn sqrt(a) = _mm512_sqrt_ps(a);
        fn round(a) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        fn select_lt(a, b, yes, no) = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes);
        fn ldexp(x, n) = _mm512_scalef_ps(x, n);
    }

    #[inline(always)]
    fn load_part(self, x: &[f32], fill: f32) -> __m512 {
        // SAFETY: the mask keeps the load within the slice.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), lanes(x.len()), x.as_ptr()) }
    }

    #[inline(always)]
    fn store_part(self, v: __m512, out: &mut [f32]) {
        // SAFETY: the mask keeps the store within the slice.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), lanes(out.len()), v) }
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe {
            let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v));
            let eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm256_castpd_ps(high));
            super::avx2::sum_of_eight(eight)
        }
    }

    #[inline(always)]
    fn largest(self, v: __m512) -> f32 {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe { _mm512_reduce_max_ps(v) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, x: *const u16) -> __m512 {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, x: *const u16) -> __m512 {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.cast())) }
    }

    #[inline(always)]
    unsafe fn load_int8(self, x: *const i8) -> __m512 {
        // SAFETY: the caller vouches for the memory, `self` for the instructions.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.cast()))) }
    }

    #[inline(always)]
    fn halves(self, pairs: __m512) -> [__m512; 2] {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe {
            let bits = _mm512_castps_si512(pairs);
            let second = _mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)), _mm512_castsi512_ps(second)]
        }
    }

    #[inline(always)]
    fn round_bf16(self, x: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            // What rounds up beyond a NaN's bits would become a number.
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            let rounded = _mm512_mask_blend_epi32(nan, rounded, quiet);
            _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(0xffff_0000_u32 as i32)))
        }
    }

    #[inline(always)]
    fn zip_bf16(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe {
            let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(self.round_bf16(first)));
            let second = _mm512_castps_si512(self.round_bf16(second));
            _mm512_castsi512_ps(_mm512_or_si512(first, second))
        }
    }

    #[inline(always)]
    fn join_bf16(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe {
            let upper = |x| _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_castps_si512(x)));
            let (first, second) = (upper(self.round_bf16(first)), upper(self.round_bf16(second)));
            _mm512_castsi512_ps(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second))
        }
    }

    #[inline(always)]
    fn store_bf16(self, x: __m512, out: &mut [u16; LANES]) {
        // SAFETY: the array is sixteen writable u16; `self` vouches for the instructions.
        unsafe {
            let upper = _mm512_srli_epi32::<16>(_mm512_castps_si512(self.round_bf16(x)));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(upper));
        }
    }

    #[inline(always)]
    fn transpose(self, x: &mut [__m512; LANES]) {
        // SAFETY: `self` is the proof that the processor has these instructions.
        unsafe {
            // Pairs, then quadruples of rows within each 128-bit part…
            let mut y = *x;
            for i in 0..8 {
                y[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
                y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
            }
            for i in 0..4 {
                let (a, b) = (_mm512_castps_pd(y[4 * i]), _mm512_castps_pd(y[4 * i + 1]));
                let (c, d) = (_mm512_castps_pd(y[4 * i + 2]), _mm512_castps_pd(y[4 * i + 3]));
                x[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                x[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                x[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
                x[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
            }
            // …then the 128-bit parts themselves: a 4 × 4 transpose for each of four columns.
            for i in 0..4 {
                let (a, b, c, d) = (x[i], x[4 + i], x[8 + i], x[12 + i]);
                let (ab_even, ab_odd) =
                    (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (cd_even, cd_odd) =
                    (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
                y[i] = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
                y[4 + i] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
                y[8 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even);
                y[12 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd);
            }
            *x = y;
        }
    }
}

/// The mask of the first `len` lanes.
#[inline(always)]
fn lanes(len: usize) -> u16 {
    assert!(len <= LANES);
    ((1u32 << len) - 1) as u16
}
