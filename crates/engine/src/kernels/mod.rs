//! stub
#![allow(missing_docs, unused_variables, clippy::todo, clippy::too_many_arguments)]
#[derive(Clone, Copy)] pub struct Mat<'a> { pub data: &'a [f32], pub rows: usize, pub cols: usize, pub row_stride: usize, pub col_stride: usize }
impl<'a> Mat<'a> { pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self { Mat{data,rows,cols,row_stride:cols,col_stride:1} } pub fn t(self)->Self {Mat{data:self.data,rows:self.cols,cols:self.rows,row_stride:self.col_stride,col_stride:self.row_stride}} }
pub struct MatMut<'a> { pub data: &'a mut [f32], pub rows: usize, pub cols: usize, pub row_stride: usize }
impl<'a> MatMut<'a> { pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self { MatMut{data,rows,cols,row_stride:cols} } }
pub fn gemm(a: Mat, b: Mat, c: MatMut, accumulate: bool) { todo!() }
#[derive(Debug)] pub struct Packed; impl Packed { pub fn new(b: Mat) -> Self {todo!()} pub fn bytes(&self)->usize {todo!()} }
pub fn gemm_packed(a: Mat, b: &Packed, c: MatMut, accumulate: bool) {todo!()}
pub fn softmax_rows(x: &mut [f32], cols: usize) {todo!()}
pub fn log_sum_exp(x: &[f32]) -> f32 {todo!()}
pub fn argmax(x: &[f32]) -> usize {todo!()}
pub fn rms_norm(x: &[f32], weight: &[f32], offset: f32, eps: f32, out: &mut [f32], inv_rms: &mut [f32]) {todo!()}
pub fn rms_norm_backward(x: &[f32], weight: &[f32], offset: f32, inv_rms: &[f32], dout: &[f32], dx: &mut [f32], dweight: Option<&mut [f32]>) {todo!()}
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum Activation { Silu, GeluTanh, Gelu, Relu, QuickGelu }
pub fn gated(act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {todo!()}
pub fn gated_backward(act: Activation, gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {todo!()}
pub fn rope(x: &mut [f32], heads: usize, head_dim: usize, positions: &[u32], cos: &[f32], sin: &[f32], inverse: bool) {todo!()}
#[derive(Clone, Debug, PartialEq)] pub struct AttentionShape { pub heads: usize, pub kv_heads: usize, pub head_dim: usize, pub scale: f32, pub causal: bool, pub window: Option<usize>, pub softcap: Option<f32> }
pub struct Segment<'a> { pub q_rows: std::ops::Range<usize>, pub k: &'a [f32], pub v: &'a [f32], pub keys: usize, pub first_query: usize }
pub fn attention(q: &[f32], segments: &[Segment], shape: &AttentionShape, out: &mut [f32], lse: Option<&mut [f32]>) {todo!()}
pub fn attention_backward(q: &[f32], k: &[f32], v: &[f32], out: &[f32], lse: &[f32], dout: &[f32], segments: &[std::ops::Range<usize>], shape: &AttentionShape, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {todo!()}
pub struct AdamWStep { pub lr: f32, pub beta1: f32, pub beta2: f32, pub eps: f32, pub weight_decay: f32, pub step: u64, pub grad_scale: f32 }
pub fn adamw(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamWStep) {todo!()}
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {todo!()}
pub fn scale(alpha: f32, x: &mut [f32]) {todo!()}
pub fn dot(x: &[f32], y: &[f32]) -> f64 {todo!()}
pub fn mul(x: &[f32], y: &[f32], out: &mut [f32]) {todo!()}
pub fn exp_minus(x: &mut [f32], c: f32) {todo!()}
