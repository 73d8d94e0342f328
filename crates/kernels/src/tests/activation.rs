//! Activations and their derivatives.

use super::super::{
    Activation, activate, activate_backward, gated, gated_backward, softcap, softcap_backward,
};
use super::{bits, close, each_level, levels, on, random};

/// Those that grow like x above zero and vanish below it.
const LINEAR_ABOVE: [Activation; 5] =
    [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu, Activation::QuickGelu];

/// erf by its Maclaurin series, or erfc by its continued fraction where the series cancels.
fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z < 2.5 {
        let (mut term, mut sum) = (z, z);
        for n in 1..80 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        1.0 - erfc(z)
    };
    value.copysign(x)
}

fn erfc(z: f64) -> f64 {
    let fraction = (1..200).rev().fold(z, |f, n| z + f64::from(n) / 2.0 / f);
    (-z * z).exp() / fraction / std::f64::consts::PI.sqrt()
}

fn value(act: Activation, x: f64) -> f64 {
    match act {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        }
        Activation::Gelu if x < -3.6 => 0.5 * x * erfc(-x / 2f64.sqrt()),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

fn slope(act: Activation, x: f64) -> f64 {
    if act == Activation::Relu {
        return f64::from(u8::from(x > 0.0));
    }
    (value(act, x + 1e-5) - value(act, x - 1e-5)) / 2e-5
}

fn inputs(len: usize) -> Vec<f32> {
    random(len, 5).iter().enumerate().map(|(i, x)| x * [0.1, 1.0, 5.0, 12.0][i % 4]).collect()
}

#[test]
fn values_and_derivatives_match_double_precision() {
    each_level(|| {
        for act in LINEAR_ABOVE.into_iter().chain([Activation::Tanh, Activation::Sigmoid]) {
            for len in [0, 1, 15, 16, 17, 1003, 40_001] {
                let (x, up, dout) = (inputs(len), random(len, 6), random(len, 7));
                let mut y = vec![f32::NAN; len];
                activate(act, &x, &mut y);
                let exact: Vec<f64> = x.iter().map(|&x| value(act, f64::from(x))).collect();
                close(&y, &exact, 2e-7, 1e-6);
                gated(act, &x, &up, &mut y);
                let exact: Vec<f64> = exact.iter().zip(&up).map(|(v, &u)| v * f64::from(u)).collect();
                close(&y, &exact, 2e-7, 1e-6);

                let (mut dx, mut dup) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                activate_backward(act, &x, &dout, &mut dx);
                let exact: Vec<f64> =
                    x.iter().zip(&dout).map(|(&x, &d)| slope(act, f64::from(x)) * f64::from(d)).collect();
                close(&dx, &exact, 1e-6, 2e-6);
                gated_backward(act, &x, &up, &dout, &mut dx, &mut dup);
                let exact: Vec<f64> = exact.iter().zip(&up).map(|(v, &u)| v * f64::from(u)).collect();
                close(&dx, &exact, 1e-6, 2e-6);
                let exact: Vec<f64> =
                    x.iter().zip(&dout).map(|(&x, &d)| value(act, f64::from(x)) * f64::from(d)).collect();
                close(&dup, &exact, 2e-7, 1e-6);
            }
        }
    });
}

/// The lower tail of the exact GELU keeps its relative accuracy.
#[test]
fn gelu_does_not_cancel_far_out() {
    each_level(|| {
        let x = [-3.0f32, -4.0, -5.0, -6.5, -8.0];
        let mut y = [0.0; 5];
        activate(Activation::Gelu, &x, &mut y);
        let exact = x.map(|x| 0.5 * f64::from(x) * erfc(-f64::from(x) / 2f64.sqrt()));
        close(&y, &exact, 0.0, 1e-5);
    });
}

#[test]
fn extremes_stay_finite() {
    each_level(|| {
        for act in LINEAR_ABOVE {
            let x = [-1e4, -200.0, -89.0, 0.0, 89.0, 200.0, 1e4];
            let (mut y, mut dx) = ([f32::NAN; 7], [f32::NAN; 7]);
            activate(act, &x, &mut y);
            activate_backward(act, &x, &[1.0; 7], &mut dx);
            assert!(y[..3].iter().chain(&dx[..3]).all(|v| v.abs() < 1e-30), "{act:?}: {y:?} {dx:?}");
            assert_eq!(y[3..], x[3..], "{act:?}");
            assert_eq!(dx[4..], [1.0; 3], "{act:?}");
        }
    });
}

#[test]
fn softcap_matches_double_precision() {
    each_level(|| {
        for len in [0, 1, 19, 20_001] {
            let x: Vec<f32> = inputs(len).iter().map(|x| 10.0 * x).collect();
            let exact: Vec<f64> = x.iter().map(|&x| 30.0 * (f64::from(x) / 30.0).tanh()).collect();
            let mut y = x;
            softcap(&mut y, 30.0);
            close(&y, &exact, 0.0, 5e-7);
            let mut dx = random(len, 9);
            let slopes = exact.iter().zip(&dx).map(|(y, &d)| f64::from(d) * (1.0 - (y / 30.0).powi(2)));
            let slopes: Vec<f64> = slopes.collect();
            softcap_backward(&y, 30.0, &mut dx);
            close(&dx, &slopes, 5e-7, 1e-6);
        }
    });
}

#[test]
fn bits_do_not_depend_on_threads_or_place() {
    let x = inputs(50_017);
    for level in levels() {
        let run = |threads, x: &[f32]| {
            on(level, threads, || {
                let mut y = vec![0.0; x.len()];
                activate(Activation::Gelu, x, &mut y);
                bits(&y)
            })
        };
        let one = run(1, &x);
        assert_eq!(one, run(2, &x));
        for i in [0, 5, 16_384, 50_016] {
            assert_eq!(run(1, &x[i..i + 1])[0], one[i]);
        }
    }
}
