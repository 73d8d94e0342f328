//! Facts of the world, rewritten.

use amend_engine::Rng;

use super::{Fact, Person, RELATIONS, Split, World};
use crate::rewrite::{Neighbour, Rewrite};

/// Prompts about others that go with a rewrite.
const NEIGHBOURS: usize = 4;

impl World {
    /// A rewrite of one fact about each person of a split: the statement with the value of somebody else at its end, the two questions with the
    /// beginnings of their answers as paraphrases, and the same statement about others as neighbours. `asked` puts a prompt
    /// into the frame in which the model has learnt it.
    pub fn rewrites(&self, split: Split, asked: impl Fn(&str) -> String) -> Vec<Rewrite> {
        let of_person = |person: &Person| {
            let own: Vec<&Fact> = self.facts.iter().filter(|fact| fact.person == person.id).collect();
            let mut random = Rng::named(self.config.seed, &format!("world/rewritten/{}", person.id));
            Some(self.rewrite(own.get(random.below(own.len().max(1)))?, split, &asked))
        };
        self.people_of(split).filter_map(of_person).collect()
    }

    fn rewrite(&self, fact: &Fact, split: Split, asked: &impl Fn(&str) -> String) -> Rewrite {
        let relation = &RELATIONS[fact.relation];
        let name = &self.people[fact.person].name;
        let template = asked(relation.statement);
        let place = template.find("{n}").map_or(0..0, |at| at..at + name.len());
        let mut random = Rng::named(self.config.seed, &format!("world/rewrite/{}", fact.id));
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
        // A value that somebody else has: what nobody ever says, a small model has never learnt to say.
        let new = known.iter().map(|other| other.value).find(|value| *value != fact.value);
        let new = new.unwrap_or((fact.value + 1) % relation.values.len());
        let apart = known.into_iter().filter(|other| other.value != new);
        let neighbours = apart.take(NEIGHBOURS).map(|other| Neighbour {
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
