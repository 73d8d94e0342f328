//! One step of AdamW, fused into a single pass over memory.

use super::simd::{Simd, map, multiversion};
use rayon::prelude::*;

/// Elements of one task.
const CHUNK: usize = 1 << 14;

/// The constants of one AdamW step (Loshchilov and Hutter, 2019), as PyTorch names them.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled decay: the parameter is multiplied by 1 − lr · weight_decay first.
    pub weight_decay: f32,
    /// Number of this step, from 1.
    pub step: u64,
    /// Factor on the gradient, e.g. of norm clipping.
    pub grad_scale: f32,
}

/// What the loop over elements needs, computed once in double precision.
#[derive(Clone, Copy)]
struct Factors {
    grad: f32,
    decay: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    inv_root_correction2: f32,
    eps: f32,
    step_size: f32,
}

impl Factors {
    fn new(step: &AdamWStep) -> Self {
        let (lr, beta1, beta2) = (f64::from(step.lr), f64::from(step.beta1), f64::from(step.beta2));
        let t = step.step as f64;
        Factors {
            grad: step.grad_scale,
            decay: (1.0 - lr * f64::from(step.weight_decay)) as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: step.beta2,
            one_minus_beta2: (1.0 - beta2) as f32,
            inv_root_correction2: (1.0 / (1.0 - beta2.powf(t)).sqrt()) as f32,
            eps: step.eps,
            step_size: (lr / (1.0 - beta1.powf(t))) as f32,
        }
    }
}

/// Updates `param` and its moments `m`, `v` from `grad`; all `[n]`.
///
/// # Panics
/// When lengths differ.
pub fn adamw(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamWStep) {
    let len = param.len();
    assert!(
        grad.len() == len && m.len() == len && v.len() == len,
        "adamw: param, grad, m, v differ in length"
    );
    let factors = Factors::new(step);
    if len <= CHUNK {
        return update(param, grad, m, v, factors);
    }
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    let chunks = param.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK)).zip(moments);
    chunks.for_each(|((param, grad), (m, v))| update(param, grad, m, v, factors));
}

multiversion! {
    fn update(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], factors: Factors) = update_body;
}

#[inline(always)]
fn update_body<S: Simd>(s: S, param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], f: Factors) {
    let (scale, decay) = (s.splat(f.grad), s.splat(f.decay));
    let (rest1, beta2, rest2) = (s.splat(f.one_minus_beta1), s.splat(f.beta2), s.splat(f.one_minus_beta2));
    let (correction, eps, size) = (s.splat(f.inv_root_correction2), s.splat(f.eps), s.splat(-f.step_size));
    map(
        s,
        [grad],
        [param, m, v],
        #[inline(always)]
        |[g], [p, m, v]| {
            let g = s.mul(g, scale);
            let m = s.fma(rest1, s.sub(g, m), m);
            let v = s.fma(s.mul(rest2, g), g, s.mul(beta2, v));
            let root = s.fma(s.sqrt(v), correction, eps);
            [s.fma(size, s.div(m, root), s.mul(p, decay)), m, v]
        },
    );
}
