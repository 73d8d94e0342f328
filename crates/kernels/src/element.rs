//! How the elements of a product's operands are stored, and what one step of a chain does with them.

#[cfg(target_arch = "x86_64")]
use super::simd::Avx512;
use super::simd::{LANES, Simd};

/// Storage of the right operand; the left one has the same where it is pairs, and is f32 otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One f32.
    F32,
    /// Two bf16 that follow one another along k, the first in the lower half of 32 bits.
    Pairs,
    /// The same, multiplied by the processor's own instruction.
    HardwarePairs,
    /// One bf16, widened to f32 when it is read: the arithmetic is that of f32.
    Bf16,
    /// One f16, widened likewise.
    F16,
    /// One signed byte, widened to f32 when it is read; a factor per column comes last.
    Int8,
}

impl Format {
    /// Bytes of one element.
    pub(super) fn bytes(self) -> usize {
        match self {
            Format::F32 | Format::Pairs | Format::HardwarePairs => 4,
            Format::Bf16 | Format::F16 => 2,
            Format::Int8 => 1,
        }
    }

    /// The better way to multiply pairs that the processor has.
    ///
    /// The two differ in their bits: the instruction takes numbers below 2⁻¹²⁶ for zero.
    pub(super) fn pairs() -> Format {
        #[cfg(target_arch = "x86_64")]
        if matches!(super::simd::level(), super::simd::Level::Avx512(_))
            && std::arch::is_x86_feature_detected!("avx512bf16")
        {
            return Format::HardwarePairs;
        }
        Format::Pairs
    }

    pub(super) fn is_pairs(self) -> bool {
        matches!(self, Format::Pairs | Format::HardwarePairs)
    }

    /// Whether elements are widened to f32 when they are read.
    pub(super) fn is_narrow(self) -> bool {
        self.bytes() < 4
    }

    /// Elements along k in one step of a chain.
    pub(super) fn width(self) -> usize {
        if self.is_pairs() { 2 } else { 1 }
    }
}

/// A [`Format`] as the micro-kernel is compiled for it.
pub(super) trait Element<S: Simd> {
    /// Bytes of one element.
    const BYTES: usize;
    /// Numbers in an element that are multiplied one after the other. All elements of a tile get through one
    /// of them before the next: the halves of pairs do not fit sixteen registers together.
    const PARTS: usize = 1;
    /// Whether elements serve as they are loaded. Several steps in a row of what is converted on the way need
    /// more registers than AVX2 has.
    const PLAIN: bool = false;

    /// Part `part` of sixteen elements of the right operand.
    ///
    /// # Safety
    /// `at` points at sixteen readable elements.
    unsafe fn load(s: S, at: *const u8, part: usize) -> S::V;

    /// Part `part` of elements of the left operand.
    #[inline(always)]
    fn left(_: S, x: S::V, _part: usize) -> S::V {
        x
    }

    /// The chain `sum` with the product of `x` and `y` added.
    #[inline(always)]
    fn step(s: S, x: S::V, y: S::V, sum: S::V) -> S::V {
        s.fma(x, y, sum)
    }
}

/// See [`Format::F32`].
pub(super) struct F32;
/// See [`Format::Pairs`].
pub(super) struct Pairs;
/// See [`Format::HardwarePairs`].
#[cfg(target_arch = "x86_64")]
pub(super) struct PairDot;
/// See [`Format::Bf16`].
pub(super) struct Bf16;
/// See [`Format::F16`].
pub(super) struct F16;
/// See [`Format::Int8`].
pub(super) struct Int8;

impl<S: Simd> Element<S> for F32 {
    const BYTES: usize = 4;
    const PLAIN: bool = true;

    #[inline(always)]
    unsafe fn load(s: S, at: *const u8, _: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { s.load_ptr(at.cast()) }
    }
}

/// The second of a pair comes first, as in the processor's instruction.
impl<S: Simd> Element<S> for Pairs {
    const BYTES: usize = 4;
    const PARTS: usize = 2;

    #[inline(always)]
    unsafe fn load(s: S, at: *const u8, part: usize) -> S::V {
        // SAFETY: the caller's.
        let pairs = unsafe { s.load_ptr(at.cast()) };
        Self::left(s, pairs, part)
    }

    #[inline(always)]
    fn left(s: S, pairs: S::V, part: usize) -> S::V {
        s.halves(pairs)[1 - part]
    }
}

#[cfg(target_arch = "x86_64")]
impl Element<Avx512> for PairDot {
    const BYTES: usize = 4;
    const PLAIN: bool = true;

    #[inline(always)]
    unsafe fn load(s: Avx512, at: *const u8, _: usize) -> <Avx512 as Simd>::V {
        // SAFETY: the caller's.
        unsafe { s.load_ptr(at.cast()) }
    }

    #[inline(always)]
    fn step(
        _: Avx512,
        x: <Avx512 as Simd>::V,
        y: <Avx512 as Simd>::V,
        sum: <Avx512 as Simd>::V,
    ) -> <Avx512 as Simd>::V {
        use std::arch::x86_64::{__m512bh, _mm512_dpbf16_ps};
        // SAFETY: registers of one size; only kernels compiled for AVX512-BF16 take this step, and
        // `Format::pairs` hands out their format only where the processor has it.
        unsafe {
            let [x, y] = [x, y].map(
                #[inline(always)]
                |v| std::mem::transmute::<<Avx512 as Simd>::V, __m512bh>(v),
            );
            _mm512_dpbf16_ps(sum, x, y)
        }
    }
}

impl<S: Simd> Element<S> for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(s: S, at: *const u8, _: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { s.load_bf16(at.cast()) }
    }
}

impl<S: Simd> Element<S> for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(s: S, at: *const u8, _: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { s.load_f16(at.cast()) }
    }
}

impl<S: Simd> Element<S> for Int8 {
    const BYTES: usize = 1;

    #[inline(always)]
    unsafe fn load(s: S, at: *const u8, _: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { s.load_int8(at.cast()) }
    }
}

const _: () = assert!(LANES == 16, "one register of AVX-512 is one vector");
