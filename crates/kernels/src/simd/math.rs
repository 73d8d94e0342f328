//! Transcendental functions on sixteen lanes.
//!
//! The polynomials are Chebyshev fits of our own, made in 40-digit arithmetic on the intervals
//! named at each function.

use super::Simd;

/// The value of a polynomial, highest coefficient first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, coefficients: [f32; N]) -> S::V {
    let mut value = s.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        value = s.fma(value, x, s.splat(c));
    }
    value
}

/// eˣ within 2 ulp: 0 below −104, infinite above 88.73, gradual underflow in between, NaN for NaN.
#[inline(always)]
pub(in super::super) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // Beyond these bounds the result is 0 or infinite anyway, and `ldexp` stays in its range.
    // The bounds come first so that a NaN passes through.
    let x = s.min(s.splat(89.0), s.max(s.splat(-110.0), x));
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, the first short enough to make
    // its product with n exact.
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-355.0 / 512.0), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // (eʳ − 1 − r) / r² on |r| ≤ 0.3475.
    let q =
        polynomial(s, r, [1.989_124_7e-4, 1.393_388_1e-3, 8.333_311e-3, 4.166_646_3e-2, 1.666_666_7e-1, 0.5]);
    let e = s.add(s.fma(s.mul(r, r), q, r), s.splat(1.0));
    s.ldexp(e, n)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(in super::super) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(s.splat(1.0), s.add(s.splat(1.0), exp(s, s.neg(x))))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(in super::super) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let zero = s.splat(0.0);
    let size = s.select_lt(x, zero, s.neg(x), x);
    // Near zero the exponential form would cancel: (tanh x − x) / x³ in x² for |x| < 0.632.
    let z = s.mul(x, x);
    let q = polynomial(s, z, [-6.045_165e-3, 2.096_133e-2, -5.384_326_3e-2, 1.333_271_9e-1, -3.333_332_8e-1]);
    let near = s.fma(s.mul(z, x), q, x);
    let far = s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(exp(s, s.add(size, size)), s.splat(1.0))));
    let far = s.select_lt(x, zero, s.neg(far), far);
    s.select_lt(size, s.splat(0.625), near, far)
}

/// The standard normal's cumulative distribution Φ(x) = (1 + erf(x/√2)) / 2.
///
/// erfc(z) = u · exp(−z² + P(u)) with u = 1/(1 + z/2), which keeps the relative accuracy of the
/// lower tail that 1 + erf would lose.
#[inline(always)]
pub(in super::super) fn normal_cdf<S: Simd>(s: S, x: S::V) -> S::V {
    let zero = s.splat(0.0);
    let one = s.splat(1.0);
    let z = s.mul(s.select_lt(x, zero, s.neg(x), x), s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let u = s.div(one, s.fma(z, s.splat(0.5), one));
    let p = polynomial(
        s,
        u,
        [
            0.148_046_05,
            -0.697_536_6,
            1.195_327_7,
            -0.746_469_9,
            -0.039_866_317,
            -0.019_508_003,
            0.041_395_964,
            0.385_283_63,
            0.998_782_46,
            -1.265_454_9,
        ],
    );
    let tail = s.mul(s.mul(s.splat(0.5), u), exp(s, s.fma(s.neg(z), z, p)));
    s.select_lt(x, zero, tail, s.sub(one, tail))
}
