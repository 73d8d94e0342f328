//! The number type in which a run writes models.

use amend_engine::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number type that models are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SaveType {
    /// 32 bits.
    F32,
    /// 16 bits, the range of f32.
    Bf16,
    /// 16 bits, more precise within a smaller range.
    F16,
}

impl SaveType {
    /// The engine's name for it.
    pub fn dtype(self) -> DType {
        match self {
            SaveType::F32 => DType::F32,
            SaveType::Bf16 => DType::BF16,
            SaveType::F16 => DType::F16,
        }
    }
}
