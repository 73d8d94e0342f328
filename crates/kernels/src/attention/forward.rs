//! The forward pass, for training, prefill and decoding alike.

use super::{AttentionShape, Keys, QUERY_BLOCK, SERIAL, Segment, score_stride};
use crate::activation::softcap_body;
use crate::gemm::{BANDWIDTH_ROWS, Right, serial};
use crate::matrix::{Mat, Out};
use crate::packed::{Panels, panels};
use crate::rows::{log_of, softmax_body};
use crate::scratch::{self, Buffer, Use};
use crate::simd::{LANES, Simd, multiversion};
use crate::vector::scale_body;
use rayon::prelude::*;
use std::ops::Range;

/// Values that are asked for before they are needed: a part of the second-level cache.
const ASKED: usize = 1 << 15;

/// Pieces that a thread's share of many small jobs is taken in.
const PIECES: usize = 16;

/// Attention of every segment's queries over its keys.
///
/// `q`, `out` `[Tq, heads * head_dim]`; `lse` `[Tq, heads]` receives ln Σ exp(score), which
/// [`attention_backward`] needs. A query that sees no key gets zeros. Rows of `out` that belong
/// to no segment stay as they are.
///
/// # Panics
/// When lengths disagree or segments overlap.
///
/// [`attention_backward`]: super::attention_backward
pub fn attention(
    q: &[f32],
    segments: &[Segment],
    shape: &AttentionShape,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    shape.check();
    let width = shape.width();
    assert!(
        q.len() == out.len() && (width == 0 || q.len().is_multiple_of(width)),
        "attention: q and out differ"
    );
    if q.is_empty() {
        return;
    }
    let rows = q.len() / width;
    check_segments(segments, shape, rows);
    let out = Out { ptr: out.as_mut_ptr(), rows, cols: width, row_stride: width };
    let lse = lse.map(|lse| {
        assert_eq!(lse.len(), rows * shape.heads, "attention: lse is not [{rows}, {}]", shape.heads);
        Out { ptr: lse.as_mut_ptr(), rows, cols: shape.heads, row_stride: shape.heads }
    });
    let jobs = jobs(segments, shape);
    let run = |job: &Job| run(q, &segments[job.segment], job, shape, out, lse);
    let rows = |s: &Segment| s.q_rows.len().max(BANDWIDTH_ROWS);
    let work: usize = segments.iter().map(|s| rows(s) * s.keys.count() * width).sum();
    if work < SERIAL {
        jobs.iter().for_each(run);
    } else {
        let pieces = PIECES * rayon::current_num_threads();
        jobs.par_iter().with_max_len(jobs.len().div_ceil(pieces)).for_each(run);
    }
}

/// Queries of one segment, all those heads that share a key head.
struct Job {
    segment: usize,
    kv_head: usize,
    /// Rows counted from the segment's first.
    rows: Range<usize>,
}

fn check_segments(segments: &[Segment], shape: &AttentionShape, rows: usize) {
    let mut ranges: Vec<_> = segments.iter().map(|s| s.q_rows.clone()).filter(|r| !r.is_empty()).collect();
    ranges.sort_by_key(|r| r.start);
    assert!(ranges.windows(2).all(|w| w[0].end <= w[1].start), "attention: segments share query rows");
    assert!(
        ranges.last().is_none_or(|r| r.end <= rows),
        "attention: a segment reaches beyond {rows} query rows"
    );
    for s in segments {
        let Keys::Rows { k, v, count } = s.keys else { continue };
        let needed = count * shape.kv_width();
        assert!(
            k.len() >= needed && v.len() >= needed,
            "attention: {count} keys of {} elements in slices of {} and {}",
            shape.kv_width(),
            k.len(),
            v.len()
        );
    }
}

