//! Plots as SVG.
//!
//! Plotters rounds to whole pixels, which makes curves jagged; so everything is drawn four times too large and
//! shown scaled down. It also knows neither dashes nor style sheets: each series and each kind of line gets a
//! colour of its own, and the finished text is amended where that colour stands.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Figure;

use super::axis::Axis;
use super::html::escape;
use super::plot::{Plot, Series};
use super::width::one_line;

/// How much larger everything is drawn than shown.
const SCALE: i32 = 4;
const FONT: &str = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif";
/// Plotters divides font sizes by this when it writes them.
const FONT_SCALE: f64 = 1.24;

const INK: RGBColor = RGBColor(0x1b, 0x1f, 0x24);
const MUTED: RGBColor = RGBColor(0x59, 0x63, 0x6e);
const AXIS: RGBColor = RGBColor(0x9a, 0xa4, 0xaf);
const LEVEL: RGBColor = RGBColor(0x8a, 0x63, 0x6e);
const GRID: RGBColor = RGBColor(0xe4, 0xe8, 0xec);
/// After Okabe and Ito, without yellow: distinguishable with every kind of colour vision, on light paper.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xb8, 0x5c, 0x93),
    RGBColor(0xd9, 0x94, 0x00),
    RGBColor(0x3f, 0xa3, 0xdc),
    RGBColor(0x4d, 0x4d, 0x4d),
];
/// Points of a curve that tell their values, about.
const HINTS: usize = 60;
/// Lengths of dash and gap; empty = solid.
const DASHES: [&str; 4] = ["", "28 14", "6 12", "34 12 6 12"];

/// Where the picture will be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    /// On its own: fixed colours on white.
    Paper,
    /// Inside the report, whose style sheet sets the colours.
    Page,
}

/// Draws a plot of `width` × `height` pixels.
pub(super) fn svg(plot: &Plot, width: u32, height: u32, theme: Theme) -> String {
    let (width, height) = (width.clamp(160, 4000), height.clamp(120, 4000));
    let mut text = String::new();
    let hints = draw(plot, &mut text, width, height).unwrap_or_else(|problem| {
        // Writing into a string cannot fail; should a plot defeat the layout all the same, its report survives.
        text =
            format!("<svg>\n<text x=\"20\" y=\"80\" font-size=\"56\">{}</text>\n</svg>\n", escape(&problem));
        String::new()
    });
    let mut picture = finish(plot, text, width, height, theme);
    if let Some(end) = picture.rfind("</svg>") {
        picture.insert_str(end, &hints);
    }
    picture
}

/// Draws into `text`, and returns what is told of single points.
fn draw(plot: &Plot, text: &mut String, width: u32, height: u32) -> Result<String, String> {
    let size = (width * SCALE as u32, height * SCALE as u32);
    let root = SVGBackend::with_string(text, size).into_drawing_area();
    let top = draw_heading(plot, &root, width as i32)?;
    let (x, y) = axes(plot, width, height);
    let label_width = y.labels().map(|label| text_width(&label, 12.0)).max().unwrap_or(0);

    let mut chart = ChartBuilder::on(&root)
        .margin_top((top + 8) * SCALE)
        .margin_right(22 * SCALE)
        .margin_bottom(8 * SCALE)
        .margin_left(8 * SCALE)
        .x_label_area_size((if plot.x_label.is_empty() { 26 } else { 46 }) * SCALE)
        .y_label_area_size((label_width + if plot.y_label.is_empty() { 14 } else { 36 }) * SCALE)
        .build_cartesian_2d(x, y)
        .map_err(|e| e.to_string())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID.stroke_width(SCALE as u32))
        .light_line_style(TRANSPARENT)
        .axis_style(AXIS.stroke_width(SCALE as u32))
        .set_all_tick_mark_size(4 * SCALE)
        .label_style(font(12.0, MUTED))
        .axis_desc_style(font(13.0, INK))
        .x_desc(one_line(&plot.x_label))
        .y_desc(one_line(&plot.y_label))
        .draw()
        .map_err(|e| e.to_string())?;

    let place = |point: (f64, f64)| chart.backend_coord(&point);
    // Height and left end of the labels so far.
    let mut labels: Vec<(i32, i32)> = Vec::new();
    for level in plot.levels.iter().filter(|level| drawable(plot, (1.0, level.y))) {
        let (across, (_, y)) = (chart.plotting_area().get_x_axis_pixel_range(), place((1.0, level.y)));
        root.draw(&PathElement::new(
            vec![(across.start, y), (across.end, y)],
            LEVEL.stroke_width(3 * SCALE as u32 / 2),
        ))
        .map_err(|e| e.to_string())?;
        let style = font(11.0, MUTED).pos(Pos::new(HPos::Right, VPos::Bottom));
        // Beside the label of a level that is too near for one above the other.
        let near = labels.iter().filter(|(height, _)| (height - y).abs() < 13 * SCALE).map(|(_, left)| *left);
        let right = near.min().map_or(across.end - 4 * SCALE, |left| left - 14 * SCALE);
        labels.push((y, right - text_width(&level.name, 11.0) * SCALE));
        root.draw(&Text::new(one_line(&level.name), (right, y - 2 * SCALE), style))
            .map_err(|e| e.to_string())?;
    }
    for (index, series) in plot.series.iter().enumerate() {
        for band in bands(plot, series) {
            let corners: Vec<_> = band.into_iter().map(place).collect();
            root.draw(&Polygon::new(corners, color(index).mix(0.16))).map_err(|e| e.to_string())?;
        }
    }
    let mut hints = Vec::new();
    for (index, series) in plot.series.iter().enumerate() {
        let runs = unbroken(plot, &series.points);
        let count: usize = runs.iter().map(Vec::len).sum();
        for run in runs {
            let path: Vec<_> = run.iter().copied().map(place).collect();
            draw_line(&root, index, &path)?;
            let hint =
                |(point, at): (&(f64, f64), &(i32, i32))| Hint { name: &series.name, point: *point, at: *at };
            hints.extend(run.iter().zip(&path).step_by(count.div_ceil(HINTS).max(1)).map(hint));
            // Some ten markers tell a curve apart; one on each of a thousand points would bury it.
            let every = count.div_ceil(12).max(1);
            for at in path.iter().skip((index * every / 3) % every).step_by(every) {
                draw_marker(&root, index, *at)?;
            }
        }
    }
    root.present().map_err(|e| e.to_string())?;
    Ok(hints.iter().map(|hint| hint.svg(plot)).collect())
}

