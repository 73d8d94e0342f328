//! Sixteen lanes of f32 at every instruction-set level, and the choice among levels.
//!
//! A kernel is written once as a generic `#[inline(always)]` body over [`Simd`] and instantiated
//! inside one `#[target_feature]` function per level by [`multiversion!`]. The vector is sixteen
//! lanes wide everywhere (one AVX-512 register, two of AVX2, an array elsewhere), so that sums
//! have the same shape, hence the same bits, whatever the machine's registers are. AVX-512 and
//! AVX2 agree bit for bit; the portable level does too where the target has fused multiply-add
//! (aarch64), and rounds products separately where it has not.
//!
//! The level types are tokens: whoever holds an [`Avx512`] knows that the processor has the
//! instructions, which is what makes the trait's methods safe to call.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
pub(super) mod forced;
pub(super) mod math;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512;
pub(super) use portable::Portable;
use std::sync::OnceLock;

/// Lanes of a vector, at every level.
pub(super) const LANES: usize = 16;

/// One instruction-set level. `V` holds sixteen f32.
pub(super) trait Simd: Copy + Send + Sync + 'static {
    type V: Copy;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &[f32; LANES]) -> Self::V;
    fn store(self, v: Self::V, out: &mut [f32; LANES]);
    /// # Safety
    /// `x` points at sixteen readable f32, of any alignment.
    unsafe fn load_ptr(self, x: *const f32) -> Self::V;
    /// # Safety
    /// `out` points at sixteen writable f32, of any alignment.
    unsafe fn store_ptr(self, v: Self::V, out: *mut f32);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, with one rounding where the level has fused multiply-add.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: the second operand where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: the second operand where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// The nearest integer, ties to even, for magnitudes below 2²².
    fn round(self, a: Self::V) -> Self::V;
    /// `if a < b { yes } else { no }`, lane by lane.
    fn select_lt(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `x · 2ⁿ` with one rounding, for integral `n` in −160..=128 and `x` near one.
    fn ldexp(self, x: Self::V, n: Self::V) -> Self::V;
    /// Transposes a 16 × 16 block whose rows are the sixteen vectors.
    fn transpose(self, rows: &mut [Self::V; LANES]);

    /// Sixteen bf16 as f32.
    ///
    /// # Safety
    /// `x` points at sixteen readable bf16, of any alignment.
    #[inline(always)]
    unsafe fn load_bf16(self, x: *const u16) -> Self::V {
        // SAFETY: the caller's.
        let x = unsafe { x.cast::<[u16; LANES]>().read_unaligned() };
        let mut wide = [0.0; LANES];
        for (wide, x) in wide.iter_mut().zip(x) {
            *wide = f32::from_bits(u32::from(x) << 16);
        }
        self.load(&wide)
    }

    /// Sixteen f16 as f32.
    ///
    /// # Safety
    /// `x` points at sixteen readable f16, of any alignment.
    #[inline(always)]
    unsafe fn load_f16(self, x: *const u16) -> Self::V {
        // SAFETY: the caller's.
        let x = unsafe { x.cast::<[u16; LANES]>().read_unaligned() };
        let mut wide = [0.0; LANES];
        for (wide, x) in wide.iter_mut().zip(x) {
            *wide = half::f16::from_bits(x).to_f32();
        }
        self.load(&wide)
    }

    /// Sixteen signed bytes as f32.
    ///
    /// # Safety
    /// `x` points at sixteen readable bytes.
    #[inline(always)]
    unsafe fn load_int8(self, x: *const i8) -> Self::V {
        // SAFETY: the caller's.
        let x = unsafe { x.cast::<[i8; LANES]>().read_unaligned() };
        let mut wide = [0.0; LANES];
        for (wide, x) in wide.iter_mut().zip(x) {
            *wide = f32::from(x);
        }
        self.load(&wide)
    }

    /// The lower and the upper halves of sixteen pairs of bf16, as f32.
    #[inline(always)]
    fn halves(self, pairs: Self::V) -> [Self::V; 2] {
        let mut bits = [0.0; LANES];
        self.store(pairs, &mut bits);
        let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
        for ((pair, first), second) in bits.iter().zip(&mut first).zip(&mut second) {
            *first = f32::from_bits(pair.to_bits() << 16);
            *second = f32::from_bits(pair.to_bits() & 0xffff_0000);
        }
        [self.load(&first), self.load(&second)]
    }

    /// Rounds to bf16, to nearest with ties to even; the lower half of each lane becomes zero.
    #[inline(always)]
    fn round_bf16(self, x: Self::V) -> Self::V {
        let mut lanes = [0.0; LANES];
        self.store(x, &mut lanes);
        for x in &mut lanes {
            *x = half::bf16::from_f32(*x).to_f32();
        }
        self.load(&lanes)
    }

    /// Pairs of rounded values, the lower half from `first`, the upper from `second`.
    #[inline(always)]
    fn zip_bf16(self, first: Self::V, second: Self::V) -> Self::V {
        let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
        self.store(self.round_bf16(first), &mut a);
        self.store(self.round_bf16(second), &mut b);
        for (a, b) in a.iter_mut().zip(b) {
            *a = f32::from_bits(a.to_bits() >> 16 | b.to_bits());
        }
        self.load(&a)
    }

    /// Thirty-two values rounded to bf16 as sixteen pairs of neighbours: the first is the lower half.
    #[inline(always)]
    fn join_bf16(self, first: Self::V, second: Self::V) -> Self::V {
        let mut halves = [[0; LANES]; 2];
        self.store_bf16(first, &mut halves[0]);
        self.store_bf16(second, &mut halves[1]);
        let mut pairs = [0.0; LANES];
        for (pair, x) in pairs.iter_mut().zip(halves.as_flattened().as_chunks::<2>().0) {
            *pair = f32::from_bits(u32::from(x[0]) | u32::from(x[1]) << 16);
        }
        self.load(&pairs)
    }

    /// Sixteen values rounded to bf16, one after the other.
    #[inline(always)]
    fn store_bf16(self, x: Self::V, out: &mut [u16; LANES]) {
        let mut lanes = [0.0; LANES];
        self.store(self.round_bf16(x), &mut lanes);
        for (out, x) in out.iter_mut().zip(lanes) {
            *out = (x.to_bits() >> 16) as u16;
        }
    }

    /// Asks for the cache line at `x`, which need not be a valid address.
    #[inline(always)]
    fn prefetch(self, _x: *const f32) {}

    /// The same for what is needed later, which is kept out of the first-level cache.
    #[inline(always)]
    fn prefetch_far(self, _x: *const u8) {}

    #[inline(always)]
    fn neg(self, a: Self::V) -> Self::V {
        // Multiplying keeps the sign of zero right, which 0 − a would not.
        self.mul(a, self.splat(-1.0))
    }

    /// Up to sixteen values, the missing lanes set to `fill`.
    #[inline(always)]
    fn load_part(self, x: &[f32], fill: f32) -> Self::V {
        if let Some(full) = x.first_chunk() {
            return self.load(full);
        }
        let mut full = [fill; LANES];
        full[..x.len()].copy_from_slice(x);
        self.load(&full)
    }

    /// The first `out.len()` lanes.
    #[inline(always)]
    fn store_part(self, v: Self::V, out: &mut [f32]) {
        if let Some(full) = out.first_chunk_mut() {
            return self.store(v, full);
        }
        let mut full = [0.0; LANES];
        self.store(v, &mut full);
        out.copy_from_slice(&full[..out.len()]);
    }

    /// The sum of all lanes, always by the same tree: halves are added until one lane is left.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let mut x = [0.0; LANES];
        self.store(v, &mut x);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] += x[i + half];
            }
        }
        x[0]
    }

    /// The largest lane of those that hold no NaN.
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        let mut x = [0.0; LANES];
        self.store(v, &mut x);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] = if x[i] > x[i + half] { x[i] } else { x[i + half] };
            }
        }
        x[0]
    }
}

