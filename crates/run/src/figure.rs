//! A measured number with what is needed to judge it: how many cases it rests on and its standard error.

use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::file::{FileError, at, write_atomic};
use crate::stored;

/// A figure of a result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The number itself; NaN where there was nothing to measure (written as null; see [`crate::stored`]).
    pub value: f64,
    /// How many independent cases it was measured on; 0 where there are none to count: a ratio of two figures, a
    /// threshold, or nothing to measure. JSON then has no `n`. Earlier versions wrote 0.
    #[serde(default, skip_serializing_if = "no_cases")]
    pub n: usize,
    /// Standard error; `None` where it cannot be estimated.
    pub stderr: Option<f64>,
}

/// Whether a figure rests on nothing that can be counted.
fn no_cases(n: &usize) -> bool {
    *n == 0
}

impl Figure {
    /// A number without a spread: a count, a p-value, a time measured once. `n` is 0 where no cases stand behind it.
    pub fn exact(value: f64, n: usize) -> Self {
        Self { value, n, stderr: None }
    }

    /// The mean with its standard error: sample standard deviation (divisor n − 1) over √n.
    pub fn mean(values: &[f64]) -> Self {
        let n = values.len();
        if n == 0 {
            return Self::exact(f64::NAN, 0);
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let stderr = (n > 1).then(|| (squares / (n - 1) as f64 / n as f64).sqrt());
        Self { value: mean, n, stderr }
    }

    /// The share of `hits` among `n` cases, with the same standard error as [`Figure::mean`] of zeros and ones.
    pub fn share(hits: usize, n: usize) -> Self {
        if n == 0 {
            return Self::exact(f64::NAN, 0);
        }
        let p = hits as f64 / n as f64;
        let stderr = (n > 1).then(|| (p * (1.0 - p) / (n - 1) as f64).sqrt());
        Self { value: p, n, stderr }
    }

    /// The value without its error: shares, probabilities and what else is of their size with three digits after the
    /// point, so that they can be compared at a glance; others with as many digits as the error lets one believe.
    pub fn format_value(&self) -> String {
        number(self.value, self.stderr)
    }

    /// The error alone, with the digits of the value: `0.013`, or `<0.0001` where those do not show it.
    pub fn format_error(&self) -> Option<String> {
        let stderr = self.stderr.filter(|e| e.is_finite() && *e > 0.0)?;
        let [of_value, of_error] =
            [self.value, stderr].map(|x| decimals_of(x, Some(stderr)).unwrap_or_default());
        if of_error <= of_value || !self.value.is_finite() {
            return Some(number(stderr, Some(stderr)));
        }
        if is_exponential(self.value, of_value) {
            return Some(format!("{stderr:.0e}"));
        }
        // Too small to be seen in the value.
        let (unit, decimals) = (10f64.powi(-of_value), of_value.max(0) as usize);
        Some(if stderr < unit / 2.0 { format!("<{unit:.decimals$}") } else { format!("{stderr:.decimals$}") })
    }
}

/// A number in running text, without an error: three digits after the point, or two significant ones where those would say
/// that it is zero.
pub fn in_short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.0005 { format!("{value:.1e}") } else { format!("{value:.3}") }
}

/// `0.412 ± 0.013 (n = 400)`.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.format_value())?;
        if let Some(error) = self.format_error() {
            write!(f, " ± {error}")?;
        }
        if self.n > 0 { write!(f, " (n = {})", self.n) } else { Ok(()) }
    }
}

/// Digits after the point of a value with this error: three where error or value is of the size of shares, otherwise
/// down to the second significant digit of the error, but no more than four significant ones of the value where it is
/// smaller than 10; without an error, four significant ones. None for a whole number without an error.
fn decimals_of(value: f64, stderr: Option<f64>) -> Option<i32> {
    let magnitude = |x: f64| x.abs().log10().floor() as i32;
    let (scale, digits, of_shares) = match stderr.filter(|e| e.is_finite() && *e > 0.0) {
        Some(error) => (error, 2, 0.0005..1.0),
        None if value == 0.0 || value.fract() == 0.0 && value.abs() < 1e15 => return None,
        None => (value.abs(), 4, 0.0005..10.0),
    };
    Some(match scale {
        _ if of_shares.contains(&scale) => 3,
        // One more, where the error would be lost.
        _ if (0.00005..0.0005).contains(&scale) => 4,
        _ => {
            let decimals = digits - 1 - magnitude(scale);
            let most = match value.abs() {
                0.0 => decimals,
                small if small < 10.0 => (3 - magnitude(value)).max(4),
                _ => (3 - magnitude(value)).max(1),
            };
            if scale < 0.00005 { decimals.min(most) } else { decimals }
        }
    })
}

/// Whether a value is written as `1.234e-12`.
fn is_exponential(value: f64, decimals: i32) -> bool {
    value.abs() >= 1e7 || decimals > 9
}

fn number(value: f64, stderr: Option<f64>) -> String {
    if !value.is_finite() {
        return "n/a".into();
    }
    let Some(decimals) = decimals_of(value, stderr) else { return format!("{value:.0}") };
    if is_exponential(value, decimals) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.*}", decimals.max(0) as usize);
    // A tiny negative number rounds to "-0.00", which reads like a sign that means something.
    match text.strip_prefix('-') {
        Some(positive) if positive.chars().all(|c| c == '0' || c == '.') => positive.to_owned(),
        _ => text,
    }
}

