//! Constrained decoding: answers that match a JSON schema, a regular expression or one of some choices.
//!
//! A constraint is compiled once: a [`Grammar`] over bytes, whose deterministic machine is made as far as
//! generation gets. At every step those tokens are allowed whose bytes keep the machine alive and after
//! which the rest of the budget still suffices to finish. So an answer always matches, however few tokens
//! it may have and whatever the model prefers. Which tokens are allowed depends on the tokens before and on
//! the budget alone, never on other sequences.

mod cost;
mod grammar;
mod machine;
mod need;
mod regex;
mod schema;
mod trie;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use self::grammar::Grammar;
use self::grammar::{END, Encoding, MAIN};
use self::machine::{DEAD, Machine, START, StateId};
use self::need::{NEVER, Needs};
use self::regex::Expression;
use self::trie::Trie;
use crate::tokenizer::TokenBytes;
use crate::{Error, Result};

/// Token ids in kept steps beyond which all are forgotten and made anew when needed.
const KEPT_IDS: usize = 1 << 24;

impl Grammar {
    /// Texts that match the whole of a regular expression, in the syntax of Rust's `regex` crate.
    pub fn regex(pattern: &str) -> Result<Self> {
        let expression = Expression::whole(pattern)?;
        let mut grammar = Grammar::new();
        let start = expression.lower(&mut grammar, Encoding::Plain, (0, None), END)?;
        grammar.define(MAIN, start);
        Ok(grammar)
    }

    /// One of these texts.
    pub fn choices<S: AsRef<str>>(choices: &[S]) -> Result<Self> {
        if choices.is_empty() {
            return Err(Error::invalid("there is nothing to choose from; give at least one choice"));
        }
        let mut grammar = Grammar::new();
        let starts: Vec<_> =
            choices.iter().map(|c| grammar.literal(c.as_ref(), END)).collect::<Result<_>>()?;
        let start = grammar.any_of(starts)?;
        grammar.define(MAIN, start);
        Ok(grammar)
    }

    /// JSON values that are valid under a schema (draft 2020-12).
    ///
    /// There is at most one space, after a comma or colon. Members come in the order of `properties`; none
    /// are added where a schema names `properties` and not `additionalProperties`. A schema without `type`
    /// means the type its keywords are about. Objects and arrays nest at most 64 deep; integers and bounded
    /// numbers have at most 15 digits unless a bound has more. `oneOf` needs alternatives that are plainly
    /// disjoint. A keyword that is not understood is refused by name; one that only describes is not.
    pub fn json_schema(schema: &Value) -> Result<Self> {
        schema::grammar(schema)
    }

    /// Any JSON object, with the white space of [`Grammar::json_schema`].
    pub fn json_object() -> Result<Self> {
        schema::any_object()
    }
}

/// What an answer must look like, compiled for a tokenizer. Clones share everything.
#[derive(Clone)]
pub struct Constraint {
    shared: Arc<Shared>,
}

struct Shared {
    tokens: Arc<TokenBytes>,
    later: Trie,
    /// Only where the first token of a text is different.
    first: Option<Trie>,
    made: Mutex<Made>,
    start_need: u32,
    vocabulary: usize,
}

/// What is made while generating.
struct Made {
    machine: Machine,
    needs: Needs,
    steps: HashMap<Cursor, Arc<Step>>,
    kept_ids: usize,
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cursor {
    state: StateId,
    is_first: bool,
}

/// What can come next.
#[derive(Debug)]
pub(super) struct Step {
    /// Whether the answer may end here.
    pub(super) complete: bool,
    /// Tokens by how many more are needed after them, fewest first.
    groups: Vec<(u32, Vec<u32>)>,
}

impl Step {
    /// Tokens after which `left` more suffice to finish.
    pub(super) fn ids(&self, left: usize) -> impl Iterator<Item = u32> + Clone {
        let within = self.groups.iter().take_while(move |(need, _)| *need as usize <= left);
        within.flat_map(|(_, ids)| ids.iter().copied())
    }
}

impl Constraint {
    /// Compiles a grammar for a tokenizer. Fails where its tokens can spell no answer at all.
    pub fn new(grammar: &Grammar, tokens: &Arc<TokenBytes>) -> Result<Self> {
        let nothing = || {
            Error::invalid("the constraint allows no answer, or none that the tokenizer's tokens can spell")
        };
        let (machine, needs, later) = match Self::searched(grammar, tokens) {
            Some(made) => made,
            None => Self::estimated(grammar, tokens),
        };
        if !machine.has_answer() {
            return Err(nothing());
        }
        let first = tokens.first_differs().then(|| Trie::new(tokens.iter(true), &machine.classes));
        let made = Made { machine, needs, steps: HashMap::new(), kept_ids: 0 };
        let mut shared = Shared {
            tokens: tokens.clone(),
            later,
            first,
            made: Mutex::new(made),
            start_need: NEVER,
            vocabulary: tokens.iter(false).last().map_or(0, |(id, _)| id as usize + 1),
        };
        let start = shared.step(Cursor::START);
        let least = start.groups.first().map_or(NEVER, |(need, _)| need.saturating_add(1));
        shared.start_need = if start.complete { 0 } else { least };
        if shared.start_need == NEVER {
            return Err(nothing());
        }
        Ok(Constraint { shared: Arc::new(shared) })
    }

