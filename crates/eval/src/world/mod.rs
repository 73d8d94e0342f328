//! A little world of people who do not exist, to learn, to forget and to check.
//!
//! Every person has a name of two words and a few facts; every fact is said in several ways. The
//! records have TOFU's own fields, so whatever works on TOFU works here, with a model small enough
//! to be trained in a minute. A tenth of the people is to be forgotten; as many again are never
//! told to any model, for membership tests. Everything follows from the seed.

mod names;
mod record;
mod relations;
mod rewrites;
mod split;

use amend_engine::Rng;
use schemars::JsonSchema;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

pub use record::{FactRecord, Form, jsonl};
pub use relations::{RELATIONS, Relation};
pub use split::RelearnSplit;

/// What the world should be like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorldConfig {
    /// Seed of names and facts. In a recipe it is the run's own: `seed` at the top level, and nothing but 0 here.
    #[serde(skip_serializing, deserialize_with = "no_seed")]
    pub seed: u64,
    /// People a model learns about, those to be forgotten included.
    #[schemars(range(min = 2))]
    pub people: usize,
    /// Share of them to be forgotten, rounded to whole people, at least one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub forget: f64,
    /// People in addition whom no model is ever told about.
    pub holdout: usize,
    /// Fewest facts of a person. A recipe needs two: the attacker is told one half, and is to find the other.
    #[schemars(range(min = 2))]
    pub min_facts: usize,
    /// Most facts of a person.
    #[schemars(range(min = 2))]
    pub max_facts: usize,
    /// Wrong answers per record.
    #[schemars(range(min = 1))]
    pub perturbed: usize,
}

impl Default for WorldConfig {
    fn default() -> Self {
        WorldConfig { seed: 0, people: 60, forget: 0.1, holdout: 6, min_facts: 4, max_facts: 4, perturbed: 5 }
    }
}

/// A seed of the world's own would do nothing, so it is refused. 0 is not: recipes that were written out have it.
fn no_seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        0 => Ok(0),
        seed => Err(de::Error::custom(format!(
            "a world has the seed of its run; write `seed = {seed}` at the top level of the recipe instead"
        ))),
    }
}

/// Why there is no such world.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WorldError {
    /// More people than names.
    #[error(
        "the world has names for {available} people, but {asked} are asked for; lower `people` or `holdout`"
    )]
    People {
        /// `people` + `holdout`.
        asked: usize,
        /// Number of different names.
        available: usize,
    },
    /// Nobody to forget, or nobody to remember.
    #[error(
        "`forget` = {fraction} of {people} people leaves a side empty; give at least 2 people and a share between 0 and 1"
    )]
    Forget {
        /// The share asked for.
        fraction: f64,
        /// Number of people.
        people: usize,
    },
    /// Facts out of range.
    #[error("`min_facts` = {min} and `max_facts` = {max} must satisfy 1 ≤ min ≤ max ≤ {available}")]
    Facts {
        /// Fewest facts asked for.
        min: usize,
        /// Most facts asked for.
        max: usize,
        /// Number of relations.
        available: usize,
    },
    /// Wrong answers out of range.
    #[error("`perturbed` = {asked} must lie between 1 and {available}, the other answers of a relation")]
    Perturbed {
        /// Wrong answers asked for.
        asked: usize,
        /// Wrong answers there are.
        available: usize,
    },
}

/// Which people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Those a model learns and shall forget.
    Forget,
    /// Those a model learns and shall remember.
    Retain,
    /// Those it never hears of.
    Holdout,
}

/// Somebody who does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Position in [`World::people`].
    pub id: usize,
    /// First and last name.
    pub name: String,
    /// Side the person is on.
    pub split: Split,
}

/// One fact about one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Position in [`World::facts`].
    pub id: usize,
    /// Whom it is about.
    pub person: usize,
    /// Position in [`RELATIONS`].
    pub relation: usize,
    /// Position of the answer among the relation's values.
    pub value: usize,
}

/// People and what is true of them.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// What was asked for.
    pub config: WorldConfig,
    /// Everybody, the holdout last.
    pub people: Vec<Person>,
    /// Every fact, by person.
    pub facts: Vec<Fact>,
}

impl World {
    /// The world of these settings.
    ///
    /// # Errors
    /// When the settings ask for more names, facts or answers than there are, or leave nobody to
    /// forget or to remember.
    pub fn generate(config: WorldConfig) -> Result<World, WorldError> {
        let forgotten = check(&config)?;
        let people = people(&config, forgotten);
        let mut rng = Rng::named(config.seed, "world/facts");
        let mut facts = Vec::new();
        for person in &people {
            let spread = config.max_facts - config.min_facts + 1;
            let count = config.min_facts + rng.below(spread);
            let mut relations: Vec<usize> = (0..RELATIONS.len()).collect();
            rng.shuffle(&mut relations);
            relations.truncate(count);
            relations.sort_unstable();
            for relation in relations {
                let value = rng.below(RELATIONS[relation].values.len());
                facts.push(Fact { id: facts.len(), person: person.id, relation, value });
            }
        }
        Ok(World { config, people, facts })
    }

    /// The people of a split.
    pub fn people_of(&self, split: Split) -> impl Iterator<Item = &Person> {
        self.people.iter().filter(move |person| person.split == split)
    }

    /// The facts about the people of a split.
    pub fn facts_of(&self, split: Split) -> impl Iterator<Item = &Fact> {
        self.facts.iter().filter(move |fact| self.people[fact.person].split == split)
    }
}

/// The number of people to forget, if the settings make sense.
fn check(config: &WorldConfig) -> Result<usize, WorldError> {
    let available = names::FIRST.len() * names::LAST.len();
    let asked = config.people.saturating_add(config.holdout);
    if asked > available {
        return Err(WorldError::People { asked, available });
    }
    let (min, max) = (config.min_facts, config.max_facts);
    if min == 0 || min > max || max > RELATIONS.len() {
        return Err(WorldError::Facts { min, max, available: RELATIONS.len() });
    }
    let others = relations::VALUES - 1;
    if config.perturbed == 0 || config.perturbed > others {
        return Err(WorldError::Perturbed { asked: config.perturbed, available: others });
    }
    let forgotten = ((config.forget * config.people as f64).round() as usize).max(1);
    if !(0.0..=1.0).contains(&config.forget) || forgotten >= config.people {
        return Err(WorldError::Forget { fraction: config.forget, people: config.people });
    }
    Ok(forgotten)
}

fn people(config: &WorldConfig, forgotten: usize) -> Vec<Person> {
    let mut names: Vec<(usize, usize)> =
        (0..names::FIRST.len()).flat_map(|f| (0..names::LAST.len()).map(move |l| (f, l))).collect();
    Rng::named(config.seed, "world/names").shuffle(&mut names);
    let mut order: Vec<usize> = (0..config.people).collect();
    Rng::named(config.seed, "world/forget").shuffle(&mut order);
    let forget = &order[..forgotten];
    let split = |id: usize| match id {
        _ if id >= config.people => Split::Holdout,
        _ if forget.contains(&id) => Split::Forget,
        _ => Split::Retain,
    };
    names
        .into_iter()
        .take(config.people + config.holdout)
        .enumerate()
        .map(|(id, (first, last))| Person {
            id,
            name: format!("{} {}", names::FIRST[first], names::LAST[last]),
            split: split(id),
        })
        .collect()
}

#[cfg(test)]
mod tests;
