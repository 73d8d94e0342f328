//! Figures in tables: before and after, what attacks brought back, what changed in the weights.

use amend_run::Figure;
use amend_run::report::{Cell, Table};

use super::Attacked;
use crate::measure::Snapshot;
use crate::outcome::SeedResult;

/// Tensors shown in the table of changes.
const CHANGES: usize = 8;

type Read = fn(&Snapshot) -> Option<Figure>;

const FIGURES: [(&str, Read); 15] = [
    ("forget: probability", |s| Some(s.forget.probability)),
    ("forget: accuracy", |s| Some(s.forget.accuracy)),
    ("forget: ROUGE-L recall", |s| s.forget.rouge_l_recall),
    ("forget: right among wrong", |s| s.forget.choice),
    ("forget: truth ratio", |s| s.forget.closer_to_one),
    ("forget: right above wrong, max(0, 1 − R)", |s| s.forget.true_is_better),
    ("forget: extraction strength", |s| Some(s.forget.extraction_strength)),
    ("forget: exact memorisation", |s| Some(s.forget.exact_memorization)),
    ("retain: probability", |s| Some(s.retain.probability)),
    ("retain: accuracy", |s| Some(s.retain.accuracy)),
    ("retain: ROUGE-L recall", |s| s.retain.rouge_l_recall),
    ("retain: truth ratio", |s| s.retain.true_is_better),
    ("real authors: ROUGE-L recall", |s| s.real_authors.as_ref()?.rouge_l_recall),
    ("world facts: ROUGE-L recall", |s| s.world_facts.as_ref()?.rouge_l_recall),
    ("utility (TOFU's, or the retain set's)", Snapshot::utility),
];

/// Every figure of every model that was measured.
pub(super) fn before_after(seed: &SeedResult) -> Table {
    let mut models: Vec<(&str, &Snapshot)> = vec![("before", &seed.before)];
    models.extend(seed.gold.iter().map(|g| ("gold (never saw it)", g)));
    models.extend(seed.arms.iter().map(|a| (a.name.as_str(), &a.after)));
    let row = |name: &str, read: &dyn Fn(&Snapshot) -> Option<Cell>| {
        let cells = models.iter().map(|(_, s)| read(s).unwrap_or_else(absent));
        std::iter::once(Cell::from(name)).chain(cells).collect::<Vec<_>>()
    };
    let measured = FIGURES.iter().filter(|(_, read)| models.iter().any(|(_, s)| read(s).is_some()));
    let mut rows: Vec<Vec<Cell>> =
        measured.map(|(name, read)| row(name, &|s| read(s).map(Cell::from))).collect();
    if let Some(gold) = &seed.gold {
        let quality = |s: &Snapshot| Some(Cell::from(format!("{:.2}", s.forget_quality(gold)?.log10_p)));
        rows.push(row("forget quality, log10 p (0 is best)", &quality));
    }
    Table {
        caption: "Mean ± standard error over questions".into(),
        columns: headings("figure", &models),
        rows,
    }
}

/// What came back under an attack.
pub(super) fn findings(attack: &Attacked<'_>) -> Table {
    let names = attack.models.first().map_or(&[][..], |(_, findings)| &findings.figures);
    let row = |(name, _): &(String, Figure)| {
        let cells = attack.models.iter().map(|(_, findings)| {
            let figure = findings.figures.iter().find(|(n, _)| n == name);
            figure.map_or_else(absent, |(_, figure)| Cell::from(*figure))
        });
        std::iter::once(Cell::from(name.as_str())).chain(cells).collect()
    };
    Table {
        caption: "What came back".into(),
        columns: headings("figure", &attack.models),
        rows: names.iter().map(row).collect(),
    }
}

/// The tensors that changed most.
pub(super) fn changes(seed: &SeedResult) -> Table {
    let mut columns = vec!["tensor".to_owned()];
    columns.extend(seed.arms.iter().map(|a| format!("{}: ‖ΔW‖/‖W‖", a.name)));
    let first = seed.arms.first().map_or(&[][..], |a| &a.changes);
    let rows = first.iter().take(CHANGES).map(|change| {
        let cells = seed.arms.iter().map(|a| {
            let same = a.changes.iter().find(|c| c.name == change.name);
            same.map_or_else(absent, |c| Cell::from(Figure::exact(c.relative, 0)))
        });
        std::iter::once(Cell::from(change.name.as_str())).chain(cells).collect()
    });
    Table {
        caption: format!("The {CHANGES} tensors that changed most, of {}", first.len()),
        columns,
        rows: rows.collect(),
    }
}

fn headings<T>(first: &str, models: &[(&str, T)]) -> Vec<String> {
    std::iter::once(first).chain(models.iter().map(|(name, _)| *name)).map(str::to_owned).collect()
}

fn absent() -> Cell {
    Cell::from("–")
}
