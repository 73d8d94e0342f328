//! Regular expressions as grammars.

use std::collections::HashMap;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};

use super::grammar::{Encoding, Grammar, NodeId};
use crate::{Error, Result};

/// Most nodes of one expression with its counted repetitions written out.
const MOST_NODES: usize = 1 << 18;

/// A place in an expression.
enum Place {
    Class(Vec<(char, char)>, usize),
    Split(Vec<usize>),
    End,
}

/// An expression as a nondeterministic automaton over characters.
pub(super) struct Expression {
    places: Vec<Place>,
    start: usize,
}

const END: usize = 0;

impl Expression {
    /// An expression that a whole text matches. Anchors at its ends say nothing new.
    pub(super) fn whole(pattern: &str) -> Result<Self> {
        Self::new(pattern, false)
    }

    /// An expression that a text matches somewhere, unless anchors say where.
    pub(super) fn somewhere(pattern: &str) -> Result<Self> {
        Self::new(pattern, true)
    }

    fn new(pattern: &str, somewhere: bool) -> Result<Self> {
        let problem = |what: String| Error::invalid(format!("regular expression {pattern:?}: {what}"));
        let hir = regex_syntax::parse(pattern).map_err(|e| {
            // The parser draws the pattern with a caret; its last line says what is wrong.
            let drawn = e.to_string();
            problem(drawn.lines().last().unwrap_or("malformed").trim_start_matches("error: ").to_owned())
        })?;
        let mut expression = Expression { places: vec![Place::End], start: END };
        let mut starts = Vec::new();
        for alternative in alternatives(&hir) {
            let (parts, from_start, to_end) = unanchored(alternative);
            let mut at = END;
            if somewhere && !to_end {
                at = expression.anything(at).map_err(|e| problem(e.to_string()))?;
            }
            for part in parts.iter().rev() {
                at = expression.build(part, at).map_err(|e| problem(e.to_string()))?;
            }
            if somewhere && !from_start {
                at = expression.anything(at).map_err(|e| problem(e.to_string()))?;
            }
            starts.push(at);
        }
        expression.start = expression.add(Place::Split(starts))?;
        Ok(expression)
    }

    fn add(&mut self, place: Place) -> Result<usize> {
        if self.places.len() >= MOST_NODES {
            return Err(Error::invalid("its counted repetitions are too large"));
        }
        self.places.push(place);
        Ok(self.places.len() - 1)
    }

    /// Any characters, then on.
    fn anything(&mut self, next: usize) -> Result<usize> {
        let loops = self.add(Place::Split(Vec::new()))?;
        let any = self.add(Place::Class(vec![('\0', char::MAX)], loops))?;
        self.places[loops] = Place::Split(vec![any, next]);
        Ok(loops)
    }

