//! Right operands that are packed once and used many times, and the forms they can be kept in.

use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::tensor::Block;

use super::element::Format;
use super::gemm::columns_per_panel;
use super::matrix::Mat;
use super::pack::{self, Single, Step};
use super::pairs::Paired;
use super::scratch::Buffer;
use super::simd::{LANES, Simd, multiversion};

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
    let out = buffer.stale(pack::right_len(b.rows.div_ceil(format.width()), b.cols));
    each_panel(b, format, out).for_each(pack_one);
    borrowed(b, format, buffer)
}

/// [`panels`], on all threads.
pub(super) fn panels_of_all<'a>(b: Mat, format: Format, buffer: &'a mut Buffer) -> Panels<'a> {
    let out = buffer.stale(pack::right_len(b.rows.div_ceil(format.width()), b.cols));
    each_panel(b, format, out).par_bridge().for_each(pack_one);
    borrowed(b, format, buffer)
}

fn borrowed<'a>(b: Mat, format: Format, buffer: &'a Buffer) -> Panels<'a> {
    let data = bytemuck::cast_slice(buffer.all());
    Panels { data, format, scales: &[], k: b.rows.div_ceil(format.width()), n: b.cols, skip: 0 }
}

/// The columns of every panel, whether they become pairs, and the place of the packed form.
fn each_panel<'a>(
    b: Mat<'a>,
    format: Format,
    out: &'a mut [f32],
) -> impl Iterator<Item = (Mat<'a>, bool, &'a mut [f32])> {
    let (nr, steps) = (columns_per_panel(), b.rows.div_ceil(format.width()));
    let starts = (0..b.cols).step_by(nr);
    starts.zip(out.chunks_mut((nr * steps).max(1))).map(move |(j, out)| {
        let columns = b.columns(j..b.cols.min(j + nr));
        let length = columns.cols.next_multiple_of(LANES) * steps;
        (columns, format.is_pairs(), &mut out[..length])
    })
}

fn pack_one((columns, paired, out): (Mat, bool, &mut [f32])) {
    pack_panel(columns, paired, out);
}

/// The right operand of a product, packed once and used many times: a weight that stays the same
/// over many decoding steps, or the output head.
pub struct Packed {
    data: Block,
    scales: Buffer,
    format: Format,
    k: usize,
    n: usize,
    /// Panel width of the level that packed it.
    nr: usize,
}

multiversion! {
    /// Packs the columns of one panel, whose width follows from the length of `out`.
    pub(super) fn pack_panel(b: Mat, paired: bool, out: &mut [f32]) = pack_panel_body;
}

multiversion! {
    /// Packs one panel and rounds it to a narrower format; to int8 in steps of its columns' scales.
    fn compress_panel(b: Mat, format: Format, scales: &[f32], out: &mut [u8]) = compress_panel_body;
}

#[inline(always)]
fn pack_panel_body<S: Simd>(s: S, b: Mat, paired: bool, out: &mut [f32]) {
    if paired {
        pack::right_panel::<S, Paired>(s, b, out.len() / Paired::count(b.rows).max(1), out);
    } else {
        pack::right_panel::<S, Single>(s, b, out.len() / b.rows.max(1), out);
    }
}

#[inline(always)]
fn compress_panel_body<S: Simd>(s: S, b: Mat, format: Format, scales: &[f32], out: &mut [u8]) {
    let width = b.cols.next_multiple_of(LANES);
    let mut panel = vec![0.0; width * b.rows];
    pack::right_panel::<S, Single>(s, b, width, &mut panel);
    match format {
        Format::Bf16 => {
            let out: &mut [u16] = bytemuck::cast_slice_mut(out);
            for (x, out) in panel.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
                s.store_bf16(s.load(x), out);
            }
        }
        Format::F16 => bytemuck::cast_slice_mut::<u8, half::f16>(out).convert_from_f32_slice(&panel),
        Format::Int8 => {
            for (row, out) in panel.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                for ((&x, out), &scale) in row.iter().zip(out).zip(scales) {
                    let steps = if scale > 0.0 { (x / scale).round_ties_even() } else { 0.0 };
                    *out = steps.clamp(-127.0, 127.0) as i8 as u8;
                }
            }
        }
        Format::F32 | Format::Pairs | Format::HardwarePairs => {
            unreachable!("{format:?} is not narrower than f32")
        }
    }
}

/// Whether bf16 numbers are all there is: the lower half of an f32 is what bf16 leaves out.
fn all_bf16(x: &[f32]) -> bool {
    x.iter().all(|x| x.to_bits() << 16 == 0)
}

/// Whether f16 numbers are all there is.
fn all_f16(x: &[f32]) -> bool {
    const PART: usize = 256;
    let (mut halves, mut widened) = ([half::f16::ZERO; PART], [0.0; PART]);
    x.chunks(PART).all(|x| {
        let (halves, widened) = (&mut halves[..x.len()], &mut widened[..x.len()]);
        halves.convert_from_f32_slice(x);
        halves.convert_to_f32_slice(widened);
        x.iter().zip(widened).all(|(x, y)| x.to_bits() == y.to_bits())
    })
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
        let b = b.checked();
        let mut data = Block::for_weights(4 * pack::right_len(b.rows.div_ceil(format.width()), b.cols));
        let panels = each_panel(b, format, bytemuck::cast_slice_mut(data.bytes_mut()));
        panels.par_bridge().for_each(pack_one);
        let nr = columns_per_panel();
        Packed { data, scales: Buffer::default(), format, k: b.rows, n: b.cols, nr }
    }

    /// Packs `b` `[k, n]` in a form that takes less memory.
    pub fn stored(b: Mat, storage: Storage) -> Self {
        match storage {
            Storage::F32 => Packed::new(b),
            Storage::Bf16 => Packed::narrowed(b, Format::Bf16, Buffer::default()),
            Storage::Int8 => Packed::narrowed(b, Format::Int8, column_scales(&b.checked())),
        }
    }

    /// Packs `b` `[k, n]`, a whole matrix, in the smallest form that keeps every value: products have
    /// the bits of f32.
    pub fn lossless(b: Mat) -> Self {
        let all = |fits: fn(&[f32]) -> bool| b.data.par_chunks(1 << 16).all(fits);
        if all(all_bf16) {
            Packed::narrowed(b, Format::Bf16, Buffer::default())
        } else if all(all_f16) {
            Packed::narrowed(b, Format::F16, Buffer::default())
        } else {
            Packed::new(b)
        }
    }

    /// Packs `b` in a format that is narrower than f32.
    fn narrowed(b: Mat, format: Format, scales: Buffer) -> Self {
        let (b, nr) = (b.checked(), columns_per_panel());
        let row = b.rows * format.bytes();
        let mut data = Block::for_weights(b.cols.next_multiple_of(LANES) * row);
        let panels = data.bytes_mut().par_chunks_mut((nr * row).max(1)).enumerate();
        panels.take(b.cols.div_ceil(nr)).for_each(|(p, out)| {
            let cols = p * nr..b.cols.min((p + 1) * nr);
            let length = cols.len().next_multiple_of(LANES) * row;
            let scales = scales.all().get(cols.clone()).unwrap_or_default();
            compress_panel(b.columns(cols), format, scales, &mut out[..length]);
        });
        Packed { data, scales, format, k: b.rows, n: b.cols, nr }
    }

    /// Memory the packed form takes.
    pub fn bytes(&self) -> usize {
        self.data.bytes().len() + size_of_val(self.scales.all())
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
            data: self.data.bytes(),
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
