//! The deterministic machine of a grammar, made as far as it is needed.
//!
//! A state is a set of places in the grammar, each with the stack of rules that called it. Stacks make it a
//! pushdown automaton, so recursion costs nothing until it happens. States and their transitions are kept
//! once they have been met.

use std::collections::{HashMap, HashSet};

use super::cost::{Cost, costs};
use super::grammar::{END, Grammar, MAIN, Node, NodeId};

/// Objects and arrays nest at most this deep; readers of JSON have limits too, often 128.
pub(super) const MOST_NESTED: u32 = 64;

pub(super) type StateId = u32;

/// The state from which nothing can be written.
pub(super) const DEAD: StateId = u32::MAX;
const UNKNOWN: StateId = u32::MAX - 1;

type FrameId = u32;

/// Where a rule goes on when the one it called has ended.
#[derive(Debug)]
struct Frame {
    node: NodeId,
    below: FrameId,
    /// Objects and arrays that are open inside the called rule.
    depth: u32,
    /// Bytes it takes to finish everything on the stack.
    bytes: u32,
}

/// A place in the grammar with its stack.
type Thread = (NodeId, FrameId);

#[derive(Debug)]
struct State {
    /// Nodes that read a byte; the end of the main rule where the answer may end here.
    threads: Vec<Thread>,
    /// Bytes it takes to finish.
    bytes: u32,
    /// The next state by class of byte.
    row: Vec<StateId>,
    /// The first step of the shortest way, once it was asked for.
    shortest: Option<(u8, StateId)>,
}

/// Bytes that no grammar node tells apart.
#[derive(Debug)]
pub(super) struct Classes {
    of: Vec<u8>,
    /// One byte of every class.
    bytes: Vec<u8>,
    /// Whether a token of one byte spells the class.
    available: Vec<bool>,
}

impl Classes {
    fn new(grammar: &Grammar, available: &[bool; 256]) -> Self {
        let mut begins = [false; 257];
        for node in &grammar.nodes {
            if let Node::Bytes(ranges) = node {
                for &(low, high, _) in ranges {
                    begins[usize::from(low)] = true;
                    begins[usize::from(high) + 1] = true;
                }
            }
        }
        let mut classes = Classes { of: Vec::with_capacity(256), bytes: Vec::new(), available: Vec::new() };
        for b in 0..=255u8 {
            let i = usize::from(b);
            if i == 0 || begins[i] || available[i] != available[i - 1] {
                classes.bytes.push(b);
                classes.available.push(available[i]);
            }
            classes.of.push((classes.bytes.len() - 1) as u8);
        }
        classes
    }

    /// The class of a byte.
    pub(super) fn of(&self, byte: u8) -> u8 {
        self.of[usize::from(byte)]
    }

    /// Number of classes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    grammar: Grammar,
    costs: Vec<Cost>,
    pub(super) classes: Classes,
    frames: Vec<Frame>,
    frame_ids: HashMap<(NodeId, FrameId, u32), FrameId>,
    states: Vec<State>,
    state_ids: HashMap<Vec<Thread>, StateId>,
}

/// The state before the first byte; it is dead where the grammar has no answer.
pub(super) const START: StateId = 0;

impl Machine {
    /// A machine that finishes with `available` bytes alone.
    pub(super) fn new(grammar: Grammar, available: &[bool; 256]) -> Self {
        let costs = costs(&grammar, available);
        let classes = Classes::new(&grammar, available);
        let bottom = Frame { node: END, below: 0, depth: 0, bytes: 0 };
        let start = grammar.rules[MAIN as usize].start;
        let mut machine = Machine {
            grammar,
            costs,
            classes,
            frames: vec![bottom],
            frame_ids: HashMap::new(),
            states: Vec::new(),
            state_ids: HashMap::new(),
        };
        machine.state(vec![(start, 0)]);
        machine
    }

    /// Number of states met so far.
    pub(super) fn states(&self) -> usize {
        self.states.len()
    }

    /// Whether anything can be written at all.
    pub(super) fn has_answer(&self) -> bool {
        self.states.first().is_some_and(|start| !start.threads.is_empty())
    }

    /// Bytes it takes to finish; 0 where the answer may end.
    pub(super) fn bytes_left(&self, state: StateId) -> u32 {
        self.states[state as usize].bytes
    }

