//! What a sweep came to: its table, its frontier, and the point to take.

use std::path::Path;

use amend_learn::area::Standings;
use amend_run::comparison::FinishedRun;
use amend_run::file::write_atomic;
use amend_run::frontier::{self, Pick, Standing};
use amend_run::report::{Cell, Section, Table};
use amend_run::sweep::{Point, PointState, Sweep};
use amend_run::{Figure, Report};
use serde_json::json;

use crate::area;
use crate::context::Context;
use crate::error::Error;
use crate::output::heard;
use crate::running::command_line;
use crate::table;

/// How a sweep stands.
pub(crate) struct Swept {
    /// How many points other processes are at, or are still to be done.
    pub(crate) open: usize,
    /// Whether a point was picked.
    pub(crate) picked: bool,
}

/// Writes the page of a sweep, as far as it has come, and tells its summary.
pub(crate) fn tell(
    dir: &Path,
    sweep: &Sweep,
    pick: Pick,
    failed: &[Point],
    context: &mut Context,
) -> Result<Swept, Error> {
    let points = sweep.points();
    let (done, rest): (Vec<&Point>, Vec<&Point>) =
        points.iter().partition(|point| point.state(dir) == PointState::Done);
    let open: Vec<&Point> = rest.into_iter().filter(|point| !failed.contains(point)).collect();
    let runs = done.iter().map(|point| FinishedRun::open(&point.folder(dir), point.name.clone()));
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    let page = dir.join("sweep.html");

    let mut report = Report::new("Sweep");
    for point in failed {
        let log = point.folder(dir).join("log.txt");
        let why = if log.exists() { format!("; {} says why", log.display()) } else { String::new() };
        report.warning(format!("`{}` failed{why}.", point.name));
    }
    if !open.is_empty() {
        report.warning(format!(
            "{} of {} points are still to be done, or other processes are at them: what is said here is not the last word.",
            open.len(),
            points.len()
        ));
    }
    let mut standings = if runs.is_empty() { None } else { Some(area::standings(&runs)?) };
    if let Some(standings) = &mut standings {
        grouped(&mut standings.all, sweep, &done);
    }
    let comparable = standings.as_ref().filter(|standings| standings.incomparable.is_none());
    let picked = comparable.and_then(|standings| pick.of(&standings.all));
    if let Some(standings) = &standings {
        match &standings.incomparable {
            Some(reason) => report.warning(reason.as_str()),
            None => report.prose(choice(standings, pick, picked.as_ref())),
        };
        report.push(Section::Table(with_standings(standings, picked.as_ref().map(|(best, _)| *best))));
    }
    let shown = report.to_terminal(table::width());
    if let Some(Standings { all, changed, kept, aim, .. }) = &standings {
        report.heading("The frontier");
        report.push(Section::Plot(frontier::plot(all, changed, kept, *aim)));
    }
    report.heading("The grid");
    report.push(Section::KeyValues(of_grid(sweep)));
    report.heading("The runs");
    let link = |point: &&Point| (point.name.clone(), format!("points/{}/report.html", point.name));
    report.push(Section::Files(done.iter().map(link).collect()));
    write_atomic(&page, report.to_html().as_bytes())?;

    let taken = picked.as_ref().and_then(|(best, _)| Some(&standings.as_ref()?.all[*best]));
    let folder = taken.map(|standing| runs[standing.run].dir.clone());
    let open_names: Vec<&String> = open.iter().map(|point| &point.name).collect();
    let told = if context.json {
        context.out.json_line(&json!({
            "folder": dir,
            "page": page,
            "picked": taken,
            "run": folder,
            "points": standings.as_ref().map(|standings| &standings.all),
            "open": open_names,
            "failed": failed.iter().map(|point| &point.name).collect::<Vec<_>>(),
        }))
    } else {
        let take = folder.map_or_else(String::new, |folder| format!("\ntake     {}", folder.display()));
        context.out.text(&shown).and_then(|()| {
            context.out.line(format_args!("{take}\npage     {} (with the frontier)", page.display()))
        })
    };
    heard(told)?;
    Ok(Swept { open: open.len(), picked: taken.is_some() })
}

/// What shares its value on the first axis is drawn as one group, where there are others to tell it from.
fn grouped(all: &mut [Standing], sweep: &Sweep, done: &[&Point]) {
    for standing in all {
        let values = &done[standing.run].values;
        let value = match (sweep.axes.first(), values.first()) {
            (Some(axis), Some(value)) => {
                format!("{} = {value}", axis.key.rsplit('.').next().unwrap_or_default())
            }
            _ => standing.name.clone(),
        };
        standing.group = match standing.group.as_str() {
            "" => value,
            arm => format!("{arm}, {value}"),
        };
    }
}

/// The table of all points with what decides between them, and with the one that is taken marked.
fn with_standings(standings: &Standings, taken: Option<usize>) -> Table {
    let mut table = standings.table.clone();
    // The first column is the name, the second the verdict.
    for (place, heading) in
        [(2, format!("{}\u{a0}↓", standings.changed)), (3, format!("{}\u{a0}↑", standings.kept))]
    {
        table.columns.insert(place.min(table.columns.len()), heading);
    }
    for (index, (row, standing)) in table.rows.iter_mut().zip(&standings.all).enumerate() {
        for (place, figure) in [(2, standing.changed), (3, standing.kept)] {
            row.insert(place.min(row.len()), Cell::from(figure));
        }
        if let Some(name) = row.first_mut().filter(|_| taken == Some(index)) {
            *name = std::mem::take(name).noted("to take");
        }
    }
    table
}

/// Which point to take and why, and what it cannot be told from.
fn choice(standings: &Standings, pick: Pick, picked: Option<&(usize, Vec<usize>)>) -> String {
    let Standings { all, changed, kept, .. } = standings;
    let Some((best, alike)) = picked else {
        return match pick {
            Pick::Matched => format!(
                "No point can be taken: in none did {changed} come down to its aim with a {kept} that is known. Give them \
                 more steps, or take the one that forgot most on a budget (--pick budget)."
            ),
            Pick::Budget(least) => format!("No point can be taken: none has a {kept} of at least {least}."),
        };
    };
    let taken = &all[*best];
    let reason = match pick {
        Pick::Matched => format!("of those whose {changed} came down to the aim, it has the highest {kept}"),
        Pick::Budget(least) => {
            format!("of those whose {kept} is at least {least}, it has the lowest {changed}")
        }
    };
    let unlike = match alike.len() {
        0 => String::new(),
        _ => format!(
            " Within twice the errors of both, or without an error, are: {}.",
            alike.iter().map(|&i| format!("`{}`", all[i].name)).collect::<Vec<_>>().join(", ")
        ),
    };
    let verdict = match taken.passed {
        Some(false) => " It does not do all that the recipe asks for.",
        _ => "",
    };
    let [kept_at, changed_at] = [taken.kept, taken.changed].map(|figure| Figure { n: 0, ..figure });
    format!("Take `{}`: {reason}: {kept} {kept_at}, {changed} {changed_at}.{verdict}{unlike}", taken.name)
}

fn of_grid(sweep: &Sweep) -> Vec<(String, String)> {
    let axes = sweep.axes.iter().map(|axis| (axis.key.clone(), axis.values.join(", ")));
    let sets = sweep.sets.iter().map(|set| ("at all points".to_owned(), set.clone()));
    let command = std::iter::once(("begun by".to_owned(), command_line(&sweep.command)));
    axes.chain(sets).chain(command).collect()
}
