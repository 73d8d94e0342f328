//! Measurements, run by hand: `cargo test --release -p amend-kernels speed -- --ignored --nocapture`.
#![expect(clippy::print_stdout, reason = "the figures are what these are run for")]

use super::super::{
    Activation, AdamWStep, AttentionShape, Compute, KeyValues, Keys, Mat, MatMut, Packed, PackedSequence,
    Segment, adamw, attention, attention_backward, axpy, dot, gated, gated_backward, gemm, gemm_bf16,
    gemm_packed, log_sum_exp, measured_peak, rms_norm, rms_norm_backward, rope, softmax_rows,
};
use super::random;
use std::hint::black_box;
use std::time::Instant;

/// Seconds of the fastest of several runs.
fn best(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::INFINITY;
    let mut total = 0.0;
    while total < 0.1 {
        let start = Instant::now();
        f();
        let time = start.elapsed().as_secs_f64();
        best = best.min(time);
        total += time;
    }
    best
}

fn causal(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionShape {
    let scale = 1.0 / (head_dim as f32).sqrt();
    let (window, softcap, compute) = (None, None, Compute::F32);
    AttentionShape { heads, kv_heads, head_dim, scale, window, softcap, compute }
}

/// The peak is measured before and after: a processor's clock and its neighbours change by the second.
fn report(name: &str, flops: usize, f: impl FnMut()) {
    let before = measured_peak();
    let seconds = best(f);
    let peak = before.max(measured_peak()) / 1e9;
    let rate = flops as f64 / seconds / 1e9;
    println!(
        "{name:40} {:9.1} us {rate:8.1} GFLOP/s {:5.1} % of {peak:.0}",
        seconds * 1e6,
        100.0 * rate / peak
    );
}

/// Products of the shapes A and B in training, and of small models: y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x.
///
/// Several passes, of which every product's fastest counts: neighbours who share a processor's caches slow
/// products down for seconds at a time, and leave the peak as it is.
#[test]
#[ignore = "a measurement"]
fn speed_of_products() {
    const PASSES: usize = 3;
    let shapes = [
        [2048, 768, 288],
        [2048, 288, 288],
        [2048, 288, 768],
        [256, 32000, 288],
        [2048, 512, 512],
        [2048, 1408, 512],
        [2048, 512, 1408],
        [512, 8192, 512],
        [1024, 256, 256],
        [1024, 768, 256],
        [1024, 256, 768],
        [300, 64, 64],
        [100, 64, 64],
        [500, 200, 200],
        [128, 200, 64],
    ];
    let mut best_of = vec![[0.0_f64; 4]; shapes.len()];
    let mut peak = 0.0_f64;
    for _ in 0..PASSES {
        for (&[m, n, k], best_of) in shapes.iter().zip(&mut best_of) {
            peak = peak.max(measured_peak() / 1e9);
            let (x, w, mut y) = (random(m * k, 1), random(n * k, 2), vec![0.0; m * n]);
            let (mut dx, mut dw) = (vec![0.0; m * k], vec![0.0; n * k]);
            let (x, w) = (Mat::new(&x, m, k), Mat::new(&w, n, k));
            let mut faster = |i: usize, f: &mut dyn FnMut()| {
                best_of[i] = best_of[i].max((2 * m * n * k) as f64 / best(f) / 1e9);
            };
            faster(0, &mut || gemm(x, w.t(), MatMut::new(&mut y, m, n), false));
            faster(3, &mut || gemm_bf16(x, w.t(), MatMut::new(&mut y, m, n), false));
            let dy = Mat::new(&y, m, n);
            faster(1, &mut || gemm(dy, w, MatMut::new(&mut dx, m, k), false));
            faster(2, &mut || gemm(dy.t(), x, MatMut::new(&mut dw, n, k), false));
        }
    }
    println!(
        "{} x {} threads, peak {peak:.0} GFLOP/s",
        super::super::simd_level(),
        rayon::current_num_threads()
    );
    println!(
        "{:>20}  {:>12}  {:>12}  {:>12}  {:>12}",
        "x[m,k] W[n,k]^T", "y = x W^T", "dx = dy W", "dW = dy^T x", "y in bf16"
    );
    for ([m, n, k], best_of) in shapes.iter().zip(&best_of) {
        let [y, dx, dw, bf16] = best_of.map(|rate| format!("{rate:6.0} {:4.2}", rate / peak));
        println!("{:>20}  {y:>12}  {dx:>12}  {dw:>12}  {bf16:>12}", format!("{m} {n} {k}"));
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_decoding() {
    for (n, k) in [(768, 288), (288, 768), (32000, 288), (4096, 4096)] {
        let w = random(n * k, 2);
        let packed = Packed::new(Mat::new(&w, n, k).t());
        for m in [1, 8, 16, 64] {
            let x = random(m * k, 1);
            let mut y = vec![0.0; m * n];
            let mut run = |name: &str, f: &dyn Fn(MatMut)| {
                let seconds = best(|| f(MatMut::new(&mut y, m, n)));
                let rate = (4 * n * k) as f64 / seconds / 1e9;
                println!(
                    "{name:9} x[{m},{k}] W[{n},{k}]^T {:9.1} us {rate:7.1} GB/s of weights, {:.1} GFLOP/s",
                    seconds * 1e6,
                    (2 * m * n * k) as f64 / seconds / 1e9
                );
            };
            run("packed", &|c| gemm_packed(Mat::new(&x, m, k), &packed, c, false));
            run("unpacked", &|c| gemm(Mat::new(&x, m, k), Mat::new(&w, n, k).t(), c, false));
        }
    }
}

/// Batches of 8 × 256 tokens with 6 heads of 48, and one sequence of 2048 with 8 heads of 64.
#[test]
#[ignore = "a measurement"]
fn speed_of_attention() {
    for (sequences, len, heads, kv_heads, head_dim) in
        [(8, 256, 6, 6, 48), (1, 2048, 8, 2, 64), (64, 32, 4, 4, 16)]
    {
        let shape = causal(heads, kv_heads, head_dim);
        let rows = sequences * len;
        let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let (q, k, v) = (random(rows * width, 1), random(rows * kv_width, 2), random(rows * kv_width, 3));
        let (mut out, mut lse) = (vec![0.0; rows * width], vec![0.0; rows * heads]);
        let rows_of = |i: usize| i * len * kv_width..(i + 1) * len * kv_width;
        let segments: Vec<_> = (0..sequences)
            .map(|i| Segment {
                q_rows: i * len..(i + 1) * len,
                keys: Keys::Rows { k: &k[rows_of(i)], v: &v[rows_of(i)], count: len },
                first_query: 0,
                prefix: 0,
            })
            .collect();
        // Causal: half of all pairs, a product each for scores and values.
        let flops = 2 * sequences * len * len * width;
        let name = format!("{sequences} x {len}, {heads}/{kv_heads} heads of {head_dim}");
        report(&format!("attention {name}"), flops, || {
            attention(&q, &segments, &shape, &mut out, Some(&mut lse))
        });
        let dout = random(rows * width, 4);
        let [mut dq, mut dk, mut dv] = [width, kv_width, kv_width].map(|w| vec![0.0; rows * w]);
        let ranges: Vec<_> =
            segments.iter().map(|s| PackedSequence { rows: s.q_rows.clone(), prefix: 0 }).collect();
        report(&format!("backward {name}"), flops * 5 / 2, || {
            attention_backward(&q, &k, &v, &out, &lse, &dout, &ranges, &shape, &mut dq, &mut dk, &mut dv);
        });
    }
    let (keys, heads, kv_heads, head_dim) = (4096, 16, 4, 64);
    let shape = causal(heads, kv_heads, head_dim);
    let (k, v) = (random(keys * kv_heads * head_dim, 1), random(keys * kv_heads * head_dim, 2));
    let q = random(heads * head_dim, 3);
    let mut out = vec![0.0; heads * head_dim];
    let mut kept = KeyValues::new(kv_heads, head_dim);
    kept.append(&k, &v);
    let segment = [Segment { q_rows: 0..1, keys: Keys::Kept(&kept), first_query: keys - 1, prefix: 0 }];
    let seconds = best(|| attention(&q, &segment, &shape, &mut out, None));
    let rate = (4 * (k.len() + v.len())) as f64 / seconds / 1e9;
    println!("decoding one token with {keys} keys: {:.1} us, {rate:.1} GB/s of cache", seconds * 1e6);
}

/// A token each of several sequences: their caches fit the processor's or, with many layers, do not.
#[test]
#[ignore = "a measurement"]
fn speed_of_decoding_attention() {
    let (sequences, heads, head_dim, keys) = (16, 6, 48, 80);
    let shape = causal(heads, heads, head_dim);
    let width = heads * head_dim;
    for layers in [1, 100] {
        let (k, v) = (random(keys * width, 1), random(keys * width, 2));
        let mut kept = KeyValues::new(heads, head_dim);
        kept.append(&k, &v);
        let kept = vec![kept; sequences * layers];
        let q = random(sequences * width, 3);
        let mut out = vec![0.0; q.len()];
        let mut layer = 0;
        let seconds = best(|| {
            let kept = &kept[layer * sequences..(layer + 1) * sequences];
            let first_query = keys - 1;
            let segment =
                |(i, kept)| Segment { q_rows: i..i + 1, keys: Keys::Kept(kept), first_query, prefix: 0 };
            let segments: Vec<_> = kept.iter().enumerate().map(segment).collect();
            attention(&q, &segments, &shape, &mut out, None);
            layer = (layer + 1) % layers;
        });
        println!("{sequences} sequences of {keys} keys, {layers} layers: {:.1} us a layer", seconds * 1e6);
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_the_rest() {
    let (rows, cols) = (2048, 768);
    let len = rows * cols;
    let (x, y, z) = (random(len, 1), random(len, 2), random(len, 3));
    let weight = random(cols, 4);
    let (mut a, mut b, mut inv) = (vec![0.0; len], vec![0.0; len], vec![0.0; rows]);
    let report = |name: &str, streams: usize, f: &mut dyn FnMut()| {
        let seconds = best(f);
        let rate = (4 * streams * len) as f64 / seconds / 1e9;
        println!(
            "{name:20} {:9.1} us {rate:7.1} GB/s {:6.2} ns/element",
            seconds * 1e6,
            seconds * 1e9 / len as f64
        );
    };
    report("axpy", 3, &mut || axpy(0.5, &x, &mut a));
    report("dot", 2, &mut || _ = black_box(dot(&x, &y)));
    report("rms_norm", 2, &mut || rms_norm(&x, &weight, 0.0, 1e-5, &mut a, &mut inv));
    let mut dw = vec![0.0; cols];
    report("rms_norm_backward", 4, &mut || {
        rms_norm_backward(&x, &weight, 0.0, &inv, &y, &mut a, Some(&mut dw));
    });
    for act in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
        report(&format!("gated {act:?}"), 3, &mut || gated(act, &x, &y, &mut a));
        report(&format!("backward {act:?}"), 5, &mut || gated_backward(act, &x, &y, &z, &mut a, &mut b));
    }
    report("softmax_rows", 2, &mut || softmax_rows(&mut a, cols));
    report("log_sum_exp", 1, &mut || {
        x.chunks(cols).for_each(|x| _ = black_box(log_sum_exp(x)));
    });
    let positions: Vec<u32> = (0..rows as u32).collect();
    let (cos, sin) = (random(rows * 32, 5), random(rows * 32, 6));
    report("rope", 2, &mut || rope(&mut b, cols / 64, 64, 64, &positions, &cos, &sin, false));
    let step = AdamWStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 3,
        grad_scale: 1.0,
    };
    let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
    report("adamw", 7, &mut || adamw(&mut a, &z, &mut m, &mut v, &step));
}
