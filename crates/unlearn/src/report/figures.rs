//! Figures in tables: before and after, what attacks brought back, what changed in the weights.

use amend_run::Figure;
use amend_run::report::{Cell, Table};

use super::Attacked;
use crate::attack::Findings;
use crate::measure::Snapshot;
use crate::outcome::{Outcome, SeedResult};
use crate::verdict::{Better, over_seeds};

/// Tensors shown in the table of changes.
const CHANGES: usize = 8;

/// A figure of a snapshot, as the report names and explains it.
struct Shown {
    name: &'static str,
    /// Which way is better; nothing where it is to be like the gold model's.
    better: Option<Better>,
    explained: &'static str,
    read: fn(&Snapshot) -> Option<Figure>,
}

const LOW: Option<Better> = Some(Better::Lower);
const HIGH: Option<Better> = Some(Better::Higher);
const PROBABILITY: &str =
    "exp(−NLL/|y|): the geometric mean of the probabilities of the right answer's tokens";
const ACCURACY: &str = "share of right answers of which every token is the model's first choice";
const ROUGE: &str = "share of the right answer's words, in order, that the free answer has";
const LEAK: &str =
    "share of the right answer's content words that the free answer gives away, in whatever words it stands";
const TRUE_IS_BETTER: &str = "max(0, 1 − R), R = P(wrong)/P(right): 1 where wrong answers are impossible, 0 where they are as likely as right ones";

const FIGURES: [Shown; 16] = [
    Shown {
        name: "forget: probability",
        better: LOW,
        explained: PROBABILITY,
        read: |s| Some(s.forget.probability),
    },
    Shown { name: "forget: accuracy", better: LOW, explained: ACCURACY, read: |s| Some(s.forget.accuracy) },
    Shown { name: "forget: leak", better: LOW, explained: LEAK, read: |s| s.forget.leak },
    Shown {
        name: "forget: ROUGE-L recall",
        better: LOW,
        explained: ROUGE,
        read: |s| s.forget.rouge_l_recall,
    },
    Shown {
        name: "forget: right among wrong",
        better: None,
        explained: "probability of the right answer among wrong ones in the same frame",
        read: |s| s.forget.choice,
    },
    Shown {
        name: "forget: truth ratio",
        better: HIGH,
        explained: "min(R, 1/R), R = P(wrong)/P(right): 1 where wrong answers are as likely as right ones",
        read: |s| s.forget.closer_to_one,
    },
    Shown {
        name: "forget: right above wrong",
        better: None,
        explained: TRUE_IS_BETTER,
        read: |s| s.forget.true_is_better,
    },
    Shown {
        name: "forget: extraction strength",
        better: LOW,
        explained: "1 − k/T, k the tokens of the answer that must be given before the model says the rest by itself",
        read: |s| Some(s.forget.extraction_strength),
    },
    Shown {
        name: "forget: exact memorisation",
        better: LOW,
        explained: "share of the right answer's tokens that are the model's first choice",
        read: |s| Some(s.forget.exact_memorization),
    },
    Shown {
        name: "retain: probability",
        better: HIGH,
        explained: PROBABILITY,
        read: |s| Some(s.retain.probability),
    },
    Shown { name: "retain: accuracy", better: HIGH, explained: ACCURACY, read: |s| Some(s.retain.accuracy) },
    Shown {
        name: "retain: ROUGE-L recall",
        better: HIGH,
        explained: ROUGE,
        read: |s| s.retain.rouge_l_recall,
    },
    Shown {
        name: "retain: truth ratio",
        better: HIGH,
        explained: TRUE_IS_BETTER,
        read: |s| s.retain.true_is_better,
    },
    Shown {
        name: "real authors: ROUGE-L recall",
        better: HIGH,
        explained: ROUGE,
        read: |s| s.real_authors.as_ref()?.rouge_l_recall,
    },
    Shown {
        name: "world facts: ROUGE-L recall",
        better: HIGH,
        explained: ROUGE,
        read: |s| s.world_facts.as_ref()?.rouge_l_recall,
    },
    Shown {
        name: "utility",
        better: HIGH,
        explained: "TOFU's model utility, the harmonic mean of nine figures; where its sets are missing, that of the retain \
                    set's three",
        read: Snapshot::utility,
    },
];

const QUALITY: &str = "forget quality, log10 p";
const QUALITY_EXPLAINED: &str = "Kolmogorov–Smirnov test of the forget set's truth ratios against the gold model's: 0 where \
                                 the two cannot be told apart";

impl Shown {
    fn heading(&self) -> String {
        match self.better {
            Some(better) => format!("{}\u{a0}{}", self.name, better.arrow()),
            None => self.name.to_owned(),
        }
    }
}

