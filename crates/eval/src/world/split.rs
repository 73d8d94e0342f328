//! What a relearning attack may see.

use amend_engine::Rng;
use serde::{Deserialize, Serialize};

use super::{Split, World};

/// The forgotten facts in two parts. All phrasings of a fact are on one side, because a paraphrase
/// of what is tested would be the answer, not an attack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelearnSplit {
    /// Ids of the facts the attacker fine-tunes on (T).
    pub attack: Vec<usize>,
    /// Ids of the facts that must stay forgotten (V).
    pub test: Vec<usize>,
}

impl World {
    /// Half of the facts of each person to be forgotten, the smaller half for the attacker: who is
    /// told some facts of a person, does the model remember the others?
    pub fn relearn_split(&self, seed: u64) -> RelearnSplit {
        let mut rng = Rng::named(seed, "world/relearn");
        let mut split = RelearnSplit { attack: Vec::new(), test: Vec::new() };
        for person in self.people_of(Split::Forget) {
            let mut facts: Vec<usize> =
                self.facts.iter().filter(|fact| fact.person == person.id).map(|fact| fact.id).collect();
            rng.shuffle(&mut facts);
            let (attack, test) = facts.split_at(facts.len() / 2);
            split.attack.extend_from_slice(attack);
            split.test.extend_from_slice(test);
        }
        split.attack.sort_unstable();
        split.test.sort_unstable();
        split
    }
}
