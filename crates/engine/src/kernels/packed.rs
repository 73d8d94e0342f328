//! Right operands that are packed once and used many times, and the forms they can be kept in.

use rayon::prelude::*;

use super::element::Format;
use super::matrix::Mat;
use super::pack::{self, Single};
use super::pairs::Paired;
use super::scratch::Buffer;
use super::simd::{LANES, multiversion};
use super::tile::Tiles;

/// How a weight that only computes is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// As it is.
    #[default]
    F32,
    /// Rounded to bf16, half the memory; the arithmetic stays that of f32, so a weight that came in
    /// bf16 gives the same bits.
    Bf16,
    /// Rounded to 255 steps with one factor per output, a quarter of the memory.
    Int8,
}

impl Storage {
    /// Reads `f32`, `bf16` or `int8`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "f32" => Storage::F32,
            "bf16" => Storage::Bf16,
            "int8" => Storage::Int8,
            _ => return None,
        })
    }
}

/// A packed right operand, borrowed: `k` rows in panels of NR columns.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    /// Elements as bytes.
    pub(super) data: &'a [u8],
    pub(super) format: Format,
    /// Factors of the columns, where the format has them.
    pub(super) scales: &'a [f32],
    /// Rows that are stored.
    pub(super) k: usize,
    /// Columns.
    pub(super) n: usize,
    /// Rows to pass over at the start of each panel.
    pub(super) skip: usize,
}

impl<'a> Panels<'a> {
    /// The panel that starts at column `j`, a multiple of NR, and the bytes between two of its rows.
    pub(super) fn panel(self, j: usize, nr: usize) -> (&'a [u8], usize) {
        let size = self.format.bytes();
        let width = nr.min((self.n - j).next_multiple_of(LANES));
        (&self.data[(j * self.k + self.skip * width) * size..(j + width) * self.k * size], width * size)
    }

    /// All columns from `start` on, a multiple of NR.
    pub(super) fn columns_from(self, start: usize) -> Self {
        let scales = if self.scales.is_empty() { &[] } else { &self.scales[start..] };
        let data = &self.data[start * self.k * self.format.bytes()..];
        Panels { data, scales, n: self.n - start, ..self }
    }
}

/// Packs `b` into a thread's buffer, as f32 or as pairs.
pub(super) fn panels<'a>(b: Mat, format: Format, buffer: &'a mut Buffer) -> Panels<'a> {
    let steps = b.rows.div_ceil(format.width());
    buffer.stale(pack::right_len(steps, b.cols));
    pack_all(b, format.is_pairs(), buffer);
    Panels { data: bytemuck::cast_slice(buffer.all()), format, scales: &[], k: steps, n: b.cols, skip: 0 }
}

/// The right operand of a product, packed once and used many times: a weight that stays the same
/// over many decoding steps, or the output head.
pub struct Packed {
    buffer: Buffer,
    scales: Buffer,
    format: Format,
    k: usize,
    n: usize,
    /// Panel width of the level that packed it.
    nr: usize,
}

multiversion! {
    fn pack_all(b: Mat, paired: bool, buffer: &mut Buffer) -> usize = pack_all_body;
}

multiversion! {
    fn compress_all(b: Mat, scales: &[f32], out: &mut [u8], bf16: bool) -> usize = compress_all_body;
}

#[inline(always)]
fn pack_all_body<S: Tiles>(s: S, b: Mat, paired: bool, buffer: &mut Buffer) -> usize {
    if paired {
        pack::right::<S, Paired>(s, b, buffer.all_mut());
    } else {
        pack::right::<S, Single>(s, b, buffer.all_mut());
    }
    S::NR
}

