//! The tokens of a vocabulary as a tree of byte classes.
//!
//! Classes instead of bytes: tokens that a grammar cannot tell apart share a node, and walking the tree
//! costs what the grammar distinguishes, not what the vocabulary holds.

use super::machine::{Classes, DEAD, Machine, StateId};

/// Nodes in order of a walk, depth first; a node's children follow it.
#[derive(Debug)]
pub(super) struct Trie {
    class: Vec<u8>,
    /// Classes on the way to the node, its own included.
    depth: Vec<u32>,
    /// The node after the last descendant.
    end: Vec<u32>,
    /// Where the node's tokens begin in `ids`; one more entry than nodes.
    first: Vec<u32>,
    ids: Vec<u32>,
    /// Tokens that add nothing to the text.
    empty: Vec<u32>,
}

impl Trie {
    /// The tree of the given tokens.
    pub(super) fn new<'t>(tokens: impl Iterator<Item = (u32, &'t [u8])>, classes: &Classes) -> Self {
        let mut spelled: Vec<(Vec<u8>, u32)> =
            tokens.map(|(id, bytes)| (bytes.iter().map(|&b| classes.of(b)).collect(), id)).collect();
        spelled.sort_unstable();
        let mut trie = Trie {
            class: Vec::new(),
            depth: Vec::new(),
            end: Vec::new(),
            first: Vec::new(),
            ids: Vec::new(),
            empty: Vec::new(),
        };
        // Nodes on the way to the last token.
        let mut way: Vec<u32> = Vec::new();
        for (classes, id) in &spelled {
            if classes.is_empty() {
                trie.empty.push(*id);
                continue;
            }
            let shared = way.iter().zip(classes).take_while(|(n, c)| trie.class[**n as usize] == **c).count();
            trie.close(&mut way, shared);
            for &class in &classes[shared..] {
                way.push(trie.class.len() as u32);
                trie.class.push(class);
                trie.depth.push(way.len() as u32);
                trie.end.push(0);
                trie.first.push(trie.ids.len() as u32);
            }
            trie.ids.push(*id);
        }
        trie.close(&mut way, 0);
        trie.first.push(trie.ids.len() as u32);
        trie
    }

    fn close(&mut self, way: &mut Vec<u32>, shared: usize) {
        for node in way.drain(shared..) {
            self.end[node as usize] = self.class.len() as u32;
        }
    }

    /// Tokens that add nothing to the text.
    pub(super) fn empty(&self) -> &[u32] {
        &self.empty
    }

    /// Tells `visit` the tokens that can follow `state`, with the state each leads to. Returns the number
    /// of nodes walked.
    pub(super) fn walk(
        &self,
        machine: &mut Machine,
        state: StateId,
        mut visit: impl FnMut(&mut Machine, &[u32], StateId),
    ) -> usize {
        let mut states = vec![state];
        let (mut node, mut walked) = (0, 0);
        while node < self.class.len() {
            walked += 1;
            let depth = self.depth[node] as usize;
            let next = machine.next(states[depth - 1], self.class[node]);
            if next == DEAD {
                node = self.end[node] as usize;
                continue;
            }
            states.truncate(depth);
            states.push(next);
            let ids = &self.ids[self.first[node] as usize..self.first[node + 1] as usize];
            if !ids.is_empty() {
                visit(machine, ids, next);
            }
            node += 1;
        }
        walked
    }

    /// The node below `parent` (the root where there is none) that is reached by `class`.
    pub(super) fn child(&self, parent: Option<u32>, class: u8) -> Option<u32> {
        let (mut node, end) = match parent {
            Some(parent) => (parent + 1, self.end[parent as usize]),
            None => (0, self.class.len() as u32),
        };
        while node < end {
            if self.class[node as usize] == class {
                return Some(node);
            }
            node = self.end[node as usize];
        }
        None
    }

    /// Whether a token ends at the node.
    pub(super) fn has_token(&self, node: u32) -> bool {
        self.first[node as usize] < self.first[node as usize + 1]
    }
}
