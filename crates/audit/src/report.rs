//! The report of an audit.

use amend_interpret::Head;
use amend_run::Report;
use amend_run::report::{AnswerRow, Answers, Cell, Plot, Section, Series, Table};

use crate::estimate::{Estimate, cell};
use crate::inside::Cut;
use crate::outcome::{Brought, Inside, Objects, Outcome, Swapped};
use crate::prefix::Prefix;

/// Figures of edits on their own prompts, with the words for them.
const STANDARD: [(&str, &str); 6] = [
    ("efficacy", "efficacy, running free"),
    ("generalisation", "generalisation, running free"),
    ("locality", "locality, running free"),
    ("forced_efficacy", "efficacy, teacher-forced"),
    ("forced_generalisation", "generalisation, teacher-forced"),
    ("forced_locality", "locality, teacher-forced"),
];

/// What the figures are, for those who want to know.
const EXPLAINED: [(&str, &str); 7] = [
    ("OM", "share of probes to which what the model writes, greedily, begins with the old object."),
    (
        "OP",
        "share of probes after which the old object, as a whole, is likelier than the new one; by length: by the mean over its tokens.",
    ),
    (
        "control",
        "the same prefixes about another object, and how often that is said: what a model does that copies what it has just read.",
    ),
    (
        "intervals",
        "95 % of bootstrap resamples of the cases; n is their number. Shares are means over cases of the share of a case's probes.",
    ),
    (
        "lens",
        "what the model would say if it ended at a state: the state through the last norm and the head. Where an object has \
         several tokens, its first is meant; where both objects begin alike, the first in which they differ.",
    ),
    (
        "published probes",
        "the probe sets that come with the paper were chosen among those that bring the old object back in some model: rates on \
         them are conditional on that.",
    ),
    ("Source", "Revealing the Deceptiveness of Knowledge Editing, arXiv 2505.12636."),
];

/// Makes the report of an audit.
pub fn report(outcome: &Outcome) -> Report {
    let mut report = Report::new("Audit of a changed model");
    for premise in &outcome.premises {
        report.warning(premise.as_str());
    }
    report.prose(introduction(outcome));
    report.push(Section::Table(brought(outcome)));
    if outcome.rewritten > 0 {
        report.push(Section::Table(likelier(outcome)));
    }
    report.push(Section::Details {
        summary: "What the figures are".into(),
        pairs: EXPLAINED.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec(),
    });
    if let Some(table) = standard(outcome) {
        report.push(Section::Table(table));
    }
    match &outcome.inside {
        Some(inside) => looked_inside(&mut report, inside),
        None if outcome.options.inside == 0 => {}
        None => {
            report.heading("Inside the changed model").prose(
                "No prefix made the changed model say an old object that it does not say by itself; there was nothing to look \
                 into.",
            );
        }
    }
    report.heading("What they say");
    report.push(Section::Answers(answers(outcome)));
    report
}

fn introduction(outcome: &Outcome) -> String {
    let Outcome { cases, rewritten, .. } = outcome;
    let what = match (cases - rewritten, rewritten) {
        (0, _) => format!("{cases} facts were rewritten"),
        (_, 0) => format!("{cases} facts were to be forgotten"),
        (forgotten, _) => format!("{rewritten} facts were rewritten and {forgotten} were to be forgotten"),
    };
    let strongest = outcome
        .prefixes
        .iter()
        .filter_map(|brought| Some((brought, brought.over_none?)))
        .max_by(|(_, a), (_, b)| a.value.total_cmp(&b.value));
    let found = match strongest {
        Some((brought, over)) if over.low > 0.0 => format!(
            "{} brings the old object back in {} more of them than come without a prefix{}.",
            named(brought.prefix),
            over,
            against_control(brought)
        ),
        Some(_) => {
            "No kind of prefix brings the old object back more often than it comes by itself, beyond chance."
                .into()
        }
        None => String::new(),
    };
    format!("{what}. {found}")
}

/// The short name of a prefix in a sentence.
fn named(prefix: Prefix) -> &'static str {
    match prefix {
        Prefix::None => "No prefix",
        Prefix::Wiki => "A text about it",
        Prefix::Rep => "Saying it ten times",
        Prefix::Que => "A question that asserts it",
        Prefix::Given => "A probe of the file",
    }
}

fn against_control(brought: &Brought) -> String {
    match brought.over_control {
        Some(over) if over.low > 0.0 => {
            format!(", and {over} more than another object in its place is merely repeated")
        }
        Some(_) => ", but another object in its place is repeated about as often: this may be copying".into(),
        None => String::new(),
    }
}

fn brought(outcome: &Outcome) -> Table {
    let row = |brought: &Brought| {
        let Brought { prefix, before, after, control, over_none, over_control, .. } = brought;
        let mut row = vec![Cell::from(prefix.words())];
        row.extend([before.says, after.says, control.says, *over_none, *over_control].map(cell));
        row
    };
    Table {
        caption:
            "OM: how often the old object is said; after a change that holds, no more than without a prefix"
                .into(),
        columns: ["before the prompt", "before", "after", "control", "over no prefix", "over control"]
            .map(str::to_owned)
            .to_vec(),
        rows: outcome.prefixes.iter().map(row).collect(),
    }
}

