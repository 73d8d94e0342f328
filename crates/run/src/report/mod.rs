//! The report of a run: one description, shown as a self-contained web page or as plain text.
//!
//! A report is a list of sections. It knows nothing of where its numbers come from; areas fill it in with what
//! they measured, and `report.html` opens from the disk without a network, a script or a second file.

mod answers;
mod axis;
mod card;
mod csv;
mod draw;
mod html;
mod markdown;
mod plot;
mod terminal;
mod width;

pub use card::Card;
pub use plot::{Level, Plot, Series};

use crate::Figure;

/// A report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// What follows, in order.
    pub sections: Vec<Section>,
}

/// A part of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Section {
    /// A heading for what follows.
    Heading(String),
    /// Text; a blank line starts a new paragraph, `backticks` mark code.
    Prose(String),
    /// What has to be known before anything else is read; set apart. `backticks` mark code.
    Warning(String),
    /// Numbers side by side.
    Table(Table),
    /// Curves.
    Plot(Plot),
    /// What the models said.
    Exchanges(Exchanges),
    /// A command to copy.
    Command {
        /// What it does.
        caption: String,
        /// The command line, or several.
        command: String,
    },
    /// Names and values.
    KeyValues(Vec<(String, String)>),
    /// Names and values that are there for who wants them: folded on a page, left out on a terminal.
    Details {
        /// What they are.
        summary: String,
        /// The names and values; a value of several lines is set as code.
        pairs: Vec<(String, String)>,
    },
    /// Files beside the report: what each is, and its path from there.
    Files(Vec<(String, String)>),
    /// Everything that models answered, to be searched.
    Answers(Answers),
}

/// A table. The first column names the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// What the table shows, and which direction is better.
    pub caption: String,
    /// Headings of the columns.
    pub columns: Vec<String>,
    /// Rows of cells; a short row is filled up with empty ones.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// The value.
    pub text: String,
    /// Its standard error, without the ±.
    pub error: Option<String>,
    /// What else has to be known of it, set small: how many cases it rests on.
    pub note: Option<String>,
    /// Whether it is as it should be. Shown as a mark as well as a colour.
    pub verdict: Option<Verdict>,
    /// Whether it is more than chance would make of it; shown as a star.
    pub starred: bool,
    /// Numbers are set flush right.
    pub numeric: bool,
    /// How strongly its ground is coloured, from 0 to 1: a table of such cells is a heat map.
    pub shade: Option<f64>,
}

/// Whether a value is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Good,
    /// It is not.
    Bad,
}

impl Verdict {
    /// The mark that says it without colour.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✗",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

impl Cell {
    /// Its value as people read it, with its star.
    fn shown(&self) -> String {
        format!("{}{}", self.text, if self.starred { "*" } else { "" })
    }

    /// The same cell, judged.
    pub fn judged(mut self, verdict: Verdict) -> Self {
        self.verdict = Some(verdict);
        self
    }

    /// The same cell in a heat map; `share` is its place between the lowest and the highest value.
    pub fn shaded(mut self, share: f64) -> Self {
        self.shade = share.is_finite().then(|| share.clamp(0.0, 1.0));
        self
    }

    /// The same cell with a note.
    pub fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The same cell marked as good.
    pub fn good(self) -> Self {
        self.judged(Verdict::Good)
    }

    /// The same cell marked as bad.
    pub fn bad(self) -> Self {
        self.judged(Verdict::Bad)
    }
}

/// A note on one line, of which the parts between commas stay whole.
fn unbroken_parts(note: &str) -> String {
    width::one_line(note).replace(' ', "\u{a0}").replace(",\u{a0}", ", ")
}

impl Table {
    /// Comma-separated values, standard errors in columns of their own.
    pub fn to_csv(&self) -> String {
        csv::table(self)
    }

    /// How many columns there are, with and without a heading.
    fn width(&self) -> usize {
        self.rows.iter().map(Vec::len).chain([self.columns.len()]).max().unwrap_or(0)
    }

    /// The cells of a column that are not empty.
    fn filled(&self, column: usize) -> impl Iterator<Item = &Cell> {
        self.rows.iter().filter_map(move |row| row.get(column)).filter(|cell| !cell.text.is_empty())
    }

    /// Whether a column holds nothing but numbers.
    fn is_numeric(&self, column: usize) -> bool {
        self.filled(column).next().is_some() && self.filled(column).all(|cell| cell.numeric)
    }

    /// Whether a column of numbers keeps room for marks, so that its digits stay under each other.
    fn has_marks(&self, column: usize) -> bool {
        self.is_numeric(column) && self.filled(column).any(|cell| cell.verdict.is_some())
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl From<Figure> for Cell {
    fn from(figure: Figure) -> Self {
        let (text, error) = (figure.format_value(), figure.format_error());
        Self { text, error, numeric: true, ..Self::default() }
    }
}

/// What models said to the same questions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchanges {
    /// What they show.
    pub caption: String,
    /// The questions.
    pub exchanges: Vec<Exchange>,
}

/// One question and the answers to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchange {
    /// What was asked.
    pub question: String,
    /// The reference answer.
    pub expected: Option<String>,
    /// Each model's name and what it said.
    pub answers: Vec<(String, String)>,
}

/// Everything that models answered to the same questions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// What is shown, and in which order.
    pub caption: String,
    /// The models, in the order of each row's answers.
    pub models: Vec<String>,
    /// The questions.
    pub rows: Vec<AnswerRow>,
}

/// One question and what every model answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerRow {
    /// The set it belongs to.
    pub set: String,
    /// What was asked.
    pub question: String,
    /// The reference answer.
    pub expected: String,
    /// What each model said.
    pub answers: Vec<String>,
    /// Words of the reference answer that are marked where a model says them: what must not be said any more.
    pub marked: Vec<String>,
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), sections: Vec::new() }
    }

    /// Adds a heading.
    pub fn heading(&mut self, text: impl Into<String>) -> &mut Self {
        self.push(Section::Heading(text.into()))
    }

    /// Adds text.
    pub fn prose(&mut self, text: impl Into<String>) -> &mut Self {
        self.push(Section::Prose(text.into()))
    }

    /// Adds what has to be known first.
    pub fn warning(&mut self, text: impl Into<String>) -> &mut Self {
        self.push(Section::Warning(text.into()))
    }

    /// Adds a command to copy.
    pub fn command(&mut self, caption: impl Into<String>, command: impl Into<String>) -> &mut Self {
        self.push(Section::Command { caption: caption.into(), command: command.into() })
    }

    /// Adds any section.
    pub fn push(&mut self, section: Section) -> &mut Self {
        self.sections.push(section);
        self
    }

    /// A whole HTML page with its style and pictures inside, for light and dark screens and for paper.
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// Markdown: what can be said in text and tables.
    pub fn to_markdown(&self) -> String {
        markdown::text(self)
    }

    /// Plain text, at most `width` columns wide as far as single words allow. Control characters are replaced:
    /// what a model says must not be able to command the terminal.
    pub fn to_terminal(&self, width: usize) -> String {
        terminal::text(self, width.max(20))
    }
}

#[cfg(test)]
mod tests;
