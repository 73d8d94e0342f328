//! Rotary embeddings that are stretched for long contexts, in GGUF keys and in `rope_scaling`.
//!
//! Llama 3's way has no keys in GGUF: a tensor `rope_freqs.weight` holds the number that each
//! frequency is divided by, and the rule that made them has to be found again.

use serde_json::{Value as Json, json};

use super::metadata::{Metadata, Value};
use crate::models::{Config, Rope};

/// The tensor of divisors.
pub(super) const DIVISORS: &str = "rope_freqs.weight";

/// Largest relative difference between a divisor in a file and the one that the rule gives. They are
/// stored in f32, after a computation in f32.
const AGREES: f64 = 1e-5;

/// Rotary frequencies before they are stretched: θ^(−2i/d) for pair i of a head of width d.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frequencies {
    pub(super) theta: f64,
    pub(super) dimensions: usize,
}

impl Frequencies {
    /// Positions per turn of pair `i`.
    fn wavelength(self, i: usize) -> f64 {
        std::f64::consts::TAU * self.theta.powf((2 * i) as f64 / self.dimensions as f64)
    }
}

/// Llama 3's rule: wavelengths above `original / low` are divided by `factor`, those below
/// `original / high` are kept, with a ramp between.
#[derive(Debug, Clone, Copy)]
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

impl Llama3 {
    /// What each frequency is divided by.
    fn divisors(self, plain: Frequencies) -> Vec<f32> {
        let divisor = |i| {
            let smooth = (self.original / plain.wavelength(i) - self.low) / (self.high - self.low);
            let smooth = smooth.clamp(0.0, 1.0);
            (1.0 / ((1.0 - smooth) / self.factor + smooth)) as f32
        };
        (0..plain.dimensions / 2).map(divisor).collect()
    }
}

/// `rope_scaling` of a file whose keys start with `prefix`; null where nothing is stretched.
pub(super) fn read(
    metadata: &Metadata,
    prefix: &str,
    plain: Frequencies,
    context: usize,
    divisors: Option<&[f32]>,
) -> Result<Json, String> {
    let key = |name: &str| format!("{prefix}.rope.scaling.{name}");
    let factor = match metadata.float(&key("factor"))? {
        // What linear scaling was called before there were others.
        None => metadata.float(&format!("{prefix}.rope.scale_linear"))?,
        factor => factor,
    };
    let kind = match metadata.text(&key("type"))? {
        Some(kind) => kind,
        None if factor.is_some_and(|f| f != 1.0) => "linear",
        None => "none",
    };
    let original = metadata.count(&key("original_context_length"))?.unwrap_or(context);
    let needed = || factor.filter(|f| *f > 0.0).ok_or_else(|| format!("{} is missing", key("factor")));
    match (kind, divisors) {
        ("none", None) => Ok(Json::Null),
        ("none", Some(divisors)) => llama3(plain, divisors),
        ("linear", None) => Ok(json!({"rope_type": "linear", "factor": needed()?})),
        ("yarn", None) => {
            let factor = needed()?;
            let mut scaling = json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original,
            });
            for (name, ours) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                if let Some(beta) = metadata.float(&key(name))? {
                    scaling[ours] = beta.into();
                }
            }
            // llama.cpp multiplies its own temperature by this.
            if let Some(attention) = metadata.float(&key("attn_factor"))? {
                scaling["attention_factor"] = (attention * yarn_temperature(factor)).into();
            }
            Ok(scaling)
        }
        (kind, _) => Err(format!(
            "{} is {kind:?}{}, which is not supported; supported: none, linear, yarn and Llama 3's {DIVISORS}",
            key("type"),
            if divisors.is_some() { " together with rope_freqs.weight" } else { "" },
        )),
    }
}

fn yarn_temperature(factor: f64) -> f64 {
    if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 }
}

/// Finds the rule that gives these divisors.
///
/// With s = 1/divisor the rule is: s = 1 for short wavelengths, 1/factor for long ones, and between
/// them a ramp that is linear in 1/wavelength: smooth = (original / wavelength − low) / (high − low).
/// Every published model has low = 1 and high = 4, so one wavelength on the ramp gives `original`.
fn llama3(plain: Frequencies, divisors: &[f32]) -> Result<Json, String> {
    let half = plain.dimensions / 2;
    if divisors.len() != half || divisors.iter().any(|d| !d.is_finite() || *d < 1.0) {
        return Err(format!(
            "{DIVISORS} does not hold the {half} divisors of a head; the file is damaged or of another kind"
        ));
    }
    let (low, high) = (1.0, 4.0);
    let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
    let on_ramp = divisors.iter().enumerate().filter(|(_, d)| **d > 1.0 && f64::from(**d) < factor);
    let originals = on_ramp.map(|(i, &d)| {
        let smooth = (1.0 / f64::from(d) - 1.0 / factor) / (1.0 - 1.0 / factor);
        (low + smooth * (high - low)) * plain.wavelength(i)
    });
    let found: Vec<f64> = originals.collect();
    let original = match found.iter().sum::<f64>() / found.len() as f64 {
        mean if mean.is_finite() => mean.round(),
        // No wavelength on the ramp: any length between the neighbours gives the same model.
        _ => 8192.0,
    };
    let ours = Llama3 { factor, low, high, original }.divisors(plain);
    let agrees = |(ours, theirs): (&f32, &f32)| (f64::from(*ours) / f64::from(*theirs) - 1.0).abs() < AGREES;
    if !ours.iter().zip(divisors).all(agrees) {
        return Err(format!(
            "{DIVISORS} does not follow Llama 3's rule with low_freq_factor 1 and high_freq_factor 4; \
             take the Hugging Face folder of the model"
        ));
    }
    Ok(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original as u64,
    }))
}

