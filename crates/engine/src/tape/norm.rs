//! Root-mean-square normalisation.

use super::{Graph, Var};
use crate::params::ParamId;
use crate::{Error, Result, Tensor, kernels};

impl<'m> Graph<'m> {
    /// `x / rms(x) · weight`, row by row over the last `weight.len()` elements (RMSNorm,
    /// arXiv 1910.07467). A weight shorter than a row normalises each of its pieces, as the per-head
    /// query and key norms do.
    pub fn rms_norm(&mut self, x: &Var, weight: ParamId, eps: f32) -> Result<Var> {
        let gain = &self.param(weight).tensor;
        let width = gain.len();
        if width == 0 || !x.value.columns().is_multiple_of(width) {
            return Err(Error::shape(&self.param(weight).name, &[x.value.columns()], gain.shape()));
        }
        let mut inv_rms = Tensor::stale(&[x.value.len() / width]);
        let value = Tensor::build(x.shape(), |out| {
            kernels::rms_norm(x.value.f32(), gain.f32(), 0.0, eps, out, inv_rms.f32_mut());
        });
        let learns = self.learns(weight);
        let again = {
            let (x, gain) = (x.value.clone(), gain.clone());
            move || {
                let mut inv_rms = vec![0.0; x.len() / width];
                Tensor::build(x.shape(), |out| {
                    kernels::rms_norm(x.f32(), gain.f32(), 0.0, eps, out, &mut inv_rms);
                })
            }
        };
        let x = x.clone();
        let normalised = self.push(value, learns || x.needs_gradient(), move |back, dy| {
            let mut dweight = learns.then(|| Tensor::zeros(gain.shape(), crate::DType::F32));
            let mut dx = Tensor::zeros(x.shape(), crate::DType::F32);
            kernels::rms_norm_backward(
                x.value.f32(),
                gain.f32(),
                0.0,
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
