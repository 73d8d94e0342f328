//! The arithmetic of `amend`: tensors and the memory they live in, and the loops over their numbers.
//!
//! Besides the memory map of checkpoints this is the only place with `unsafe` code. It knows nothing of models
//! and waits for no other crate of ours. Kernels take and give plain f32 slices; [`linalg`] computes in f64. Within
//! a product, operands may be rounded to bf16, and a packed weight may be kept in bf16, f16 or int8 ([`Compute`],
//! [`Storage`]); sums are f32. What the engine promises rests on three rules that the kernels keep on any number of
//! threads:
//!
//! - An element of a matrix product is a chain of fused multiply-adds over ascending k, in blocks
//!   of a fixed length; see [`gemm`](gemm()).
//! - A row's softmax, log-sum-exp or norm depends on that row alone, and −∞ or zeros appended to it
//!   change nothing.
//! - Reductions of whole vectors add partial sums of fixed length in a fixed order.
//!
//! So scoring and decoding a sequence give the same bits alone, in a batch, in one pass or token
//! by token. Between processors the bits agree where both have fused multiply-add; those of bf16 products
//! where both, or neither, have the processor's instruction for them.
#![expect(unsafe_code, reason = "vector instructions and output rectangles shared out among threads")]

mod activation;
mod attention;
mod element;
mod error;
mod gemm;
pub mod linalg;
mod matrix;
mod norm;
mod optimizer;
mod pack;
mod packed;
mod pairs;
mod peak;
mod rng;
mod rope;
mod rows;
mod scratch;
mod simd;
pub mod tensor;
#[cfg(test)]
mod tests;
mod tile;
mod vector;

pub use activation::{
    Activation, activate, activate_backward, gated, gated_backward, softcap, softcap_backward,
};
pub use attention::{
    AttentionShape, KeyValues, Keys, PackedSequence, Segment, attention, attention_backward,
};
pub use error::{Error, Result};
pub use gemm::{Compute, gemm, gemm_bf16, gemm_packed, gemm_serial};
pub use matrix::{Mat, MatMut};
pub use norm::{layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};
pub use optimizer::{AdamWStep, adamw};
pub use packed::{Packed, Storage};
pub use peak::measured_peak;
pub use rng::Rng;
pub use rope::rope;
pub use rows::{argmax, log_sum_exp, scaled_exp, softmax_row, softmax_rows};
pub use simd::simd_level;
pub use tensor::{DType, Device, Tensor};
pub use vector::{PARTIAL, add, axpy, dot, mul, scale};
