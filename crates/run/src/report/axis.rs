//! An axis of a plot: its limits, the values it labels, and how it writes them.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// One axis.
pub(super) struct Axis {
    log: bool,
    /// Limits; on a logarithmic axis their logarithms to the base of ten.
    low: f64,
    high: f64,
    /// Values that are labelled.
    ticks: Vec<f64>,
    /// Digits after the point that tell neighbouring labels apart.
    decimals: usize,
}

impl Axis {
    /// A curve may touch the sides of a plot. Room for a label every 90 pixels.
    pub(super) fn horizontal(values: impl Iterator<Item = f64>, log: bool, pixels: u32) -> Self {
        let (low, high) = limits(values, log);
        Self::new(log, low, high, f64::from(pixels) / 90.0)
    }

    /// At top and bottom a curve needs room to be seen as one; but an axis of quantities that are never negative
    /// does not go below zero for that, and starts there where zero is near. Room for a label every 55 pixels.
    pub(super) fn vertical(values: impl Iterator<Item = f64>, log: bool, pixels: u32) -> Self {
        let (low, high) = limits(values, log);
        let room = (high - low) * 0.05;
        let near_zero = !log && low >= 0.0 && low <= (high - low) * 0.35;
        let low = if near_zero { 0.0 } else { low - room };
        Self::new(log, low, high + room, f64::from(pixels) / 55.0)
    }

    fn new(log: bool, low: f64, high: f64, labels: f64) -> Self {
        let (ticks, decimals) = if log { log_ticks(low, high) } else { ticks(low, high, labels) };
        Self { log, low, high, ticks, decimals }
    }

    /// What is written along the axis.
    pub(super) fn labels(&self) -> impl Iterator<Item = String> {
        self.ticks.iter().map(|tick| self.label(*tick))
    }

    fn label(&self, value: f64) -> String {
        if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
            return format!("{value:.1e}").replace(".0e", "e").replace('-', "−");
        }
        let decimals =
            if self.log { (-value.log10().floor()).clamp(0.0, 4.0) as usize } else { self.decimals };
        format!("{value:.decimals$}").replace('-', "−")
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let scaled = if self.log { value.log10() } else { *value };
        // Everything drawn lies inside; only the powers of extreme limits may have become zero or infinite.
        let share = ((scaled - self.low) / (self.high - self.low)).clamp(-1.0, 2.0);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> std::ops::Range<f64> {
        if self.log { 10f64.powf(self.low)..10f64.powf(self.high) } else { self.low..self.high }
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

/// Smallest and largest value, made different where they are not; logarithms where the axis is logarithmic.
fn limits(values: impl Iterator<Item = f64>, log: bool) -> (f64, f64) {
    let values = values.map(|value| if log { value.log10() } else { value });
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    if low < high {
        return (low, high);
    }
    let room = if log { 0.5 } else { low.abs().max(1.0) * 0.5 };
    // What is never negative is not shown as if it could be.
    let below = if log || low < 0.0 { low - room } else { (low - room).max(0.0) };
    (below, high + room)
}

/// Multiples of 1, 2 or 5 times a power of ten, about `wanted` of them, and how many decimals they need.
fn ticks(low: f64, high: f64, wanted: f64) -> (Vec<f64>, usize) {
    let rough = (high - low) / wanted.max(2.0);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(power);
    if !step.is_normal() {
        return (vec![low], 3);
    }
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    let decimals = (-step.log10().floor()).clamp(0.0, 8.0) as usize;
    let ticks = (first..=last.min(first.saturating_add(50))).map(|k| k as f64 * step).collect();
    (ticks, decimals)
}

/// Powers of ten; where they are few, also their doubles and fivefolds; where they are many, not all.
fn log_ticks(low: f64, high: f64) -> (Vec<f64>, usize) {
    let decades = high - low;
    let (multiples, every): (&[f64], i64) = match decades {
        d if d <= 2.0 => (&[1.0, 2.0, 5.0], 1),
        d => (&[1.0], (d / 8.0).ceil() as i64),
    };
    let range = low.floor() as i64..=high.ceil() as i64;
    let powers = range.filter(|power| power % every == 0).take(100);
    let ticks = powers.flat_map(|power| multiples.iter().map(move |m| power as f64 + m.log10()));
    (ticks.filter(|tick| (low..=high).contains(tick)).map(|tick| 10f64.powf(tick)).collect(), 0)
}
