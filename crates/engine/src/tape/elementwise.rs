//! Element-wise and reducing operations: what losses and probes are written in.

use super::{Edge, Graph, Var};
use crate::kernels::{self, Activation};
use crate::{DType, Error, Result, Tensor, profile};

fn same_shape(what: &str, a: &Var, b: &Var) -> Result<()> {
    if a.shape() == b.shape() { Ok(()) } else { Err(Error::shape(what, a.shape(), b.shape())) }
}

impl<'m> Graph<'m> {
    /// `a + b`, of equal shapes.
    pub fn add(&mut self, a: &Var, b: &Var) -> Result<Var> {
        self.add_scaled(a, b, 1.0)
    }

    /// `a − b`, of equal shapes.
    pub fn sub(&mut self, a: &Var, b: &Var) -> Result<Var> {
        self.add_scaled(a, b, -1.0)
    }

    /// `a + factor · b`, of equal shapes.
    pub fn add_scaled(&mut self, a: &Var, b: &Var, factor: f32) -> Result<Var> {
        same_shape("addition", a, b)?;
        let _timed = profile::span("addition");
        let mut value = a.value.clone();
        kernels::axpy(factor, b.value.f32(), value.f32_mut());
        let needs = a.needs_gradient() || b.needs_gradient();
        let (a, b) = (Edge::from(a), Edge::from(b));
        Ok(self.push(value, needs, move |back, gradient| {
            let _timed = profile::span("addition backward");
            if b.node.is_some() {
                let mut scaled = gradient.clone();
                if factor != 1.0 {
                    kernels::scale(factor, scaled.f32_mut());
                }
                back.add(b, scaled)?;
            }
            back.add(a, gradient)
        }))
    }

    /// `a · b`, element by element, of equal shapes.
    pub fn mul(&mut self, a: &Var, b: &Var) -> Result<Var> {
        same_shape("multiplication", a, b)?;
        let product =
            |x: &Tensor, y: &Tensor| Tensor::build(x.shape(), |out| kernels::mul(x.f32(), y.f32(), out));
        let value = product(&a.value, &b.value);
        let (a, b) = (a.clone(), b.clone());
        Ok(self.push(value, a.needs_gradient() || b.needs_gradient(), move |back, gradient| {
            back.add(&a, product(&gradient, &b.value))?;
            back.add(&b, product(&gradient, &a.value))
        }))
    }

    /// `factor · x`.
    pub fn scale(&mut self, x: &Var, factor: f32) -> Result<Var> {
        self.map(x, move |v| factor * v, move |_, _| factor)
    }

    /// `x + constant`.
    pub fn shift(&mut self, x: &Var, constant: f32) -> Result<Var> {
        self.map(x, move |v| v + constant, |_, _| 1.0)
    }

    /// `1 / x`.
    pub fn reciprocal(&mut self, x: &Var) -> Result<Var> {
        self.map(x, |v| 1.0 / v, |_, y| -y * y)
    }

    /// `1 / x`, where x is `reciprocal` = `1 / inverse` but for some elements: those that are as they
    /// were become `inverse` to the bit.
    pub fn reciprocal_back(&mut self, x: &Var, reciprocal: &Var, inverse: &Var) -> Result<Var> {
        same_shape("reciprocal", reciprocal, x)?;
        let value = Tensor::build(x.shape(), |out| {
            let known = reciprocal.value.f32().iter().zip(inverse.value.f32());
            for ((out, &x), (&was, &inverse)) in out.iter_mut().zip(x.value.f32()).zip(known) {
                *out = if x.to_bits() == was.to_bits() { inverse } else { 1.0 / x };
            }
        });
        let (needs, x, y) = (x.needs_gradient(), Edge::from(x), value.clone());
        Ok(self.push(value, needs, move |back, mut gradient| {
            gradient.f32_mut().iter_mut().zip(y.f32()).for_each(|(g, &y)| *g *= -y * y);
            back.add(x, gradient)
        }))
    }

    /// `eˣ`.
    pub fn exp(&mut self, x: &Var) -> Result<Var> {
        self.map(x, f32::exp, |_, y| y)
    }

    /// `ln x`.
    pub fn ln(&mut self, x: &Var) -> Result<Var> {
        self.map(x, f32::ln, |x, _| 1.0 / x)
    }

