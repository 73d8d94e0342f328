//! Number types and devices.

use std::fmt;

/// Where a tensor lives. More places come behind features; nothing outside the kernels asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// Main memory.
    Cpu,
}

/// Number type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit IEEE float: what everything is computed in.
    F32,
    /// The upper half of an f32.
    BF16,
    /// 16-bit IEEE float.
    F16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer: token ids.
    U32,
}

impl DType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::BF16 | DType::F16 => 2,
        }
    }

    /// Whether it is a float type, in which weights may be written.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::BF16 | DType::F16)
    }

    /// The name safetensors headers use.
    pub fn safetensors_name(self) -> &'static str {
        match self {
            DType::F32 => "F32",
            DType::BF16 => "BF16",
            DType::F16 => "F16",
            DType::I32 => "I32",
            DType::U32 => "U32",
        }
    }

    /// The name `config.json` uses under `torch_dtype`, for the float types.
    pub fn torch_name(self) -> &'static str {
        match self {
            DType::F32 => "float32",
            DType::BF16 => "bfloat16",
            DType::F16 => "float16",
            DType::I32 => "int32",
            DType::U32 => "uint32",
        }
    }

    /// Reads either spelling ("BF16", "bfloat16").
    pub fn parse(name: &str) -> Option<Self> {
        [DType::F32, DType::BF16, DType::F16, DType::I32, DType::U32]
            .into_iter()
            .find(|d| d.safetensors_name().eq_ignore_ascii_case(name) || d.torch_name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.safetensors_name().to_ascii_lowercase())
    }
}
