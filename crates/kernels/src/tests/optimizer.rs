//! AdamW against PyTorch's formula in double precision.

use super::super::{AdamWStep, adamw};
use super::{bits, close, each_level, levels, on, random};

fn step(number: u64) -> AdamWStep {
    AdamWStep {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: number,
        grad_scale: 0.5,
    }
}

#[test]
fn five_steps_match_double_precision() {
    each_level(|| {
        for len in [0, 1, 17, 50_001] {
            let mut param = random(len, 1);
            let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
            let mut exact: Vec<[f64; 3]> = param.iter().map(|&p| [f64::from(p), 0.0, 0.0]).collect();
            for number in 1..=5 {
                let grad = random(len, 10 + number);
                let s = step(number);
                adamw(&mut param, &grad, &mut m, &mut v, &s);
                let [lr, b1, b2, eps, wd] = [s.lr, s.beta1, s.beta2, s.eps, s.weight_decay].map(f64::from);
                for ([p, m, v], &g) in exact.iter_mut().zip(&grad) {
                    let g = f64::from(g) * f64::from(s.grad_scale);
                    *p *= 1.0 - lr * wd;
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    let (mhat, vhat) =
                        (*m / (1.0 - b1.powf(number as f64)), *v / (1.0 - b2.powf(number as f64)));
                    *p -= lr * mhat / (vhat.sqrt() + eps);
                }
            }
            let column = |i: usize| exact.iter().map(|row| row[i]).collect::<Vec<_>>();
            close(&param, &column(0), 1e-6, 1e-6);
            close(&m, &column(1), 1e-7, 1e-5);
            close(&v, &column(2), 1e-8, 1e-5);
        }
    });
}

#[test]
fn bits_do_not_depend_on_threads() {
    for level in levels() {
        let run = |threads| {
            on(level, threads, || {
                let (mut p, grad) = (random(100_003, 1), random(100_003, 2));
                let (mut m, mut v) = (random(100_003, 3), random(100_003, 4));
                v.iter_mut().for_each(|v| *v = v.abs());
                adamw(&mut p, &grad, &mut m, &mut v, &step(3));
                (bits(&p), bits(&m), bits(&v))
            })
        };
        assert_eq!(run(1), run(3));
    }
}
