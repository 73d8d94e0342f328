//! Normalisation of rows: by root mean square, and by mean and standard deviation.

mod layer;
mod rms;

pub use layer::{layer_norm, layer_norm_backward};
pub use rms::{rms_norm, rms_norm_backward};

use rayon::prelude::*;

/// Elements below which a second thread does not pay.
const SERIAL: usize = 1 << 16;
/// Rows whose contributions to a parameter's gradient are summed before they are added to it.
/// Part of the numerical contract: the order of that sum is the same on any number of threads.
const BLOCK: usize = 64;

/// Calls `row(x, out, statistics)` for every row of `x` and `out` `[rows, cols]`, where
/// `statistics` holds what each row's backward pass will need.
fn each_row(
    cols: usize,
    x: &[f32],
    out: &mut [f32],
    statistics: &mut [f32],
    row: impl Fn(&[f32], &mut [f32], &mut [f32]) + Sync,
) {
    if x.is_empty() {
        return;
    }
    let own = statistics.len() * cols / x.len();
    if x.len() < SERIAL {
        let rows = x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)).zip(statistics.chunks_exact_mut(own));
        rows.for_each(|((x, out), statistics)| row(x, out, statistics));
    } else {
        let rows = x.par_chunks_exact(cols).zip(out.par_chunks_exact_mut(cols));
        rows.zip(statistics.par_chunks_exact_mut(own))
            .with_min_len((SERIAL / 4).div_ceil(cols))
            .for_each(|((x, out), statistics)| row(x, out, statistics));
    }
}

/// Calls `row(x, statistics, dout, dx, sums)` for every row, and adds what `sums` collected to
/// `total`: first within blocks of rows, then block by block in order.
fn each_row_backward(
    cols: usize,
    [x, statistics, dout]: [&[f32]; 3],
    dx: &mut [f32],
    total: &mut [f32],
    row: impl Fn(&[f32], &[f32], &[f32], &mut [f32], &mut [f32]) + Sync,
) {
    if x.is_empty() {
        return;
    }
    let own = statistics.len() * cols / x.len();
    let block = |x: &[f32], statistics: &[f32], dout: &[f32], dx: &mut [f32], sums: &mut [f32]| {
        let inputs = x.chunks_exact(cols).zip(statistics.chunks_exact(own)).zip(dout.chunks_exact(cols));
        for (((x, statistics), dout), dx) in inputs.zip(dx.chunks_exact_mut(cols)) {
            row(x, statistics, dout, dx, sums);
        }
    };
    let size = BLOCK * cols;
    let blocks = x.len().div_ceil(size);
    let mut sums = vec![0.0; total.len() * blocks];
    let parts: Vec<&mut [f32]> = match total.len() {
        0 => (0..blocks).map(|_| &mut [][..]).collect(),
        width => sums.chunks_exact_mut(width).collect(),
    };
    if x.len() < SERIAL {
        let inputs = x.chunks(size).zip(statistics.chunks(BLOCK * own)).zip(dout.chunks(size));
        let all = inputs.zip(dx.chunks_mut(size)).zip(parts);
        all.for_each(|((((x, statistics), dout), dx), sums)| block(x, statistics, dout, dx, sums));
    } else {
        let inputs = x.par_chunks(size).zip(statistics.par_chunks(BLOCK * own)).zip(dout.par_chunks(size));
        let all = inputs.zip(dx.par_chunks_mut(size)).zip(parts);
        all.for_each(|((((x, statistics), dout), dx), sums)| block(x, statistics, dout, dx, sums));
    }
    if !total.is_empty() {
        for part in sums.chunks_exact(total.len()) {
            super::vector::axpy(1.0, part, total);
        }
    }
}