/// Writes `results.json` into a run folder: every figure of the run, pretty-printed.
///
/// # Errors
/// Where the results cannot be written as JSON or the file cannot be written; names the file.
pub fn write_results(dir: &Path, results: &impl Serialize) -> Result<(), FileError> {
    let path = dir.join("results.json");
    let mut text = serde_json::to_string_pretty(results).map_err(|e| at("write", &path)(e.into()))?;
    text.push('\n');
    write_atomic(&path, text.as_bytes())
}

/// Reads the `results.json` of a finished run: every figure, also those that could not be measured.
///
/// # Errors
/// Where the file is not there or is not what a run of this kind writes; names the file.
pub fn read_results<T: DeserializeOwned>(dir: &Path) -> Result<T, FileError> {
    let path = dir.join("results.json");
    let text = std::fs::read_to_string(&path).map_err(at("read", &path))?;
    let value = serde_json::from_str(&text).and_then(stored::from_value);
    value.map_err(|e| at("read", &path)(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_zero_is_not_shown_as_zero() {
        assert_eq!([0.0, 1e-4, 0.0005, 0.153].map(in_short), ["0.000", "1.0e-4", "0.001", "0.153"]);
    }

    #[test]
    fn means_and_shares_agree() {
        let values = [1.0, 0.0, 1.0, 1.0];
        let (mean, share) = (Figure::mean(&values), Figure::share(3, 4));
        assert_eq!(mean.value, 0.75);
        assert!((mean.stderr.unwrap() - 0.25).abs() < 1e-12, "{mean}");
        assert!((mean.stderr.unwrap() - share.stderr.unwrap()).abs() < 1e-12);
        assert_eq!(Figure::mean(&[2.0]).stderr, None);
        assert!(Figure::mean(&[]).value.is_nan());
    }

    #[test]
    fn digits_follow_the_error() {
        let show = |value, stderr| Figure { value, n: 400, stderr }.to_string();
        assert_eq!(show(0.41234, Some(0.01312)), "0.412 ± 0.013 (n = 400)");
        assert_eq!(show(1234.5, Some(25.0)), "1234 ± 25 (n = 400)");
        assert_eq!(show(0.5, None), "0.500 (n = 400)");
        assert_eq!(show(123.456, None), "123.5 (n = 400)");
        assert_eq!(show(0.000_012_34, None), "0.00001234 (n = 400)");
        assert_eq!(show(3.0, None), "3 (n = 400)");
        assert_eq!(show(-0.0001, Some(0.01)), "0.000 ± 0.010 (n = 400)");
        assert_eq!(show(f64::NAN, None), "n/a (n = 400)");
        assert_eq!(show(1.0e-12, None), "1.000e-12 (n = 400)");
    }

    /// `0.9599 ± 0.0077` stood beside `0.153 ± 0.043`.
    #[test]
    fn shares_have_the_same_digits_whatever_their_errors() {
        let show = |value, stderr| Figure { value, n: 0, stderr: Some(stderr) }.to_string();
        assert_eq!(show(0.9599, 0.0077), "0.960 ± 0.008");
        assert_eq!(show(0.153, 0.043), "0.153 ± 0.043");
        assert_eq!(show(0.44, 0.11), "0.440 ± 0.110");
        assert_eq!(show(0.961_23, 0.000_12), "0.9612 ± 0.0001");
        // Two seeds may agree by chance.
        assert_eq!(show(0.002_214_07, 0.000_000_54), "0.002214 ± 0.000001");
        assert_eq!(show(0.961_23, 0.000_000_54), "0.9612 ± <0.0001");
        assert_eq!(show(-12345.0, 1e-20), "-12345.0 ± <0.1");
        assert_eq!(show(1e-9, 5e-13), "1.000e-9 ± 5e-13");
        assert_eq!(show(f64::NAN, 0.01), "n/a ± 0.010");
    }

    /// A ratio once said that it was measured on no cases.
    #[test]
    fn what_has_no_cases_has_no_n() {
        let written = |figure: Figure| serde_json::to_value(figure).unwrap();
        let ratio = Figure::exact(0.5, 0);
        assert_eq!(written(ratio), serde_json::json!({ "value": 0.5, "stderr": null }));
        assert_eq!(ratio.to_string(), "0.500");
        assert_eq!(written(Figure::exact(0.5, 3))["n"], 3);
        let earlier = serde_json::json!({ "value": 0.5, "n": 0, "stderr": null });
        for json in [earlier, written(ratio)] {
            assert_eq!(crate::stored::from_value::<Figure>(json).unwrap(), ratio);
        }
    }

    #[test]
    fn results_are_readable_json() {
        let dir = tempfile::tempdir().unwrap();
        let figures = [Figure::mean(&[]), Figure::share(1, 2)];
        write_results(dir.path(), &figures).unwrap();
        let again: Vec<Figure> = read_results(dir.path()).unwrap();
        assert!(again[0].value.is_nan());
        assert_eq!(again[1], figures[1]);
    }
}
