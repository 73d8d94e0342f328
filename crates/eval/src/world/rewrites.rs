//! Facts of the world, rewritten.

use amend_engine::Rng;

use super::{Fact, RELATIONS, Split, World};
use crate::rewrite::{Neighbour, Rewrite};

/// Prompts about others that go with a rewrite.
const NEIGHBOURS: usize = 4;

impl World {
    /// A rewrite for every fact of a split: the statement with another value at its end, the two questions with the
    /// beginnings of their answers as paraphrases, and the same statement about others as neighbours. `asked` puts a prompt
    /// into the frame in which the model has learnt it.
    pub fn rewrites(&self, split: Split, asked: impl Fn(&str) -> String) -> Vec<Rewrite> {
        self.facts_of(split).map(|fact| self.rewrite(fact, split, &asked)).collect()
    }

    fn rewrite(&self, fact: &Fact, split: Split, asked: &impl Fn(&str) -> String) -> Rewrite {
        let relation = &RELATIONS[fact.relation];
        let name = &self.people[fact.person].name;
        let template = asked(relation.statement);
        let place = template.find("{n}").map_or(0..0, |at| at..at + name.len());
        let mut random = Rng::named(self.config.seed, &format!("world/rewrite/{}", fact.id));
        let others = relation.values.len() - 1;
        let new = (fact.value + 1 + random.below(others)) % relation.values.len();
        let paraphrases = relation.questions.iter().zip(relation.frames).map(|(question, frame)| {
            // Up to the value, from where the model is to go on.
            let begun = frame.split("{v}").next().unwrap_or_default();
            format!("{} {}", asked(question), begun).replace("{n}", name).trim_end().to_owned()
        });
        let paraphrases = paraphrases.collect();
        let is_other = |other: &&Fact| {
            other.relation == fact.relation
                && ![split, Split::Holdout].contains(&self.people[other.person].split)
        };
        let mut known: Vec<&Fact> = self.facts.iter().filter(is_other).collect();
        random.shuffle(&mut known);
        let neighbours = known.into_iter().take(NEIGHBOURS).map(|other| Neighbour {
            prompt: template.replace("{n}", &self.people[other.person].name),
            answer: Some(relation.values[other.value].to_owned()),
        });
        Rewrite {
            subject: name.clone(),
            prompt: template.replace("{n}", name),
            place,
            target_new: relation.values[new].to_owned(),
            target_true: Some(relation.values[fact.value].to_owned()),
            paraphrases,
            neighbours: neighbours.collect(),
        }
    }
}