/// What is told of a point when the mouse rests on it.
struct Hint<'a> {
    name: &'a str,
    point: (f64, f64),
    at: (i32, i32),
}

impl Hint<'_> {
    /// A circle that cannot be seen, with a title, which browsers show without any script.
    fn svg(&self, plot: &Plot) -> String {
        let (x, y) = self.point;
        let of = |label: &str, value: f64| format!("{} {}", one_line(label), Figure::exact(value, 0));
        let said = [one_line(self.name), of(&plot.x_label, x), of(&plot.y_label, y)];
        let said: Vec<&str> = said.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
        format!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"transparent\"><title>{}</title></circle>\n",
            self.at.0,
            self.at.1,
            5 * SCALE,
            escape(&said.join(", "))
        )
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Title and legend; returns the height they take.
fn draw_heading(plot: &Plot, root: &Area, width: i32) -> Result<i32, String> {
    let write = |text: &str, at: (i32, i32), style: TextStyle| {
        let at = (at.0 * SCALE, at.1 * SCALE);
        root.draw(&Text::new(one_line(text), at, style)).map_err(|e| e.to_string())
    };
    let mut bottom = 8;
    if !plot.title.is_empty() {
        write(&plot.title, (12, bottom), bold(15.0, INK))?;
        bottom += 24;
    }
    if plot.series.len() < 2 && plot.series.iter().all(|series| series.name.is_empty()) {
        return Ok(bottom);
    }
    let (mut left, row) = (12, 20);
    for (index, series) in plot.series.iter().enumerate() {
        let needed = 34 + text_width(&series.name, 12.0) + 18;
        if left > 12 && left + needed > width - 12 {
            left = 12;
            bottom += row;
        }
        let middle = (bottom + row / 2) * SCALE;
        draw_line(root, index, &[(left * SCALE, middle), ((left + 28) * SCALE, middle)])?;
        draw_marker(root, index, ((left + 14) * SCALE, middle))?;
        let style = font(12.0, INK).pos(Pos::new(HPos::Left, VPos::Center));
        write(&series.name, (left + 34, bottom + row / 2), style)?;
        left += needed;
    }
    Ok(bottom + row)
}

fn draw_line(root: &Area, index: usize, path: &[(i32, i32)]) -> Result<(), String> {
    let style = color(index).stroke_width(2 * SCALE as u32);
    root.draw(&PathElement::new(path.to_vec(), style)).map_err(|e| e.to_string())
}

/// Circle, square, triangle, diamond, triangle on its tip, cross: the shape changes with every series.
fn draw_marker(root: &Area, index: usize, (x, y): (i32, i32)) -> Result<(), String> {
    const SHAPES: [&[(i32, i32)]; 5] = [
        &[(-9, -9), (9, -9), (9, 9), (-9, 9)],
        &[(0, -12), (11, 8), (-11, 8)],
        &[(0, -13), (13, 0), (0, 13), (-13, 0)],
        &[(0, 12), (11, -8), (-11, -8)],
        &[
            (-12, -4),
            (-4, -4),
            (-4, -12),
            (4, -12),
            (4, -4),
            (12, -4),
            (12, 4),
            (4, 4),
            (4, 12),
            (-4, 12),
            (-4, 4),
            (-12, 4),
        ],
    ];
    let style = color(index).filled();
    match index % 6 {
        0 => root.draw(&Circle::new((x, y), 10, style)),
        shape => {
            let corners: Vec<_> = SHAPES[shape - 1].iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
            root.draw(&Polygon::new(corners, style))
        }
    }
    .map_err(|e| e.to_string())
}

