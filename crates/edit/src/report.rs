//! The report of a run: what the edits are worth, what they cost, and how that was found.

use std::collections::HashMap;
use std::path::Path;

use amend_engine::models::TensorChange;
use amend_eval::rewrite::Rewrites;
use amend_eval::{Sample, Summary};
use amend_interpret::Restored;
use amend_learn::Result;
use amend_run::report::{AnswerRow, Answers, Card, Cell, Plot, Section, Series, Table};
use amend_run::step_log::{METRICS, StepLog, StepRow};
use amend_run::{Figure, Report};
use serde_json::Value;

use crate::editing::WATCHED;
use crate::locate::{HeatMap, Traced};
use crate::measure::samples;
use crate::outcome::Outcome;

/// Tensors that are listed.
const CHANGES: usize = 10;

/// Figures in the order in which they are read, the strictest first, with the words for them.
pub(crate) const FIGURES: [(&str, &str); 12] = [
    ("efficacy", "efficacy, running free"),
    ("generalisation", "generalisation, running free"),
    ("locality", "locality, running free"),
    ("score", "score S, running free"),
    ("forced_efficacy", "efficacy, teacher-forced"),
    ("forced_generalisation", "generalisation, teacher-forced"),
    ("forced_locality", "locality, teacher-forced"),
    ("forced_score", "score S, teacher-forced"),
    ("token_efficacy", "efficacy, tokens"),
    ("token_generalisation", "generalisation, tokens"),
    ("token_locality", "locality, tokens"),
    ("neighbours_right", "others answered rightly"),
];

/// What the figures are, for those who want to know.
const EXPLAINED: [(&str, &str); 5] = [
    (
        "running free",
        "the model writes greedily. Efficacy: shares of edits after whose prompt it begins with the new target; generalisation: \
         the same where the prompt is in other words; locality: of prompts about others, those to which it writes what the \
         unedited model writes.",
    ),
    (
        "teacher-forced",
        "targets are put into the model's mouth and compared as wholes: the new one is likelier than the true one (of others, \
         the true one than the new one). A target can be likelier than another and still not be said.",
    ),
    ("tokens", "shares of a target's tokens that are the first choice at their place."),
    ("score S", "the harmonic mean of efficacy, generalisation and locality."),
    ("±", "the standard error, with edits as the cases."),
];

/// Makes the report of the run in `dir`.
///
/// # Errors
/// Where what the run kept cannot be read.
pub fn report(outcome: &Outcome, dir: &Path) -> Result<Report> {
    let mut report = Report::new("Editing report");
    for premise in outcome.premises() {
        report.warning(premise);
    }
    report.prose(introduction(outcome));
    report.push(Section::Table(before_after(outcome)));
    report.push(Section::Details {
        summary: "What the figures are".into(),
        pairs: EXPLAINED.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec(),
    });
    if let Some(traced) = &outcome.traced {
        located(&mut report, traced);
    }
    let rows = StepLog::read(dir, METRICS)?;
    let plots: Vec<Plot> =
        curves(outcome, &rows).into_iter().filter(|plot| !plot.series.is_empty()).collect();
    if !plots.is_empty() {
        report.heading("While editing");
        report.sections.extend(plots.into_iter().map(Section::Plot));
    }
    let (before, after) = (samples(dir, "before")?, samples(dir, "after")?);
    if !after.is_empty() {
        report.heading("What they say");
        report.push(Section::Answers(answers(&before, &after)?));
    }
    if !outcome.changes.is_empty() {
        report.heading("What changed");
        report.push(Section::Table(changes(&outcome.changes)));
    }
    Ok(report)
}

fn introduction(outcome: &Outcome) -> String {
    let Outcome { editor, layers, edits, batch_size, restored, .. } = outcome;
    let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
    let how = match (restored, batch_size >= edits, batch_size) {
        (true, _, 1) => "each alone: the weights were put back before the next".to_owned(),
        (true, ..) => format!("in batches of {batch_size}, with the weights put back before each"),
        (false, true, _) => "all at once".to_owned(),
        (false, false, 1) => "one after the other, on the same weights".to_owned(),
        (false, false, _) => format!("in batches of {batch_size}, one after the other, on the same weights"),
    };
    let plural = if layers.len() == 1 { "layer" } else { "layers" };
    format!("`{editor}` made {edits} edits in {plural} {}, {how}.", layers.join(", "))
}

