//! Facts as records in TOFU's format.

use amend_engine::Rng;
use serde::{Deserialize, Serialize};

use super::{Fact, RELATIONS, Relation, Split, World};

/// What a record looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `question` asks, `answer` is a sentence.
    Question,
    /// `question` is the beginning of a statement, `answer` its end, a space between them.
    Statement,
}

/// One fact, said in one way. The first five fields are TOFU's; the wrong answers differ from
/// `paraphrased_answer` in the value only, as TOFU's do, so that a truth ratio compares values and
/// not sentences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactRecord {
    /// The prompt.
    pub question: String,
    /// The right answer.
    pub answer: String,
    /// The right answer in another frame.
    pub paraphrased_answer: String,
    /// Wrong answers in the frame of `paraphrased_answer`, all different.
    pub perturbed_answer: Vec<String>,
    /// The prompt in other words.
    pub paraphrased_question: String,
    /// Position in [`World::people`].
    pub person: usize,
    /// The person's name.
    pub name: String,
    /// Name of the relation.
    pub relation: String,
    /// Position in [`World::facts`]; the records of one fact share it.
    pub fact: usize,
    /// The bare value, which an answer must contain to be right.
    pub value: String,
    /// Question or statement.
    pub form: Form,
}

/// Prompt, prompt in other words, frame of the answer, frame of its paraphrase.
struct Template {
    form: Form,
    prompts: [&'static str; 2],
    frames: [&'static str; 2],
}

impl Relation {
    /// Two questions and a statement.
    fn templates(&self) -> [Template; 3] {
        let [ask, ask_again] = self.questions;
        let [say, say_again] = self.frames;
        let question = |prompts, frames| Template { form: Form::Question, prompts, frames };
        let statement =
            |prompts| Template { form: Form::Statement, prompts, frames: ["{v}.", self.statement_end] };
        [
            question([ask, self.held_out_question], [say, say_again]),
            question([ask_again, self.held_out_question], [say_again, say]),
            statement([self.statement, self.held_out_statement]),
        ]
    }
}

impl World {
    /// The records of every fact of a split, fact by fact.
    pub fn records(&self, split: Split) -> Vec<FactRecord> {
        self.facts_of(split).flat_map(|fact| self.fact_records(fact)).collect()
    }

    /// The records of the facts with these ids.
    pub fn records_of_facts(&self, facts: &[usize]) -> Vec<FactRecord> {
        let known = facts.iter().filter_map(|&id| self.facts.get(id));
        known.flat_map(|fact| self.fact_records(fact)).collect()
    }

    fn fact_records(&self, fact: &Fact) -> Vec<FactRecord> {
        let relation = &RELATIONS[fact.relation];
        let wrong = self.wrong_values(fact);
        relation
            .templates()
            .into_iter()
            .map(|Template { form, prompts, frames }| {
                let name = &self.people[fact.person].name;
                let fill = |template: &str, value: usize| {
                    template.replace("{n}", name).replace("{v}", relation.values[value])
                };
                FactRecord {
                    question: fill(prompts[0], fact.value),
                    answer: fill(frames[0], fact.value),
                    paraphrased_answer: fill(frames[1], fact.value),
                    perturbed_answer: wrong.iter().map(|&value| fill(frames[1], value)).collect(),
                    paraphrased_question: fill(prompts[1], fact.value),
                    person: fact.person,
                    name: name.clone(),
                    relation: relation.name.to_owned(),
                    fact: fact.id,
                    value: relation.values[fact.value].to_owned(),
                    form,
                }
            })
            .collect()
    }

    /// The same wrong values for every phrasing of a fact.
    fn wrong_values(&self, fact: &Fact) -> Vec<usize> {
        let mut values: Vec<usize> =
            (0..RELATIONS[fact.relation].values.len()).filter(|&value| value != fact.value).collect();
        Rng::named(self.config.seed, &format!("world/wrong/{}", fact.id)).shuffle(&mut values);
        values.truncate(self.config.perturbed);
        values
    }
}

/// Records as JSON lines.
///
/// # Errors
/// None in practice: records hold text and numbers only.
pub fn jsonl(records: &[FactRecord]) -> Result<String, serde_json::Error> {
    let mut lines = String::new();
    for record in records {
        lines.push_str(&serde_json::to_string(record)?);
        lines.push('\n');
    }
    Ok(lines)
}
