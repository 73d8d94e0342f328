//! Block formats: from stored bytes to f32, and from f32 to q8_0.
//!
//! Every layout below is that of the structs `block_q…` in ggml's `ggml-common.h`, and the order of
//! arithmetic is that of `dequantize_row_…` in `ggml-quants.c`, so the values agree to the bit. All
//! numbers are little-endian; `d`, `m` and `dmin` are f16. Blocks are independent of each other, so
//! they are worked on in parallel without any influence on the result.

use half::{bf16, f16};
use rayon::prelude::*;

use super::types::GgufType;

/// Blocks that one thread takes at a time.
const AT_A_TIME: usize = 256;

/// The values in `bytes`, which hold whole blocks of type `kind`, as many as `out` has room for.
pub(super) fn dequantise(kind: GgufType, bytes: &[u8], out: &mut [f32]) {
    let block: fn(&[u8], &mut [f32]) = match kind {
        GgufType::F32 => |b, o| o[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        GgufType::F16 => |b, o| o[0] = half_at(b, 0),
        GgufType::BF16 => |b, o| o[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
        GgufType::Q4_0 => q4_0,
        GgufType::Q4_1 => q4_1,
        GgufType::Q5_0 => q5_0,
        GgufType::Q5_1 => q5_1,
        GgufType::Q8_0 => q8_0,
        GgufType::Q2K => q2_k,
        GgufType::Q3K => q3_k,
        GgufType::Q4K => q4_k,
        GgufType::Q5K => q5_k,
        GgufType::Q6K => q6_k,
    };
    bytes
        .par_chunks_exact(kind.block_bytes())
        .zip(out.par_chunks_exact_mut(kind.block()))
        .with_min_len(AT_A_TIME)
        .for_each(|(bytes, out)| block(bytes, out));
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// `d`, 16 bytes: value i is the low half of byte i, value i + 16 the high half. x = d (q − 8).
fn q4_0(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    for (i, &q) in b[2..18].iter().enumerate() {
        out[i] = (f32::from(q & 15) - 8.0) * d;
        out[i + 16] = (f32::from(q >> 4) - 8.0) * d;
    }
}

/// `d`, `m`, 16 bytes as in q4_0. x = d q + m.
fn q4_1(b: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for (i, &q) in b[4..20].iter().enumerate() {
        out[i] = f32::from(q & 15) * d + m;
        out[i + 16] = f32::from(q >> 4) * d + m;
    }
}

/// `d`, 32 fifth bits, 16 bytes as in q4_0. x = d (q − 16).
fn q5_0(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    for (i, q) in five_bits(&b[2..22]).into_iter().enumerate() {
        out[i] = (f32::from(q) - 16.0) * d;
    }
}

/// `d`, `m`, 32 fifth bits, 16 bytes as in q4_0. x = d q + m.
fn q5_1(b: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for (i, q) in five_bits(&b[4..24]).into_iter().enumerate() {
        out[i] = f32::from(q) * d + m;
    }
}

/// 32 values whose fifth bits are the bits of the first four bytes.
fn five_bits(b: &[u8]) -> [u8; 32] {
    let high = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    std::array::from_fn(|i| {
        let low = if i < 16 { b[4 + i] & 15 } else { b[4 + i - 16] >> 4 };
        low | (((high >> i) & 1) as u8) << 4
    })
}

/// `d`, 32 signed bytes. x = d q.
fn q8_0(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    for (x, &q) in out.iter_mut().zip(&b[2..34]) {
        *x = f32::from(q as i8) * d;
    }
}

/// 16 bytes with a 4-bit scale (low) and minimum (high) per 16 values; 64 bytes of 2-bit values;
/// `d`, `dmin`. Within each half of 128 values, byte l holds values l, l + 32, l + 64, l + 96.
/// x = d s q − dmin m.
fn q2_k(b: &[u8], out: &mut [f32]) {
    let (scales, values) = (&b[..16], &b[16..80]);
    let (d, dmin) = (half_at(b, 80), half_at(b, 82));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[group] & 15);
        let minimum = dmin * f32::from(scales[group] >> 4);
        let (half, shift, first) = (group / 8, group / 2 % 4 * 2, group % 2 * 16);
        for (x, &q) in out.iter_mut().zip(&values[half * 32 + first..]) {
            *x = scale * f32::from((q >> shift) & 3) - minimum;
        }
    }
}

/// 32 bytes of third bits, 64 bytes of 2-bit values ordered as in q2_k, 12 bytes with sixteen 6-bit
/// scales, `d`. A third bit that is *not* set lowers the value by 4. x = d (s − 32) q.
fn q3_k(b: &[u8], out: &mut [f32]) {
    let (high, values, scales) = (&b[..32], &b[32..96], &b[96..108]);
    let d = half_at(b, 108);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        // The low four bits of scales 0–7 and 8–15 share bytes 0–7; bytes 8–11 have the upper two.
        let low = if group < 8 { scales[group] & 15 } else { scales[group - 8] >> 4 };
        let upper = (scales[8 + group % 4] >> (group / 4 * 2)) & 3;
        let scale = d * (f32::from(low | upper << 4) - 32.0);
        let (half, row, first) = (group / 8, group / 2, group % 2 * 16);
        let shift = row % 4 * 2;
        for (i, x) in out.iter_mut().enumerate() {
            let l = first + i;
            let low = f32::from((values[half * 32 + l] >> shift) & 3);
            let lowered = if (high[l] >> row) & 1 == 1 { low } else { low - 4.0 };
            *x = scale * lowered;
        }
    }
}

