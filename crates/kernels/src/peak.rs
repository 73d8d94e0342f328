//! How fast this machine can multiply and add at all: what every other speed is measured against.

use super::simd::{LANES, Simd, multiversion};
use std::hint::black_box;
use std::time::Instant;

/// Chains of one task's loop. Six vectors of two half-registers each fill the sixteen registers of
/// AVX2; where a vector is one register, six chains are too few to hide the latency of two units.
const FEW: usize = 6;
/// Enough for two units with a latency of four or five, and well within the 32 registers of AVX-512.
const MANY: usize = 16;
/// Rounds of a loop between two looks at the clock: about ten milliseconds.
const STEPS: usize = 2_000_000;
/// How often each loop runs. The fastest run counts, because whatever else happens on a machine only
/// ever makes it slower.
const RUNS: usize = 12;

multiversion! {
    fn few_chains(steps: usize) -> f32 = few_chains_body;
}

multiversion! {
    fn many_chains(steps: usize) -> f32 = many_chains_body;
}

#[inline(always)]
fn few_chains_body<S: Simd>(s: S, steps: usize) -> f32 {
    chains::<S, FEW>(s, steps)
}

#[inline(always)]
fn many_chains_body<S: Simd>(s: S, steps: usize) -> f32 {
    chains::<S, MANY>(s, steps)
}

/// `N` independent chains of dependent multiply-adds that never leave the registers.
#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S, steps: usize) -> f32 {
    let (x, y) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
    let mut acc = [s.splat(0.0); N];
    // Different starts, unknown to the compiler: equal chains could be computed once.
    for (i, a) in acc.iter_mut().enumerate() {
        *a = s.splat(black_box(i as f32));
    }
    for _ in 0..steps {
        for a in &mut acc {
            *a = s.fma(*a, x, y);
        }
    }
    acc.into_iter().map(|a| s.sum(a)).sum()
}

/// Operations per second, a multiply-add counting as two, of f32 fused multiply-adds that need no memory,
/// on all threads of the current pool at the instruction-set level in use.
///
/// Measured now, in some tenths of a second: a processor's clock and its neighbours change, so a peak
/// from another day or process says little.
pub fn measured_peak() -> f64 {
    let threads = rayon::current_num_threads();
    let rate = |chains: usize, run: fn(usize) -> f32| {
        let seconds = (0..RUNS).map(|_| {
            let start = Instant::now();
            rayon::broadcast(|_| black_box(run(STEPS)));
            start.elapsed().as_secs_f64()
        });
        let fastest = seconds.fold(f64::INFINITY, f64::min);
        (threads * chains * STEPS * LANES * 2) as f64 / fastest
    };
    rate(FEW, few_chains).max(rate(MANY, many_chains))
}
