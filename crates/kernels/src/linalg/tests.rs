//! Factors multiply back, vectors are orthonormal, hard matrices come out right, and the bits stay the same on any
//! number of threads and at every level.

use proptest::prelude::*;

use super::*;
use crate::simd::forced::{levels, on};
use crate::{Rng, Tensor};

fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
    let mut rng = Rng::at(&[seed, rows as u64, columns as u64]);
    Matrix::new(rows, columns, (0..rows * columns).map(|_| rng.normal()).collect()).unwrap()
}

fn symmetric(n: usize, seed: u64) -> Matrix {
    let a = random(n, n, seed);
    let t = a.transposed();
    Matrix::new(n, n, a.values().iter().zip(t.values()).map(|(x, y)| x + y).collect()).unwrap()
}

fn largest(a: &Matrix) -> f64 {
    a.values().iter().fold(0.0, |m, x| m.max(x.abs()))
}

fn distance(a: &Matrix, b: &Matrix) -> f64 {
    assert_eq!((a.rows(), a.columns()), (b.rows(), b.columns()));
    a.values().iter().zip(b.values()).fold(0.0, |m, (x, y)| m.max((x - y).abs()))
}

/// Rows scaled one by one.
fn scaled(rows: &Matrix, by: &[f64]) -> Matrix {
    let mut out = rows.clone();
    by.iter().enumerate().for_each(|(i, s)| out.row_mut(i).iter_mut().for_each(|x| *x *= s));
    out
}

/// How far rows are from being orthonormal.
fn skew(rows: &Matrix) -> f64 {
    distance(&rows.times(&rows.transposed()).unwrap(), &Matrix::identity(rows.rows(), rows.rows()))
}

/// Rounding errors that the steps of a factorisation may leave in a matrix of this size and norm.
fn rounding(a: &Matrix) -> f64 {
    let n = a.rows().max(a.columns()).max(4) as f64;
    let norm = a.values().iter().map(|x| x * x).sum::<f64>().sqrt();
    8.0 * n.sqrt() * f64::EPSILON * norm
}

fn check_eigen(a: &Matrix) -> Eigen {
    let eigen = symmetric_eigen(a).unwrap();
    let back = eigen.vectors.transposed().times(&scaled(&eigen.vectors, &eigen.values)).unwrap();
    assert!(distance(&back, a) <= rounding(a), "{} of {}", distance(&back, a), rounding(a));
    assert!(skew(&eigen.vectors) <= rounding(&Matrix::identity(a.rows(), a.rows())));
    assert!(eigen.values.is_sorted());
    eigen
}

fn check_svd(a: &Matrix) -> Svd {
    let svd = svd(a).unwrap();
    let k = a.rows().min(a.columns());
    assert_eq!((svd.left.rows(), svd.right.rows(), svd.values.len()), (k, k, k));
    let back = svd.left.transposed().times(&scaled(&svd.right, &svd.values)).unwrap();
    assert!(distance(&back, a) <= rounding(a), "{} of {}", distance(&back, a), rounding(a));
    let unit = Matrix::identity(a.rows(), a.columns());
    assert!(skew(&svd.left) <= rounding(&unit) && skew(&svd.right) <= rounding(&unit));
    assert!(svd.values.iter().rev().is_sorted() && svd.values.iter().all(|&s| s >= 0.0));
    svd
}