/// The level in use, with the token that proves it.
#[derive(Clone, Copy)]
pub(super) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable(Portable),
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            Level::Portable(_) => "portable",
        }
    }

    /// Every level this processor can run, best first.
    fn available() -> Vec<Level> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(Avx512::detect().map(Level::Avx512));
            levels.extend(Avx2::detect().map(Level::Avx2));
        }
        levels.push(Level::Portable(Portable));
        levels
    }
}

/// The best level, or the one that `wanted` names if the processor has it.
fn choose(wanted: Option<&str>) -> Level {
    let levels = Level::available();
    let Some(wanted) = wanted else { return levels[0] };
    levels.iter().copied().find(|l| l.name() == wanted).unwrap_or_else(|| {
        let names: Vec<_> = levels.iter().map(|l| l.name()).collect();
        tracing::warn!("AMEND_SIMD={wanted} is not one of {}; using {}", names.join(", "), names[0]);
        levels[0]
    })
}

/// The level every kernel of this process uses, chosen at the first call.
#[inline]
pub(super) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    #[cfg(test)]
    if let Some(level) = forced::get() {
        return level;
    }
    *LEVEL.get_or_init(|| choose(std::env::var("AMEND_SIMD").ok().as_deref()))
}

/// The instruction-set level in use: `avx512`, `avx2` or `portable`.
///
/// The best one of the processor, unless the environment variable `AMEND_SIMD` names a lower one.
pub fn simd_level() -> &'static str {
    level().name()
}

/// Compiles one generic body per level and dispatches to the level in use.
///
/// `fn name(args) -> ret = body;` where `body<S: Simd>(s: S, args) -> ret` is `#[inline(always)]`.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path;) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments)]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512(s: $crate::simd::Avx512, $($arg: $ty),*) $(-> $ret)? {
                $body(s, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments)]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2(s: $crate::simd::Avx2, $($arg: $ty),*) $(-> $ret)? {
                $body(s, $($arg),*)
            }
            match $crate::simd::level() {
                // SAFETY: the token exists only where the processor has these instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512(s) => unsafe { avx512(s, $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2(s) => unsafe { avx2(s, $($arg),*) },
                $crate::simd::Level::Portable(s) => $body(s, $($arg),*),
            }
        }
    };
}
pub(super) use multiversion;

