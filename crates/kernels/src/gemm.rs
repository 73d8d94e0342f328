//! Matrix products: C = A·B or C += A·B.
//!
//! k is cut into blocks of [`KC`] steps, a step being an element or a pair of bf16; within a block
//! each element of C is one fused-multiply-add chain over ascending k that starts at zero, and the
//! blocks are added to C in order. Nothing
//! else decides the bits: not m or n, not where the tile edges fall, not packing, not threads,
//! which only ever share out rows and columns of C. So a row of A gives the same row of C alone
//! or among a thousand, and zeros appended to k change nothing (but the sign of a zero: a −0 that
//! only underflow can produce becomes +0 when +0 is added).

use super::element::Format;
use super::matrix::{Mat, MatMut, Out};
use super::pack::{self, Single, Step};
use super::packed::{Packed, Panels, panels_of_all};
use super::pairs::Paired;
use super::scratch::{self, Buffer, Use};
use super::simd::{LANES, Level, level, multiversion};
use super::tile::{Tile, Tiles, asks};
use rayon::prelude::*;
use std::ops::Range;

/// Steps of a block of k. Part of the numerical contract: changing it changes results.
pub(super) const KC: usize = 512;
/// Rows of A packed at a time: MC × KC fits half of a 1 MB second-level cache.
const MC: usize = 192;
/// Columns of B packed at a time: KC × NC fits a core's share of the third-level cache.
const NC: usize = 1536;
/// Elements of B up to which it is packed as a whole for all tasks.
const WHOLE: usize = 4 << 20;
/// Up to this many rows, B is read where it lies if its rows are contiguous.
const DIRECT_ROWS: usize = 16;
/// Up to this many columns of C, rows of A serve as they lie: packing would not be repaid.
const DIRECT_COLUMNS: usize = 96;
/// Up to this many steps, so do columns of A: a line of the cache each, they stay for all tiles.
const DIRECT_STEPS: usize = 64;
/// Tiles below one another from which a panel of narrow elements is widened once for all of them.
const WIDENED_TILES: usize = 4;
/// Multiply-adds below which another task costs more than it saves (some 10 µs of one core).
const TASK: usize = 1 << 19;
/// A product with fewer rows than this is bound by reading B, so its rows count as this many.
pub(super) const BANDWIDTH_ROWS: usize = 8;

/// The right operand of a product, in any of its forms.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    Strided(Mat<'a>),
    /// To be rounded to pairs of bf16; so is the left operand.
    Pairs(Mat<'a>),
    Panels(Panels<'a>),
}

impl<'a> Right<'a> {
    /// Columns `range`, which starts at a multiple of NR; of panels, all columns from there on.
    pub(super) fn columns(self, range: Range<usize>) -> Right<'a> {
        match self {
            Right::Strided(b) => Right::Strided(b.columns(range)),
            Right::Pairs(b) => Right::Pairs(b.columns(range)),
            Right::Panels(p) => Right::Panels(p.columns_from(range.start)),
        }
    }

    /// Rows `range`, which starts at a whole step.
    fn rows(self, range: Range<usize>) -> Right<'a> {
        match self {
            Right::Strided(b) => Right::Strided(b.rows(range)),
            Right::Pairs(b) => Right::Pairs(b.rows(range)),
            Right::Panels(p) => Right::Panels(Panels { skip: p.skip + range.start / p.format.width(), ..p }),
        }
    }

    fn format(&self) -> Format {
        match self {
            Right::Strided(_) => Format::F32,
            Right::Pairs(_) => Format::pairs(),
            Right::Panels(p) => p.format,
        }
    }
}

/// C = A·B, or C += A·B with `accumulate`, on all threads if the work is worth it.
///
/// A `[m, k]`, B `[k, n]`, C `[m, n]`.
///
/// # Panics
/// When shapes disagree or a matrix reaches beyond its slice.
pub fn gemm(a: Mat, b: Mat, c: MatMut, accumulate: bool) {
    check(&a, b.rows, b.cols, &c);
    let c = c.into_out();
    // SAFETY: `c` came from a unique borrow that lives until the call returns.
    unsafe { parallel(a.checked(), Right::Strided(b.checked()), c, accumulate) }
}

/// [`gemm`] on the calling thread alone, for use inside parallel regions; the same bits.
///
/// # Panics
/// When shapes disagree or a matrix reaches beyond its slice.
pub fn gemm_serial(a: Mat, b: Mat, c: MatMut, accumulate: bool) {
    check(&a, b.rows, b.cols, &c);
    let c = c.into_out();
    // SAFETY: `c` came from a unique borrow that lives until the call returns.
    unsafe { serial(a.checked(), Right::Strided(b.checked()), c, accumulate) }
}

