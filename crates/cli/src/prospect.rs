//! What a run will take, for people and for programs.

use std::path::Path;
use std::time::Duration;

use amend_run::Forecast;
use amend_run::forecast::Written;
use indicatif::{BinaryBytes, DecimalBytes};
use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::progress::duration;
use crate::table::{self, Align};

/// Everything, on standard output.
pub(crate) fn show(recipe: &Path, forecast: &Forecast, context: &mut Context) -> Result<(), Error> {
    if context.json {
        return context.out.json_line(&json!({
            "recipe": recipe,
            "forecast": forecast,
            "seconds": forecast.seconds(),
            "bytes_written": forecast.disk(),
        }));
    }
    for warning in &forecast.warnings {
        context.console.warn(warning);
    }
    let out = &mut context.out;
    out.line(format_args!("{}: nothing stands against it\n", recipe.display()))?;
    let numbers = |names: &[&'static str]| -> Vec<(&'static str, Align)> {
        let align = |i| if i == 0 { Align::Left } else { Align::Right };
        names.iter().enumerate().map(|(i, name)| (*name, align(i))).collect()
    };
    let sets = forecast.sets.iter().map(|set| {
        let figures = [set.records, set.tokens, set.median, set.longest, set.cut];
        std::iter::once(set.name.clone()).chain(figures.map(grouped)).collect()
    });
    let sets: Vec<Vec<String>> = sets.collect();
    for line in table::lines(&numbers(&["records", "n", "tokens", "median", "longest", "cut"]), &sets) {
        out.line(line)?;
    }
    out.line("")?;
    let arms = forecast.arms.iter().map(|arm| {
        vec![
            arm.name.clone(),
            grouped(arm.weights),
            grouped(arm.changing),
            BinaryBytes(arm.memory).to_string(),
            seconds(arm.step_seconds),
        ]
    });
    let arms: Vec<Vec<String>> = arms.collect();
    if !arms.is_empty() {
        for line in table::lines(&numbers(&["arm", "weights", "may change", "memory", "step"]), &arms) {
            out.line(line)?;
        }
        out.line("")?;
    }
    let stages = forecast
        .stages
        .iter()
        .map(|stage| vec![stage.name.clone(), stage.part.clone(), seconds(stage.seconds)]);
    let stages: Vec<Vec<String>> = stages.collect();
    let columns = [("stage", Align::Left), ("", Align::Left), ("about", Align::Right)];
    for line in table::lines(&columns, &stages) {
        out.line(line)?;
    }
    out.line(format_args!("\ntime     {}", as_forecast(forecast)))?;
    out.line(format_args!("memory   about {}", BinaryBytes(forecast.memory)))?;
    out.line(format_args!("disk     {}", disk(forecast)))?;
    out.line(format_args!("         checkpoints take {} while it lasts", DecimalBytes(forecast.checkpoints)))
}

/// One line for before a run: `about 12m 30s if every step is taken, about 1.20 GiB of memory; leaves 2 unlearned models of 269 MB each`.
pub(crate) fn in_short(forecast: &Forecast) -> String {
    format!("{}, about {} of memory; {}", as_forecast(forecast), BinaryBytes(forecast.memory), disk(forecast))
}

fn as_forecast(forecast: &Forecast) -> String {
    // Nothing takes no time.
    format!(
        "about {} if every step is taken",
        duration(Duration::from_secs_f64(forecast.seconds().clamp(1.0, 1e9)))
    )
}

fn disk(forecast: &Forecast) -> String {
    let kinds: Vec<String> = forecast
        .leaves
        .iter()
        .map(|Written { what, count, bytes }| match count {
            1 => format!("one {what} of {}", DecimalBytes(*bytes)),
            many => format!("{many} {what}s of {} each", DecimalBytes(*bytes)),
        })
        .collect();
    let kinds = if kinds.is_empty() { "no model".to_owned() } else { kinds.join(", ") };
    format!("leaves {kinds}")
}

/// `12.3 s` for what is short, `2m 30s` for what is not.
fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 60.0 => format!("{s:.0} s"),
        s => duration(Duration::from_secs_f64(s.min(1e9))),
    }
}

/// `135,000,000`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 134_515_008].map(grouped), ["0", "999", "1,000", "134,515,008"]);
    }
}