fn bold(size: f64, color: RGBColor) -> TextStyle<'static> {
    (FONT, size * FONT_SCALE * f64::from(SCALE), FontStyle::Bold).into_font().color(&color)
}

fn font(size: f64, color: RGBColor) -> TextStyle<'static> {
    (FONT, size * FONT_SCALE * f64::from(SCALE)).into_font().color(&color)
}

/// Width in pixels, estimated: there is no font to measure with, and a generous guess only costs white space.
fn text_width(text: &str, size: f64) -> i32 {
    (super::width::columns(text) as f64 * size * 0.58).ceil() as i32
}

/// Each series has a colour of its own, so that it can be found again; repeats differ invisibly.
fn color(index: usize) -> RGBColor {
    let RGBColor(r, g, b) = PALETTE[index % PALETTE.len()];
    RGBColor(r, g, b.wrapping_add((index / PALETTE.len()) as u8))
}

fn dashes(index: usize) -> &'static str {
    DASHES[(index % PALETTE.len() + index / PALETTE.len()) % DASHES.len()]
}

/// Dashes, colours by style sheet, description, size.
fn finish(plot: &Plot, mut text: String, width: u32, height: u32, theme: Theme) -> String {
    let hex = |RGBColor(r, g, b): RGBColor| format!("#{r:02X}{g:02X}{b:02X}");
    for index in 0..plot.series.len() {
        let own = format!("stroke=\"{}\"", hex(color(index)));
        let dashed = match dashes(index) {
            "" => format!("{own} stroke-linejoin=\"round\""),
            pattern => format!("{own} stroke-linejoin=\"round\" stroke-dasharray=\"{pattern}\""),
        };
        text = text.replace(&own, &dashed);
    }
    let level = format!("stroke=\"{}\"", hex(LEVEL));
    text = text.replace(&level, &format!("{level} stroke-dasharray=\"16 12\""));
    if theme == Theme::Page {
        let series =
            (0..plot.series.len()).map(|index| (format!("series-{}", index % PALETTE.len()), color(index)));
        let named = [("ink", INK), ("muted", MUTED), ("axis", AXIS), ("grid", GRID), ("level", LEVEL)];
        for (name, color) in named.map(|(name, color)| (name.to_owned(), color)).into_iter().chain(series) {
            // In text, quotes are escaped; `="#…"` can only be an attribute.
            text = text.replace(&format!("=\"{}\"", hex(color)), &format!("=\"var(--{name})\""));
        }
    }
    // Said once for the whole picture.
    let family = format!(" font-family=\"{FONT}\"");
    text = text.replace(&family, "").replace(" opacity=\"1\"", "");
    let body = text.find('>').map_or("", |end| &text[end + 1..]);
    let (wide, high) = (width * SCALE as u32, height * SCALE as u32);
    let size = match theme {
        Theme::Paper => format!(" width=\"{width}\" height=\"{height}\""),
        Theme::Page => String::new(),
    };
    let background = match theme {
        Theme::Paper => "\n<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>",
        Theme::Page => "",
    };
    let title = escape(&plot.title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\"{size} viewBox=\"0 0 {wide} {high}\"{family} role=\"img\" \
         aria-label=\"{title}\">{background}{body}"
    )
}

/// The axes that hold every point and band that can be drawn.
fn axes(plot: &Plot, width: u32, height: u32) -> (Axis, Axis) {
    let mut points = Vec::new();
    for series in &plot.series {
        points.extend(unbroken(plot, &series.points).concat());
        points.extend(bands(plot, series).concat());
    }
    let x = Axis::horizontal(points.iter().map(|(x, _)| *x), plot.log_x, width);
    let held = plot.levels.iter().map(|level| level.y).chain(plot.y_holds.iter().copied());
    let held = held.filter(|&y| drawable(plot, (1.0, y)));
    (x, Axis::vertical(points.iter().map(|(_, y)| *y).chain(held), plot.log_y, height))
}

fn drawable(plot: &Plot, (x, y): (f64, f64)) -> bool {
    x.is_finite() && y.is_finite() && (!plot.log_x || x > 0.0) && (!plot.log_y || y > 0.0)
}

/// The stretches of a curve between points that cannot be drawn.
fn unbroken(plot: &Plot, points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let stretches = points.split(|point| !drawable(plot, *point));
    stretches.filter(|stretch| !stretch.is_empty()).map(<[_]>::to_vec).collect()
}

/// Outlines of a series' band: along the upper limit and back along the lower one.
fn bands(plot: &Plot, series: &Series) -> Vec<Vec<(f64, f64)>> {
    let Some(band) = &series.band else { return Vec::new() };
    let edges: Vec<[(f64, f64); 2]> =
        series.points.iter().zip(band).map(|((x, _), (low, high))| [(*x, *low), (*x, *high)]).collect();
    let stretches = edges.split(|edge| !edge.iter().all(|point| drawable(plot, *point)));
    let outline = |stretch: &[[(f64, f64); 2]]| {
        let upper = stretch.iter().map(|edge| edge[1]);
        upper.chain(stretch.iter().rev().map(|edge| edge[0])).collect()
    };
    stretches.filter(|stretch| stretch.len() > 1).map(outline).collect()
}