/// Packs panel by panel and rounds each to bf16, or to steps of its columns' scales.
#[inline(always)]
fn compress_all_body<S: Tiles>(s: S, b: Mat, scales: &[f32], out: &mut [u8], bf16: bool) -> usize {
    let size = if bf16 { 2 } else { 1 };
    let mut panel = vec![0.0; S::NR * b.rows];
    for j in (0..b.cols).step_by(S::NR) {
        let columns = b.columns(j..b.cols.min(j + S::NR));
        let width = columns.cols.next_multiple_of(LANES);
        let panel = &mut panel[..width * b.rows];
        pack::right_panel::<S, Single>(s, columns, width, panel);
        let out = &mut out[j * b.rows * size..][..width * b.rows * size];
        if bf16 {
            let out: &mut [u16] = bytemuck::cast_slice_mut(out);
            for (x, out) in panel.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
                s.store_bf16(s.load(x), out);
            }
        } else {
            for (row, out) in panel.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                for ((&x, out), &scale) in row.iter().zip(out).zip(&scales[j..]) {
                    let steps = if scale > 0.0 { (x / scale).round_ties_even() } else { 0.0 };
                    *out = steps.clamp(-127.0, 127.0) as i8 as u8;
                }
            }
        }
    }
    S::NR
}

/// The factor of every column: its largest magnitude is 127 steps.
fn column_scales(b: &Mat) -> Buffer {
    let mut scales = Buffer::zeroed(b.cols.next_multiple_of(LANES));
    for (j, scale) in scales.all_mut()[..b.cols].iter_mut().enumerate() {
        let column = (0..b.rows).map(|k| b.data[k * b.row_stride + j * b.col_stride].abs());
        *scale = column.fold(0.0, f32::max) / 127.0;
    }
    scales
}

impl Packed {
    /// Packs `b` `[k, n]`.
    pub fn new(b: Mat) -> Self {
        Self::in_steps(b, Format::F32)
    }

    /// Packs `b` `[k, n]` for products in bf16, see [`gemm_bf16`](super::gemm_bf16).
    pub fn pairs(b: Mat) -> Self {
        Self::in_steps(b, Format::pairs())
    }

    fn in_steps(b: Mat, format: Format) -> Self {
        let mut buffer = Buffer::zeroed(pack::right_len(b.rows.div_ceil(format.width()), b.cols));
        let nr = pack_all(b.checked(), format.is_pairs(), &mut buffer);
        Packed { buffer, scales: Buffer::default(), format, k: b.rows, n: b.cols, nr }
    }

    /// Packs `b` `[k, n]` in a form that takes less memory.
    pub fn stored(b: Mat, storage: Storage) -> Self {
        let (format, scales) = match storage {
            Storage::F32 => return Packed::new(b),
            Storage::Bf16 => (Format::Bf16, Buffer::default()),
            Storage::Int8 => (Format::Int8, column_scales(&b.checked())),
        };
        let bytes = pack::right_len(b.rows, b.cols) * format.bytes();
        let mut buffer = Buffer::zeroed(bytes.div_ceil(4));
        let out: &mut [u8] = bytemuck::cast_slice_mut(buffer.all_mut());
        let nr = compress_all(b.checked(), scales.all(), out, storage == Storage::Bf16);
        Packed { buffer, scales, format, k: b.rows, n: b.cols, nr }
    }

    /// Packs `b` `[k, n]`, a whole matrix, in the smallest form that keeps every value: products have
    /// the bits of f32.
    pub fn lossless(b: Mat) -> Self {
        // The lower half of an f32 is what bf16 leaves out.
        let halves = |part: &[f32]| part.iter().all(|x| x.to_bits() << 16 == 0);
        let fits = b.data.par_chunks(1 << 16).all(halves);
        Packed::stored(b, if fits { Storage::Bf16 } else { Storage::F32 })
    }

    /// Memory the packed form takes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.buffer.all()) + size_of_val(self.scales.all())
    }

    /// Rows of the operand.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns of the operand.
    pub fn n(&self) -> usize {
        self.n
    }

    pub(super) fn panels(&self, nr: usize) -> Panels<'_> {
        assert_eq!(self.nr, nr, "the operand was packed for another instruction set");
        Panels {
            data: bytemuck::cast_slice(self.buffer.all()),
            format: self.format,
            scales: self.scales.all(),
            k: self.k.div_ceil(self.format.width()),
            n: self.n,
            skip: 0,
        }
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed {:?} [{}, {}]", self.format, self.k, self.n)
    }
}