/// [`gemm`] with both operands rounded to bf16 and sums in f32.
///
/// A relative error of up to 2⁻⁸ per product, whose sum grows with √k where signs are mixed. The
/// bits depend on the processor: where it has an instruction for pairs of bf16, that one is used.
///
/// # Panics
/// When shapes disagree or a matrix reaches beyond its slice.
pub fn gemm_bf16(a: Mat, b: Mat, c: MatMut, accumulate: bool) {
    check(&a, b.rows, b.cols, &c);
    let c = c.into_out();
    // SAFETY: `c` came from a unique borrow that lives until the call returns.
    unsafe { parallel(a.checked(), Right::Pairs(b.checked()), c, accumulate) }
}

/// [`gemm`], or [`gemm_bf16`] where that is how B was packed, with a B that was packed before; the
/// same bits where B is kept as it was.
///
/// # Panics
/// When shapes disagree or a matrix reaches beyond its slice.
pub fn gemm_packed(a: Mat, b: &Packed, c: MatMut, accumulate: bool) {
    check(&a, b.k(), b.n(), &c);
    let c = c.into_out();
    let panels = Right::Panels(b.panels(columns_per_panel()));
    // SAFETY: `c` came from a unique borrow that lives until the call returns.
    unsafe { parallel(a.checked(), panels, c, accumulate) }
}

/// Number type of a product's operands; sums are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compute {
    /// [`gemm`].
    #[default]
    F32,
    /// [`gemm_bf16`].
    Bf16,
}

impl Compute {
    /// C = A·B, or C += A·B with `accumulate`.
    ///
    /// # Panics
    /// When shapes disagree or a matrix reaches beyond its slice.
    pub fn product(self, a: Mat, b: Mat, c: MatMut, accumulate: bool) {
        match self {
            Compute::F32 => gemm(a, b, c, accumulate),
            Compute::Bf16 => gemm_bf16(a, b, c, accumulate),
        }
    }

    /// How a right operand is packed for such products.
    pub(super) fn format(self) -> Format {
        match self {
            Compute::F32 => Format::F32,
            Compute::Bf16 => Format::pairs(),
        }
    }

    /// A right operand that is packed as the product goes.
    pub(super) fn right(self, b: Mat<'_>) -> Right<'_> {
        match self {
            Compute::F32 => Right::Strided(b),
            Compute::Bf16 => Right::Pairs(b),
        }
    }

    /// A right operand packed for such products.
    pub fn pack(self, b: Mat) -> Packed {
        match self {
            Compute::F32 => Packed::new(b),
            Compute::Bf16 => Packed::pairs(b),
        }
    }
}

fn check(a: &Mat, k: usize, n: usize, c: &MatMut) {
    assert!(
        a.cols == k && a.rows == c.rows && n == c.cols,
        "matrix product of [{}, {}] and [{k}, {n}] into [{}, {}]",
        a.rows,
        a.cols,
        c.rows,
        c.cols
    );
}

/// NR of the level in use.
pub(super) fn columns_per_panel() -> usize {
    tile_shape().1
}

/// MR and NR of the level in use.
fn tile_shape() -> (usize, usize) {
    fn shape<S: Tiles>(_: S) -> (usize, usize) {
        (S::MR, S::NR)
    }
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(s) => shape(s),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(s) => shape(s),
        Level::Portable(s) => shape(s),
    }
}

/// Shares the product out over the threads: a grid of rectangles of C.
///
/// # Safety
/// `c` is valid memory that nobody else uses; shapes agree.
unsafe fn parallel(a: Mat, b: Right, c: Out, accumulate: bool) {
    let threads = rayon::current_num_threads();
    let work = c.rows.max(BANDWIDTH_ROWS) * c.cols * a.cols;
    if threads == 1 || work < 2 * TASK {
        // SAFETY: the caller's.
        return unsafe { serial(a, b, c, accumulate) };
    }
    // Several tasks per thread even out what else the machine does, if each is still worth it.
    let tasks = match work / TASK / threads {
        0 => work / TASK,
        per_thread => threads * (per_thread / 4).clamp(1, 4),
    };
    match b {
        // Tasks below one another would each pack the same columns.
        Right::Strided(whole) | Right::Pairs(whole) if c.rows > MC && whole.rows * whole.cols <= WHOLE => {
            scratch::with([Use::RightWhole], |[buffer]| {
                let b = Right::Panels(panels_of_all(whole, b.format(), buffer));
                // SAFETY: the caller's.
                unsafe { share_out(a, b, c, accumulate, tasks) }
            });
        }
        // SAFETY: the caller's.
        _ => unsafe { share_out(a, b, c, accumulate, tasks) },
    }
}

