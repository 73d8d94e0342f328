//! Tensors: a contiguous typed buffer and a shape.
//!
//! A clone shares the buffer; writing to a shared one copies it first, so a frozen reference
//! model costs nothing until one of the two changes.

mod dtype;
mod memory;

use std::fmt;
use std::sync::Arc;

use bytemuck::Pod;
use rayon::prelude::*;

pub use dtype::{DType, Device};
pub(crate) use memory::Block;
pub use memory::{MemoryUse, memory_use, release_cached_memory, restart_peak};

use crate::error::{Error, Result};

/// Elements, or bytes, that one thread copies or converts at a time.
const PIECE: usize = 1 << 18;

/// A row-major array of numbers on a device.
#[derive(Clone)]
pub struct Tensor {
    storage: Arc<Block>,
    shape: Vec<usize>,
    dtype: DType,
    device: Device,
}

impl Tensor {
    /// Zeros of the given shape.
    pub fn zeros(shape: &[usize], dtype: DType) -> Self {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        Self::wrap(Block::zeroed(bytes), shape, dtype)
    }

    /// A tensor whose content is unspecified, for callers that overwrite all of it.
    pub fn stale(shape: &[usize]) -> Self {
        let bytes = shape.iter().product::<usize>() * 4;
        Self::wrap(Block::stale(bytes), shape, DType::F32)
    }

    /// A parameter's gradient whose content is unspecified.
    pub fn stale_gradient(shape: &[usize]) -> Self {
        let bytes = shape.iter().product::<usize>() * 4;
        Self::wrap(Block::for_gradient(bytes), shape, DType::F32)
    }

    /// An f32 tensor filled by `fill`, which must write every element.
    pub fn build(shape: &[usize], fill: impl FnOnce(&mut [f32])) -> Self {
        let mut tensor = Self::stale(shape);
        fill(tensor.f32_mut());
        tensor
    }

    /// An f32 tensor with the given values in row-major order.
    pub fn from_f32(values: &[f32], shape: &[usize]) -> Result<Self> {
        Self::from_bytes(bytemuck::cast_slice(values), shape, DType::F32)
    }