    fn build(&mut self, hir: &Hir, next: usize) -> Result<usize> {
        match hir.kind() {
            HirKind::Empty => Ok(next),
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0)
                    .map_err(|_| Error::invalid("it matches bytes that are not UTF-8"))?;
                text.chars().rev().try_fold(next, |next, c| self.add(Place::Class(vec![(c, c)], next)))
            }
            HirKind::Class(class) => {
                let ranges = ranges(class)?;
                self.add(Place::Class(ranges, next))
            }
            HirKind::Capture(capture) => self.build(&capture.sub, next),
            HirKind::Concat(parts) => parts.iter().rev().try_fold(next, |next, part| self.build(part, next)),
            HirKind::Alternation(parts) => {
                let starts = parts.iter().map(|part| self.build(part, next)).collect::<Result<_>>()?;
                self.add(Place::Split(starts))
            }
            HirKind::Repetition(repetition) => {
                let mut at = next;
                match repetition.max {
                    Some(max) => {
                        for _ in repetition.min..max {
                            let once = self.build(&repetition.sub, at)?;
                            at = self.add(Place::Split(vec![once, next]))?;
                        }
                    }
                    None => {
                        at = self.add(Place::Split(Vec::new()))?;
                        let once = self.build(&repetition.sub, at)?;
                        self.places[at] = Place::Split(vec![once, next]);
                    }
                }
                (0..repetition.min).try_fold(at, |at, _| self.build(&repetition.sub, at))
            }
            HirKind::Look(Look::Start | Look::End) => {
                Err(Error::invalid("anchors (^ and $) can only stand at its beginning and end"))
            }
            HirKind::Look(_) => {
                Err(Error::invalid("assertions about neighbours (such as \\b and (?m)^) are not supported"))
            }
        }
    }

    /// The texts of the expression that have `min` to `max` characters, followed by `next`.
    pub(super) fn lower(
        &self,
        grammar: &mut Grammar,
        encoding: Encoding,
        (min, max): (usize, Option<usize>),
        next: NodeId,
    ) -> Result<NodeId> {
        // Beyond `counted` characters nothing depends on how many there are.
        let counted = max.unwrap_or(min);
        let mut nodes = HashMap::new();
        let start = grammar.reserve()?;
        nodes.insert((self.start, 0), start);
        let mut left = vec![(self.start, 0)];
        while let Some((place, count)) = left.pop() {
            let mut node_of = |grammar: &mut Grammar, key: (usize, usize)| -> Result<NodeId> {
                if let Some(&node) = nodes.get(&key) {
                    return Ok(node);
                }
                let node = grammar.reserve()?;
                nodes.insert(key, node);
                left.push(key);
                Ok(node)
            };
            let own = node_of(grammar, (place, count))?;
            let targets = match &self.places[place] {
                Place::End => {
                    if count >= min {
                        vec![next]
                    } else {
                        Vec::new()
                    }
                }
                Place::Split(targets) => {
                    targets.iter().map(|&t| node_of(grammar, (t, count))).collect::<Result<_>>()?
                }
                Place::Class(..) if max == Some(count) => Vec::new(),
                Place::Class(ranges, after) => {
                    let after = node_of(grammar, (*after, (count + 1).min(counted)))?;
                    vec![grammar.class(ranges, encoding, after)?]
                }
            };
            grammar.fill(own, targets);
        }
        Ok(start)
    }
}

/// The alternatives at the top of an expression.
fn alternatives(hir: &Hir) -> Vec<&Hir> {
    match hir.kind() {
        HirKind::Capture(capture) => alternatives(&capture.sub),
        HirKind::Alternation(parts) => parts.iter().flat_map(alternatives).collect(),
        _ => vec![hir],
    }
}

/// The parts of an alternative without the anchors around them, and whether there were any.
fn unanchored(hir: &Hir) -> (Vec<&Hir>, bool, bool) {
    let mut parts = Vec::new();
    flatten(hir, &mut parts);
    let is = |part: Option<&&Hir>, look| part.is_some_and(|p| *p.kind() == HirKind::Look(look));
    let (mut from_start, mut to_end) = (false, false);
    while is(parts.first(), Look::Start) {
        parts.remove(0);
        from_start = true;
    }
    while is(parts.last(), Look::End) {
        parts.pop();
        to_end = true;
    }
    (parts, from_start, to_end)
}

fn flatten<'h>(hir: &'h Hir, parts: &mut Vec<&'h Hir>) {
    match hir.kind() {
        HirKind::Capture(capture) => flatten(&capture.sub, parts),
        HirKind::Concat(inner) => inner.iter().for_each(|part| flatten(part, parts)),
        _ => parts.push(hir),
    }
}

fn ranges(class: &Class) -> Result<Vec<(char, char)>> {
    let unicode = match class {
        Class::Unicode(class) => class.clone(),
        Class::Bytes(bytes) => {
            let range = |r: &regex_syntax::hir::ClassBytesRange| {
                let ascii = r.end() < 0x80;
                ascii.then(|| ClassUnicodeRange::new(char::from(r.start()), char::from(r.end())))
            };
            let ranges: Option<Vec<_>> = bytes.ranges().iter().map(range).collect();
            ClassUnicode::new(ranges.ok_or_else(|| Error::invalid("it matches bytes that are not UTF-8"))?)
        }
    };
    Ok(unicode.ranges().iter().map(|r| (r.start(), r.end())).collect())
}

/// A pattern of JSON Schema in Rust's syntax. In ECMAScript `\d`, `\w` and `\s` mean ASCII, and `.` no line
/// separator of any kind.
pub(super) fn from_ecma(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                // What every reading of the standard calls white space, and what none does.
                Some('s') => out.push_str(r"[\t\n\x0B\x0C\r ]"),
                Some('S') => out.push_str(r"[^\s\x{FEFF}\x{180E}]"),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            '.' if !in_class => out.push_str(r"[^\n\r\x{2028}\x{2029}]"),
            _ => {
                in_class = (in_class || c == '[') && c != ']';
                out.push(c);
            }
        }
    }
    out
}
