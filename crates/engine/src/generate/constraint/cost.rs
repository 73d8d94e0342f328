//! What it takes at least to finish from every node of a grammar.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::grammar::{Grammar, Node, NodeId};

/// The cheapest way to the end of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    /// Bytes it takes.
    pub(super) bytes: u32,
    /// How deep objects and arrays nest on it.
    pub(super) height: u32,
}

impl Cost {
    /// There is no way.
    pub(super) const INFINITE: Cost = Cost { bytes: u32::MAX, height: u32::MAX };

    pub(super) fn is_infinite(self) -> bool {
        self.bytes == u32::MAX
    }
}

/// The cost of every node, where only `available` bytes can be written.
///
/// Knuth's generalisation of Dijkstra's algorithm (1977): costs only grow along a derivation, so the
/// cheapest open node is final.
pub(super) fn costs(grammar: &Grammar, available: &[bool; 256]) -> Vec<Cost> {
    let users = users(grammar);
    let mut costs = vec![Cost::INFINITE; grammar.nodes.len()];
    let mut open = BinaryHeap::new();
    for (id, node) in grammar.nodes.iter().enumerate() {
        if *node == Node::End {
            open.push(Reverse((Cost { bytes: 0, height: 0 }, id as NodeId)));
        }
    }
    while let Some(Reverse((cost, id))) = open.pop() {
        if !costs[id as usize].is_infinite() {
            continue;
        }
        costs[id as usize] = cost;
        for &user in &users[id as usize] {
            if !costs[user as usize].is_infinite() {
                continue;
            }
            let reached = match &grammar.nodes[user as usize] {
                Node::Bytes(ranges) => {
                    let leads = |&(low, high, next): &(u8, u8, NodeId)| {
                        next == id && (low..=high).any(|b| available[usize::from(b)])
                    };
                    ranges.iter().any(leads).then_some(Cost { bytes: cost.bytes + 1, ..cost })
                }
                Node::Split(_) => Some(cost),
                Node::Call(rule, next) => {
                    let rule = grammar.rules[*rule as usize];
                    let (inner, outer) = (costs[rule.start as usize], costs[*next as usize]);
                    (!inner.is_infinite() && !outer.is_infinite()).then(|| Cost {
                        bytes: inner.bytes.saturating_add(outer.bytes).min(u32::MAX - 1),
                        height: (inner.height + u32::from(rule.nests)).max(outer.height),
                    })
                }
                Node::End => None,
            };
            open.extend(reached.map(|reached| Reverse((reached, user))));
        }
    }
    costs
}

/// For every node, those whose cost depends on it.
fn users(grammar: &Grammar) -> Vec<Vec<NodeId>> {
    let mut users = vec![Vec::new(); grammar.nodes.len()];
    for (id, node) in grammar.nodes.iter().enumerate() {
        let id = id as NodeId;
        match node {
            Node::Bytes(ranges) => ranges.iter().for_each(|r| users[r.2 as usize].push(id)),
            Node::Split(targets) => targets.iter().for_each(|&t| users[t as usize].push(id)),
            Node::Call(rule, next) => {
                users[grammar.rules[*rule as usize].start as usize].push(id);
                users[*next as usize].push(id);
            }
            Node::End => {}
        }
    }
    users
}
