//! Normalisation of rows, and its parts for those who look inside.

use super::{Graph, Var};
use crate::params::ParamId;
use crate::{Error, Result, Tensor, kernels, profile};

impl<'m> Graph<'m> {
    /// `x / rms(x) · (weight + offset)`, row by row over the last `weight.len()` elements (RMSNorm,
    /// arXiv 1910.07467). A weight shorter than a row normalises each of its pieces, as the per-head
    /// query and key norms do. `offset` is 1 where checkpoints store the gain's distance from one.
    pub fn rms_norm(&mut self, x: &Var, weight: ParamId, offset: f32, eps: f32) -> Result<Var> {
        let _timed = profile::span("norm");
        let gain = &self.param(weight).tensor;
        let width = gain.len();
        if width == 0 || !x.value.columns().is_multiple_of(width) {
            return Err(Error::shape(&self.param(weight).name, &[x.value.columns()], gain.shape()));
        }
        let mut inv_rms = Tensor::stale(&[x.value.len() / width]);
        let value = Tensor::build(x.shape(), |out| {
            kernels::rms_norm(x.value.f32(), gain.f32(), offset, eps, out, inv_rms.f32_mut());
        });
        let learns = self.learns(weight);
        let again = {
            let (x, gain) = (x.value.clone(), gain.clone());
            move || {
                let mut inv_rms = vec![0.0; x.len() / width];
                Tensor::build(x.shape(), |out| {
                    kernels::rms_norm(x.f32(), gain.f32(), offset, eps, out, &mut inv_rms);
                })
            }
        };
        let x = x.clone();
        let normalised = self.push(value, learns || x.needs_gradient(), move |back, dy| {
            let _timed = profile::span("norm backward");
            let mut dweight = learns.then(|| Tensor::zeros(gain.shape(), crate::DType::F32));
            let mut dx = Tensor::zeros(x.shape(), crate::DType::F32);
            kernels::rms_norm_backward(
                x.value.f32(),
                gain.f32(),
                offset,
                inv_rms.f32(),
                dy.f32(),
                dx.f32_mut(),
                dweight.as_mut().map(Tensor::f32_mut),
            );
            if let Some(dweight) = dweight {
                kernels::axpy(1.0, dweight.f32(), back.param(weight));
            }
            back.add(&x, dx)
        });
        Ok(normalised.made_by(again))
    }

    /// `(x − mean(x)) / √(var(x) + eps) · weight + bias`, row by row (LayerNorm, arXiv 1607.06450):
    /// x [T, d], weight and bias `[d]` → [T, d].
    pub fn layer_norm(&mut self, x: &Var, weight: ParamId, bias: Option<ParamId>, eps: f32) -> Result<Var> {
        let _timed = profile::span("norm");
        let gain = &self.param(weight).tensor;
        let width = gain.len();
        if width == 0 || x.value.columns() != width {
            return Err(Error::shape(&self.param(weight).name, &[x.value.columns()], gain.shape()));
        }
        let shift = bias.map(|b| &self.param(b).tensor);
        if let (Some(bias), Some(shift)) = (bias, shift)
            && shift.len() != width
        {
            return Err(Error::shape(&self.param(bias).name, &[width], shift.shape()));
        }
        let mut statistics = Tensor::stale(&[x.value.len() / width, 2]);
        let value = Tensor::build(x.shape(), |out| {
            let shift = shift.map(Tensor::f32);
            kernels::layer_norm(x.value.f32(), gain.f32(), shift, eps, out, statistics.f32_mut());
        });
        let learns = self.learns(weight);
        let again = {
            let (x, gain, shift) = (x.value.clone(), gain.clone(), shift.cloned());
            move || {
                let (shift, mut statistics) =
                    (shift.as_ref().map(Tensor::f32), vec![0.0; 2 * x.len() / width]);
                Tensor::build(x.shape(), |out| {
                    kernels::layer_norm(x.f32(), gain.f32(), shift, eps, out, &mut statistics);
                })
            }
        };
        let bias = bias.filter(|&b| self.learns(b));
        let x = x.clone();
        let normalised = self.push(value, learns || bias.is_some() || x.needs_gradient(), move |back, dy| {
            let _timed = profile::span("norm backward");
            let mut dparams =
                (learns || bias.is_some()).then(|| Tensor::zeros(&[2, width], crate::DType::F32));
            let mut dx = Tensor::zeros(x.shape(), crate::DType::F32);
            kernels::layer_norm_backward(
                x.value.f32(),
                gain.f32(),
                statistics.f32(),
                dy.f32(),
                dx.f32_mut(),
                dparams.as_mut().map(Tensor::f32_mut),
            );
            if let Some(dparams) = dparams {
                let (dweight, dbias) = dparams.f32().split_at(width);
                if learns {
                    kernels::axpy(1.0, dweight, back.param(weight));
                }
                if let Some(bias) = bias {
                    kernels::axpy(1.0, dbias, back.param(bias));
                }
            }
            back.add(&x, dx)
        });
        Ok(normalised.made_by(again))
    }

    /// `x − mean(x)` of every row: [T, d] → [T, d]. The difference [`Graph::layer_norm`] divides.
    pub fn centre(&mut self, x: &Var) -> Result<Var> {
        let width = x.value.columns();
        let ones = vec![1.0; width];
        let centred = move |x: &Tensor| {
            let (mut out, mut statistics) = (x.clone(), Tensor::stale(&[x.rows(), 2]));
            kernels::layer_norm(x.f32(), &ones, None, 1.0, out.f32_mut(), statistics.f32_mut());
            for ((out, x), s) in out
                .f32_mut()
                .chunks_exact_mut(width)
                .zip(x.f32().chunks_exact(width))
                .zip(statistics.f32().chunks_exact(2))
            {
                out.iter_mut().zip(x).for_each(|(out, x)| *out = x - s[0]);
            }
            out
        };
        let value = centred(&x.value);
        let x = x.clone();
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| back.add(&x, centred(&gradient))))
    }

    /// `1 / rms(x)` of every row: [T, d] → [T, 1]. The factor [`Graph::rms_norm`] multiplies by.
    pub fn inverse_rms(&mut self, x: &Var, eps: f32) -> Result<Var> {
        let (rows, width) = (x.value.rows(), x.value.columns());
        let ones = vec![1.0; width];
        let mut value = Tensor::stale(&[rows, 1]);
        let mut normalised = Tensor::stale(x.shape());
        kernels::rms_norm(x.value.f32(), &ones, 0.0, eps, normalised.f32_mut(), value.f32_mut());
        let x = x.clone();
        let saved = value.clone();
        Ok(self.push(value, x.needs_gradient(), move |back, gradient| {
            // d(1/rms)/dx = −x·(1/rms)³/d
            back.add_with(&x, |dx| {
                let rows = dx.chunks_exact_mut(width).zip(x.value.f32().chunks_exact(width));
                for ((dx, x), (&r, &g)) in rows.zip(saved.f32().iter().zip(gradient.f32())) {
                    kernels::axpy(-g * r * r * r / width as f32, x, dx);
                }
            });
            Ok(())
        }))
    }
}
