//! What a plot shows; how it looks is in `draw`.

use super::csv;
use super::draw::{self, Theme};

/// Curves over a common axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// What the plot shows.
    pub title: String,
    /// Quantity and unit of the horizontal axis.
    pub x_label: String,
    /// Quantity and unit of the vertical axis.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic; points at zero or below are then left out.
    pub log_x: bool,
    /// Whether the vertical axis is logarithmic; points at zero or below are then left out.
    pub log_y: bool,
    /// The curves. Up to 28 differ in colour, dashes and markers.
    pub series: Vec<Series>,
    /// Levels that curves are to be compared with.
    pub levels: Vec<Level>,
    /// Values that the vertical axis has to hold, such as 0 and 1 where plots of shares stand side by side.
    pub y_holds: Vec<f64>,
}

/// A level across the whole plot: an aim, another model's value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Level {
    /// What it is, written at its right end.
    pub name: String,
    /// Where it lies.
    pub y: f64,
}

/// One curve. Points that are not finite interrupt it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Points (x, y), in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
    /// Lower and upper limit at each point, drawn as a band.
    pub band: Option<Vec<(f64, f64)>>,
}

impl Series {
    /// A curve without a band.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, band: None }
    }

    /// The same curve with a lower and an upper limit at each point.
    pub fn with_band(mut self, band: Vec<(f64, f64)>) -> Self {
        self.band = Some(band);
        self
    }
}

impl Plot {
    /// An empty plot with its title and axes.
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), y_label: y_label.into(), ..Self::default() }
    }

    /// Adds a curve.
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// Adds a level.
    pub fn with_level(mut self, name: impl Into<String>, y: f64) -> Self {
        self.levels.push(Level { name: name.into(), y });
        self
    }

    /// Makes the vertical axis hold these values.
    pub fn holding(mut self, values: impl IntoIterator<Item = f64>) -> Self {
        self.y_holds.extend(values);
        self
    }

    /// Its points as comma-separated values.
    pub fn to_csv(&self) -> String {
        csv::plot(self)
    }

    /// A stand-alone SVG picture on white, `width` × `height` pixels: for a README or a paper.
    pub fn to_svg(&self, width: u32, height: u32) -> String {
        draw::svg(self, width, height, Theme::Paper)
    }
}