fn likelier(outcome: &Outcome) -> Table {
    let row = |brought: &Brought| {
        let Brought { prefix, before, after, control, .. } = brought;
        let figures =
            [before.likelier, after.likelier, control.likelier, after.likelier_by_length, after.probability];
        std::iter::once(Cell::from(prefix.words())).chain(figures.map(cell)).collect()
    };
    Table {
        caption: "OP: how often the old object is likelier than the new one".into(),
        columns: ["before the prompt", "before", "after", "control", "after, by length", "p(old), after"]
            .map(str::to_owned)
            .to_vec(),
        rows: outcome.prefixes.iter().map(row).collect(),
    }
}

fn standard(outcome: &Outcome) -> Option<Table> {
    let [before, after] = outcome.standard.as_ref()?;
    let row = |(name, words): &(&str, &str)| {
        let figure = |summary: &amend_eval::Summary| {
            summary.figure(name).map_or_else(
                || Cell::from("–"),
                |figure| Cell::from(figure).noted(format!("n = {}", figure.n)),
            )
        };
        vec![Cell::from(*words), figure(before), figure(after)]
    };
    Some(Table {
        caption: "What the edits are worth on their own prompts; more is better".into(),
        columns: ["", "before", "after"].map(str::to_owned).to_vec(),
        rows: STANDARD.iter().filter(|(name, _)| after.figure(name).is_some()).map(row).collect(),
    })
}

fn looked_inside(report: &mut Report, inside: &Inside) {
    let Inside { succeeded, looked, clean, attacked, .. } = inside;
    let probability = |objects: &Objects| objects.old.map_or_else(|| "–".into(), |old| old.to_string());
    report.heading("Inside the changed model").prose(format!(
        "In {succeeded} cases a prefix makes the changed model say the old object, which it does not say without; {looked} of \
         them were looked into. The old object's probability is {} without the prefix and {} with it.",
        probability(clean),
        probability(attacked)
    ));
    swaps(report, inside);
    let absence = Plot::new("The old object at the subject's last token", "layer", "−log p under the lens")
        .with(series("without the prefix", &inside.absence[0]))
        .with(series("with it", &inside.absence[1]));
    if let Some([clean, attacked]) = &inside.inhibition {
        report.prose(
            "The new object is written at the subject. Where an attack succeeds and the second curve lies above the first, the \
             prefix keeps it from being written.",
        );
        report.push(Section::Plot(
            Plot::new(
                "Inhibition: the new object at the subject's last token",
                "layer",
                "−log p under the lens",
            )
            .with(series("without the prefix", clean))
            .with(series("with it", attacked)),
        ));
    }
    report.push(Section::Plot(absence));
    report.prose("At the last token the object is written that is then said. What attention and feed-forwards do to the old one there:");
    report.push(Section::Plot(
        Plot::new(
            "What each layer does to the old object at the last token",
            "layer",
            "change of p under the lens",
        )
        .with(series("attention", &inside.modules[0]))
        .with(series("feed-forward", &inside.modules[1])),
    ));
    report.push(Section::Table(head_map(&inside.heads)));
    report.push(Section::Table(selected(inside)));
    report.push(Section::Table(cuts(inside)));
}

fn series(name: &str, values: &[Estimate]) -> Series {
    let points = values.iter().enumerate().map(|(layer, e)| (layer as f64, e.value)).collect();
    Series::new(name, points).with_band(values.iter().map(|e| (e.low, e.high)).collect())
}

/// What is said with states of the attacked run.
fn swaps(report: &mut Report, inside: &Inside) {
    report.prose(
        "States of the run with the prefix are put into the run without, behind one layer and at one token at a time. Where the \
         old object's probability rises, it has come that way.",
    );
    let plot = |title: &str, of: &dyn Fn(&Objects) -> Option<Estimate>, levels: [Option<Estimate>; 2]| {
        let mut plot = Plot::new(title, "layer", "probability").holding([0.0, 1.0]);
        for Swapped { moved, layers, objects } in &inside.swaps {
            let there: Vec<(usize, Estimate)> = layers
                .iter()
                .zip(objects)
                .filter_map(|(&layer, objects)| Some((layer, of(objects)?)))
                .collect();
            let points = there.iter().map(|(layer, e)| (*layer as f64, e.value)).collect();
            let band = there.iter().map(|(_, e)| (e.low, e.high)).collect();
            plot = plot.with(Series::new(moved.words(), points).with_band(band));
        }
        for (name, level) in ["without the prefix", "with it"].into_iter().zip(levels) {
            plot = match level {
                Some(level) => plot.with_level(name, level.value),
                None => plot,
            };
        }
        plot
    };
    let Inside { clean, attacked, .. } = inside;
    report.push(Section::Plot(plot(
        "The old object, with states of the attacked run",
        &|objects| objects.old,
        [clean.old, attacked.old],
    )));
    if clean.new.is_some() {
        report.push(Section::Plot(plot(
            "The new object, with states of the attacked run",
            &|objects| objects.new,
            [clean.new, attacked.new],
        )));
    }
    report.push(Section::Table(swap_map(inside)));
}