/// The models of a run over its seeds: before, gold where there is one, and the arms.
fn models(outcome: &Outcome) -> Vec<(String, Vec<&Snapshot>)> {
    let seeds = &outcome.seeds;
    let mut models = Vec::new();
    if !outcome.audit {
        models.push(("before".to_owned(), seeds.iter().map(|seed| &seed.before).collect::<Vec<_>>()));
    }
    let gold: Vec<&Snapshot> = seeds.iter().filter_map(|seed| seed.gold.as_ref()).collect();
    if gold.len() == seeds.len() && !gold.is_empty() {
        models.push(("gold (never saw it)".to_owned(), gold));
    }
    for (index, arm) in outcome.arms.iter().enumerate() {
        models.push((arm.name.clone(), seeds.iter().map(|seed| &seed.arms[index].after).collect()));
    }
    models
}

/// A figure of one model over the seeds; nothing where a seed has none.
fn over(snapshots: &[&Snapshot], read: impl Fn(usize, &Snapshot) -> Option<Figure>) -> Option<Figure> {
    let figures: Option<Vec<Figure>> = snapshots.iter().enumerate().map(|(i, s)| read(i, s)).collect();
    figures.map(over_seeds)
}

/// Every figure of every model that was measured, over all seeds.
pub(super) fn before_after(outcome: &Outcome) -> Table {
    let models = models(outcome);
    let row = |name: String, read: &dyn Fn(usize, &Snapshot) -> Option<Figure>| {
        let cells: Vec<Option<Figure>> = models.iter().map(|(_, snapshots)| over(snapshots, read)).collect();
        let any = cells.iter().any(Option::is_some);
        let cells = cells.into_iter().map(|figure| figure.map_or_else(absent, Cell::from));
        any.then(|| std::iter::once(Cell::from(name)).chain(cells).collect::<Vec<_>>())
    };
    let mut rows: Vec<Vec<Cell>> =
        FIGURES.iter().filter_map(|shown| row(shown.heading(), &|_, s| (shown.read)(s))).collect();
    rows.extend(row(format!("{QUALITY} {}", Better::Higher.arrow()), &|i, s| {
        s.forget_quality_log10(outcome.seeds[i].gold.as_ref()?)
    }));
    let of = if outcome.seeds.len() == 1 { "questions" } else { "seeds" };
    Table {
        caption: format!("Mean ± standard error over {of}; an arrow says which way is better"),
        columns: headings("figure", models.iter().map(|(name, _)| name.as_str())),
        rows,
    }
}

/// What every figure is, for those that were measured.
pub(super) fn explained(outcome: &Outcome) -> Vec<(String, String)> {
    let models = models(outcome);
    let measured = |shown: &&Shown| {
        models.iter().any(|(_, snapshots)| snapshots.iter().any(|s| (shown.read)(s).is_some()))
    };
    let of = |shown: &Shown| (shown.name.to_owned(), shown.explained.to_owned());
    let mut pairs: Vec<_> = FIGURES.iter().filter(measured).map(of).collect();
    if outcome.seeds.iter().any(|seed| seed.gold.is_some()) {
        pairs.push((QUALITY.into(), QUALITY_EXPLAINED.into()));
    }
    pairs
}

/// What came back under an attack, over all seeds.
pub(super) fn findings(attack: &Attacked<'_>) -> Table {
    let first = attack.models.first().and_then(|(_, seeds)| seeds.first());
    type All = Vec<(String, Figure)>;
    let rows = |arrow: &str, all: &dyn Fn(&Findings) -> &All| -> Vec<Vec<Cell>> {
        let row = |(name, _): &(String, Figure)| {
            let cells = attack.models.iter().map(|(_, seeds)| {
                let of = |findings: &&Findings| {
                    all(findings).iter().find(|(n, _)| n == name).map(|(_, figure)| *figure)
                };
                let figures: Option<Vec<Figure>> = seeds.iter().map(of).collect();
                figures.map_or_else(absent, |figures| Cell::from(over_seeds(figures)))
            });
            std::iter::once(Cell::from(format!("{name}{arrow}"))).chain(cells).collect()
        };
        first.map_or(&[][..], |findings| all(findings)).iter().map(row).collect()
    };
    let mut all = rows(&format!(" {}", Better::Lower.arrow()), &|findings| &findings.figures);
    all.extend(rows("", &|findings| &findings.beside));
    Table {
        caption: "What came back".into(),
        columns: headings("figure", attack.models.iter().map(|(name, _)| name.as_str())),
        rows: all,
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

fn headings<'a>(first: &str, models: impl Iterator<Item = &'a str>) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(models.map(str::to_owned)).collect()
}

fn absent() -> Cell {
    Cell::from("–")
}
