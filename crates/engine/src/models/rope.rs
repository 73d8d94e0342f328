//! Rotary frequencies and the ways they are stretched for longer contexts.

use std::sync::Arc;

use super::config::Config;
use crate::Result;
use crate::tape::{Layout, RotaryTable};

/// How rotary angles are made from positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Dimensions of each head that the series is made for; an odd number rotates one more.
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
    /// A base that grows with the sequence once it is longer than in pre-training ("NTK-aware", dynamic).
    Dynamic {
        /// How much longer sequences may become.
        factor: f64,
        /// Context length of pre-training.
        original: f64,
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
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
    /// LongRoPE (arXiv 2402.13753): a divisor per frequency, one list for sequences within the context of
    /// pre-training and one for longer ones.
    LongRope {
        /// Divisors for short sequences.
        short: Vec<f64>,
        /// Divisors for long ones.
        long: Vec<f64>,
        /// Context length of pre-training.
        original: f64,
        /// Factor on cosines and sines.
        attention_factor: f64,
        /// Whether a sequence that outgrows the context of pre-training is read anew (Phi 3), or keeps the
        /// keys that were rotated while it was short.
        restarts: bool,
    },
}

impl Rope {
    /// Reads both the older keys (`rope_theta`, `rope_scaling`) and the newer `rope_parameters`.
    pub(crate) fn read(config: &Config<'_>, head_dim: usize, default_theta: f64) -> Result<Self> {
        let theta = config.float("rope_theta")?.unwrap_or(default_theta);
        let partial = config.float("partial_rotary_factor")?.unwrap_or(1.0);
        Self::with(config, Self::parameters(config)?, head_dim, theta, partial)
    }

    /// The object that says how frequencies are stretched, in its older or newer place. Who adds scaling to a
    /// config by hand writes the older, so that one counts where there are both, as in the reference.
    pub(crate) fn parameters<'a>(config: &Config<'a>) -> Result<Option<Config<'a>>> {
        match config.object("rope_scaling")?.filter(|scaling| !scaling.is_empty()) {
            Some(scaling) => Ok(Some(scaling)),
            None => config.object("rope_parameters"),
        }
    }

    /// Frequencies as `parameters` say, with this base and rotating share of a head where they do not.
    pub(crate) fn with(
        config: &Config<'_>,
        parameters: Option<Config<'_>>,
        head_dim: usize,
        theta: f64,
        partial: f64,
    ) -> Result<Self> {
        let own = |key| parameters.as_ref().map(|p| p.float(key)).transpose().map(Option::flatten);
        let theta = own("rope_theta")?.unwrap_or(theta);
        let partial = own("partial_rotary_factor")?.unwrap_or(partial);
        let dimensions = (head_dim as f64 * partial) as usize;
        if theta <= 0.0 || dimensions == 0 || dimensions.next_multiple_of(2) > head_dim {
            return Err(config.error(format!(
                "rotary base {theta} over {dimensions} of a head's {head_dim} dimensions has no meaning"
            )));
        }
        let scaling = match parameters {
            Some(p) => RopeScaling::read(&p, config, dimensions)?,
            None => RopeScaling::None,
        };
        Ok(Rope { theta, dimensions, scaling })
    }

    /// Longest sequence of a model that promises `positions`: a base that grows is there to go beyond, and
    /// who switches YaRN on seldom changes the promise.
    pub(crate) fn context(&self, positions: usize) -> usize {
        match self.scaling {
            RopeScaling::Dynamic { factor, .. } => (positions as f64 * factor.max(1.0)) as usize,
            RopeScaling::Yarn { factor, original, .. } => positions.max((original * factor) as usize),
            _ => positions,
        }
    }

    /// Cosines and sines for every row of a layout, in f32 steps as the reference makes them.
    ///
    /// Where frequencies depend on the sequence's length, it is the length at its last row here.
    pub(crate) fn table(&self, layout: &Layout) -> RotaryTable {
        let magnitude = match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor as f32
            }
            _ => 1.0,
        };
        let pairs = self.dimensions.div_ceil(2);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        let mut frequencies: Option<(usize, Vec<f32>)> = None;
        for rows in &layout.sequences {
            let positions = &layout.positions[rows.clone()];
            let length = positions.last().map_or(0, |&p| p as usize + 1);
            let known = frequencies.take().filter(|(other, _)| self.alike(*other, length));
            let fresh = || (length, (0..pairs).map(|i| self.frequency(i, length)).collect());
            let (_, own) = frequencies.insert(known.unwrap_or_else(fresh));
            for &position in positions {
                for &frequency in own.iter() {
                    let angle = position as f32 * frequency;
                    cos.push(angle.cos() * magnitude);
                    sin.push(angle.sin() * magnitude);
                }
            }
        }
        RotaryTable { cos: Arc::new(cos), sin: Arc::new(sin), dimensions: 2 * pairs }
    }

    /// Whether sequences of these lengths have the same frequencies.
    fn alike(&self, a: usize, b: usize) -> bool {
        match &self.scaling {
            RopeScaling::Dynamic { original, .. } => a == b || a.max(b) as f64 <= *original,
            RopeScaling::LongRope { original, .. } => (a as f64 > *original) == (b as f64 > *original),
            _ => true,
        }
    }

    /// Whether keys rotated in a sequence of `held` tokens still serve when it has `total`.
    ///
    /// In most models they do: the reference too leaves them as they were rotated.
    pub(crate) fn continues(&self, held: usize, total: usize) -> bool {
        !matches!(self.scaling, RopeScaling::LongRope { restarts: true, .. }) || self.alike(held, total)
    }

    /// Whether a sequence of `total` tokens has the frequencies of its own beginnings, so that it may be
    /// read in pieces.
    pub(crate) fn steady(&self, total: usize) -> bool {
        self.alike(1, total)
    }

    /// Angle per position of pair `i` in a sequence of `length` tokens.
    fn frequency(&self, i: usize, length: usize) -> f32 {
        // The reference computes the base series in f32; following it keeps far positions in step.
        let power = |theta: f64| (theta as f32).powf((2 * i) as f32 / self.dimensions as f32);
        let plain = f64::from(1.0 / power(self.theta));
        let frequency = match &self.scaling {
            RopeScaling::None => plain,
            RopeScaling::Linear { factor } => plain / factor,
            RopeScaling::Dynamic { factor, original } => {
                let stretch = factor * (length as f64).max(*original) / original - (factor - 1.0);
                let d = self.dimensions as f64;
                f64::from(1.0 / power(self.theta * stretch.powf(d / (d - 2.0))))
            }
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
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original, truncate, .. } => {
                let turns_at = |turns: f64| {
                    self.dimensions as f64 * (original / (turns * std::f64::consts::TAU)).ln()
                        / (2.0 * self.theta.ln())
                };
                let (low, high) = (turns_at(*beta_fast), turns_at(*beta_slow));
                let (low, high) = if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(self.dimensions as f64 - 1.0));
                let high = if high == low { high + 0.001 } else { high };
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                plain / factor * ramp + plain * (1.0 - ramp)
            }
            RopeScaling::LongRope { short, long, original, .. } => {
                let divisors = if length as f64 > *original { long } else { short };
                f64::from(1.0 / (divisors[i] as f32 * power(self.theta)))
            }
        };
        frequency as f32
    }
}