/// Every figure before and after, with its answer where one is asked for.
fn before_after(outcome: &Outcome) -> Table {
    let asked: HashMap<&str, f64> = outcome.require.all().collect();
    let cell = |summary: &Summary, name: &str| {
        summary
            .figure(name)
            .map_or_else(|| Cell::from("–"), |figure| Cell::from(figure).noted(format!("n = {}", figure.n)))
    };
    let row = |(name, words): &(&str, &str)| {
        let after = cell(&outcome.after, name);
        let after = match (asked.get(name), outcome.after.figure(name)) {
            (Some(least), Some(figure)) if figure.value >= *least => after.good(),
            (Some(_), _) => after.bad(),
            (None, _) => after,
        };
        let least = asked.get(name).map_or_else(Cell::default, |least| Cell::from(Figure::exact(*least, 0)));
        let mut row = vec![Cell::from(*words), cell(&outcome.before, name), after];
        row.extend((!asked.is_empty()).then_some(least));
        row
    };
    let there = |(name, _): &&(&str, &str)| outcome.after.figure(name).is_some() || asked.contains_key(name);
    let mut columns = vec!["".to_owned(), "before".to_owned(), "after".to_owned()];
    columns.extend((!asked.is_empty()).then(|| "at least".to_owned()));
    Table {
        caption: "What the edits are worth; more is better".into(),
        columns,
        rows: FIGURES.iter().filter(there).map(row).collect(),
    }
}

/// Where the answers come from.
fn located(report: &mut Report, traced: &Traced) {
    report.heading("Where the facts are").prose(format!(
        "With noise on the subject, the probability of the answer falls from {} to {}. The tables show how much of it comes back \
         where one clean state is put back, layer by layer and token by token: what then comes back came through there. At the \
         subject's last token, the residual stream behind layer {} brings more of it back than that behind any other layer; that is \
         where an edit is read.",
        traced.clean, traced.corrupted, traced.layer
    ));
    for map in &traced.maps {
        report.push(Section::Table(heat_map(map)));
    }
}

fn heat_map(map: &HeatMap) -> Table {
    let values = || map.layers.iter().flatten().map(|figure| figure.value).filter(|value| value.is_finite());
    let (low, high) = (values().fold(0.0, f64::min), values().fold(f64::MIN_POSITIVE, f64::max));
    let cell = |figure: &Figure| Cell::from(*figure).shaded((figure.value - low) / (high - low));
    let row = |(layer, figures): (usize, &Vec<Figure>)| {
        std::iter::once(Cell::from(Figure::exact(layer as f64, 0))).chain(figures.iter().map(cell)).collect()
    };
    let what = match map.restored {
        Restored::State => "the residual stream behind the layer",
        Restored::Mlp => "what the feed-forwards around the layer add",
        Restored::Attention => "what attention around the layer adds",
    };
    Table {
        caption: format!("Probability that comes back with {what}"),
        columns: std::iter::once("layer")
            .chain(map.places.iter().map(|place| place.name()))
            .map(str::to_owned)
            .collect(),
        rows: map.layers.iter().enumerate().map(row).collect(),
    }
}

