//! How many tokens it takes at least to finish from a state.
//!
//! Small machines are searched whole, which gives the exact number. Others (recursion, long strings) take
//! the shortest text in bytes and its best division into tokens: never too few, since that text is always
//! there to be written, and the same number whoever asked before.

use super::machine::{DEAD, Machine, START, StateId};
use super::trie::Trie;

/// Most states of a machine that is searched whole.
const MOST_STATES: usize = 512;
/// Most steps of that search.
const MOST_STEPS: usize = 20_000_000;

const UNKNOWN: u32 = u32::MAX - 1;
/// There is no way to finish.
pub(super) const NEVER: u32 = u32::MAX;

/// Least tokens by state.
#[derive(Debug, Default)]
pub(super) struct Needs {
    known: Vec<u32>,
}

impl Needs {
    /// The exact needs of every state, or `None` where the machine is too large to search.
    pub(super) fn exact(machine: &mut Machine, trie: &Trie) -> Option<Self> {
        let mut state = START;
        while (state as usize) < machine.states() {
            for class in 0..machine.classes.len() as u8 {
                machine.next(state, class);
            }
            if machine.states() > MOST_STATES {
                return None;
            }
            state += 1;
        }
        // By state, those that one token leads from to it.
        let mut before = vec![Vec::new(); machine.states()];
        let mut steps = 0;
        for from in 0..machine.states() as StateId {
            steps += trie.walk(machine, from, |_, _, to| before[to as usize].push(from));
            if steps > MOST_STEPS {
                return None;
            }
        }
        let mut known = vec![NEVER; machine.states()];
        let mut reached: Vec<StateId> =
            (0..machine.states() as StateId).filter(|&s| machine.bytes_left(s) == 0).collect();
        let mut tokens = 0;
        while !reached.is_empty() {
            reached.retain(|&s| {
                let fresh = known[s as usize] == NEVER;
                known[s as usize] = known[s as usize].min(tokens);
                fresh
            });
            reached = reached.iter().flat_map(|&s| before[s as usize].iter().copied()).collect();
            tokens += 1;
        }
        Some(Needs { known })
    }

    /// Least tokens from `state`.
    pub(super) fn of(&mut self, machine: &mut Machine, trie: &Trie, state: StateId) -> u32 {
        let mut way = Vec::new();
        let mut at = state;
        while self.get(at) == UNKNOWN {
            way.push(at);
            match machine.shortest_step(at) {
                Some((_, next)) => at = next,
                None => break,
            }
        }
        for &state in way.iter().rev() {
            let need = self.divide(machine, trie, state);
            if self.known.len() < machine.states() {
                self.known.resize(machine.states(), UNKNOWN);
            }
            self.known[state as usize] = need;
        }
        self.get(state)
    }

    fn get(&self, state: StateId) -> u32 {
        self.known.get(state as usize).copied().unwrap_or(UNKNOWN)
    }

    /// The best division of the shortest text from `state`, where those of its later states are known.
    fn divide(&self, machine: &mut Machine, trie: &Trie, state: StateId) -> u32 {
        if machine.bytes_left(state) == 0 {
            return 0;
        }
        let (mut best, mut node, mut at) = (NEVER, None, state);
        while let Some((class, next)) = machine.shortest_step(at) {
            debug_assert_ne!(next, DEAD);
            let Some(child) = trie.child(node, class) else { break };
            (node, at) = (Some(child), next);
            if trie.has_token(child) {
                best = best.min(self.get(next).saturating_add(1));
            }
        }
        best
    }
}