/// `d`, `dmin`, 12 bytes with eight 6-bit scales and minima, 128 bytes: within each quarter of 64
/// values, byte l holds value l (low) and value l + 32 (high). x = d s q − dmin m.
fn q4_k(b: &[u8], out: &mut [f32]) {
    let scales = scales_and_minima(b);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scales[group];
        let bytes = &b[16 + group / 2 * 32..];
        for (x, &q) in out.iter_mut().zip(bytes) {
            *x = scale * f32::from((q >> (group % 2 * 4)) & 15) - minimum;
        }
    }
}

/// As q4_k, with 32 bytes of fifth bits before the 128: bit g of byte l is for value l of group g.
fn q5_k(b: &[u8], out: &mut [f32]) {
    let scales = scales_and_minima(b);
    let high = &b[16..48];
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scales[group];
        let bytes = &b[48 + group / 2 * 32..];
        for ((x, &q), &h) in out.iter_mut().zip(bytes).zip(high) {
            let q = (q >> (group % 2 * 4)) & 15 | ((h >> group) & 1) << 4;
            *x = scale * f32::from(q) - minimum;
        }
    }
}

/// Scale and minimum of the eight groups of q4_k and q5_k, already multiplied by `d` and `dmin`.
///
/// Of the 12 bytes, the first four have scales 0–3 and the next four minima 0–3 in their low six
/// bits; the last four have the low halves of scales (low) and minima (high) 4–7, whose two upper
/// bits are the upper bits of the first eight bytes.
fn scales_and_minima(b: &[u8]) -> [(f32, f32); 8] {
    let (d, dmin, packed) = (half_at(b, 0), half_at(b, 2), &b[4..16]);
    std::array::from_fn(|group| {
        let (scale, minimum) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            let rest = packed[group + 4];
            (rest & 15 | packed[group - 4] >> 6 << 4, rest >> 4 | packed[group] >> 6 << 4)
        };
        (d * f32::from(scale), dmin * f32::from(minimum))
    })
}

/// 128 bytes of low halves, 64 bytes with two upper bits each, 16 signed scales, `d`. Within each
/// half of 128 values, low halves are byte l (values l and l + 64) for l < 64, and the upper bits of
/// values l, l + 32, l + 64, l + 96 are in byte l. x = d s (q − 32).
fn q6_k(b: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&b[..128], &b[128..192], &b[192..208]);
    let d = half_at(b, 208);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[group] as i8);
        let (half, row, first) = (group / 8, group / 2 % 4, group % 2 * 16);
        for (i, x) in out.iter_mut().enumerate() {
            let l = first + i;
            let nibble = (low[half * 64 + row % 2 * 32 + l] >> (row / 2 * 4)) & 15;
            let upper = (high[half * 32 + l] >> (row * 2)) & 3;
            *x = scale * (f32::from(nibble | upper << 4) - 32.0);
        }
    }
}

/// Appends `values`, whole blocks of them, in one of the types of [`GgufType::WRITABLE`].
///
/// q8_0 is `quantize_row_q8_0_ref`: d = max |x| / 127, q = x / d rounded, halves away from zero.
///
/// # Panics
/// On a type that cannot be written; callers check.
pub(super) fn quantise(kind: GgufType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() / kind.block() * kind.block_bytes()];
    let block: fn(&[f32], &mut [u8]) = match kind {
        GgufType::F32 => |x, b| b.copy_from_slice(&x[0].to_le_bytes()),
        GgufType::F16 => |x, b| b.copy_from_slice(&f16::from_f32(x[0]).to_le_bytes()),
        GgufType::BF16 => |x, b| b.copy_from_slice(&bf16::from_f32(x[0]).to_le_bytes()),
        GgufType::Q8_0 => to_q8_0,
        other => unreachable!("{other} is not written"),
    };
    bytes
        .par_chunks_exact_mut(kind.block_bytes())
        .zip(values.par_chunks_exact(kind.block()))
        .with_min_len(AT_A_TIME)
        .for_each(|(bytes, values)| block(values, bytes));
    bytes
}

fn to_q8_0(values: &[f32], b: &mut [u8]) {
    let largest = values.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let d = largest / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    b[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, x) in b[2..].iter_mut().zip(values) {
        *q = (x * inverse).round() as i8 as u8;
    }
}

#[cfg(test)]
mod tests;