/// What was logged while editing: what the first edits are worth after ever more of them, and how far targets were met.
fn curves(outcome: &Outcome, rows: &[StepRow]) -> Vec<Plot> {
    let of = |key: &str| -> Vec<(f64, f64)> {
        let point = |row: &StepRow| {
            let number = |key: &str| row.values.get(key).and_then(Value::as_f64);
            Some((number("edits")?, number(key)?))
        };
        rows.iter().filter(|row| row.stage == "edit").filter_map(point).collect()
    };
    let drawn = |plot: Plot, key: &str, name: &str| match of(key) {
        points if points.len() < 2 => plot,
        points => plot.with(Series::new(name, points)),
    };
    let mut first = Plot::new(
        format!("What the first {} edits are worth after later ones", outcome.watched),
        "edits made",
        "share",
    )
    .holding([0.0, 1.0]);
    for (name, key) in WATCHED {
        let words = FIGURES.iter().find(|(other, _)| *other == name).map_or(name, |(_, words)| words);
        first = drawn(first, key, words);
    }
    let loss =
        drawn(Plot::new("Loss of the new target", "edits made", "nats per token"), "loss_target", "loss");
    let change = drawn(Plot::new("Change by the edit", "edits made", "‖ΔW‖/‖W‖"), "change", "change");
    vec![first, loss, change]
}

/// What both models write to every prompt.
fn answers(before: &[Sample], after: &[Sample]) -> Result<Answers> {
    let earlier: HashMap<&str, &Sample> =
        before.iter().map(|sample| (sample.item.id.as_str(), sample)).collect();
    let mut rows = Vec::new();
    for sample in after {
        let said = |sample: &Sample| -> Vec<String> {
            let written = sample.answers.iter().filter_map(|answer| answer.written());
            written.map(|written| written.text.clone().unwrap_or_default()).collect()
        };
        let (now, then) = (said(sample), earlier.get(sample.item.id.as_str()).map(|sample| said(sample)));
        let rewrite = Rewrites::rewrite(&sample.item)?;
        let own = std::iter::once(("edited", &rewrite.prompt, Some(&rewrite.target_new)));
        let paraphrases =
            rewrite.paraphrases.iter().map(|prompt| ("in other words", prompt, Some(&rewrite.target_new)));
        let others =
            rewrite.neighbours.iter().map(|other| ("about others", &other.prompt, other.answer.as_ref()));
        for (i, ((set, prompt, expected), now)) in own.chain(paraphrases).chain(others).zip(now).enumerate() {
            let then = then.as_ref().and_then(|then| then.get(i)).cloned().unwrap_or_default();
            rows.push(AnswerRow {
                set: set.to_owned(),
                question: prompt.clone(),
                expected: expected.cloned().unwrap_or_default(),
                answers: vec![then, now],
                marked: Vec::new(),
            });
        }
    }
    Ok(Answers {
        caption: "What the models write, edit by edit; expected is what should follow now".into(),
        models: vec!["before".into(), "after".into()],
        rows,
    })
}

fn changes(changes: &[TensorChange]) -> Table {
    let changed = changes.iter().filter(|change| change.change > 0.0);
    let row = |change: &TensorChange| {
        let relative = Cell::from(Figure::exact(change.relative, 0));
        vec![Cell::from(change.name.as_str()), relative, Cell::from(Figure::exact(change.largest, 0))]
    };
    Table {
        caption: format!(
            "Of {} tensors {} differ; those that changed most",
            changes.len(),
            changed.clone().count()
        ),
        columns: ["tensor", "‖ΔW‖/‖W‖", "largest change of a weight"].map(str::to_owned).to_vec(),
        rows: changed.take(CHANGES).map(row).collect(),
    }
}

/// What stands beside the edited model, for those who find it without its run.
pub(crate) fn cards(outcome: &Outcome) -> Vec<Card> {
    let Some(model) = &outcome.model else { return Vec::new() };
    let mut report = Report::new("A model in which facts were rewritten");
    for premise in outcome.premises() {
        report.warning(premise);
    }
    report.prose(introduction(outcome));
    report.prose("The figures were measured on this folder's weights as they were written.");
    report.push(Section::Table(before_after(outcome)));
    report.heading("Limits").prose(
        "Weights and licence are those of the model it was made of, as far as they were not changed. What is asked here in \
         other words is a small part of all the words there are; what follows from a rewritten fact was not rewritten.",
    );
    let tags = vec!["model-editing".to_owned(), "amend".to_owned()];
    vec![Card { folder: model.clone(), library: "transformers".into(), tags, report }]
}
