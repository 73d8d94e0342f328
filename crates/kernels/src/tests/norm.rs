//! Root-mean-square normalisation.

use super::super::{rms_norm, rms_norm_backward};
use super::{bits, close, each_level, levels, on, random};

const EPS: f32 = 1e-5;

/// The output in double precision, of one row.
fn reference(x: &[f64], weight: &[f32], offset: f32) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let inv = 1.0 / (mean + f64::from(EPS)).sqrt();
    x.iter().zip(weight).map(|(x, &w)| x * inv * (f64::from(w) + f64::from(offset))).collect()
}

fn double(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn forward_matches_double_precision() {
    each_level(|| {
        for cols in [1, 2, 15, 16, 17, 33, 288, 1031] {
            for (rows, offset) in [(0, 0.0), (1, 1.0), (5, 0.0)] {
                let (x, weight) = (random(rows * cols, 1), random(cols, 2));
                let (mut out, mut inv) = (vec![0.0; rows * cols], vec![0.0; rows]);
                rms_norm(&x, &weight, offset, EPS, &mut out, &mut inv);
                let exact: Vec<f64> =
                    x.chunks(cols).flat_map(|x| reference(&double(x), &weight, offset)).collect();
                close(&out, &exact, 1e-7, 2e-6);
            }
        }
    });
}

/// Both gradients against central differences of the double-precision reference.
#[test]
fn backward_matches_differences() {
    each_level(|| {
        for (rows, cols, offset) in [(1, 1, 0.0), (3, 17, 1.0), (70, 5, 0.0), (2, 64, 1.0)] {
            let (x, weight, dout) = (random(rows * cols, 1), random(cols, 2), random(rows * cols, 3));
            let (mut out, mut inv) = (vec![0.0; rows * cols], vec![0.0; rows]);
            rms_norm(&x, &weight, offset, EPS, &mut out, &mut inv);
            let (mut dx, mut dw) = (vec![1.0; rows * cols], vec![2.0; cols]);
            rms_norm_backward(&x, &weight, offset, &inv, &dout, &mut dx, Some(&mut dw));
            let mut exact_dw = vec![2.0; cols];
            let mut exact_dx = Vec::new();
            for (x, dout) in x.chunks(cols).zip(dout.chunks(cols)) {
                let loss = |x: &[f64]| -> f64 {
                    reference(x, &weight, offset).iter().zip(dout).map(|(y, &d)| y * f64::from(d)).sum()
                };
                let x = double(x);
                for j in 0..cols {
                    let (mut above, mut below) = (x.clone(), x.clone());
                    above[j] += 1e-6;
                    below[j] -= 1e-6;
                    exact_dx.push(1.0 + (loss(&above) - loss(&below)) / 2e-6);
                }
                // The output is linear in weight + offset.
                for ((w, y), &d) in exact_dw.iter_mut().zip(reference(&x, &vec![1.0; cols], 0.0)).zip(dout) {
                    *w += y * f64::from(d);
                }
            }
            close(&dx, &exact_dx, 2e-5, 2e-5);
            close(&dw, &exact_dw, 1e-5, 1e-5);
            let mut alone = vec![1.0; rows * cols];
            rms_norm_backward(&x, &weight, offset, &inv, &dout, &mut alone, None);
            assert_eq!(bits(&alone), bits(&dx), "a frozen weight does not change dx");
        }
    });
}

#[test]
fn bits_do_not_depend_on_threads_or_neighbours() {
    let (rows, cols) = (900, 131);
    let (x, weight, dout) = (random(rows * cols, 1), random(cols, 2), random(rows * cols, 3));
    for level in levels() {
        let run = |threads, range: std::ops::Range<usize>| {
            on(level, threads, || {
                let part = range.start * cols..range.end * cols;
                let (mut out, mut inv) = (vec![0.0; part.len()], vec![0.0; range.len()]);
                rms_norm(&x[part.clone()], &weight, 0.0, EPS, &mut out, &mut inv);
                let (mut dx, mut dw) = (vec![0.0; part.len()], vec![0.0; cols]);
                let (x, dout) = (&x[part.clone()], &dout[part]);
                rms_norm_backward(x, &weight, 0.0, &inv, dout, &mut dx, Some(&mut dw));
                (bits(&out), bits(&dx), bits(&dw))
            })
        };
        let one = run(1, 0..rows);
        assert_eq!(one, run(3, 0..rows));
        let alone = run(1, 417..418);
        assert_eq!(alone.0, one.0[417 * cols..418 * cols]);
        assert_eq!(alone.1, one.1[417 * cols..418 * cols]);
    }
}