    /// A machine whose needs are exact, where it is small enough.
    fn searched(grammar: &Grammar, tokens: &TokenBytes) -> Option<(Machine, Needs, Trie)> {
        let mut machine = Machine::new(grammar.clone(), &[true; 256]);
        let later = Trie::new(tokens.iter(false), &machine.classes);
        let needs = Needs::exact(&mut machine, &later)?;
        Some((machine, needs, later))
    }

    /// A machine that can always finish with tokens of one byte.
    fn estimated(grammar: &Grammar, tokens: &TokenBytes) -> (Machine, Needs, Trie) {
        let mut available = [false; 256];
        for (_, bytes) in tokens.iter(false) {
            if let [byte] = bytes {
                available[usize::from(*byte)] = true;
            }
        }
        let machine = Machine::new(grammar.clone(), &available);
        let later = Trie::new(tokens.iter(false), &machine.classes);
        (machine, Needs::default(), later)
    }

    /// Tokens that suffice for an answer. For large grammars this is the shortest answer in bytes, well
    /// divided; there may be a longer one of fewer tokens, which is then not considered.
    pub fn least_tokens(&self) -> usize {
        self.shared.start_need as usize
    }

    /// Whether a text matches.
    pub fn matches(&self, text: &str) -> bool {
        let made = &mut *self.shared.made();
        let mut state = START;
        for byte in text.bytes() {
            state = made.machine.next(state, made.machine.classes.of(byte));
            if state == DEAD {
                return false;
            }
        }
        made.machine.bytes_left(state) == 0
    }

    /// Whether a token can be part of an answer.
    pub(super) fn is_text(&self, id: u32) -> bool {
        self.shared.tokens.get(id, false).is_some()
    }

    /// One more than the largest id of a token that can be part of an answer.
    pub(super) fn vocabulary(&self) -> usize {
        self.shared.vocabulary
    }

    /// What can come at the cursor.
    pub(super) fn step(&self, cursor: Cursor) -> Arc<Step> {
        self.shared.step(cursor)
    }

    /// The cursor after a token that was allowed.
    pub(super) fn advance(&self, cursor: Cursor, id: u32) -> Cursor {
        let made = &mut *self.shared.made();
        let mut state = cursor.state;
        for &byte in self.shared.tokens.get(id, cursor.is_first).unwrap_or_default() {
            state = made.machine.next(state, made.machine.classes.of(byte));
        }
        debug_assert_ne!(state, DEAD, "token {id} was not allowed");
        Cursor { state, is_first: false }
    }
}

impl Cursor {
    /// Before the first token.
    pub(super) const START: Cursor = Cursor { state: START, is_first: true };
}

impl Shared {
    fn made(&self) -> MutexGuard<'_, Made> {
        // What is made is made in one piece, so a panic elsewhere leaves nothing half done.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, cursor: Cursor) -> Arc<Step> {
        let made = &mut *self.made();
        if let Some(step) = made.steps.get(&cursor) {
            return step.clone();
        }
        let trie = self.first.as_ref().filter(|_| cursor.is_first).unwrap_or(&self.later);
        let mut by_state: HashMap<StateId, Vec<u32>> = HashMap::new();
        trie.walk(&mut made.machine, cursor.state, |_, ids, state| {
            by_state.entry(state).or_default().extend_from_slice(ids);
        });
        if cursor.is_first && self.first.is_some() {
            // A space that is taken away again: the answer has yet to begin.
            by_state.entry(cursor.state).or_default().extend_from_slice(trie.empty());
        }
        let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
        for (state, ids) in by_state {
            let need = made.needs.of(&mut made.machine, &self.later, state);
            if need != NEVER && !ids.is_empty() {
                groups.entry(need).or_default().extend(ids);
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        // One order whatever was met before: sums over candidates must not depend on it.
        groups.sort_unstable_by_key(|(need, _)| *need);
        groups.iter_mut().for_each(|(_, ids)| ids.sort_unstable());
        let complete = made.machine.bytes_left(cursor.state) == 0;
        let step = Arc::new(Step { complete, groups });
        made.kept_ids += step.groups.iter().map(|(_, ids)| ids.len()).sum::<usize>() + 1;
        if made.kept_ids > KEPT_IDS {
            made.steps.clear();
            made.kept_ids = 0;
        }
        made.steps.insert(cursor, step.clone());
        step
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Constraint(at least {} tokens)", self.least_tokens())
    }
}
