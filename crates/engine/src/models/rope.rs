//! Rotary frequencies and the ways they are stretched for longer contexts.

use std::sync::Arc;

use super::config::Config;
use crate::Result;
use crate::tape::RotaryTable;

/// How rotary angles are made from positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Dimensions of each head that rotate.
    pub dimensions: usize,
    /// Change of the frequencies for long contexts.
    pub scaling: RopeScaling,
}

/// A published way of stretching rotary frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    None,
    /// All positions divided by a factor (arXiv 2306.15595).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by the factor, short ones kept, a ramp between.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above context / this are "long".
        low_freq_factor: f64,
        /// Wavelengths below context / this are "short".
        high_freq_factor: f64,
        /// Context length of pre-training.
        original: f64,
    },
    /// YaRN (arXiv 2309.00071): a ramp by number of turns, and a temperature on the angles.
    Yarn {
        /// The divisor of slow dimensions.
        factor: f64,
        /// Dimensions turning more often than this within the context are kept.
        beta_fast: f64,
        /// Dimensions turning less often than this are divided.
        beta_slow: f64,
        /// Context length of pre-training.
        original: f64,
        /// Factor on cosines and sines.
        attention_factor: f64,
    },
}

impl Rope {
    /// Reads both the older keys (`rope_theta`, `rope_scaling`) and the newer `rope_parameters`.
    pub(crate) fn read(config: &Config<'_>, head_dim: usize, default_theta: f64) -> Result<Self> {
        let newer = config.object("rope_parameters")?;
        let scaling = match newer {
            Some(_) => config.object("rope_parameters")?,
            None => config.object("rope_scaling")?,
        };
        let theta = match newer.as_ref().map(|p| p.float("rope_theta")).transpose()?.flatten() {
            Some(theta) => theta,
            None => config.float("rope_theta")?.unwrap_or(default_theta),
        };
        let partial = config.float("partial_rotary_factor")?.unwrap_or(1.0);
        let dimensions = (head_dim as f64 * partial) as usize;
        if theta <= 0.0 || dimensions == 0 || !dimensions.is_multiple_of(2) {
            return Err(
                config.error(format!("rotary base {theta} over {dimensions} dimensions has no meaning"))
            );
        }
        let scaling = match scaling {
            Some(s) => RopeScaling::read(&s, config)?,
            None => RopeScaling::None,
        };
        Ok(Rope { theta, dimensions, scaling })
    }

    /// Cosines and sines for positions below `positions`, in f32 steps as the reference makes them.
    pub fn table(&self, positions: usize) -> RotaryTable {
        let half = self.dimensions / 2;
        let frequencies: Vec<f32> = (0..half).map(|i| self.frequency(i) as f32).collect();
        let magnitude = match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor as f32,
            _ => 1.0,
        };
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        let (cos, sin) = angles.map(|a| (a.cos() * magnitude, a.sin() * magnitude)).unzip();
        RotaryTable { cos: Arc::new(cos), sin: Arc::new(sin), positions, dimensions: self.dimensions }
    }

    fn frequency(&self, i: usize) -> f64 {
        // The reference computes the base series in f32; following it keeps far positions in step.
        let plain = f64::from(1.0 / (self.theta as f32).powf((2 * i) as f32 / self.dimensions as f32));
        match self.scaling {
            RopeScaling::None => plain,
            RopeScaling::Linear { factor } => plain / factor,
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                let wavelength = std::f64::consts::TAU / plain;
                if wavelength > original / low_freq_factor {
                    plain / factor
                } else if wavelength < original / high_freq_factor {
                    plain
                } else {
                    let smooth =
                        (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * plain / factor + smooth * plain
                }
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original, .. } => {
                let turns_at = |turns: f64| {
                    self.dimensions as f64 * (original / (turns * std::f64::consts::TAU)).ln()
                        / (2.0 * self.theta.ln())
                };
                let low = turns_at(beta_fast).floor().max(0.0);
                let high = turns_at(beta_slow).ceil().min(self.dimensions as f64 - 1.0);
                let high = if high == low { high + 0.001 } else { high };
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                plain / factor * ramp + plain * (1.0 - ramp)
            }
        }
    }
}

impl RopeScaling {
    fn read(scaling: &Config<'_>, config: &Config<'_>) -> Result<Self> {
        let kind = match scaling.text("rope_type")? {
            Some(kind) => kind,
            None => scaling.text("type")?.unwrap_or("default"),
        };
        let need = |key: &str| -> Result<f64> {
            scaling.float(key)?.ok_or_else(|| scaling.error(format!("\"{key}\" is missing")))
        };
        let original = || -> Result<f64> {
            match scaling.float("original_max_position_embeddings")? {
                Some(n) => Ok(n),
                None => Ok(config.size("max_position_embeddings")? as f64),
            }
        };
        Ok(match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: need("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original: original()?,
            },
            "yarn" => {
                let factor = need("factor")?;
                RopeScaling::Yarn {
                    factor,
                    beta_fast: scaling.float("beta_fast")?.unwrap_or(32.0),
                    beta_slow: scaling.float("beta_slow")?.unwrap_or(1.0),
                    original: original()?,
                    attention_factor: scaling.float("attention_factor")?.unwrap_or(if factor > 1.0 {
                        0.1 * factor.ln() + 1.0
                    } else {
                        1.0
                    }),
                }
            }
            other => {
                return Err(scaling.error(format!(
                    "rope type \"{other}\" is not supported; supported: default, linear, llama3, yarn"
                )));
            }
        })
    }
}
