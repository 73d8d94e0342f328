//! Activation functions, alone and gated (act(gate) · up), with their derivatives.

use super::simd::{Simd, map, math, multiversion};
use rayon::prelude::*;

/// Elements of one task: some 20 µs of exponentials.
const CHUNK: usize = 1 << 14;

/// The activation functions that checkpoints name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · σ(x); `silu`, `swish`.
    Silu,
    /// x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2; `gelu_pytorch_tanh`, `gelu_new`.
    GeluTanh,
    /// x · Φ(x), the exact form; `gelu`.
    Gelu,
    /// max(x, 0).
    Relu,
    /// x · σ(1.702 x); `quick_gelu`.
    QuickGelu,
    /// The hyperbolic tangent; `tanh`.
    Tanh,
    /// σ(x) = 1 / (1 + e⁻ˣ), which gates are made of.
    Sigmoid,
}

/// One activation on vectors: its value, or its value and derivative.
trait Function<S: Simd>: Copy {
    fn value(self, s: S, x: S::V) -> S::V;
    fn with_derivative(self, s: S, x: S::V) -> (S::V, S::V);
}

/// x · σ(βx): SiLU for β = 1, QuickGELU for β = 1.702.
#[derive(Clone, Copy)]
struct Swish(f32);

impl<S: Simd> Function<S> for Swish {
    #[inline(always)]
    fn value(self, s: S, x: S::V) -> S::V {
        s.mul(x, math::sigmoid(s, s.mul(x, s.splat(self.0))))
    }

    #[inline(always)]
    fn with_derivative(self, s: S, x: S::V) -> (S::V, S::V) {
        let bx = s.mul(x, s.splat(self.0));
        let sigma = math::sigmoid(s, bx);
        // (x σ(βx))′ = σ + βx σ (1 − σ).
        let one_minus = s.sub(s.splat(1.0), sigma);
        (s.mul(x, sigma), s.fma(s.mul(bx, sigma), one_minus, sigma))
    }
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl GeluTanh {
    const INNER: f32 = 0.797_884_6; // √(2/π)
    const CUBIC: f32 = 0.044_715;

    /// tanh of the inner polynomial, and x².
    #[inline(always)]
    fn tanh<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
        let square = s.mul(x, x);
        let inner = s.mul(s.mul(x, s.splat(Self::INNER)), s.fma(square, s.splat(Self::CUBIC), s.splat(1.0)));
        (math::tanh(s, inner), square)
    }
}

impl<S: Simd> Function<S> for GeluTanh {
    #[inline(always)]
    fn value(self, s: S, x: S::V) -> S::V {
        let (t, _) = Self::tanh(s, x);
        let half = s.mul(x, s.splat(0.5));
        s.fma(half, t, half)
    }

    #[inline(always)]
    fn with_derivative(self, s: S, x: S::V) -> (S::V, S::V) {
        let (t, square) = Self::tanh(s, x);
        let (one, half) = (s.splat(1.0), s.mul(x, s.splat(0.5)));
        let inner = s.mul(s.splat(Self::INNER), s.fma(square, s.splat(3.0 * Self::CUBIC), one));
        let rest = s.mul(s.mul(half, s.fma(s.neg(t), t, one)), inner);
        (s.fma(half, t, half), s.fma(s.splat(0.5), s.add(one, t), rest))
    }
}

#[derive(Clone, Copy)]
struct Gelu;

impl<S: Simd> Function<S> for Gelu {
    #[inline(always)]
    fn value(self, s: S, x: S::V) -> S::V {
        s.mul(x, math::normal_cdf(s, x))
    }

    #[inline(always)]
    fn with_derivative(self, s: S, x: S::V) -> (S::V, S::V) {
        let cdf = math::normal_cdf(s, x);
        // The density φ(x) = exp(−x²/2) / √(2π).
        let density = s.mul(s.splat(0.398_942_3), math::exp(s, s.mul(s.mul(x, x), s.splat(-0.5))));
        (s.mul(x, cdf), s.fma(x, density, cdf))
    }
}

#[derive(Clone, Copy)]
struct Relu;