    /// `ln σ(x)`, without overflow at either end.
    pub fn log_sigmoid(&mut self, x: &Var) -> Result<Var> {
        self.map(x, |v| v.min(0.0) - (-v.abs()).exp().ln_1p(), |x, _| 1.0 / (1.0 + x.exp()))
    }

    /// `tanh x`.
    pub fn tanh(&mut self, x: &Var) -> Result<Var> {
        self.map(x, f32::tanh, |_, y| 1.0 - y * y)
    }

    /// `f(x)` element by element, with `slope(x, f(x))` its derivative.
    fn map(&mut self, x: &Var, f: impl Fn(f32) -> f32, slope: impl Fn(f32, f32) -> f32 + 'm) -> Result<Var> {
        let value = Tensor::build(x.shape(), |out| {
            for (out, &x) in out.iter_mut().zip(x.value.f32()) {
                *out = f(x);
            }
        });
        let (x, y) = (x.clone(), value.clone());
        Ok(self.push(value, x.needs_gradient(), move |back, mut gradient| {
            for ((g, &x), &y) in gradient.f32_mut().iter_mut().zip(x.value.f32()).zip(y.f32()) {
                *g *= slope(x, y);
            }
            back.add(&x, gradient)
        }))
    }

    /// `cap · tanh(x / cap)`, element by element: a soft bound.
    pub fn softcap(&mut self, x: &Var, cap: f32) -> Result<Var> {
        let mut value = x.value.clone();
        kernels::softcap(value.f32_mut(), cap);
        let (x, y) = (x.clone(), value.clone());
        Ok(self.push(value, x.needs_gradient(), move |back, mut gradient| {
            kernels::softcap_backward(y.f32(), cap, gradient.f32_mut());
            back.add(&x, gradient)
        }))
    }

    /// `act(x)`, element by element: the plain feed-forward's coefficients.
    pub fn activate(&mut self, activation: Activation, x: &Var) -> Result<Var> {
        let again = {
            let x = x.value.clone();
            move || Tensor::build(x.shape(), |out| kernels::activate(activation, x.f32(), out))
        };
        let (value, needs, x) = (again(), x.needs_gradient(), x.clone());
        let activated = self.push(value, needs, move |back, dy| {
            let dx = Tensor::build(x.shape(), |dx| {
                kernels::activate_backward(activation, x.value.f32(), dy.f32(), dx);
            });
            back.add(&x, dx)
        });
        Ok(activated.made_by(again))
    }

    /// `act(gate) · up`, the gated feed-forward's coefficients.
    pub fn gated(&mut self, activation: Activation, gate: &Var, up: &Var) -> Result<Var> {
        same_shape("gated activation", gate, up)?;
        let _timed = profile::span("activation");
        let again = {
            let (gate, up) = (gate.value.clone(), up.value.clone());
            move || Tensor::build(gate.shape(), |out| kernels::gated(activation, gate.f32(), up.f32(), out))
        };
        let (value, needs) = (again(), gate.needs_gradient() || up.needs_gradient());
        let (gate, up) = (gate.clone(), up.clone());
        let product = self.push(value, needs, move |back, dy| {
            let _timed = profile::span("activation backward");
            let (mut dgate, mut dup) = (Tensor::stale(gate.shape()), Tensor::stale(up.shape()));
            kernels::gated_backward(
                activation,
                gate.value.f32(),
                up.value.f32(),
                dy.f32(),
                dgate.f32_mut(),
                dup.f32_mut(),
            );
            back.add(&gate, dgate)?;
            back.add(&up, dup)
        });
        Ok(product.made_by(again))
    }

    /// Sum of all elements, in f64 → scalar.
    pub fn sum(&mut self, x: &Var) -> Result<Var> {
        let ones = vec![1.0; x.value.len()];
        self.weighted_sum(x, &ones)
    }

    /// Mean of all elements → scalar.
    pub fn mean(&mut self, x: &Var) -> Result<Var> {
        let weights = vec![1.0 / x.value.len().max(1) as f32; x.value.len()];
        self.weighted_sum(x, &weights)
    }

