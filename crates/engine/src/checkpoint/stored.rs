//! The number types a safetensors file may hold, and how each becomes a tensor.

use std::fmt;

use crate::{DType, Tensor};

/// Number type of a stored tensor. A file may hold types the engine does not compute in; they are
/// converted when asked for, or named in the error where that is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredType {
    /// A type that tensors have too.
    Native(DType),
    /// 64-bit float: read as f32.
    F64,
    /// 64-bit signed integer: read as i32 where the values fit.
    I64,
    /// 64-bit unsigned integer: read as i32 where the values fit.
    U64,
    /// 16-bit signed integer: read as i32.
    I16,
    /// 16-bit unsigned integer: read as i32.
    U16,
    /// 8-bit signed integer: read as i32.
    I8,
    /// 8-bit unsigned integer: read as i32.
    U8,
    /// Truth values in one byte each: read as i32.
    Bool,
    /// An 8-bit float or scale of a quantised checkpoint: cannot be read.
    Float8(&'static str),
}

const BYTE_FLOATS: [&str; 5] = ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"];

impl StoredType {
    /// Reads the spelling of safetensors headers ("BF16").
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "F32" => StoredType::Native(DType::F32),
            "F16" => StoredType::Native(DType::F16),
            "BF16" => StoredType::Native(DType::BF16),
            "I32" => StoredType::Native(DType::I32),
            "U32" => StoredType::Native(DType::U32),
            "F64" => StoredType::F64,
            "I64" => StoredType::I64,
            "U64" => StoredType::U64,
            "I16" => StoredType::I16,
            "U16" => StoredType::U16,
            "I8" => StoredType::I8,
            "U8" => StoredType::U8,
            "BOOL" => StoredType::Bool,
            other => StoredType::Float8(BYTE_FLOATS.into_iter().find(|known| *known == other)?),
        })
    }

    /// The spelling of safetensors headers.
    pub fn name(self) -> &'static str {
        match self {
            StoredType::Native(dtype) => dtype.safetensors_name(),
            StoredType::F64 => "F64",
            StoredType::I64 => "I64",
            StoredType::U64 => "U64",
            StoredType::I16 => "I16",
            StoredType::U16 => "U16",
            StoredType::I8 => "I8",
            StoredType::U8 => "U8",
            StoredType::Bool => "BOOL",
            StoredType::Float8(name) => name,
        }
    }

    /// The float type of tensors that it is, if any.
    pub(crate) fn float(self) -> Option<DType> {
        match self {
            StoredType::Native(dtype) => dtype.is_float().then_some(dtype),
            _ => None,
        }
    }

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            StoredType::Native(dtype) => dtype.size(),
            StoredType::F64 | StoredType::I64 | StoredType::U64 => 8,
            StoredType::I16 | StoredType::U16 => 2,
            StoredType::I8 | StoredType::U8 | StoredType::Bool | StoredType::Float8(_) => 1,
        }
    }

    /// [`decode`](Self::decode), in f32.
    pub(super) fn decode_f32(self, bytes: &[u8], shape: &[usize]) -> Result<Tensor, String> {
        match self {
            StoredType::Native(dtype @ (DType::BF16 | DType::F16)) => {
                Tensor::widened(bytes, shape, dtype).map_err(|e| e.to_string())
            }
            other => other.decode(bytes, shape).map(|tensor| tensor.to_f32()),
        }
    }

    /// The tensor in these little-endian bytes. Fails with a sentence about the content.
    pub(super) fn decode(self, bytes: &[u8], shape: &[usize]) -> Result<Tensor, String> {
        let integers = |values: Vec<i32>| {
            Tensor::from_bytes(bytemuck::cast_slice(&values), shape, DType::I32).map_err(|e| e.to_string())
        };
        match self {
            StoredType::Native(dtype) => Tensor::from_bytes(bytes, shape, dtype).map_err(|e| e.to_string()),
            StoredType::F64 => {
                let values: Vec<f32> = elements(bytes).map(|b| f64::from_le_bytes(b) as f32).collect();
                Tensor::from_f32(&values, shape).map_err(|e| e.to_string())
            }
            StoredType::I64 => {
                integers(elements(bytes).map(|b| narrow(i64::from_le_bytes(b))).collect::<Result<_, _>>()?)
            }
            StoredType::U64 => {
                integers(elements(bytes).map(|b| narrow(u64::from_le_bytes(b))).collect::<Result<_, _>>()?)
            }
            StoredType::I16 => integers(elements(bytes).map(|b| i16::from_le_bytes(b).into()).collect()),
            StoredType::U16 => integers(elements(bytes).map(|b| u16::from_le_bytes(b).into()).collect()),
            StoredType::I8 => integers(elements(bytes).map(|b| i8::from_le_bytes(b).into()).collect()),
            StoredType::U8 | StoredType::Bool => integers(bytes.iter().map(|&b| b.into()).collect()),
            StoredType::Float8(name) => {
                Err(format!("stored as {name}, an 8-bit float; convert the checkpoint to BF16 or F32 first"))
            }
        }
    }
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn narrow<T: TryInto<i32> + Copy + fmt::Display>(value: T) -> Result<i32, String> {
    value.try_into().map_err(|_| format!("holds the integer {value}, which does not fit 32 bits"))
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
