//! Measurements, run by hand: `cargo test --release -p amend-engine speed -- --ignored --nocapture`.

use super::super::simd::{LANES, Simd, multiversion};
use super::super::{Mat, MatMut, Packed, gemm, gemm_packed};
use super::random;
use std::hint::black_box;
use std::time::Instant;

/// Seconds of the fastest of several runs.
fn best(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::INFINITY;
    let mut total = 0.0;
    while total < 0.3 {
        let start = Instant::now();
        f();
        let time = start.elapsed().as_secs_f64();
        best = best.min(time);
        total += time;
    }
    best
}

multiversion! {
    fn chains(steps: usize) -> f32 = chains_body;
}

/// Enough independent chains to hide the latency of fused multiply-add.
#[inline(always)]
fn chains_body<S: Simd>(s: S, steps: usize) -> f32 {
    let (x, y) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
    let mut acc = [s.splat(0.0); 12];
    for _ in 0..steps {
        for a in &mut acc {
            *a = s.fma(*a, x, y);
        }
    }
    acc.into_iter().map(|a| s.sum(a)).sum()
}

fn peak(threads: usize) -> f64 {
    let steps = 4_000_000;
    let seconds = best(|| {
        rayon::scope(|scope| (0..threads).for_each(|_| scope.spawn(|_| _ = black_box(chains(steps)))));
    });
    (threads * steps * 12 * LANES * 2) as f64 / seconds / 1e9
}

fn report(name: &str, flops: usize, peak: f64, f: impl FnMut()) {
    let seconds = best(f);
    let rate = flops as f64 / seconds / 1e9;
    println!("{name:40} {:9.1} us {rate:8.1} GFLOP/s {:5.1} % of peak", seconds * 1e6, 100.0 * rate / peak);
}

#[test]
#[ignore = "a measurement"]
fn speed_of_products() {
    let threads = rayon::current_num_threads();
    let peak = peak(threads);
    println!("{} x {threads} threads: {peak:.0} GFLOP/s fused multiply-add", super::super::simd_level());
    for (m, n, k) in
        [(2048, 768, 288), (2048, 288, 288), (2048, 288, 768), (256, 32000, 288), (2048, 2048, 2048)]
    {
        let (x, w) = (random(m * k, 1), random(n * k, 2));
        let mut y = vec![0.0; m * n];
        report(&format!("x[{m},{k}] W[{n},{k}]^T"), 2 * m * n * k, peak, || {
            gemm(Mat::new(&x, m, k), Mat::new(&w, n, k).t(), MatMut::new(&mut y, m, n), false);
        });
        let mut dx = vec![0.0; m * k];
        report(&format!("dY[{m},{n}] W[{n},{k}]"), 2 * m * n * k, peak, || {
            gemm(Mat::new(&y, m, n), Mat::new(&w, n, k), MatMut::new(&mut dx, m, k), false);
        });
        let mut dw = vec![0.0; n * k];
        report(&format!("dY[{m},{n}]^T X[{m},{k}]"), 2 * m * n * k, peak, || {
            gemm(Mat::new(&y, m, n).t(), Mat::new(&x, m, k), MatMut::new(&mut dw, n, k), false);
        });
    }
    for (m, n, k) in
        [(100, 64, 64), (100, 128, 128), (300, 200, 100), (500, 200, 200), (64, 64, 200), (128, 200, 64)]
    {
        let (x, w) = (random(m * k, 1), random(n * k, 2));
        let mut y = vec![0.0; m * n];
        report(&format!("x[{m},{k}] W[{n},{k}]^T"), 2 * m * n * k, peak, || {
            gemm(Mat::new(&x, m, k), Mat::new(&w, n, k).t(), MatMut::new(&mut y, m, n), false);
        });
        let mut dw = vec![0.0; n * k];
        report(&format!("dY[{m},{n}]^T X[{m},{k}]"), 2 * m * n * k, peak, || {
            gemm(Mat::new(&y, m, n).t(), Mat::new(&x, m, k), MatMut::new(&mut dw, n, k), false);
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_decoding() {
    for (n, k) in [(768, 288), (288, 768), (32000, 288), (4096, 4096)] {
        let w = random(n * k, 2);
        let packed = Packed::new(Mat::new(&w, n, k).t());
        for m in [1, 2, 4, 8] {
            let x = random(m * k, 1);
            let mut y = vec![0.0; m * n];
            let mut run = |name: &str, f: &dyn Fn(MatMut)| {
                let seconds = best(|| f(MatMut::new(&mut y, m, n)));
                let rate = (4 * n * k) as f64 / seconds / 1e9;
                println!(
                    "{name:9} x[{m},{k}] W[{n},{k}]^T {:9.1} us {rate:7.1} GB/s of weights",
                    seconds * 1e6
                );
            };
            run("packed", &|c| gemm_packed(Mat::new(&x, m, k), &packed, c, false));
            run("unpacked", &|c| gemm(Mat::new(&x, m, k), Mat::new(&w, n, k).t(), c, false));
        }
    }
}