/// Applies `f` lane by lane: `outputs = f(inputs, old outputs)`.
///
/// All slices have the same length. The last, incomplete vector goes through the same `f`, so
/// that an element's bits do not depend on where it stands.
#[inline(always)]
pub(super) fn map<S: Simd, const I: usize, const O: usize>(
    s: S,
    inputs: [&[f32]; I],
    outputs: [&mut [f32]; O],
    f: impl Fn([S::V; I], [S::V; O]) -> [S::V; O],
) {
    let len = outputs[0].len();
    let same = inputs.iter().all(|x| x.len() == len) && outputs.iter().all(|x| x.len() == len);
    assert!(same, "slices of one elementwise operation differ in length");
    // Plain loops fill the arrays: `array::map` is not always inlined, and then compiled without
    // the level's instructions.
    let (mut x, mut y) = ([s.splat(0.0); I], [s.splat(0.0); O]);
    let inputs = inputs.map(|x| x.as_chunks::<LANES>());
    let mut outputs = outputs.map(|y| y.as_chunks_mut::<LANES>());
    for c in 0..len / LANES {
        for (x, (full, _)) in x.iter_mut().zip(&inputs) {
            *x = s.load(&full[c]);
        }
        for (y, (full, _)) in y.iter_mut().zip(&outputs) {
            *y = s.load(&full[c]);
        }
        for (y, (full, _)) in f(x, y).iter().zip(&mut outputs) {
            s.store(*y, &mut full[c]);
        }
    }
    if !len.is_multiple_of(LANES) {
        for (x, (_, rest)) in x.iter_mut().zip(&inputs) {
            *x = s.load_part(rest, 0.0);
        }
        for (y, (_, rest)) in y.iter_mut().zip(&outputs) {
            *y = s.load_part(rest, 0.0);
        }
        for (y, (_, rest)) in f(x, y).iter().zip(&mut outputs) {
            s.store_part(*y, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LANES, Level, Simd, choose, forced};

    multiversion! {
        fn conversions(x: &[[f32; LANES]; 2]) -> Vec<u32> = conversions_body;
    }

    /// The bits of everything between f32 and narrower numbers.
    #[inline(always)]
    fn conversions_body<S: Simd>(s: S, x: &[[f32; LANES]; 2]) -> Vec<u32> {
        let (first, second) = (s.load(&x[0]), s.load(&x[1]));
        let [lower, upper] = s.halves(first);
        let mut stored = [0; LANES];
        s.store_bf16(first, &mut stored);
        let bytes: Vec<i8> = x[1].iter().map(|x| (x.to_bits() >> 16) as i8).collect();
        // SAFETY: both arrays have sixteen elements.
        let [bf16, f16, int8] = unsafe {
            [s.load_bf16(stored.as_ptr()), s.load_f16(stored.as_ptr()), s.load_int8(bytes.as_ptr())]
        };
        let (zipped, joined) = (s.zip_bf16(first, second), s.join_bf16(first, second));
        let mut seen = vec![s.largest(second).to_bits()];
        for v in [s.round_bf16(first), lower, upper, bf16, f16, int8, zipped, joined] {
            let mut lanes = [0.0; LANES];
            s.store(v, &mut lanes);
            seen.extend(lanes.map(f32::to_bits));
        }
        seen
    }

    #[test]
    fn narrow_numbers_are_the_same_at_every_level() {
        let mut rng = crate::Rng::at(&[1]);
        for round in 0..2000 {
            // Any bits at all, infinities and NaNs among them; NaNs are not for `largest`.
            let mut any = || (rng.uniform() * f64::from(u32::MAX)) as u32;
            let x = [(); 2].map(|()| [(); LANES].map(|()| f32::from_bits(any())));
            let x = if round % 2 == 0 { x.map(|x| x.map(|x| if x.is_nan() { 1.0 } else { x })) } else { x };
            let mut seen: Vec<_> = Level::available()
                .into_iter()
                .map(|level| forced::on(level, 1, || conversions(&x)))
                .collect();
            if round % 2 == 1 {
                seen.iter_mut().for_each(|seen| seen[0] = 0);
            }
            assert!(seen.windows(2).all(|two| two[0] == two[1]), "{x:?}");
        }
    }

    #[test]
    fn a_level_is_chosen_by_name_and_the_best_without_one() {
        for level in Level::available() {
            assert_eq!(choose(Some(level.name())).name(), level.name());
        }
        let best = Level::available()[0].name();
        assert_eq!(choose(None).name(), best);
        assert_eq!(choose(Some("sse9")).name(), best);
    }
}
