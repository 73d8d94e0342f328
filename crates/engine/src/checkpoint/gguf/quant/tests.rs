//! Block formats against the reference of the format's authors.
//!
//! The expected numbers were made with `gguf.quants` of the Python package gguf 0.19 from the same
//! bytes: the first two values in plain, and the FNV-1a hash of all of them as little-endian f32.

use half::f16;

use super::*;

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Three blocks of arbitrary bytes with sensible scales at the given places.
fn blocks(kind: GgufType, scales: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for k in 0..3usize {
        let byte = |i: usize| (((i * i * 7 + i * 13 + k * 101) >> 1) ^ (i * 31)) as u8;
        let mut block: Vec<u8> = (0..kind.block_bytes()).map(byte).collect();
        for (&at, scale) in scales.iter().zip([0.0123, -0.37]) {
            let scale = f16::from_f64(scale * (k + 1) as f64);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        bytes.extend(block);
    }
    bytes
}

fn values(kind: GgufType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / kind.block_bytes() * kind.block()];
    dequantise(kind, bytes, &mut out);
    out
}

#[test]
fn dequantising_agrees_to_the_bit() {
    let cases: [(GgufType, &[usize], [f32; 2], u64); 10] = [
        (GgufType::Q4_0, &[0], [-0.036_895_752, 0.073_791_504], 0x24f9_2840_ba71_05d9),
        (GgufType::Q4_1, &[0, 2], [-0.197_937_01, -0.333_221_44], 0x110d_c943_cc2b_f963),
        (GgufType::Q5_0, &[0], [0.184_478_76, -0.196_777_34], 0x7b2e_6f96_ec9e_6746),
        (GgufType::Q5_1, &[0, 2], [-0.222_534_18, -0.161_041_26], 0x9779_80d6_8a2f_242e),
        (GgufType::Q8_0, &[0], [0.455_047_6, 1.352_844_2], 0x0a72_61a3_d239_d973),
        (GgufType::Q2K, &[80, 82], [0.0, 0.0], 0x413d_1b2e_ec5e_7f4c),
        (GgufType::Q3K, &[108], [1.574_218_8, -0.393_554_7], 0xeb93_2525_cc3d_ca9d),
        (GgufType::Q4K, &[0, 2], [20.811_035, 23.639_71], 0x2360_b1d4_843c_b25e),
        (GgufType::Q5K, &[0, 2], [20.811_035, 32.691_467], 0x65f5_71e4_b863_80c6),
        (GgufType::Q6K, &[208], [37.781_25, 12.987_305], 0x89ff_068f_2f56_044e),
    ];
    for (kind, scales, first, hash) in cases {
        let values = values(kind, &blocks(kind, scales));
        assert_eq!(values[..2], first, "{kind}");
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(fnv(&bytes), hash, "{kind}");
    }
}

#[test]
fn quantising_agrees_to_the_byte() {
    let scales = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0];
    let value = |i: u64| {
        let unit = (i * 2_654_435_761 % (1 << 32)) as f64 / 4_294_967_296.0 * 2.0 - 1.0;
        (unit * scales[i as usize / 32]) as f32
    };
    let mut x: Vec<f32> = (0..256).map(value).collect();
    x[32..64].fill(0.0);
    // Halves are rounded away from zero.
    x[96] = 127.0;
    x[97..128].iter_mut().enumerate().for_each(|(i, x)| *x = i as f32 + 0.5);
    let bytes = quantise(GgufType::Q8_0, &x);
    assert_eq!(bytes[..6], [13, 0, 129, 30, 189, 90]);
    assert_eq!(fnv(&bytes), 0xe9c7_b6f3_6184_8124);
    assert_eq!(bytes[34 * 3 + 3..34 * 3 + 6], [1, 2, 3]);
}

#[test]
fn what_is_written_is_what_is_read() {
    let x: Vec<f32> = (0..64).map(|i| (i as f32 - 20.0) / 8.0).collect();
    for kind in GgufType::WRITABLE {
        let bytes = quantise(kind, &x);
        let read = values(kind, &bytes);
        assert_eq!(
            quantise(kind, &read),
            bytes,
            "{kind}: values that come from a file are exact in its type"
        );
        // Half a step of the block with the largest value, and the rounding of the step itself.
        let step = if kind == GgufType::Q8_0 { 43.0 / 8.0 / 127.0 } else { 0.0 };
        assert!(x.iter().zip(&read).all(|(a, b)| (a - b).abs() <= 0.57 * step), "{kind}");
    }
}