/// # Safety
/// See [`parallel`].
unsafe fn share_out(a: Mat, b: Right, c: Out, accumulate: bool, tasks: usize) {
    let threads = rayon::current_num_threads();
    let (rows, cols) = grid(c.rows, c.cols, tasks, threads, !matches!(b, Right::Panels(_)));
    let (down, across) = (c.rows.div_ceil(rows), c.cols.div_ceil(cols));
    (0..down * across).into_par_iter().with_max_len(1).for_each(|task| {
        let (i, j) = (task % down * rows, task / down * cols);
        let (i, j) = (i..c.rows.min(i + rows), j..c.cols.min(j + cols));
        // SAFETY: rectangles of the grid do not overlap.
        unsafe { serial(a.rows(i.clone()), b.columns(j.clone()), c.part(i, j), accumulate) }
    });
}

/// The size of a task's rectangle of C: at most `tasks` of them, whole tiles each, so that the
/// thread with the most to do is done first.
fn grid(m: usize, n: usize, tasks: usize, threads: usize, packs_right: bool) -> (usize, usize) {
    /// Time to pack an element, in multiply-adds.
    const PACKING: usize = 8;
    let (mr, nr) = tile_shape();
    let size = |across: usize| {
        let cols = n.div_ceil(nr).div_ceil(across) * nr;
        let rows = m.div_ceil(mr).div_ceil(tasks / across) * mr;
        let rounds = (m.div_ceil(rows) * n.div_ceil(cols)).div_ceil(threads);
        let (rows, cols) = (rows.min(m), cols.min(n));
        let packing = rows + if packs_right { cols } else { 0 };
        (rounds * (rows.max(BANDWIDTH_ROWS) * cols + PACKING * packing), (rows, cols))
    };
    (1..=tasks).map(size).min_by_key(|&(cost, _)| cost).map_or((m, n), |(_, shape)| shape)
}

/// The product on the calling thread.
///
/// # Safety
/// `c` is valid memory that nobody else uses; shapes agree (panels may hold more rows and columns
/// than the product uses).
pub(super) unsafe fn serial(a: Mat, b: Right, c: Out, accumulate: bool) {
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    if a.cols == 0 {
        if !accumulate {
            // SAFETY: the caller's.
            unsafe { c.fill_zero() };
        }
        return;
    }
    // The buffers are taken here and not in the loops: a closure in there would be compiled
    // without the level's instructions.
    scratch::with([Use::Left, Use::Right], |buffers| {
        if b.format().is_pairs() {
            blocked_pairs(a, b, c, accumulate, buffers);
        } else {
            blocked(a, b, c, accumulate, buffers);
        }
    });
}

multiversion! {
    fn blocked(a: Mat, b: Right, c: Out, accumulate: bool, buffers: &mut [Buffer; 2]) = blocked_body::<_, Single>;
}

multiversion! {
    fn blocked_pairs(a: Mat, b: Right, c: Out, accumulate: bool, buffers: &mut [Buffer; 2])
        = blocked_body::<_, Paired>;
}

/// Loops around the micro-kernel: columns by NC, k by KC, rows by MC, then panels and tiles.
///
/// Only [`serial`] calls this, whose caller vouches for `c`.
#[inline(always)]
fn blocked_body<S: Tiles, K: Step>(
    s: S,
    a: Mat,
    b: Right,
    c: Out,
    accumulate: bool,
    buffers: &mut [Buffer; 2],
) {
    let [left, right] = buffers;
    // A panel of B is packed when the first block of rows needs it. If that is the only one, the
    // next panel takes its place, and columns need no blocks.
    let once = c.rows <= MC;
    let step = if once { c.cols } else { NC };
    for j in (0..c.cols).step_by(step) {
        let cols = j..c.cols.min(j + step);
        for k in (0..a.cols).step_by(KC * K::WIDTH) {
            let deep = k..a.cols.min(k + KC * K::WIDTH);
            let a = a.columns(deep.clone());
            let b = b.rows(deep);
            for i in (0..c.rows).step_by(MC) {
                let rows = i..c.rows.min(i + MC);
                let c = c.part(rows.clone(), 0..c.cols);
                let data = left.stale(pack::left_len::<S>(rows.len(), K::count(a.cols)));
                let a = Lhs::new::<S, K>(s, a.rows(rows), cols.len(), data);
                for j in cols.clone().step_by(S::NR) {
                    let width = S::NR.min(cols.end - j);
                    let padded = width.next_multiple_of(LANES);
                    let mut scales = None;
                    let mut next: &[u8] = &[];
                    let mut format = b.format();
                    let (panel, row_bytes) = match b {
                        Right::Panels(p) => {
                            scales = p.scales.get(j..);
                            if j + S::NR < cols.end {
                                next = p.panel(j + S::NR, S::NR).0;
                            }
                            let (panel, row_bytes) = p.panel(j, S::NR);
                            if format.is_narrow() && c.rows > WIDENED_TILES * S::MR {
                                let wide = right.stale(padded * a.kc);
                                pack::widen(s, format, panel, wide);
                                format = Format::F32;
                                (bytemuck::cast_slice(&*wide), 4 * padded)
                            } else {
                                (panel, row_bytes)
                            }
                        }
                        // Rows of B serve as they are, but not a last one that ends within a vector.
                        Right::Strided(b)
                            if b.col_stride == 1 && c.rows <= DIRECT_ROWS && width == padded =>
                        {
                            (bytemuck::cast_slice(&b.data[j..]), 4 * b.row_stride)
                        }
                        Right::Strided(b) | Right::Pairs(b) => {
                            let start = if once { 0 } else { (j - cols.start) * a.kc };
                            let panel = &mut right.stale(start + padded * a.kc)[start..];
                            if i == 0 {
                                pack::right_panel::<S, K>(s, b.columns(j..j + width), padded, panel);
                            }
                            (bytemuck::cast_slice(&*panel), 4 * padded)
                        }
                    };
                    let panel = Panel { data: panel, row_bytes, format, scales, next };
                    tiles(s, a, panel, c, j..j + width, accumulate || k > 0);
                }
            }
        }
    }
}

