//! Tables and plots as comma-separated values, for spreadsheets and data frames.

use super::{Cell, Plot, Table};

/// A table, with a column of standard errors, and one of stars, behind every column that has any.
pub(super) fn table(table: &Table) -> String {
    let columns: Vec<Column> = (0..table.width())
        .map(|column| Column {
            errors: table.filled(column).any(|cell| cell.error.is_some()),
            stars: table.filled(column).any(|cell| cell.starred),
        })
        .collect();
    let mut heading = Vec::new();
    for (place, column) in columns.iter().enumerate() {
        let name = table.columns.get(place).map_or("", String::as_str);
        heading.push(name.to_owned());
        heading.extend(column.errors.then(|| format!("{name} (standard error)")));
        heading.extend(column.stars.then(|| format!("{name} (starred)")));
    }
    let mut lines = line(heading);
    for row in &table.rows {
        let mut fields = Vec::new();
        for (place, column) in columns.iter().enumerate() {
            let Cell { text, error, starred, .. } = row.get(place).cloned().unwrap_or_default();
            fields.push(text);
            // Of an error that is too small to be shown, a bound: a column of numbers holds nothing else.
            let error = error.unwrap_or_default();
            fields.extend(column.errors.then(|| error.trim_start_matches('<').to_owned()));
            fields.extend(column.stars.then(|| if starred { "*".to_owned() } else { String::new() }));
        }
        lines.push_str(&line(fields));
    }
    lines
}

/// What stands behind a column.
struct Column {
    errors: bool,
    stars: bool,
}

/// The points of a plot, one per line, with the limits of their bands.
pub(super) fn plot(plot: &Plot) -> String {
    let heading = ["curve", &plot.x_label, &plot.y_label, "lower", "upper"];
    let mut lines = line(heading.map(str::to_owned).to_vec());
    for series in &plot.series {
        for (i, (x, y)) in series.points.iter().enumerate() {
            let limits = series.band.as_ref().and_then(|band| band.get(i));
            let [lower, upper] =
                limits.map_or_else(Default::default, |(l, u)| [l, u].map(ToString::to_string));
            lines.push_str(&line(vec![series.name.clone(), x.to_string(), y.to_string(), lower, upper]));
        }
    }
    lines
}

fn line(fields: Vec<String>) -> String {
    fields.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(",") + "\n"
}

/// A field as RFC 4180 has it. What would start a formula in a spreadsheet is kept from doing so, numbers excepted.
fn quoted(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@']) && field.parse::<f64>().is_err();
    let field = if is_formula { format!("'{field}") } else { field.to_owned() };
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Figure;
    use crate::report::Series;

    #[test]
    fn errors_have_columns_of_their_own() {
        let figure = Figure { value: 0.5, n: 400, stderr: Some(0.025) };
        let content = Table {
            caption: String::new(),
            columns: ["arm", "kept, share"].map(str::to_owned).to_vec(),
            rows: vec![vec!["a \"b\"".into(), figure.into()], vec!["=cmd".into()]],
        };
        let expected =
            "arm,\"kept, share\",\"kept, share (standard error)\"\n\"a \"\"b\"\"\",0.500,0.025\n'=cmd,,\n";
        assert_eq!(table(&content), expected);
    }

    #[test]
    fn points_have_a_line_each() {
        let series =
            Series::new("a", vec![(0.0, -1.5), (1.0, 2.0)]).with_band(vec![(-2.0, -1.0), (1.0, 3.0)]);
        let drawn = Plot::new("t", "step", "loss").with(series).with(Series::new("b", vec![(0.0, 1.0)]));
        assert_eq!(plot(&drawn), "curve,step,loss,lower,upper\na,0,-1.5,-2,-1\na,1,2,1,3\nb,0,1,,\n");
    }
}