    /// `Σ weight_i · x_i` with constant weights → scalar.
    pub fn weighted_sum(&mut self, x: &Var, weights: &[f32]) -> Result<Var> {
        if weights.len() != x.value.len() {
            return Err(Error::shape("weights of a sum", x.shape(), &[weights.len()]));
        }
        let total: f64 = x.value.f32().iter().zip(weights).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
        let value = Tensor::from_f32(&[total as f32], &[])?;
        let (x, weights) = (x.clone(), weights.to_vec());
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            back.add_with(&x, |dx| kernels::axpy(gradient.f32()[0], &weights, dx));
            Ok(())
        }))
    }

    /// Sums of groups: x `[n]` with `group[i]` below `groups` → `[groups]`. Per-sequence sums of token values.
    pub fn group_sums(&mut self, x: &Var, group: &[usize], groups: usize) -> Result<Var> {
        if group.len() != x.value.len() {
            return Err(Error::shape("groups of a sum", x.shape(), &[group.len()]));
        }
        let mut sums = vec![0.0f64; groups];
        for (&x, &g) in x.value.f32().iter().zip(group) {
            sums[g] += f64::from(x);
        }
        let mut value = Tensor::zeros(&[groups], DType::F32);
        for (out, sum) in value.f32_mut().iter_mut().zip(sums) {
            *out = sum as f32;
        }
        let (x, group) = (x.clone(), group.to_vec());
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            back.add_with(&x, |dx| {
                for (dx, &g) in dx.iter_mut().zip(&group) {
                    *dx += gradient.f32()[g];
                }
            });
            Ok(())
        }))
    }

    /// x [T, d] with every row multiplied by its factor [T, 1].
    pub fn mul_rows(&mut self, x: &Var, factors: &Var) -> Result<Var> {
        let (rows, width) = (x.value.rows(), x.value.columns());
        if factors.value.len() != rows {
            return Err(Error::shape("row factors", &[rows, 1], factors.shape()));
        }
        let times_rows = move |x: &Tensor, factors: &Tensor| {
            let mut out = x.clone();
            for (row, &f) in out.f32_mut().chunks_exact_mut(width).zip(factors.f32()) {
                kernels::scale(f, row);
            }
            out
        };
        let value = times_rows(&x.value, &factors.value);
        let (x, factors) = (x.clone(), factors.clone());
        Ok(self.push(value, x.needs_gradient() || factors.needs_gradient(), move |back, gradient| {
            back.add_with(&factors, |out| {
                let rows = gradient.f32().chunks_exact(width).zip(x.value.f32().chunks_exact(width));
                for (out, (g, x)) in out.iter_mut().zip(rows) {
                    *out += kernels::dot(g, x) as f32;
                }
            });
            back.add(&x, times_rows(&gradient, &factors.value))
        }))
    }

    /// x [T, d] with a vector `[d]` added to every row.
    pub fn add_columns(&mut self, x: &Var, addend: &Var) -> Result<Var> {
        let width = x.value.columns();
        if addend.value.len() != width {
            return Err(Error::shape("column addends", &[width], addend.shape()));
        }
        let mut value = x.value.clone();
        value.f32_mut().chunks_exact_mut(width).for_each(|row| kernels::axpy(1.0, addend.value.f32(), row));
        let (x, addend) = (x.clone(), addend.clone());
        Ok(self.push(value, x.needs_gradient() || addend.needs_gradient(), move |back, gradient| {
            back.add_with(&addend, |out| {
                gradient.f32().chunks_exact(width).for_each(|row| kernels::axpy(1.0, row, out));
            });
            back.add(&x, gradient)
        }))
    }

    /// x [T, d] with every column multiplied by its factor `[d]`.
    pub fn mul_columns(&mut self, x: &Var, factors: &Var) -> Result<Var> {
        let width = x.value.columns();
        if factors.value.len() != width {
            return Err(Error::shape("column factors", &[width], factors.shape()));
        }
        let times_columns = move |x: &Tensor, factors: &Tensor| {
            Tensor::build(x.shape(), |out| {
                for (out, x) in out.chunks_exact_mut(width).zip(x.f32().chunks_exact(width)) {
                    kernels::mul(x, factors.f32(), out);
                }
            })
        };
        let value = times_columns(&x.value, &factors.value);
        let (x, factors) = (x.clone(), factors.clone());
        Ok(self.push(value, x.needs_gradient() || factors.needs_gradient(), move |back, gradient| {
            back.add_with(&factors, |out| {
                let rows = gradient.f32().chunks_exact(width).zip(x.value.f32().chunks_exact(width));
                for (g, x) in rows {
                    out.iter_mut().zip(g.iter().zip(x)).for_each(|(out, (g, x))| *out += g * x);
                }
            });
            back.add(&x, times_columns(&gradient, &factors.value))
        }))
    }
}
