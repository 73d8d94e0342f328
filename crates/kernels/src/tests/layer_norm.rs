//! Normalisation by mean and standard deviation.

use super::super::{layer_norm, layer_norm_backward, rms_norm};
use super::{bits, close, each_level, levels, on, random};

const EPS: f32 = 1e-5;

fn normalised(x: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    x.iter().map(|x| (x - mean) / (variance + f64::from(EPS)).sqrt()).collect()
}

/// The output in double precision, of one row.
fn reference(x: &[f64], weight: &[f32], bias: &[f32]) -> Vec<f64> {
    let parameters = weight.iter().zip(bias);
    normalised(x).iter().zip(parameters).map(|(n, (&w, &b))| n * f64::from(w) + f64::from(b)).collect()
}

fn double(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn forward_matches_double_precision() {
    each_level(|| {
        for cols in [2, 3, 15, 16, 17, 33, 288, 1031] {
            for (rows, shift) in [(0, 0.0), (1, 3.0), (5, 0.0)] {
                let x: Vec<f32> = random(rows * cols, 1).iter().map(|x| x + shift).collect();
                let (weight, bias) = (random(cols, 2), random(cols, 4));
                let (mut out, mut statistics) = (vec![0.0; rows * cols], vec![0.0; 2 * rows]);
                layer_norm(&x, &weight, Some(&bias), EPS, &mut out, &mut statistics);
                let exact: Vec<f64> =
                    x.chunks(cols).flat_map(|x| reference(&double(x), &weight, &bias)).collect();
                // A mean rounded in its last bit counts for as much as the spread is small.
                let spread = statistics.iter().skip(1).step_by(2).fold(0.0, |a: f32, &b| a.max(b));
                let tolerance = 3e-6 + 2e-7 * f64::from((1.0 + shift) * spread);
                close(&out, &exact, tolerance, 3e-6);
                layer_norm(&x, &weight, None, EPS, &mut out, &mut statistics);
                let exact: Vec<f64> =
                    x.chunks(cols).flat_map(|x| reference(&double(x), &weight, &vec![0.0; cols])).collect();
                close(&out, &exact, tolerance, 3e-6);
            }
        }
    });
}

/// One element has no spread: the output is the bias alone.
#[test]
fn a_width_of_one_gives_the_bias() {
    let (mut out, mut statistics) = ([9.0; 2], [0.0; 4]);
    layer_norm(&[5.0, -3.0], &[2.0], Some(&[0.25]), EPS, &mut out, &mut statistics);
    assert_eq!(out, [0.25; 2]);
}

/// All gradients against central differences of the double-precision reference.
#[test]
fn backward_matches_differences() {
    each_level(|| {
        for (rows, cols) in [(1, 2), (3, 17), (70, 5), (2, 64)] {
            let (x, weight, dout) = (random(rows * cols, 1), random(cols, 2), random(rows * cols, 3));
            let (mut out, mut statistics) = (vec![0.0; rows * cols], vec![0.0; 2 * rows]);
            layer_norm(&x, &weight, None, EPS, &mut out, &mut statistics);
            let (mut dx, mut dparams) = (vec![1.0; rows * cols], vec![2.0; 2 * cols]);
            layer_norm_backward(&x, &weight, &statistics, &dout, &mut dx, Some(&mut dparams));
            let (mut exact_dparams, mut exact_dx) = (vec![2.0; 2 * cols], Vec::new());
            for (x, dout) in x.chunks(cols).zip(dout.chunks(cols)) {
                let none = vec![0.0; cols];
                let loss = |x: &[f64]| -> f64 {
                    reference(x, &weight, &none).iter().zip(dout).map(|(y, &d)| y * f64::from(d)).sum()
                };
                let x = double(x);
                for j in 0..cols {
                    let (mut above, mut below) = (x.clone(), x.clone());
                    above[j] += 1e-6;
                    below[j] -= 1e-6;
                    exact_dx.push(1.0 + (loss(&above) - loss(&below)) / 2e-6);
                }
                for (j, (n, &d)) in normalised(&x).iter().zip(dout).enumerate() {
                    exact_dparams[j] += n * f64::from(d);
                    exact_dparams[cols + j] += f64::from(d);
                }
            }
            close(&dx, &exact_dx, 4e-5, 4e-5);
            close(&dparams, &exact_dparams, 1e-5, 1e-5);
            let mut alone = vec![1.0; rows * cols];
            layer_norm_backward(&x, &weight, &statistics, &dout, &mut alone, None);
            assert_eq!(bits(&alone), bits(&dx), "frozen parameters do not change dx");
        }
    });
}

/// What the opened forward pass relies on: centring, then dividing by the root mean square.
#[test]
fn a_centred_row_divided_by_its_root_mean_square_has_the_same_bits() {
    each_level(|| {
        for cols in [3, 16, 37, 300] {
            let (x, weight) = (random(4 * cols, 1), random(cols, 2));
            let (mut out, mut statistics) = (vec![0.0; 4 * cols], vec![0.0; 8]);
            layer_norm(&x, &weight, None, EPS, &mut out, &mut statistics);
            let centred: Vec<f32> = x
                .chunks(cols)
                .zip(statistics.chunks(2))
                .flat_map(|(x, s)| x.iter().map(|x| x - s[0]))
                .collect();
            let (mut other, mut inv) = (vec![0.0; 4 * cols], vec![0.0; 4]);
            rms_norm(&centred, &weight, 0.0, EPS, &mut other, &mut inv);
            assert_eq!(bits(&out), bits(&other));
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
                let (mut out, mut statistics) = (vec![0.0; part.len()], vec![0.0; 2 * range.len()]);
                layer_norm(&x[part.clone()], &weight, Some(&weight), EPS, &mut out, &mut statistics);
                let (mut dx, mut dparams) = (vec![0.0; part.len()], vec![0.0; 2 * cols]);
                let (x, dout) = (&x[part.clone()], &dout[part]);
                layer_norm_backward(x, &weight, &statistics, dout, &mut dx, Some(&mut dparams));
                (bits(&out), bits(&dx), bits(&dparams))
            })
        };
        let one = run(1, 0..rows);
        assert_eq!(one, run(3, 0..rows));
        let alone = run(1, 417..418);
        assert_eq!(alone.0, one.0[417 * cols..418 * cols]);
        assert_eq!(alone.1, one.1[417 * cols..418 * cols]);
    }
}