impl RopeScaling {
    /// Reads the object that describes it; `dimensions` of a head rotate.
    fn read(scaling: &Config<'_>, config: &Config<'_>, dimensions: usize) -> Result<Self> {
        let kind = match scaling.text("rope_type")? {
            Some(kind) => kind,
            None => scaling.text("type")?.unwrap_or("default"),
        };
        let need = |key: &str| -> Result<f64> {
            scaling.float(key)?.ok_or_else(|| scaling.error(format!("\"{key}\" is missing")))
        };
        let context = || -> Result<f64> { Ok(config.size("max_position_embeddings")? as f64) };
        // Phi 3 keeps the length of pre-training beside the object, not in it; that place wins, even by default.
        let phi3 = config.text("model_type")? == Some("phi3");
        let original = || -> Result<f64> {
            let key = "original_max_position_embeddings";
            match config.float(key)?.or(phi3.then_some(4096.0)).or(scaling.float(key)?) {
                Some(n) if n > 0.0 => Ok(n),
                Some(n) => Err(scaling.error(format!("\"{key}\" must not be {n}"))),
                None => context(),
            }
        };
        Ok(match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: need("factor")? },
            "dynamic" => RopeScaling::Dynamic { factor: need("factor")?, original: context()? },
            "llama3" => RopeScaling::Llama3 {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original: original()?,
            },
            // Early Phi 3 files call it "su", or "yarn" with lists that YaRN does not have.
            "longrope" | "su" => Self::longrope(scaling, dimensions, [context()?, original()?], phi3)?,
            "yarn" if scaling.has("short_factor") => {
                Self::longrope(scaling, dimensions, [context()?, original()?], phi3)?
            }
            "yarn" => Self::yarn(scaling, context()?, original()?)?,
            other => {
                return Err(scaling.unsupported(format!(
                    "rope type \"{other}\" is not supported; supported: default, linear, dynamic, llama3, \
                     yarn, longrope"
                )));
            }
        })
    }

    fn yarn(scaling: &Config<'_>, context: f64, original: f64) -> Result<Self> {
        let factor = scaling.float("factor")?.unwrap_or(context / original);
        let grown = |m: f64| if factor > 1.0 { 0.1 * m * factor.ln() + 1.0 } else { 1.0 };
        let own = |key| -> Result<Option<f64>> { Ok(scaling.float(key)?.filter(|&m| m != 0.0)) };
        let attention_factor =
            match (scaling.float("attention_factor")?, own("mscale")?, own("mscale_all_dim")?) {
                (Some(given), ..) => given,
                (None, Some(m), Some(all)) => grown(m) / grown(all),
                _ => grown(1.0),
            };
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: own("beta_fast")?.unwrap_or(32.0),
            beta_slow: own("beta_slow")?.unwrap_or(1.0),
            original,
            attention_factor,
            // Null is a no; only where nothing stands is it a yes.
            truncate: scaling.flag("truncate", !scaling.has("truncate"))?,
        })
    }

    fn longrope(
        scaling: &Config<'_>,
        dimensions: usize,
        [context, original]: [f64; 2],
        restarts: bool,
    ) -> Result<Self> {
        let list =
            |key: &str| -> Result<Vec<f64>> {
                let pairs = dimensions.div_ceil(2);
                match scaling.floats(key)? {
                    Some(list) if list.len() == pairs => Ok(list),
                    Some(list) => Err(scaling
                        .error(format!("\"{key}\" has {} numbers, but {pairs} are needed", list.len()))),
                    None => Err(scaling.error(format!("\"{key}\" is missing"))),
                }
            };
        let factor = scaling.float("factor")?.unwrap_or(context / original);
        let grown = if factor > 1.0 { (1.0 + factor.ln() / original.ln()).sqrt() } else { 1.0 };
        Ok(RopeScaling::LongRope {
            short: list("short_factor")?,
            long: list("long_factor")?,
            original,
            attention_factor: scaling.float("attention_factor")?.unwrap_or(grown),
            restarts,
        })
    }
}
