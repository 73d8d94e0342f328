//! What writing values in another number type does to them.

use rayon::prelude::*;

use super::safetensors::check_finite;
use crate::{Error, Result, Tensor};

/// Values that one partial sum covers. Fixed, so that sums do not depend on the number of threads.
const AT_A_TIME: usize = 1 << 16;

/// How far written values are from the original ones.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rounding {
    /// Number of values.
    pub values: usize,
    /// Largest absolute difference.
    pub largest: f64,
    /// Sum of squared differences.
    pub squares: f64,
    /// Sum of squared values, to compare with.
    pub energy: f64,
}

impl Rounding {
    /// Root of the mean squared difference; 0 of no values.
    pub fn root_mean_square(&self) -> f64 {
        (self.squares / self.values.max(1) as f64).sqrt()
    }

    /// Root mean square of the differences over that of the values; 0 where all values are.
    pub fn relative(&self) -> f64 {
        if self.energy > 0.0 { (self.squares / self.energy).sqrt() } else { 0.0 }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Rounding) -> Rounding {
        Rounding {
            values: self.values + other.values,
            largest: self.largest.max(other.largest),
            squares: self.squares + other.squares,
            energy: self.energy + other.energy,
        }
    }
}

/// Compares a tensor with what became of it in the number type `kind`; both in f32.
///
/// Fails where a value is not finite, or has left the range of the type.
pub(super) fn measure(what: &str, kind: &str, before: &Tensor, after: &Tensor) -> Result<Rounding> {
    check_finite(what, before)?;
    check_finite(&format!("{what} in {kind}"), after).map_err(|e| match e {
        Error::NotFinite { what, value, hint } => {
            Error::NotFinite { what, value, hint: format!("{hint}; write bf16 or f32 instead") }
        }
        other => other,
    })?;
    let parts: Vec<Rounding> = before
        .f32()
        .par_chunks(AT_A_TIME)
        .zip(after.f32().par_chunks(AT_A_TIME))
        .map(|(before, after)| {
            before.iter().zip(after).fold(Rounding::default(), |sum, (&before, &after)| {
                let (before, after) = (f64::from(before), f64::from(after));
                let off = before - after;
                sum.and(Rounding {
                    values: 1,
                    largest: off.abs(),
                    squares: off * off,
                    energy: before * before,
                })
            })
        })
        .collect();
    Ok(parts.into_iter().fold(Rounding::default(), Rounding::and))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn differences_are_measured_and_overflow_is_refused() {
        let before = Tensor::from_f32(&[1.0, -3.0, 0.0, 2.0], &[4]).unwrap();
        let after = Tensor::from_f32(&[1.0, -3.5, 0.0, 2.0], &[4]).unwrap();
        let rounding = measure("w", "f16", &before, &after).unwrap();
        assert_eq!((rounding.values, rounding.largest, rounding.root_mean_square()), (4, 0.5, 0.25));
        assert!((rounding.relative() - 0.5 / 14f64.sqrt()).abs() < 1e-12);
        let large = Tensor::from_f32(&[1e6], &[1]).unwrap();
        let message =
            measure("w", "f16", &large, &large.to_dtype(DType::F16).to_f32()).unwrap_err().to_string();
        assert!(message.contains("w in f16") && message.ends_with("write bf16 or f32 instead"), "{message}");
    }
}