    /// A tensor from little-endian bytes as checkpoints store them.
    ///
    /// Fails where the number of bytes is not that of `shape` and `dtype`.
    pub fn from_bytes(bytes: &[u8], shape: &[usize], dtype: DType) -> Result<Self> {
        check_size(bytes, shape, dtype)?;
        let mut block = Block::for_weights(bytes.len());
        // Shared out, because fresh pages and a cold file cost far more than the copy itself.
        let pieces = block.bytes_mut().par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE));
        pieces.for_each(|(out, bytes)| out.copy_from_slice(bytes));
        Ok(Self::wrap(block, shape, dtype))
    }

    /// An f32 tensor from little-endian bytes of f16 or bf16, as weights are read: nothing is held in between.
    ///
    /// Fails where the number of bytes is not that of `shape`, or for another `dtype`.
    pub fn widened(bytes: &[u8], shape: &[usize], dtype: DType) -> Result<Self> {
        check_size(bytes, shape, dtype)?;
        let (halves, _) = bytes.as_chunks::<2>();
        let mut block = Block::for_weights(4 * halves.len());
        let out = bytemuck::cast_slice_mut(block.bytes_mut());
        match dtype {
            DType::BF16 => convert(halves, out, |x| half::bf16::from_le_bytes(x).to_f32()),
            DType::F16 => convert(halves, out, |x| half::f16::from_le_bytes(x).to_f32()),
            other => return Err(Error::invalid(format!("{other} is no type of 16-bit floats"))),
        }
        Ok(Self::wrap(block, shape, DType::F32))
    }

    fn wrap(block: Block, shape: &[usize], dtype: DType) -> Self {
        Tensor { storage: Arc::new(block), shape: shape.to_vec(), dtype, device: Device::Cpu }
    }

    /// Extent of every dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Size of the last dimension (1 for a scalar).
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows when every dimension but the last is one long list.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// The elements as f32.
    ///
    /// # Panics
    /// When the tensor has another type: convert it with [`Tensor::to_f32`] first.
    pub fn f32(&self) -> &[f32] {
        self.typed(DType::F32)
    }

    /// The elements as f32, for writing; copies the buffer first where it is shared.
    ///
    /// # Panics
    /// When the tensor has another type.
    pub fn f32_mut(&mut self) -> &mut [f32] {
        assert_eq!(self.dtype, DType::F32, "the tensor holds {}", self.dtype);
        bytemuck::cast_slice_mut(Arc::make_mut(&mut self.storage).bytes_mut())
    }

    fn typed<T: Pod>(&self, wanted: DType) -> &[T] {
        assert_eq!(self.dtype, wanted, "the tensor holds {}", self.dtype);
        bytemuck::cast_slice(self.storage.bytes())
    }

    /// The raw little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// The same values in f32 (no copy where they already are).
    pub fn to_f32(&self) -> Tensor {
        if self.dtype == DType::F32 {
            return self.clone();
        }
        Tensor::build(&self.shape, |out| match self.dtype {
            DType::BF16 => convert(self.typed::<half::bf16>(DType::BF16), out, |x| x.to_f32()),
            DType::F16 => convert(self.typed::<half::f16>(DType::F16), out, |x| x.to_f32()),
            DType::I32 => convert(self.typed::<i32>(DType::I32), out, |x| x as f32),
            DType::U32 => convert(self.typed::<u32>(DType::U32), out, |x| x as f32),
            DType::F32 => unreachable!("handled above"),
        })
    }

    /// The same values rounded to `dtype` (round to nearest, ties to even), through f32.
    pub fn to_dtype(&self, dtype: DType) -> Tensor {
        if self.dtype == dtype {
            return self.clone();
        }
        let source = self.to_f32();
        let mut block = Block::stale(self.len() * dtype.size());
        let bytes = block.bytes_mut();
        match dtype {
            DType::F32 => return source,
            DType::BF16 => convert(source.f32(), bytemuck::cast_slice_mut(bytes), half::bf16::from_f32),
            DType::F16 => convert(source.f32(), bytemuck::cast_slice_mut(bytes), half::f16::from_f32),
            DType::I32 => convert(source.f32(), bytemuck::cast_slice_mut(bytes), |x| x as i32),
            DType::U32 => convert(source.f32(), bytemuck::cast_slice_mut(bytes), |x| x as u32),
        }
        Self::wrap(block, &self.shape, dtype)
    }

    /// The same elements under another shape of equal size.
    pub fn reshape(mut self, shape: &[usize]) -> Result<Tensor> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::shape("reshape", shape, &self.shape));
        }
        self.shape = shape.to_vec();
        Ok(self)
    }

    /// The transpose of a matrix.
    pub fn transposed(&self) -> Tensor {
        if self.dtype != DType::F32 {
            return self.to_f32().transposed().to_dtype(self.dtype);
        }
        let (rows, columns) = (self.rows(), self.columns());
        Tensor::build(&[columns, rows], |out| {
            for (i, row) in self.f32().chunks_exact(columns.max(1)).enumerate() {
                row.iter().enumerate().for_each(|(j, &v)| out[j * rows + i] = v);
            }
        })
    }

    /// Inner product with a tensor of the same shape, in f64 with a fixed order.
    pub fn dot(&self, other: &Tensor) -> f64 {
        crate::dot(self.f32(), other.f32())
    }

    /// `f(self_i, other_i)` for tensors of the same shape.
    pub fn zip_map(&self, other: &Tensor, f: impl Fn(f32, f32) -> f32 + Sync) -> Tensor {
        let (a, b) = (self.f32(), other.f32());
        Tensor::build(self.shape(), |out| {
            out.par_chunks_mut(PIECE).zip(a.par_chunks(PIECE).zip(b.par_chunks(PIECE))).for_each(
                |(out, (a, b))| {
                    for (out, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
                        *out = f(a, b);
                    }
                },
            );
        })
    }

    /// Whether the two are the same buffer in memory.
    pub fn shares_storage(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }
}

fn check_size(bytes: &[u8], shape: &[usize], dtype: DType) -> Result<()> {
    if bytes.len() == shape.iter().product::<usize>() * dtype.size() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} bytes cannot fill a {dtype} tensor of shape {shape:?}", bytes.len())))
}

fn convert<A: Copy + Sync, B: Send>(from: &[A], to: &mut [B], f: impl Fn(A) -> B + Sync) {
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| {
        for (out, &x) in to.iter_mut().zip(from) {
            *out = f(x);
        }
    });
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor<{}>{:?}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_to_a_clone_leaves_the_original() {
        let original = Tensor::from_f32(&[1.0, 2.0], &[2]).unwrap();
        let mut clone = original.clone();
        assert!(clone.shares_storage(&original));
        clone.f32_mut()[0] = 5.0;
        assert_eq!(original.f32(), [1.0, 2.0]);
        assert_eq!(clone.f32(), [5.0, 2.0]);
    }

    #[test]
    fn half_types_round_trip_through_f32() {
        let values = [0.0, 1.5, -2.25, 65504.0];
        let tensor = Tensor::from_f32(&values, &[4]).unwrap();
        for dtype in [DType::F16, DType::BF16] {
            let once = tensor.to_dtype(dtype);
            assert_eq!(once.bytes(), once.to_f32().to_dtype(dtype).bytes());
            // As they are read from a file, at any address.
            let file = [&[0], once.bytes()].concat();
            assert_eq!(Tensor::widened(&file[1..], &[4], dtype).unwrap().f32(), once.to_f32().f32());
            assert!(Tensor::widened(&file, &[4], dtype).is_err());
            assert!(Tensor::widened(&file[1..], &[3], dtype).is_err());
        }
        assert_eq!(tensor.to_dtype(DType::F16).to_f32().f32(), values);
    }
}