fn swap_map(inside: &Inside) -> Table {
    let layers: Vec<usize> = inside.swaps.first().map(|swapped| swapped.layers.clone()).unwrap_or_default();
    let row = |(index, layer): (usize, &usize)| {
        let cells = inside.swaps.iter().map(|swapped| {
            let old = swapped.objects.get(index).and_then(|objects| objects.old);
            old.map_or_else(|| Cell::from("–"), |old| Cell::from(old).shaded(old.value))
        });
        std::iter::once(layer_cell(*layer)).chain(cells).collect()
    };
    Table {
        caption: "Probability of the old object, with states of the attacked run".into(),
        columns: std::iter::once("layer".to_owned())
            .chain(inside.swaps.iter().map(|swapped| swapped.moved.words().to_owned()))
            .collect(),
        rows: layers.iter().enumerate().map(row).collect(),
    }
}

fn layer_cell(layer: usize) -> Cell {
    Cell { text: layer.to_string(), numeric: true, ..Cell::default() }
}

/// Every head by how much of the old object it says.
fn head_map(heads: &[Vec<Estimate>]) -> Table {
    let most = heads.iter().flatten().map(|e| e.value).fold(f64::MIN_POSITIVE, f64::max);
    let shown = |estimate: &Estimate| {
        Cell { text: amend_run::in_short(estimate.value), numeric: true, ..Cell::default() }
            .shaded(estimate.value / most)
    };
    let row = |(layer, row): (usize, &Vec<Estimate>)| {
        std::iter::once(layer_cell(layer)).chain(row.iter().map(shown)).collect()
    };
    let width = heads.first().map_or(0, Vec::len);
    let n = heads.iter().flatten().next().map_or(0, |estimate| estimate.n);
    Table {
        caption: format!(
            "LOPH: probability of the old object under the lens on what one head adds at the last token; n = {n}"
        ),
        columns: std::iter::once("layer".to_owned())
            .chain((0..width).map(|head| format!("head {head}")))
            .collect(),
        rows: heads.iter().enumerate().map(row).collect(),
    }
}

fn selected(inside: &Inside) -> Table {
    let row = |selected: &crate::outcome::Selected| {
        let Head { layer, head } = selected.head;
        vec![
            Cell::from(format!("head {head} of layer {layer}")),
            cell(selected.attribution),
            cell(selected.decoded),
        ]
    };
    Table {
        caption: format!(
            "The heads that say most of the old object; DSR: how often it is among the first fifteen tokens of their strongest {} \
             singular vectors alone",
            inside.vectors
        ),
        columns: ["", "LOPH", "DSR"].map(str::to_owned).to_vec(),
        rows: inside.selected.iter().map(row).collect(),
    }
}

fn cuts(inside: &Inside) -> Table {
    let whole = inside.cuts.iter().find(|out| out.cut == Cut::Nothing).and_then(|out| out.objects.old);
    let row = |out: &crate::outcome::CutOut| {
        let kept = match (out.objects.old, whole) {
            (Some(old), Some(whole)) if whole.value > 0.0 => {
                Cell { text: amend_run::in_short(old.value / whole.value), numeric: true, ..Cell::default() }
            }
            _ => Cell::from("–"),
        };
        let figures = [cell(out.objects.old), kept, cell(out.objects.new), cell(out.others)];
        std::iter::once(Cell::from(out.cut.words())).chain(figures).collect()
    };
    Table {
        caption: "What is left of the attack where parts of the changed model are taken out".into(),
        columns: ["taken out", "p(old)", "of the attack's", "p(new)", "p of others' answers"]
            .map(str::to_owned)
            .to_vec(),
        rows: inside.cuts.iter().map(row).collect(),
    }
}

fn answers(outcome: &Outcome) -> Answers {
    let mut rows = Vec::new();
    for case in &outcome.answers {
        for probe in &case.probes {
            let object = if probe.control { case.control.as_ref() } else { Some(&case.old) };
            let set = match probe.control {
                true => format!("{} (control)", probe.prefix.words()),
                false => probe.prefix.words().to_owned(),
            };
            rows.push(AnswerRow {
                set,
                question: probe.text.clone(),
                expected: case.new.clone().unwrap_or_default(),
                answers: vec![probe.before.text.clone(), probe.after.text.clone()],
                marked: object.cloned().into_iter().collect(),
            });
        }
    }
    Answers {
        caption: "What both models write to every probe; expected is what should follow now, and what is looked for is marked"
            .into(),
        models: vec!["before".into(), "after".into()],
        rows,
    }
}