impl<S: Simd> Function<S> for Relu {
    #[inline(always)]
    fn value(self, s: S, x: S::V) -> S::V {
        s.max(s.splat(0.0), x)
    }

    #[inline(always)]
    fn with_derivative(self, s: S, x: S::V) -> (S::V, S::V) {
        let zero = s.splat(0.0);
        (s.max(zero, x), s.select_lt(zero, x, s.splat(1.0), zero))
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl<S: Simd> Function<S> for Tanh {
    #[inline(always)]
    fn value(self, s: S, x: S::V) -> S::V {
        math::tanh(s, x)
    }

    #[inline(always)]
    fn with_derivative(self, s: S, x: S::V) -> (S::V, S::V) {
        let t = math::tanh(s, x);
        (t, s.fma(s.neg(t), t, s.splat(1.0)))
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;

impl<S: Simd> Function<S> for Sigmoid {
    #[inline(always)]
    fn value(self, s: S, x: S::V) -> S::V {
        math::sigmoid(s, x)
    }

    #[inline(always)]
    fn with_derivative(self, s: S, x: S::V) -> (S::V, S::V) {
        let sigma = math::sigmoid(s, x);
        (sigma, s.mul(sigma, s.sub(s.splat(1.0), sigma)))
    }
}

/// Runs `$body` with `$f` bound to the function that `$act` names: one loop per function, so that
/// the choice is made once and not per element.
macro_rules! with_function {
    ($act:expr, $f:ident => $body:expr) => {
        match $act {
            Activation::Silu => {
                let $f = Swish(1.0);
                $body
            }
            Activation::QuickGelu => {
                let $f = Swish(1.702);
                $body
            }
            Activation::GeluTanh => {
                let $f = GeluTanh;
                $body
            }
            Activation::Gelu => {
                let $f = Gelu;
                $body
            }
            Activation::Relu => {
                let $f = Relu;
                $body
            }
            Activation::Tanh => {
                let $f = Tanh;
                $body
            }
            Activation::Sigmoid => {
                let $f = Sigmoid;
                $body
            }
        }
    };
}

multiversion! { fn activate_chunk(act: Activation, x: &[f32], out: &mut [f32]) = activate_body; }
multiversion! {
    fn activate_backward_chunk(act: Activation, x: &[f32], dout: &[f32], dx: &mut [f32]) = activate_backward_body;
}
multiversion! { fn gated_chunk(act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) = gated_body; }
multiversion! {
    fn gated_backward_chunk(
        act: Activation, gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32],
    ) = gated_backward_body;
}

#[inline(always)]
fn activate_body<S: Simd>(s: S, act: Activation, x: &[f32], out: &mut [f32]) {
    with_function!(act, f => map(s, [x], [out], #[inline(always)] |[x], _| [f.value(s, x)]));
}

#[inline(always)]
fn activate_backward_body<S: Simd>(s: S, act: Activation, x: &[f32], dout: &[f32], dx: &mut [f32]) {
    with_function!(act, f => map(s, [x, dout], [dx], #[inline(always)] |[x, d], _| {
        [s.mul(d, f.with_derivative(s, x).1)]
    }));
}

#[inline(always)]
fn gated_body<S: Simd>(s: S, act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    with_function!(act, f => map(s, [gate, up], [out], #[inline(always)] |[g, u], _| [s.mul(f.value(s, g), u)]));
}

#[inline(always)]
fn gated_backward_body<S: Simd>(
    s: S,
    act: Activation,
    gate: &[f32],
    up: &[f32],
    dout: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    with_function!(act, f => map(s, [gate, up, dout], [dgate, dup], #[inline(always)] |[g, u, d], _| {
        let (value, slope) = f.with_derivative(s, g);
        [s.mul(s.mul(d, u), slope), s.mul(d, value)]
    }));
}

multiversion! {
    fn softcap_chunk(x: &mut [f32], cap: f32) = softcap_body;
}

#[inline(always)]
pub(super) fn softcap_body<S: Simd>(s: S, x: &mut [f32], cap: f32) {
    let cap = s.splat(cap);
    map(
        s,
        [],
        [x],
        #[inline(always)]
        |[], [x]| [s.mul(cap, math::tanh(s, s.div(x, cap)))],
    );
}

multiversion! {
    fn softcap_backward_chunk(capped: &[f32], cap: f32, dx: &mut [f32]) = softcap_backward_body;
}

#[inline(always)]
fn softcap_backward_body<S: Simd>(s: S, capped: &[f32], cap: f32, dx: &mut [f32]) {
    let (cap, one) = (s.splat(cap), s.splat(1.0));
    map(
        s,
        [capped],
        [dx],
        #[inline(always)]
        |[y], [dx]| {
            let t = s.div(y, cap);
            [s.mul(dx, s.fma(s.neg(t), t, one))]
        },
    );
}

/// dx ← dx · (1 − (y/cap)²), the gradient of [`softcap`] from its output y.
///
/// # Panics
/// When lengths differ.
pub fn softcap_backward(capped: &[f32], cap: f32, dx: &mut [f32]) {
    assert_eq!(capped.len(), dx.len(), "softcap_backward: capped and dx differ in length");
    if dx.len() <= CHUNK {
        return softcap_backward_chunk(capped, cap, dx);
    }
    let chunks = capped.par_chunks(CHUNK).zip(dx.par_chunks_mut(CHUNK));
    chunks.for_each(|(capped, dx)| softcap_backward_chunk(capped, cap, dx));
}

/// x ← cap · tanh(x / cap): Gemma's bound on attention scores and logits.
pub fn softcap(x: &mut [f32], cap: f32) {
    if x.len() <= CHUNK {
        return softcap_chunk(x, cap);
    }
    x.par_chunks_mut(CHUNK).for_each(|x| softcap_chunk(x, cap));
}

/// out = act(x).
///
/// # Panics
/// When lengths differ; so for the other functions here.
pub fn activate(act: Activation, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "activate: x and out differ in length");
    if x.len() <= CHUNK {
        return activate_chunk(act, x, out);
    }
    let chunks = x.par_chunks(CHUNK).zip(out.par_chunks_mut(CHUNK));
    chunks.for_each(|(x, out)| activate_chunk(act, x, out));
}

/// dx = dout · act′(x), overwriting `dx`.
pub fn activate_backward(act: Activation, x: &[f32], dout: &[f32], dx: &mut [f32]) {
    assert!(x.len() == dout.len() && x.len() == dx.len(), "activate_backward: x, dout, dx differ in length");
    if x.len() <= CHUNK {
        return activate_backward_chunk(act, x, dout, dx);
    }
    let chunks = x.par_chunks(CHUNK).zip(dout.par_chunks(CHUNK)).zip(dx.par_chunks_mut(CHUNK));
    chunks.for_each(|((x, dout), dx)| activate_backward_chunk(act, x, dout, dx));
}

/// out = act(gate) · up.
pub fn gated(act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gated: gate, up, out differ in length");
    if gate.len() <= CHUNK {
        return gated_chunk(act, gate, up, out);
    }
    let chunks = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(out.par_chunks_mut(CHUNK));
    chunks.for_each(|((gate, up), out)| gated_chunk(act, gate, up, out));
}

/// dgate = dout · up · act′(gate) and dup = dout · act(gate), overwriting both.
pub fn gated_backward(
    act: Activation,
    gate: &[f32],
    up: &[f32],
    dout: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    let len = gate.len();
    let same = up.len() == len && dout.len() == len && dgate.len() == len && dup.len() == len;
    assert!(same, "gated_backward: gate, up, dout, dgate, dup differ in length");
    if len <= CHUNK {
        return gated_backward_chunk(act, gate, up, dout, dgate, dup);
    }
    let inputs = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(dout.par_chunks(CHUNK));
    let outputs = dgate.par_chunks_mut(CHUNK).zip(dup.par_chunks_mut(CHUNK));
    inputs.zip(outputs).for_each(|(((gate, up), dout), (dgate, dup))| {
        gated_backward_chunk(act, gate, up, dout, dgate, dup);
    });
}