/// A job per segment and key head; long segments are cut further where threads would idle.
fn jobs(segments: &[Segment], shape: &AttentionShape) -> Vec<Job> {
    let whole = segments.len() * shape.kv_heads;
    let wanted = (2 * rayon::current_num_threads()).div_ceil(whole.max(1));
    let mut jobs = Vec::new();
    for (segment, s) in segments.iter().enumerate() {
        // Each part packs keys and values anew, which two blocks of queries repay.
        let part = s.q_rows.len().div_ceil(wanted).next_multiple_of(QUERY_BLOCK).max(2 * QUERY_BLOCK);
        for start in (0..s.q_rows.len()).step_by(part) {
            let rows = start..s.q_rows.len().min(start + part);
            jobs.extend((0..shape.kv_heads).map(|kv_head| Job { segment, kv_head, rows: rows.clone() }));
        }
    }
    jobs
}

fn run(q: &[f32], segment: &Segment, job: &Job, shape: &AttentionShape, out: Out, lse: Option<Out>) {
    let uses = [Use::AttentionKeysTransposed, Use::AttentionValues, Use::AttentionScores];
    scratch::with(uses, |[keys, values, scores]| {
        if job.rows.len() == 1 {
            decode(q, segment, job, shape, out, lse, scores);
            return;
        }
        // Everything the job sees is packed once and used by each head and block.
        let positions = segment.first_query + job.rows.start..segment.first_query + job.rows.end;
        let count = segment.keys.count();
        let span = shape.span(positions, count, segment.prefix);
        let (k, v) = match segment.keys {
            Keys::Rows { k, v, .. } => {
                let k = shape.kv_head(k, span.clone(), job.kv_head);
                let k = panels(k.t(), shape.compute.format(), keys);
                (Right::Panels(k), shape.kv_head(v, span.clone(), job.kv_head))
            }
            Keys::Kept(kept) => (kept.keys(job.kv_head, span.start), kept.values(job.kv_head, span.start)),
        };
        let v = panels(v, shape.compute.format(), values);
        for start in job.rows.clone().step_by(QUERY_BLOCK) {
            let rows = start..job.rows.end.min(start + QUERY_BLOCK);
            let first = segment.first_query + rows.start;
            let seen = shape.span(first..first + rows.len(), count, segment.prefix);
            let seen = seen.start..seen.end.max(seen.start);
            let offset = seen.start - span.start;
            let rows = segment.q_rows.start + rows.start..segment.q_rows.start + rows.end;
            for head in shape.group(job.kv_head) {
                let block = Block {
                    q: shape.head(q, rows.clone(), head),
                    k: k.columns(offset..offset + seen.len()),
                    v: Right::Panels(Panels { skip: offset / v.format.width(), ..v }),
                    seen: seen.clone(),
                    keys: count,
                    prefix: segment.prefix,
                };
                let columns = head * shape.head_dim..(head + 1) * shape.head_dim;
                let out = out.part(rows.clone(), columns);
                let lse = lse.map(|lse| lse.part(rows.clone(), head..head + 1));
                block.run(shape, |i| first + i, out, lse, scores);
            }
        }
    });
}

/// One query: the heads that share a key head are the rows of one product, so that the cache is
/// read once; nothing is packed in full.
fn decode(
    q: &[f32],
    segment: &Segment,
    job: &Job,
    shape: &AttentionShape,
    out: Out,
    lse: Option<Out>,
    scores: &mut Buffer,
) {
    let position = segment.first_query + job.rows.start;
    let row = segment.q_rows.start + job.rows.start;
    let count = segment.keys.count();
    let seen = shape.span(position..position + 1, count, segment.prefix);
    let seen = seen.start..seen.end.max(seen.start);
    let (k, v) = match segment.keys {
        Keys::Rows { k, v, .. } => {
            let k = shape.kv_head(k, seen.clone(), job.kv_head);
            (shape.compute.right(k.t()), shape.compute.right(shape.kv_head(v, seen.clone(), job.kv_head)))
        }
        Keys::Kept(kept) => {
            let values = kept.values(job.kv_head, seen.start);
            ask_for(values.data);
            (kept.keys(job.kv_head, seen.start), Right::Strided(values))
        }
    };
    let group = shape.group(job.kv_head);
    let hd = shape.head_dim;
    let start = row * shape.width() + group.start * hd;
    let q = Mat::new(&q[start..start + group.len() * hd], group.len(), hd);
    let block = Block { q, k, v, seen, keys: count, prefix: segment.prefix };
    // The heads of one row, seen as rows: they follow one another without gaps.
    let rows_of = |whole: Out, width: usize| {
        let part = whole.part(row..row + 1, group.start * width..group.end * width);
        Out { ptr: part.ptr, rows: group.len(), cols: width, row_stride: width }
    };
    block.run(shape, |_| position, rows_of(out, hd), lse.map(|lse| rows_of(lse, 1)), scores);
}

