//! Matrix products.

use super::super::{Mat, MatMut, Packed, gemm, gemm_packed, gemm_serial};
use super::{bits, close, each_level, levels, on, random};
use proptest::prelude::*;

fn product(a: Mat, b: Mat) -> Vec<f64> {
    let at = |m: &Mat, i: usize, j: usize| f64::from(m.data[i * m.row_stride + j * m.col_stride]);
    let mut c = vec![0.0; a.rows * b.cols];
    for i in 0..a.rows {
        for k in 0..a.cols {
            let x = at(&a, i, k);
            for j in 0..b.cols {
                c[i * b.cols + j] += x * at(&b, k, j);
            }
        }
    }
    c
}

/// A matrix [rows, cols] stored in one of four ways.
struct Stored {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    layout: usize,
}

impl Stored {
    fn new(rows: usize, cols: usize, layout: usize, seed: u64) -> Self {
        Stored { data: random((rows * 3 + 7) * (cols * 3 + 7), seed), rows, cols, layout }
    }

    fn view(&self) -> Mat<'_> {
        let (row_stride, col_stride) = match self.layout {
            0 => (self.cols, 1),
            1 => (1, self.rows),
            2 => (self.cols + 5, 1),
            _ => (2, 2 * self.rows + 1),
        };
        Mat { data: &self.data, rows: self.rows, cols: self.cols, row_stride, col_stride }
    }
}

const SHAPES: [(usize, usize, usize); 18] = [
    (0, 5, 3),
    (5, 0, 3),
    (5, 3, 0),
    (1, 1, 1),
    (1, 48, 513),
    (2, 47, 64),
    (3, 49, 17),
    (7, 16, 1),
    (8, 17, 511),
    (9, 96, 512),
    (13, 31, 1025),
    (17, 97, 33),
    (29, 131, 300),
    (97, 101, 103),
    (100, 64, 200),
    (193, 50, 40),
    (31, 800, 37),
    (160, 144, 288),
];

#[test]
fn products_match_double_precision() {
    each_level(|| {
        for (n_shape, &(m, n, k)) in SHAPES.iter().enumerate() {
            for layouts in 0..16 {
                let a = Stored::new(m, k, layouts % 4, 1 + n_shape as u64);
                let b = Stored::new(k, n, layouts / 4, 100 + n_shape as u64);
                let start = random(m * n, 7);
                let mut reference = product(a.view(), b.view());
                let mut c = start.clone();
                gemm(a.view(), b.view(), MatMut::new(&mut c, m, n), false);
                let tolerance = 1e-6 * (k as f64).sqrt() + 1e-6;
                close(&c, &reference, tolerance, 2e-6);
                reference.iter_mut().zip(&start).for_each(|(r, &s)| *r += f64::from(s));
                let mut c = start.clone();
                gemm(a.view(), b.view(), MatMut::new(&mut c, m, n), true);
                close(&c, &reference, tolerance, 2e-6);
            }
        }
    });
}

#[test]
fn a_row_stride_leaves_the_gaps_alone() {
    each_level(|| {
        let (m, n, k) = (11, 37, 20);
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let mut c = vec![f32::NAN; m * (n + 3)];
        gemm(Mat::new(&a, m, k), Mat::new(&b, k, n), MatMut::strided(&mut c, m, n, n + 3), false);
        for row in c.chunks_exact(n + 3) {
            assert!(row[..n].iter().all(|x| !x.is_nan()) && row[n..].iter().all(|x| x.is_nan()));
        }
    });
}

#[test]
fn zeros_appended_to_k_change_nothing() {
    each_level(|| {
        let (m, n, k, more) = (5, 67, 500, 1100);
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let (mut a2, mut b2) = (vec![0.0; m * more], vec![0.0; more * n]);
        for i in 0..m {
            a2[i * more..i * more + k].copy_from_slice(&a[i * k..(i + 1) * k]);
        }
        b2[..k * n].copy_from_slice(&b);
        let (mut c, mut c2) = (vec![0.0; m * n], vec![0.0; m * n]);
        gemm(Mat::new(&a, m, k), Mat::new(&b, k, n), MatMut::new(&mut c, m, n), false);
        gemm(Mat::new(&a2, m, more), Mat::new(&b2, more, n), MatMut::new(&mut c2, m, n), false);
        assert_eq!(bits(&c), bits(&c2));
    });
}

/// All ways to compute the same product, which must agree in every bit.
fn every_way(a: Mat, b: Mat, start: &[f32], accumulate: bool) -> Vec<(String, Vec<u32>)> {
    let (m, n) = (a.rows, b.cols);
    let mut ways = Vec::new();
    let mut run = |name: &str, f: &dyn Fn(MatMut)| {
        let mut c = start.to_vec();
        f(MatMut::new(&mut c, m, n));
        ways.push((name.to_string(), bits(&c)));
    };
    run("serial", &|c| gemm_serial(a, b, c, accumulate));
    run("parallel", &|c| gemm(a, b, c, accumulate));
    let packed = Packed::new(b);
    run("packed", &|c| gemm_packed(a, &packed, c, accumulate));
    run("rows one by one", &|c| {
        for (i, row) in c.data.chunks_exact_mut(n).enumerate() {
            let a = Mat { data: &a.data[i * a.row_stride..], rows: 1, ..a };
            gemm(a, b, MatMut::new(row, 1, n), accumulate);
        }
    });
    run("packed, rows in threes", &|c| {
        for (i, rows) in c.data.chunks_mut(3 * n).enumerate() {
            let a = Mat { data: &a.data[3 * i * a.row_stride..], rows: rows.len() / n, ..a };
            gemm_packed(a, &packed, MatMut::new(rows, a.rows, n), accumulate);
        }
    });
    run("columns one by one", &|c| {
        for j in 0..n {
            let b = Mat { data: &b.data[j * b.col_stride..], cols: 1, ..b };
            let c = MatMut { data: &mut c.data[j..], rows: m, cols: 1, row_stride: n };
            gemm_serial(a, b, c, accumulate);
        }
    });
    ways
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn bits_do_not_depend_on_the_way(
        m in 1usize..120, n in 1usize..130, k in 1usize..1200,
        layouts in 0usize..16, accumulate: bool, seed: u64,
    ) {
        let a = Stored::new(m, k, layouts % 4, seed);
        let b = Stored::new(k, n, layouts / 4, seed ^ 1);
        let start = random(m * n, seed ^ 2);
        for level in levels() {
            let mut ways = Vec::new();
            for threads in [1, 2, 3] {
                ways.extend(on(level, threads, || every_way(a.view(), b.view(), &start, accumulate)));
            }
            for (name, way) in &ways[1..] {
                prop_assert_eq!(way, &ways[0].1, "{} on {} differs from serial", name, on(level, 1, super::super::simd_level));
            }
        }
    }
}
