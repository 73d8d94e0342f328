//! A grammar over bytes: what regular expressions, choices and JSON schemas are compiled to.
//!
//! Rules of nodes that call each other (a recursive transition network; Woods 1970). It is built from
//! the end: every construction takes the node that follows it. Equal nodes are one node, so that what is
//! repeated costs nothing.

use std::collections::{BTreeSet, HashMap};

use regex_syntax::utf8::Utf8Sequences;

use crate::{Error, Result};

/// Most nodes of a grammar; a limit on lengths like `maxLength`, of which every character is a node.
const MOST_NODES: usize = 1 << 20;

/// Ranges of a character class beyond which its nodes are shared by all uses.
const INLINE_RANGES: usize = 4;

pub(super) type NodeId = u32;
pub(super) type RuleId = u32;

/// A place in a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// Reads one byte. Ranges are sorted and disjoint, each with the node that follows it.
    Bytes(Vec<(u8, u8, NodeId)>),
    /// Goes on at any of these.
    Split(Vec<NodeId>),
    /// Goes through a rule, then on.
    Call(RuleId, NodeId),
    /// The end of the rule.
    End,
}

/// Where a rule begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) start: NodeId,
    /// Whether it is an object or an array, which nest only so deep.
    pub(super) nests: bool,
}

/// How characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Encoding {
    /// As they are, in UTF-8.
    Plain,
    /// As inside a JSON string: quotes, backslashes and control characters escaped, in one way only.
    Json,
}

/// The language of a constraint, independent of any tokenizer.
#[derive(Debug, Clone)]
pub struct Grammar {
    pub(super) nodes: Vec<Node>,
    pub(super) rules: Vec<Rule>,
    shared: HashMap<Node, NodeId>,
    classes: HashMap<(Vec<(char, char)>, Encoding), RuleId>,
}

/// The end of every rule.
pub(super) const END: NodeId = 0;

/// The rule of the whole answer.
pub(super) const MAIN: RuleId = 0;

impl Grammar {
    /// A grammar whose main rule is yet to be defined.
    pub(super) fn new() -> Self {
        let mut grammar = Grammar {
            nodes: vec![Node::End],
            rules: Vec::new(),
            shared: HashMap::from([(Node::End, END)]),
            classes: HashMap::new(),
        };
        grammar.declare(false);
        grammar
    }

    /// A rule that matches nothing until it is defined.
    pub(super) fn declare(&mut self, nests: bool) -> RuleId {
        let start = self.nodes.len() as NodeId;
        self.nodes.push(Node::Split(Vec::new()));
        self.rules.push(Rule { start, nests });
        self.rules.len() as RuleId - 1
    }

    /// Says where a declared rule begins.
    pub(super) fn define(&mut self, rule: RuleId, start: NodeId) {
        self.rules[rule as usize].start = start;
    }

    /// A node to be filled later, for loops.
    pub(super) fn reserve(&mut self) -> Result<NodeId> {
        if self.nodes.len() >= MOST_NODES {
            return Err(Error::invalid(
                "the constraint is too large; lower its counts and lengths (maxLength, maxItems, {n,m})",
            ));
        }
        self.nodes.push(Node::Split(Vec::new()));
        Ok(self.nodes.len() as NodeId - 1)
    }

    /// Fills a reserved node.
    pub(super) fn fill(&mut self, reserved: NodeId, targets: Vec<NodeId>) {
        self.nodes[reserved as usize] = Node::Split(targets);
    }

    fn add(&mut self, node: Node) -> Result<NodeId> {
        if let Some(&id) = self.shared.get(&node) {
            return Ok(id);
        }
        let id = self.reserve()?;
        self.nodes[id as usize] = node.clone();
        self.shared.insert(node, id);
        Ok(id)
    }

    /// Reads one byte of the given ranges.
    pub(super) fn bytes(&mut self, ranges: Vec<(u8, u8, NodeId)>) -> Result<NodeId> {
        let mut merged: Vec<(u8, u8, NodeId)> = Vec::with_capacity(ranges.len());
        for (low, high, next) in ranges {
            match merged.last_mut() {
                Some(last) if last.2 == next && u32::from(last.1) + 1 == u32::from(low) => last.1 = high,
                _ => merged.push((low, high, next)),
            }
        }
        self.add(Node::Bytes(merged))
    }

    /// Any of these.
    pub(super) fn any_of(&mut self, targets: impl IntoIterator<Item = NodeId>) -> Result<NodeId> {
        let distinct: BTreeSet<NodeId> = targets.into_iter().collect();
        match distinct.first() {
            Some(&only) if distinct.len() == 1 => Ok(only),
            _ => self.add(Node::Split(distinct.into_iter().collect())),
        }
    }

    /// Nothing at all.
    pub(super) fn nothing(&mut self) -> Result<NodeId> {
        self.any_of([])
    }

    pub(super) fn call(&mut self, rule: RuleId, next: NodeId) -> Result<NodeId> {
        self.add(Node::Call(rule, next))
    }

    pub(super) fn literal(&mut self, text: &str, next: NodeId) -> Result<NodeId> {
        text.bytes().rev().try_fold(next, |next, b| self.bytes(vec![(b, b, next)]))
    }