/// Base of the frequencies and the object that says how they are stretched, as `config` has them.
pub(super) fn of_config<'a>(
    config: &Config<'a>,
    default_theta: f64,
) -> crate::Result<(f64, Option<Config<'a>>)> {
    let parameters = Rope::parameters(config)?;
    let theta = match &parameters {
        Some(parameters) => parameters.float("rope_theta")?,
        None => None,
    };
    let theta = match theta {
        Some(theta) => theta,
        None => config.float("rope_theta")?.unwrap_or(default_theta),
    };
    Ok((theta, parameters))
}

/// Adds the keys of a model's rotary embedding; returns the divisors where its way needs them.
/// `context` is the context of a model that does not name the one of its pre-training.
pub(super) fn write(
    plain: Frequencies,
    scaling: Option<&Config<'_>>,
    context: usize,
    prefix: &str,
    metadata: &mut Metadata,
) -> crate::Result<Option<Vec<f32>>> {
    let mut add = |name: &str, value| {
        metadata.insert(format!("{prefix}.rope.{name}"), value).map_err(crate::Error::invalid)
    };
    add("dimension_count", Value::Int(plain.dimensions as i128))?;
    add("freq_base", Value::F32(plain.theta as f32))?;
    let Some(scaling) = scaling else { return Ok(None) };
    let kind = match scaling.text("rope_type")? {
        Some(kind) => kind,
        None => scaling.text("type")?.unwrap_or("default"),
    };
    let need = |key: &str| scaling.float(key)?.ok_or_else(|| scaling.error(format!("\"{key}\" is missing")));
    let original = scaling.float("original_max_position_embeddings")?.unwrap_or(context as f64);
    match kind {
        "default" => {}
        "linear" => {
            add("scaling.type", Value::Text("linear".into()))?;
            add("scaling.factor", Value::F32(need("factor")? as f32))?;
        }
        "yarn" => {
            let factor = need("factor")?;
            add("scaling.type", Value::Text("yarn".into()))?;
            add("scaling.factor", Value::F32(factor as f32))?;
            add("scaling.original_context_length", Value::Int(original as i128))?;
            // What is the default anyway is left out, as llama.cpp's converter does.
            for (theirs, ours, default) in
                [("beta_fast", "yarn_beta_fast", 32.0), ("beta_slow", "yarn_beta_slow", 1.0)]
            {
                if let Some(beta) = scaling.float(theirs)?.filter(|beta| *beta != default) {
                    add(&format!("scaling.{ours}"), Value::F32(beta as f32))?;
                }
            }
            let attention = scaling.float("attention_factor")?.map_or(1.0, |a| a / yarn_temperature(factor));
            if (attention - 1.0).abs() > 1e-9 {
                add("scaling.attn_factor", Value::F32(attention as f32))?;
            }
        }
        "llama3" => {
            let (low, high) = (need("low_freq_factor")?, need("high_freq_factor")?);
            return Ok(Some(Llama3 { factor: need("factor")?, low, high, original }.divisors(plain)));
        }
        other => return Err(scaling.error(format!("the rope type \"{other}\" cannot be written as GGUF"))),
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_3_is_found_again_from_its_divisors() {
        for (dimensions, factor, original) in [(128, 8.0, 8192.0), (64, 32.0, 8192.0), (8, 8.0, 16.0)] {
            let plain = Frequencies { theta: 500_000.0, dimensions };
            let divisors = Llama3 { factor, low: 1.0, high: 4.0, original }.divisors(plain);
            let found = llama3(plain, &divisors).unwrap();
            assert_eq!(found["factor"], factor);
            assert_eq!(found["original_max_position_embeddings"], original as u64, "{dimensions}");
        }
    }

    #[test]
    fn divisors_of_another_rule_are_refused() {
        let plain = Frequencies { theta: 500_000.0, dimensions: 64 };
        let steps: Vec<f32> = (0..32).map(|i| 1.0 + i as f32).collect();
        assert!(llama3(plain, &steps).unwrap_err().contains("does not follow Llama 3's rule"));
        assert!(llama3(plain, &[1.0; 3]).unwrap_err().contains("does not hold the 32 divisors"));
        assert!(llama3(plain, &[f32::NAN; 32]).is_err());
    }

    #[test]
    fn yarn_survives_with_what_differs_from_its_defaults() {
        let scaling = json!({
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
            "beta_fast": 32.0, "beta_slow": 2.0, "attention_factor": yarn_temperature(4.0),
        });
        let plain = Frequencies { theta: 1e6, dimensions: 64 };
        let mut metadata = Metadata::default();
        let reader = Config::new(scaling.as_object().unwrap(), "rope_scaling");
        assert_eq!(write(plain, Some(&reader), 131_072, "qwen2", &mut metadata).unwrap(), None);
        assert!(metadata.get("qwen2.rope.scaling.yarn_beta_fast").is_none());
        let read = read(&metadata, "qwen2", plain, 131_072, None).unwrap();
        assert_eq!(
            read,
            json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "beta_slow": 2.0})
        );
    }
}
