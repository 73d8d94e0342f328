//! Resampling with filters that widen when a picture shrinks, in whole numbers as Pillow computes it: weights
//! of 22 bits of fraction, sums rounded and clipped to a byte.

/// How new pixels are mixed from old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// The mean of the pixels covered.
    Box,
    /// A triangle.
    Bilinear,
    /// A raised cosine.
    Hamming,
    /// Cubic with a = −0.5.
    Bicubic,
    /// A windowed sinc over three pixels on either side.
    Lanczos,
}

/// Bits of fraction of a weight: 8 are the value's own and 2 are left for sums of negative weights.
const PRECISION: u32 = 32 - 8 - 2;

impl Filter {
    /// The filter with this number in `preprocessor_config.json`.
    pub fn of_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => Filter::Nearest,
            1 => Filter::Lanczos,
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            4 => Filter::Box,
            5 => Filter::Hamming,
            _ => return None,
        })
    }

    /// How far it reaches on either side, in pixels of the larger grid.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// The weight of a pixel at distance x.
    fn weight(self, x: f64) -> f64 {
        use std::f64::consts::PI;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let d = x.abs();
        match self {
            // Half open, so that a pixel on an edge counts once.
            Filter::Nearest | Filter::Box => f64::from(x > -0.5 && x <= 0.5),
            Filter::Bilinear => (1.0 - d).max(0.0),
            Filter::Hamming if d >= 1.0 => 0.0,
            Filter::Hamming => sinc(x) * (0.54 + 0.46 * (x * PI).cos()),
            Filter::Bicubic if d < 1.0 => (1.5 * d - 2.5) * d * d + 1.0,
            Filter::Bicubic if d < 2.0 => -0.5 * (((d - 5.0) * d + 8.0) * d - 4.0),
            Filter::Bicubic => 0.0,
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }
}

/// Resamples the middle axis of `bytes` [outer, length, inner] to `new` places.
pub(super) fn resample(
    bytes: &[u8],
    [outer, length, inner]: [usize; 3],
    new: usize,
    filter: Filter,
) -> Vec<u8> {
    let mixes: Vec<_> = (0..new).map(|i| mix(i, length, new, filter)).collect();
    let mut out = Vec::with_capacity(outer * new * inner);
    for line in bytes.chunks_exact(length * inner).take(outer) {
        for (first, weights) in &mixes {
            for k in 0..inner {
                let taps = line[first * inner + k..].iter().step_by(inner).zip(weights);
                let sum: i64 = taps.map(|(&byte, &weight)| i64::from(byte) * weight).sum();
                out.push(((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8);
            }
        }
    }
    out
}

/// The first old place that new place `i` is mixed from, and the weights from there on.
fn mix(i: usize, old: usize, new: usize, filter: Filter) -> (usize, Vec<i64>) {
    let scale = old as f64 / new as f64;
    let center = (i as f64 + 0.5) * scale;
    if filter == Filter::Nearest {
        // Pillow steps from pixel to pixel; on the border between two, how its sum is rounded decides.
        let place = (0..i).fold(0.5 * scale, |place, _| place + scale);
        return ((place as usize).min(old - 1), vec![1 << PRECISION]);
    }
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let first = (center - support + 0.5).max(0.0) as usize;
    let end = ((center + support + 0.5) as usize).min(old);
    let weights: Vec<f64> =
        (first..end).map(|x| filter.weight((x as f64 - center + 0.5) / stretch)).collect();
    let total: f64 = weights.iter().sum();
    let whole = |w: &f64| (w / total * f64::from(1u32 << PRECISION)).round() as i64;
    (first, weights.iter().map(whole).collect())
}