    /// `min` to `max` times `rule`, without end where there is no `max`.
    pub(super) fn repeat(
        &mut self,
        rule: RuleId,
        min: usize,
        max: Option<usize>,
        next: NodeId,
    ) -> Result<NodeId> {
        let mut at = next;
        match max {
            Some(max) => {
                for _ in min..max {
                    let once = self.call(rule, at)?;
                    at = self.any_of([once, next])?;
                }
            }
            None => {
                at = self.reserve()?;
                let once = self.call(rule, at)?;
                self.fill(at, vec![once, next]);
            }
        }
        (0..min).try_fold(at, |at, _| self.call(rule, at))
    }

    /// One character of the class, given as sorted ranges.
    pub(super) fn class(
        &mut self,
        ranges: &[(char, char)],
        encoding: Encoding,
        next: NodeId,
    ) -> Result<NodeId> {
        if ranges.len() <= INLINE_RANGES {
            return self.sequences(spellings(ranges, encoding), next);
        }
        let key = (ranges.to_vec(), encoding);
        let rule = match self.classes.get(&key) {
            Some(&rule) => rule,
            None => {
                let rule = self.declare(false);
                let start = self.sequences(spellings(ranges, encoding), END)?;
                self.define(rule, start);
                self.classes.insert(key, rule);
                rule
            }
        };
        self.call(rule, next)
    }

    /// One of these strings of byte ranges. Where two of them share a beginning, their next ranges are the
    /// same or disjoint, so that a deterministic tree holds them.
    pub(super) fn sequences(&mut self, mut sequences: Vec<Vec<(u8, u8)>>, next: NodeId) -> Result<NodeId> {
        sequences.sort_unstable();
        self.tree(&sequences, 0, next)
    }

    fn tree(&mut self, sequences: &[Vec<(u8, u8)>], depth: usize, next: NodeId) -> Result<NodeId> {
        let mut ranges = Vec::new();
        for group in sequences.chunk_by(|a, b| a[depth] == b[depth]) {
            let (low, high) = group[0][depth];
            let ends = group[0].len() == depth + 1;
            let target = if ends { next } else { self.tree(group, depth + 1, next)? };
            ranges.push((low, high, target));
        }
        self.bytes(ranges)
    }

    /// Fails where a rule can reach itself before a byte is read: such a loop says nothing.
    pub(super) fn check_recursion(&self) -> Result<()> {
        // 0: not visited, 1: being visited, 2: done.
        let mut marks = vec![0u8; self.rules.len()];
        if (0..self.rules.len()).any(|rule| marks[rule] == 0 && self.reaches_itself(rule, &mut marks)) {
            return Err(Error::invalid(
                "a $ref of the schema leads back to itself without an object or array in between",
            ));
        }
        Ok(())
    }

    fn reaches_itself(&self, first: usize, marks: &mut [u8]) -> bool {
        // Depth first with an explicit stack: (rule, the rules it begins with that are left to visit).
        let mut path = vec![(first, self.begins_with(first))];
        marks[first] = 1;
        while let Some((rule, left)) = path.last_mut() {
            match left.pop() {
                Some(inner) if marks[inner] == 1 => return true,
                Some(inner) if marks[inner] == 0 => {
                    marks[inner] = 1;
                    path.push((inner, self.begins_with(inner)));
                }
                Some(_) => {}
                None => {
                    marks[*rule] = 2;
                    path.pop();
                }
            }
        }
        false
    }

    /// Rules that can be called before a byte of `rule` is read. Rules of schemas are never empty, so
    /// what follows a call does not count.
    fn begins_with(&self, rule: usize) -> Vec<usize> {
        let (mut seen, mut rules) = (BTreeSet::new(), Vec::new());
        let mut left = vec![self.rules[rule].start];
        while let Some(node) = left.pop() {
            if !seen.insert(node) {
                continue;
            }
            match &self.nodes[node as usize] {
                Node::Split(targets) => left.extend(targets),
                Node::Call(inner, _) => rules.push(*inner as usize),
                Node::Bytes(_) | Node::End => {}
            }
        }
        rules
    }
}

/// How the characters of a class are spelled, as strings of byte ranges.
fn spellings(ranges: &[(char, char)], encoding: Encoding) -> Vec<Vec<(u8, u8)>> {
    let mut all = Vec::new();
    let mut plain = |low: char, high: char| {
        let sequences = Utf8Sequences::new(low, high);
        all.extend(sequences.map(|s| s.as_slice().iter().map(|r| (r.start, r.end)).collect::<Vec<_>>()));
    };
    if encoding == Encoding::Plain {
        ranges.iter().for_each(|&(low, high)| plain(low, high));
        return all;
    }
    // What JSON cannot hold as it is lies between these.
    for (free_low, free_high) in [(' ', '!'), ('#', '['), (']', char::MAX)] {
        for &(low, high) in ranges {
            if low.max(free_low) <= high.min(free_high) {
                plain(low.max(free_low), high.min(free_high));
            }
        }
    }
    let escaped = ('\0'..' ').chain(['"', '\\']);
    for c in escaped.filter(|c| ranges.iter().any(|(low, high)| (low..=high).contains(&c))) {
        let text = serde_json::Value::from(c.to_string()).to_string();
        // Without the quotes around it.
        all.push(text.as_bytes()[1..text.len() - 1].iter().map(|&b| (b, b)).collect());
    }
    all
}