/// A block of A as tiles address it: element (i, k) of panel p is
/// `data[p * panel + i * row + k * step]`.
#[derive(Clone, Copy)]
struct Lhs<'a> {
    data: &'a [f32],
    kc: usize,
    panel: usize,
    row: usize,
    step: usize,
}

impl<'a> Lhs<'a> {
    /// Packs the block where that pays: few columns of C do not repay it, or rows of a single tile, where
    /// steps are single elements.
    #[inline(always)]
    fn new<S: Tiles, K: Step>(s: S, a: Mat<'a>, n: usize, scratch: &'a mut [f32]) -> Self {
        let few = K::WIDTH == 1 && (n <= DIRECT_COLUMNS || a.rows <= S::MR);
        if few && (a.col_stride == 1 || (a.row_stride == 1 && a.cols <= DIRECT_STEPS)) {
            let (row, step) = (a.row_stride, a.col_stride);
            return Lhs { data: a.data, kc: a.cols, panel: S::MR * row, row, step };
        }
        pack::left::<S, K>(s, a, scratch);
        let kc = K::count(a.cols);
        Lhs { data: scratch, kc, panel: S::MR * kc, row: 1, step: S::MR }
    }
}

/// A panel of B as tiles address it.
#[derive(Clone, Copy)]
struct Panel<'a> {
    data: &'a [u8],
    row_bytes: usize,
    format: Format,
    /// One per column, of whole vectors; nothing or empty where the format has none.
    scales: Option<&'a [f32]>,
    /// The panel that follows, if it is known: asked for while this one is worked on.
    next: &'a [u8],
}

/// All tiles of one panel of B, which gives the columns `cols` of C.
#[inline(always)]
fn tiles<S: Tiles>(s: S, a: Lhs, b: Panel, c: Out, cols: Range<usize>, accumulate: bool) {
    let vectors = cols.len().div_ceil(LANES);
    debug_assert!((a.kc - 1) * b.row_bytes + vectors * LANES * b.format.bytes() <= b.data.len());
    let scales = b.scales.filter(|scales| !scales.is_empty());
    debug_assert!(scales.is_none_or(|scales| scales.len() >= vectors * LANES));
    // Every tile asks for its share of the next panel.
    let share = (a.kc * b.row_bytes).min(b.next.len()).div_ceil(c.rows.div_ceil(S::MR));
    let ahead_step = share.div_ceil(a.kc * asks::<S>(c.rows, vectors));
    for i in (0..c.rows).step_by(S::MR) {
        let rows = S::MR.min(c.rows - i);
        let tile = Tile {
            kc: a.kc,
            a: a.data[i / S::MR * a.panel..].as_ptr(),
            a_row: a.row,
            a_k: a.step,
            b: b.data.as_ptr(),
            b_k: b.row_bytes,
            scales: scales.map(<[f32]>::as_ptr),
            c: c.ptr.wrapping_add(i * c.row_stride + cols.start),
            c_row: c.row_stride,
            last: cols.len() - (vectors - 1) * LANES,
            accumulate,
            ahead: b.next.as_ptr().wrapping_add(i / S::MR * share),
            ahead_step,
        };
        // SAFETY: A's panel holds `rows` rows of kc, B's panel kc rows of whole vectors, and the
        // tile lies within C, which is ours.
        unsafe { s.tile(b.format, rows, vectors, a.row == 1)(&tile) };
    }
}