fn check_qr(a: &Matrix) {
    let Qr { basis, r } = qr(a).unwrap();
    assert!(distance(&basis.transposed().times(&r).unwrap(), a) <= rounding(a));
    assert!(skew(&basis) <= rounding(&Matrix::identity(a.rows(), a.columns())));
    assert!((0..r.rows()).all(|i| r.row(i)[..i].iter().all(|&x| x == 0.0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn factors_multiply_back(m in 1_usize..90, n in 1_usize..90, seed in 0_u64..1000) {
        let a = random(m, n, seed);
        check_qr(&a);
        check_svd(&a);
        check_eigen(&symmetric(n, seed));
        // Of low rank, with a tiny remainder or none.
        let low = random(m, 1 + n / 4, seed).times(&random(1 + n / 4, n, seed + 1)).unwrap();
        check_qr(&low);
        let svd = check_svd(&low);
        prop_assert!(svd.values.iter().skip(1 + n / 4).all(|&s| s <= rounding(&low)));
        check_eigen(&low.transposed().times(&low).unwrap());
    }

    #[test]
    fn systems_are_solved(n in 1_usize..150, p in 1_usize..5, seed in 0_u64..1000) {
        let (a, x) = (random(n, n, seed), random(n, p, seed + 1));
        let b = a.times(&x).unwrap();
        let found = solve(&a, &b).unwrap();
        let residual = distance(&a.times(&found).unwrap(), &b);
        prop_assert!(residual <= n as f64 * rounding(&a) * (1.0 + largest(&found)), "{residual}");
        let mut spd = a.times(&a.transposed()).unwrap();
        (0..n).for_each(|i| spd.row_mut(i)[i] += 1.0);
        let l = cholesky(&spd).unwrap();
        prop_assert!(distance(&l.times(&l.transposed()).unwrap(), &spd) <= rounding(&spd));
        let found = solve_spd(&spd, &b).unwrap();
        let residual = distance(&spd.times(&found).unwrap(), &b);
        prop_assert!(residual <= n as f64 * rounding(&spd) * (1.0 + largest(&found)), "{residual}");
        // What is left of a least-squares fit is orthogonal to the columns.
        let tall = random(n + 7, n, seed + 2);
        let y = random(n + 7, p, seed + 3);
        let fit = tall.times(&least_squares(&tall, &y).unwrap()).unwrap();
        let rest = Matrix::new(n + 7, p, y.values().iter().zip(fit.values()).map(|(y, f)| y - f).collect()).unwrap();
        let along = largest(&tall.transposed().times(&rest).unwrap());
        prop_assert!(along <= 50.0 * n as f64 * rounding(&tall), "{along}");
    }
}

#[test]
fn degenerate_shapes_and_values() {
    for (m, n) in [(0, 0), (0, 3), (3, 0)] {
        assert_eq!(svd(&Matrix::zeros(m, n)).unwrap().values.len(), 0);
        assert_eq!(qr(&Matrix::zeros(m, n)).unwrap().r.columns(), n);
    }
    assert!(symmetric_eigen(&Matrix::zeros(0, 0)).unwrap().values.is_empty());
    assert_eq!(solve(&Matrix::zeros(0, 0), &Matrix::zeros(0, 2)).unwrap().rows(), 0);
    for n in [1, 2, 33, 70] {
        assert!(check_eigen(&Matrix::zeros(n, n)).values.iter().all(|&x| x == 0.0));
        assert!(check_eigen(&Matrix::identity(n, n)).values.iter().all(|&x| x == 1.0));
        assert!(check_svd(&Matrix::zeros(n, n)).values.iter().all(|&x| x == 0.0));
        assert!(check_svd(&Matrix::identity(n + 3, n)).values.iter().all(|&x| (x - 1.0).abs() < 1e-14));
    }
    assert_eq!(check_svd(&Matrix::new(1, 1, vec![-3.0]).unwrap()).values, [3.0]);
    let ones = Matrix::new(40, 40, vec![1.0; 1600]).unwrap();
    assert!((check_eigen(&ones).values[39] - 40.0).abs() < 1e-12);
    assert!((check_svd(&ones).values[0] - 40.0).abs() < 1e-12);
}

#[test]
fn values_known_in_closed_form() {
    let n = 100;
    let mut a = Matrix::zeros(n, n);
    for i in 0..n {
        a.row_mut(i)[i] = 2.0;
        if i > 0 {
            a.row_mut(i)[i - 1] = -1.0;
            a.row_mut(i - 1)[i] = -1.0;
        }
    }
    let found = check_eigen(&a).values;
    for (k, value) in found.iter().enumerate() {
        let exact = 2.0 - 2.0 * (std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64).cos();
        assert!((value - exact).abs() < 1e-13, "{k}: {value} {exact}");
    }
    // Hilbert's matrix of ten rows; the smallest is known to lie at 1.0931538e-13.
    let hilbert =
        Matrix::new(10, 10, (0..100).map(|i| 1.0 / (i / 10 + i % 10 + 1) as f64).collect()).unwrap();
    let values = check_eigen(&hilbert).values;
    assert!((values[9] - 1.751_919_670_265_178).abs() < 1e-14, "{}", values[9]);
    assert!((values[0] - 1.093_153_8e-13).abs() < 2e-16, "{:e}", values[0]);
    let values = check_svd(&hilbert).values;
    assert!((values[9] - 1.093_153_8e-13).abs() < 2e-16, "{:e}", values[9]);
}

#[test]
fn tiny_and_huge_and_graded_numbers() {
    for unit in [1e-308, 1e-160, 1e150, 1e300] {
        let a = symmetric(20, 3);
        let round = |x: &f64| (x * unit).clamp(-f64::MAX / 64.0, f64::MAX / 64.0);
        let a = Matrix::new(20, 20, a.values().iter().map(round).collect()).unwrap();
        let size = largest(&a);
        let eigen = symmetric_eigen(&a).unwrap();
        let svd = svd(&a).unwrap();
        let trace: f64 = (0..20).map(|i| a.at(i, i) / size).sum();
        let sum: f64 = eigen.values.iter().map(|x| x / size).sum();
        assert!((trace - sum).abs() < 1e-12, "{unit:e}: {trace} {sum}");
        let top = eigen.values[0].abs().max(eigen.values[19].abs());
        assert!((svd.values[0] / top - 1.0).abs() < 1e-12, "{unit:e}");
        assert!(skew(&eigen.vectors) < 1e-13 && skew(&svd.left) < 1e-13);
    }
    // Graded up and down, diagonal and not: small singular values keep their digits in a bidiagonal matrix.
    for flip in [false, true] {
        let mut a = Matrix::zeros(12, 12);
        for i in 0..12 {
            let power = if flip { 11 - i } else { i };
            a.row_mut(i)[i] = 10.0_f64.powi(-(power as i32) * 2);
        }
        let values = check_svd(&a).values;
        for (i, value) in values.iter().enumerate() {
            assert!((value * 10.0_f64.powi(i as i32 * 2) - 1.0).abs() < 1e-13, "{i}: {value:e}");
        }
        for i in 0..11 {
            let x = a.at(i, i) / 2.0;
            a.row_mut(i)[i + 1] = x;
        }
        check_svd(&a);
    }
}

#[test]
fn signs_are_settled() {
    let eigen = symmetric_eigen(&symmetric(30, 1)).unwrap();
    let svd = svd(&random(20, 30, 2)).unwrap();
    for rows in [&eigen.vectors, &svd.right] {
        for i in 0..rows.rows() {
            let top = rows.row(i).iter().fold(0.0_f64, |m, &x| if x.abs() > m.abs() { x } else { m });
            assert!(top > 0.0);
        }
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let says = |error: crate::Error, what: &str| assert!(error.to_string().contains(what), "{error}");
    let mut broken = symmetric(3, 1);
    broken.row_mut(1)[2] = f64::NAN;
    says(svd(&broken).unwrap_err(), "element (1, 2) is NaN");
    says(symmetric_eigen(&random(2, 3, 1)).unwrap_err(), "2 rows and 3 columns");
    says(cholesky(&Matrix::new(2, 2, vec![1.0, 2.0, 2.0, 1.0]).unwrap()).unwrap_err(), "pivot 1 is -3e0");
    says(solve(&Matrix::zeros(2, 2), &Matrix::zeros(2, 1)).unwrap_err(), "no pivot in column 0");
    let twice = Matrix::new(3, 2, vec![1.0, 2.0, 2.0, 4.0, 3.0, 6.0]).unwrap();
    says(least_squares(&twice, &Matrix::zeros(3, 1)).unwrap_err(), "column 1 depends");
    says(solve(&Matrix::identity(2, 2), &Matrix::zeros(3, 1)).unwrap_err(), "right-hand side");
    assert!(Matrix::new(2, 2, vec![0.0; 3]).is_err());
}

/// Against the longest of all columns a short one counted as dependent, and a long one that depends as independent.
#[test]
fn least_squares_do_not_depend_on_the_units_of_columns() {
    let powers = [0, -80, 60, -200, 300].map(|power| 2f64.powi(power));
    let (columns, y) = (random(5, 40, 1), random(40, 2, 2));
    let x = least_squares(&columns.transposed(), &y).unwrap();
    let in_units = least_squares(&scaled(&columns, &powers).transposed(), &y).unwrap();
    assert_eq!(in_units, scaled(&x, &powers.map(f64::recip)), "to the bit");

    let sum: Vec<f64> = columns.row(0).iter().zip(columns.row(1)).map(|(x, y)| 0.3 * x + 0.7 * y).collect();
    for power in [-90, 0, 90] {
        let mut three = Matrix::zeros(3, 40);
        (0..2).for_each(|i| three.row_mut(i).copy_from_slice(columns.row(i)));
        three.row_mut(2).copy_from_slice(&sum);
        let three = scaled(&three, &[2f64.powi(power), 2f64.powi(power), 1.0]).transposed();
        let error = least_squares(&three, &y).unwrap_err().to_string();
        assert!(error.contains("column 2 depends"), "{power}: {error}");
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_level() {
    let work = || {
        let (a, s) = (random(70, 45, 1), symmetric(130, 2));
        let (svd, eigen) = (svd(&a).unwrap(), symmetric_eigen(&s).unwrap());
        let spd = a.transposed().times(&a).unwrap();
        let b = random(45, 3, 4);
        let all = [
            svd.left.values(),
            &svd.values,
            svd.right.values(),
            &eigen.values,
            eigen.vectors.values(),
            solve_spd(&spd, &b).unwrap().values(),
            solve(&spd, &b).unwrap().values(),
            least_squares(&a, &random(70, 2, 5)).unwrap().values(),
            qr(&a).unwrap().r.values(),
        ]
        .concat();
        all.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let expected = on(levels()[0], 1, work);
    for level in levels() {
        for threads in [1, 2, 5] {
            assert!(on(level, threads, work) == expected);
        }
    }
    // FNV of the bits as this was written: another processor, system or compiler has to find the same.
    let hash = expected.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, bits| {
        bits.to_le_bytes().iter().fold(h, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    });
    assert_eq!(hash, 0x316f_0829_968d_4bae, "{hash:#x}");
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "the figures are what this is run for")]
fn speed_of_factors() {
    for n in [512, 1024, 2048, 4096] {
        let (a, s) = (random(n, n, 1), symmetric(n, 2));
        let time = |name: &str, work: &dyn Fn()| {
            let start = std::time::Instant::now();
            work();
            println!("{n:5} {name:12} {:8.2} s", start.elapsed().as_secs_f64());
        };
        time("product", &|| drop(a.times(&s)));
        time("QR", &|| drop(qr(&a)));
        time("solve", &|| drop(solve(&a, &Matrix::identity(n, 1))));
        time("eigen", &|| drop(symmetric_eigen(&s)));
        time("SVD", &|| drop(svd(&a)));
    }
}

/// Weights come in and go out as tensors.
#[test]
fn a_matrix_has_the_values_of_a_tensor() {
    let tensor = Tensor::from_f32(&[1.5, -2.0, 0.1, 4.0, 5.0, -6.25], &[3, 2]).unwrap();
    let matrix = Matrix::from_tensor(&tensor);
    assert_eq!((matrix.rows(), matrix.columns(), matrix.at(1, 0)), (3, 2, f64::from(0.1f32)));
    assert_eq!((matrix.to_tensor().shape(), matrix.to_tensor().f32()), (&[3, 2][..], tensor.f32()));
    let half = tensor.to_dtype(crate::DType::BF16);
    assert_eq!(Matrix::from_tensor(&half).to_tensor().f32(), half.to_f32().f32());
}
