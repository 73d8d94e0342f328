//! The number types of GGUF tensors.
//!
//! Numbers, block lengths and block sizes are those of ggml's `ggml_type`; see
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md> for the list and
//! `ggml/src/ggml-common.h` for the blocks.

use std::fmt;

use crate::DType;

/// Number type of a GGUF tensor that can be read.
///
/// The types after the first three are block formats: a row is cut into blocks of [`GgufType::block`]
/// values, and every block has one or more scales of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GgufType {
    /// 32-bit IEEE float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// The upper half of an f32.
    BF16,
    /// 4 bits a value, one scale per 32.
    Q4_0,
    /// 4 bits a value, scale and minimum per 32.
    Q4_1,
    /// 5 bits a value, one scale per 32.
    Q5_0,
    /// 5 bits a value, scale and minimum per 32.
    Q5_1,
    /// 8 bits a value, one scale per 32.
    Q8_0,
    /// 2 bits a value in blocks of 256 with 4-bit scales and minima per 16.
    Q2K,
    /// 3 bits a value in blocks of 256 with 6-bit scales per 16.
    Q3K,
    /// 4 bits a value in blocks of 256 with 6-bit scales and minima per 32.
    Q4K,
    /// 5 bits a value in blocks of 256 with 6-bit scales and minima per 32.
    Q5K,
    /// 6 bits a value in blocks of 256 with 8-bit scales per 16.
    Q6K,
}

use GgufType::*;

/// Every readable type: number in the file, name, values per block, bytes per block.
const TYPES: [(GgufType, u32, &str, usize, usize); 13] = [
    (F32, 0, "f32", 1, 4),
    (F16, 1, "f16", 1, 2),
    (BF16, 30, "bf16", 1, 2),
    (Q4_0, 2, "q4_0", 32, 18),
    (Q4_1, 3, "q4_1", 32, 20),
    (Q5_0, 6, "q5_0", 32, 22),
    (Q5_1, 7, "q5_1", 32, 24),
    (Q8_0, 8, "q8_0", 32, 34),
    (Q2K, 10, "q2_k", 256, 84),
    (Q3K, 11, "q3_k", 256, 110),
    (Q4K, 12, "q4_k", 256, 144),
    (Q5K, 13, "q5_k", 256, 176),
    (Q6K, 14, "q6_k", 256, 210),
];

/// Types that exist and cannot be read, for a message that knows their names.
const OTHERS: [(u32, &str); 20] = [
    (9, "q8_1"),
    (15, "q8_k"),
    (16, "iq2_xxs"),
    (17, "iq2_xs"),
    (18, "iq3_xxs"),
    (19, "iq1_s"),
    (20, "iq4_nl"),
    (21, "iq3_s"),
    (22, "iq2_s"),
    (23, "iq4_xs"),
    (24, "i8"),
    (25, "i16"),
    (26, "i32"),
    (27, "i64"),
    (28, "f64"),
    (29, "iq1_m"),
    (34, "tq1_0"),
    (35, "tq2_0"),
    (39, "mxfp4"),
    (40, "nvfp4"),
];

impl GgufType {
    /// The types that tensors can be written in.
    pub const WRITABLE: [GgufType; 4] = [F32, F16, BF16, Q8_0];

    /// The type a file names by `number`, or a sentence about why it cannot be read.
    pub(super) fn from_number(number: u32) -> Result<Self, String> {
        if let Some(row) = TYPES.iter().find(|row| row.1 == number) {
            return Ok(row.0);
        }
        let known = TYPES.map(|row| row.2).join(", ");
        let found = match OTHERS.iter().find(|row| row.0 == number) {
            Some((_, name)) => format!("type {name} cannot be read"),
            None => format!("unknown number type {number}"),
        };
        Err(format!("{found}; take a file in one of {known}"))
    }

    fn row(self) -> &'static (GgufType, u32, &'static str, usize, usize) {
        &TYPES[TYPES.iter().position(|row| row.0 == self).unwrap_or_default()]
    }

    /// The number that stands for the type in a file.
    pub(super) fn number(self) -> u32 {
        self.row().1
    }

    /// The name, as in "q8_0".
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Values per block; the rows of a tensor are whole blocks.
    pub fn block(self) -> usize {
        self.row().3
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Bytes of `values` values, a multiple of the block; `None` where no machine has so many.
    pub(super) fn bytes(self, values: usize) -> Option<usize> {
        (values / self.block()).checked_mul(self.block_bytes())
    }

    /// The type that tensors in memory have too; `None` for block formats.
    pub fn native(self) -> Option<DType> {
        match self {
            F32 => Some(DType::F32),
            F16 => Some(DType::F16),
            BF16 => Some(DType::BF16),
            _ => None,
        }
    }

    /// The number under `general.file_type` for a file whose matrices have this type.
    pub(super) fn file_type(self) -> u32 {
        match self {
            F32 => 0,
            F16 => 1,
            Q4_0 => 2,
            Q4_1 => 3,
            Q8_0 => 7,
            Q5_0 => 8,
            Q5_1 => 9,
            Q2K => 10,
            Q3K => 12,
            Q4K => 15,
            Q5K => 17,
            Q6K => 18,
            BF16 => 32,
        }
    }
}

impl From<DType> for GgufType {
    /// The float types as they are; integers, which no weight has, as f32.
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F16 => F16,
            DType::BF16 => BF16,
            DType::F32 | DType::I32 | DType::U32 => F32,
        }
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