    /// The state after a byte of `class`.
    pub(super) fn next(&mut self, state: StateId, class: u8) -> StateId {
        let known = self.states[state as usize].row[usize::from(class)];
        if known != UNKNOWN {
            return known;
        }
        let byte = self.classes.bytes[usize::from(class)];
        let mut reached = Vec::new();
        for &(node, frame) in &self.states[state as usize].threads {
            if let Node::Bytes(ranges) = &self.grammar.nodes[node as usize] {
                let at = ranges.partition_point(|&(_, high, _)| high < byte);
                if let Some(&(_, _, next)) = ranges.get(at).filter(|&&(low, _, _)| low <= byte) {
                    reached.push((next, frame));
                }
            }
        }
        let next = self.state(reached);
        self.states[state as usize].row[usize::from(class)] = next;
        next
    }

    /// The first step of the shortest way to an end, the smallest class among equals.
    ///
    /// What follows the first step is in turn the shortest way from there, so the ways of all states agree.
    pub(super) fn shortest_step(&mut self, state: StateId) -> Option<(u8, StateId)> {
        if let Some(known) = self.states[state as usize].shortest {
            return Some(known);
        }
        let wanted = self.bytes_left(state).checked_sub(1)?;
        for class in 0..self.classes.len() as u8 {
            // No byte but these is certain to be a token.
            if self.classes.available[usize::from(class)] {
                let next = self.next(state, class);
                if next != DEAD && self.bytes_left(next) == wanted {
                    self.states[state as usize].shortest = Some((class, next));
                    return Some((class, next));
                }
            }
        }
        None
    }

    /// The state of these threads, followed to where they read a byte.
    fn state(&mut self, reached: Vec<Thread>) -> StateId {
        let (mut threads, mut seen, mut left) = (Vec::new(), HashSet::new(), reached);
        while let Some((node, frame)) = left.pop() {
            if !self.can_finish(node, frame) || !seen.insert((node, frame)) {
                continue;
            }
            match &self.grammar.nodes[node as usize] {
                Node::Bytes(_) => threads.push((node, frame)),
                Node::Split(targets) => left.extend(targets.iter().map(|&t| (t, frame))),
                &Node::Call(rule, next) => {
                    let rule = self.grammar.rules[rule as usize];
                    // A call at the very end needs no way back.
                    let back = next != END || rule.nests;
                    let inner = if back { self.push(next, frame, u32::from(rule.nests)) } else { frame };
                    left.push((rule.start, inner));
                }
                Node::End if frame == 0 => threads.push((node, frame)),
                Node::End => {
                    let Frame { node, below, .. } = self.frames[frame as usize];
                    left.push((node, below));
                }
            }
        }
        if threads.is_empty() && !self.states.is_empty() {
            return DEAD;
        }
        threads.sort_unstable();
        if let Some(&id) = self.state_ids.get(&threads) {
            return id;
        }
        let total = |&(node, frame): &Thread| {
            self.costs[node as usize].bytes.saturating_add(self.frames[frame as usize].bytes)
        };
        let bytes = threads.iter().map(total).min().unwrap_or(u32::MAX);
        let id = self.states.len() as StateId;
        self.state_ids.insert(threads.clone(), id);
        self.states.push(State { threads, bytes, row: vec![UNKNOWN; self.classes.len()], shortest: None });
        id
    }

    /// Whether a thread reaches the end without nesting too deep. The cheapest way always stays within
    /// what is allowed here, so no state is a trap.
    fn can_finish(&self, node: NodeId, frame: FrameId) -> bool {
        let cost = self.costs[node as usize];
        !cost.is_infinite() && self.frames[frame as usize].depth + cost.height <= MOST_NESTED
    }

    fn push(&mut self, node: NodeId, below: FrameId, nests: u32) -> FrameId {
        let under = &self.frames[below as usize];
        let bytes = self.costs[node as usize].bytes.saturating_add(under.bytes);
        let depth = under.depth + nests;
        *self.frame_ids.entry((node, below, nests)).or_insert_with(|| {
            self.frames.push(Frame { node, below, depth, bytes });
            self.frames.len() as FrameId - 1
        })
    }
}