multiversion! {
    /// Asks for values that the second product reads, while the first is worked on.
    fn ask_for(x: &[f32]) = ask_for_body;
}

#[inline(always)]
fn ask_for_body<S: Simd>(s: S, x: &[f32]) {
    for line in x[..x.len().min(ASKED)].chunks(LANES) {
        s.prefetch_far(line.as_ptr().cast());
    }
}

/// Some query rows against the keys `seen`.
struct Block<'a> {
    q: Mat<'a>,
    k: Right<'a>,
    v: Right<'a>,
    seen: Range<usize>,
    keys: usize,
    prefix: usize,
}

impl Block<'_> {
    /// `position` maps a row of the block to its position.
    fn run(
        &self,
        shape: &AttentionShape,
        position: impl Fn(usize) -> usize,
        out: Out,
        lse: Option<Out>,
        scores: &mut Buffer,
    ) {
        let stride = score_stride(self.seen.len());
        let scores = scores.stale(self.q.rows * stride);
        let (rows, cols) = (self.q.rows, self.seen.len());
        let target = Out { ptr: scores.as_mut_ptr(), rows, cols, row_stride: stride };
        // SAFETY: the scores are this thread's own.
        unsafe { serial(self.q, self.k, target, false) };
        for (i, row) in scores.chunks_exact_mut(stride).enumerate() {
            let visible = shape.visible(position(i), self.keys, self.prefix);
            let (max, sum) = probabilities(&mut row[..cols], self.seen.start, visible, shape);
            if let Some(lse) = lse {
                // SAFETY: one element per row of the rectangle this job owns.
                unsafe { *lse.ptr.add(i * lse.row_stride) = log_of(max, sum) };
            }
        }
        let p = Mat { data: scores, rows, cols, row_stride: stride, col_stride: 1 };
        // SAFETY: `out` is the rectangle this job owns.
        unsafe { serial(p, self.v, out, false) };
    }
}

multiversion! {
    /// Scores become probabilities in place; `row[0]` is key `first`. Returns the largest score and
    /// Σ exp(score − largest).
    ///
    /// Entries that are not visible count as −∞. Those before and after the visible ones are not
    /// computed: whole vectors of −∞ add exactly nothing to any lane.
    fn probabilities(row: &mut [f32], first: usize, visible: Range<usize>, shape: &AttentionShape) -> (f32, f32)
        = probabilities_body;
}

#[inline(always)]
fn probabilities_body<S: Simd>(
    s: S,
    row: &mut [f32],
    first: usize,
    visible: Range<usize>,
    shape: &AttentionShape,
) -> (f32, f32) {
    if visible.is_empty() {
        row.fill(0.0);
        return (f32::NEG_INFINITY, 0.0);
    }
    let visible = visible.start - first..visible.end - first;
    let aligned = visible.start / LANES * LANES;
    row[..aligned].fill(0.0);
    row[visible.end..].fill(0.0);
    let row = &mut row[aligned..visible.end];
    scale_body(s, shape.scale, row);
    if let Some(cap) = shape.softcap {
        softcap_body(s, row, cap);
    }
    row[..visible.start - aligned].fill(f32::NEG_INFINITY);
    softmax_body(s, row)
}

/// Columns of a panel must divide what is skipped, at every level.
#[cfg(test)]
#[test]
fn skipped_keys_are_whole_panels() {
    crate::simd::forced::each_level(|| {
        assert!(super::SKIP.is_multiple_of(crate::gemm::columns_per_panel()));
    });
}
