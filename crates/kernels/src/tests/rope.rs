//! Rotary position embedding.

use super::super::rope;
use super::{bits, close, each_level, levels, on, random};

/// Tables of `positions` rows for `half` frequencies.
fn tables(positions: usize, half: usize) -> (Vec<f32>, Vec<f32>) {
    let angle = |i: usize| (i / half) as f64 * 10_000f64.powf(-((i % half) as f64) / half as f64);
    let all = || (0..positions * half).map(angle);
    (all().map(|a| a.cos() as f32).collect(), all().map(|a| a.sin() as f32).collect())
}

#[test]
fn rotation_matches_double_precision_and_comes_back() {
    each_level(|| {
        for (heads, head_dim, rotary_dim) in
            [(1, 2, 2), (3, 64, 64), (2, 96, 24), (4, 20, 20), (2, 70, 66), (1, 8, 0)]
        {
            let half = rotary_dim / 2;
            let (cos, sin) = tables(40, half.max(1));
            let (cos, sin) = (&cos[..40 * half], &sin[..40 * half]);
            let positions = [0u32, 3, 39, 1, 7];
            let start = random(positions.len() * heads * head_dim, 1);
            let mut x = start.clone();
            rope(&mut x, heads, head_dim, rotary_dim, &positions, cos, sin, false);
            let mut exact: Vec<f64> = start.iter().map(|&x| f64::from(x)).collect();
            for (row, &p) in exact.chunks_mut(heads * head_dim).zip(&positions) {
                for head in row.chunks_mut(head_dim) {
                    for i in 0..half {
                        let (c, s) =
                            (f64::from(cos[p as usize * half + i]), f64::from(sin[p as usize * half + i]));
                        let (a, b) = (head[i], head[half + i]);
                        (head[i], head[half + i]) = (a * c - b * s, b * c + a * s);
                    }
                }
            }
            close(&x, &exact, 2e-7, 0.0);
            rope(&mut x, heads, head_dim, rotary_dim, &positions, cos, sin, true);
            close(&x, &start.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), 5e-7, 0.0);
        }
    });
}

#[test]
fn bits_do_not_depend_on_threads_or_neighbours() {
    let (heads, head_dim, rows) = (5, 48, 700);
    let (cos, sin) = tables(rows, 24);
    let positions: Vec<u32> = (0..rows as u32).collect();
    let start = random(rows * heads * head_dim, 1);
    for level in levels() {
        let run = |threads, range: std::ops::Range<usize>| {
            on(level, threads, || {
                let width = heads * head_dim;
                let mut x = start[range.start * width..range.end * width].to_vec();
                rope(&mut x, heads, head_dim, 48, &positions[range], &cos, &sin, false);
                bits(&x)
            })
        };
        let one = run(1, 0..rows);
        assert_eq!(one, run(2, 0..rows));
        assert_eq!(run(1, 300..301), one[300 * heads * head_dim..301 * heads * head_dim]);
    }
}

#[test]
#[should_panic(expected = "beyond the 4 positions")]
fn a_position_without_a_row_is_named() {
    let (cos, sin) = tables(4, 8);
    rope(&mut [0.0; 16], 1, 16, 16, &[4], &cos, &sin, false);
}
