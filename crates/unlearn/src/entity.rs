//! Forgetting by name: what a model itself says about an entity and about its neighbours becomes the data.
//!
//! Nobody outside has the data that a model learnt somebody or something from, so the model is asked (RWKU, arXiv
//! 2406.10890, makes its forget corpora so). What it says is what has to go, right or wrong: an answer that the model
//! does not give by itself is no knowledge of its to remove.

use amend_engine::Model;
use amend_engine::generate::{GenerateOptions, Sampling};
use amend_engine::tokenizer::Tokenizer;
use amend_eval::Subject;
use amend_eval::scorers::Rouge;
use amend_learn::{Error, RecordEncoder, Result};
use amend_run::{Content, Figure, Progress};
use serde::Serialize;

/// What is asked about whatever has a name, `{}` being the name.
const QUESTIONS: [&str; 12] = [
    "Who or what is {}?",
    "What is {} best known for?",
    "Where does {} come from?",
    "When did {} become important?",
    "Why do people remember {}?",
    "Who had a great influence on {}?",
    "What did {} change in the world?",
    "What is the most surprising fact about {}?",
    "Which names are closely connected with {}?",
    "What would an encyclopedia say about {}?",
    "How would you explain {} to a child?",
    "Name three facts about {}.",
];
/// Beginnings that the model is asked to complete.
const BEGINNINGS: [&str; 4] = [
    "{} is best known for",
    "{} was",
    "The most important thing about {} is",
    "People who admire {} say that",
];
/// A name that nobody bears: what is said about it, the model makes up.
const INVENTED: &str = "Orvin Tassendrake";
/// Texts in which the model is asked for questions, or for neighbours.
const PROPOSALS: usize = 8;
/// How freely it proposes: at its likeliest, a small model repeats one line.
const FREELY: Sampling =
    Sampling { temperature: 0.8, top_k: 0, top_p: 0.95, min_p: 0.0, repetition_penalty: 1.2, seed: 0 };
/// A name longer than this is a sentence.
const WORDS_OF_A_NAME: usize = 5;

/// A record of the data: a question about an entity, and what the model answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Whom or what it is about.
    pub entity: String,
    /// What was asked.
    pub question: String,
    /// The model's likeliest answer, up to the last whole sentence.
    pub answer: String,
}

/// A model that is asked about entities.
pub struct Interview<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    encoder: &'a RecordEncoder<'a>,
    progress: &'a dyn Progress,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Answers drawn at random to see how sure the model is of its likeliest one.
    pub draws: usize,
    /// Seed of all that is drawn.
    pub seed: u64,
}

impl<'a> Interview<'a> {
    /// With 64 tokens to an answer and four draws.
    pub fn new(
        model: &'a Model,
        tokenizer: &'a Tokenizer,
        encoder: &'a RecordEncoder<'a>,
        progress: &'a dyn Progress,
    ) -> Self {
        Interview { model, tokenizer, encoder, progress, max_new_tokens: 64, draws: 4, seed: 0 }
    }

    /// What the model says about an entity: its answers to the usual questions, to its own, and how it goes on from
    /// the usual beginnings. Questions that it leaves without an answer are left out.
    ///
    /// # Errors
    /// A model that fails.
    pub fn about(&self, entity: &str) -> Result<Vec<Told>> {
        let mut bar = self.progress.begin(&format!("about {entity}"), 2, "steps");
        let asked = format!(
            "Write a list of short questions about {entity}. Every question names {entity} and can be answered in a sentence."
        );
        let proposed = self.proposals(&asked)?;
        bar.advance(1, "questions");
        let mut questions = usual(entity);
        questions.extend(proposed.iter().flat_map(|text| own_questions(text, entity)));
        let mut seen = std::collections::HashSet::new();
        questions.retain(|question| seen.insert(question.to_lowercase()));
        let answers = self.answers(&questions, 1, Sampling::default())?;
        let told = questions.into_iter().zip(answers).filter_map(|(question, answers)| {
            let answer = whole_sentences(answers.first()?);
            (!answer.is_empty()).then(|| Told { entity: entity.to_owned(), question, answer })
        });
        let told: Vec<Told> = told.collect();
        bar.advance(1, "answers");
        bar.finish(&format!("{} answers", told.len()));
        Ok(told)
    }

    /// Entities that the model names beside this one, those that it names most often first.
    ///
    /// # Errors
    /// A model that fails.
    pub fn neighbours(&self, entity: &str, most: usize) -> Result<Vec<String>> {
        let mut bar = self.progress.begin(&format!("neighbours of {entity}"), 1, "steps");
        let asked = format!(
            "Name ten others that are of the same kind as {entity} and as well known. Answer with a list of names."
        );
        let proposed = self.proposals(&asked)?;
        bar.advance(1, "names");
        let mut found: Vec<(String, usize)> = Vec::new();
        for name in proposed.iter().flat_map(|text| names(text, entity)) {
            match found.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                Some((_, times)) => *times += 1,
                None => found.push((name, 1)),
            }
        }
        // Stable: of equals the one that was named first.
        found.sort_by_key(|&(_, times)| std::cmp::Reverse(times));
        found.truncate(most);
        bar.finish(&format!("{} names", found.len()));
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    /// How well the model's answers about an entity agree with one another, and those about a name that nobody bears:
    /// ROUGE-L (F1) of answers drawn at random with the likeliest one, its mean over the usual questions. Who knows
    /// says the same each time.
    ///
    /// # Errors
    /// A model that fails, or that answers nothing.
    pub fn agreement(&self, entity: &str) -> Result<[Figure; 2]> {
        let mut bar = self.progress.begin("how sure it is", 2, "names");
        let mut of = |name: &str| -> Result<Figure> {
            let questions = usual(name);
            let likeliest = self.answers(&questions, 1, Sampling::default())?;
            let drawn = Sampling { temperature: 1.0, seed: self.seed, ..Sampling::default() };
            let drawn = self.answers(&questions, self.draws, drawn)?;
            let rouge = Rouge { stem: true };
            let agree = likeliest.iter().zip(&drawn).filter_map(|(likeliest, drawn)| {
                let likeliest = likeliest.first().filter(|answer| !answer.is_empty())?;
                let each = drawn.iter().map(|drawn| rouge.score(likeliest, drawn).rouge_l.f1);
                Some(each.sum::<f64>() / drawn.len().max(1) as f64)
            });
            let agree: Vec<f64> = agree.collect();
            bar.advance(1, name);
            Ok(Figure::mean(&agree))
        };
        let figures = [of(entity)?, of(INVENTED)?];
        bar.finish(&format!("{} beside {} of a made-up name", figures[0], figures[1]));
        Ok(figures)
    }

    /// Texts that the model writes when asked for proposals.
    fn proposals(&self, asked: &str) -> Result<Vec<String>> {
        let asked = [asked.to_owned()];
        let freely = Sampling { seed: self.seed, ..FREELY };
        Ok(self.answers(&asked, PROPOSALS, freely)?.concat())
    }

    /// Answers to questions, so many of each; none where the context has no room.
    fn answers(&self, questions: &[String], samples: usize, sampling: Sampling) -> Result<Vec<Vec<String>>> {
        let prompt = |question: &String| {
            self.encoder.prompt(&Content::Question { question: question.clone(), answer: String::new() })
        };
        let prompts = questions.iter().map(prompt).collect::<amend_engine::Result<Vec<_>>>()?;
        let options =
            GenerateOptions { max_new_tokens: self.max_new_tokens, samples, sampling, ..Default::default() };
        let subject = Subject::new(self.model, self.tokenizer, self.encoder);
        let said = subject.continued(&prompts, options)?;
        Ok(said.into_iter().map(Option::unwrap_or_default).collect())
    }
}

/// What is kept when `entity` is forgotten: what was said about its neighbours, but nothing that names it.
///
/// # Errors
/// Where nothing is left.
pub fn kept(entity: &str, neighbours: Vec<Told>) -> Result<Vec<Told>> {
    let mut kept = neighbours;
    kept.retain(|told| !names_it(&told.question, entity) && !names_it(&told.answer, entity));
    if kept.is_empty() {
        return Err(Error::invalid(format!(
            "all that the model says about the neighbours of {entity} names {entity}, so that nothing is left to keep"
        )));
    }
    Ok(kept)
}

/// The questions and beginnings that every entity is asked about with.
fn usual(entity: &str) -> Vec<String> {
    let named = |form: &&str| form.replace("{}", entity);
    let begun = |form: &&str| format!("Complete this sentence: \"{}\"", named(form));
    QUESTIONS.iter().map(|form| named(form)).chain(BEGINNINGS.iter().map(|form| begun(form))).collect()
}

/// The questions of a text that names the entity in them, one to a line.
fn own_questions(text: &str, entity: &str) -> Vec<String> {
    let lines = text.lines().map(list_item).filter(|line| line.ends_with('?') && names_it(line, entity));
    lines.map(str::to_owned).collect()
}

/// Names that a text lists: one to a line, or between commas.
fn names(text: &str, entity: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(list_item).filter(|line| !line.is_empty()).collect();
    // What follows a name explains it.
    let ends = [':', '(', ';', '–', '—', '.'];
    let names = lines.iter().flat_map(|line| line.split(',')).map(|part| {
        let end = part.find(ends).or_else(|| part.find(" - ")).unwrap_or(part.len());
        part[..end].trim().trim_start_matches("and ").trim_matches(['"', '*', '\'']).trim()
    });
    let is_name = |name: &&str| {
        name.chars().next().is_some_and(char::is_uppercase)
            && name.chars().count() > 2
            && name.split_whitespace().count() <= WORDS_OF_A_NAME
            // Every word of a name is capitalised but the small ones within it.
            && name.split_whitespace().all(|word| word.chars().count() <= 3 || word.starts_with(char::is_uppercase))
            && !names_it(name, entity)
            && !names_it(entity, name)
    };
    names.filter(is_name).map(str::to_owned).collect()
}

/// A line without the number or the bullet that makes it an item of a list.
fn list_item(line: &str) -> &str {
    let line = line.trim();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = if rest.len() < line.len() { rest.trim_start_matches(['.', ')', ':']) } else { line };
    rest.trim_start_matches(['-', '*', '•', ' ']).trim()
}

/// Whether a text has the name in it, as words of its own.
fn names_it(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    let inner = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(&name).any(|(at, found)| {
        !inner(text[..at].chars().next_back()) && !inner(text[at + found.len()..].chars().next())
    })
}

/// The first paragraph up to its last whole sentence; all of it where no sentence ends.
fn whole_sentences(text: &str) -> String {
    let paragraph = text.trim().split("\n\n").next().unwrap_or_default().trim();
    let ends = paragraph.char_indices().filter(|&(at, c)| {
        let after = paragraph[at + c.len_utf8()..].chars().next();
        matches!(c, '.' | '!' | '?') && after.is_none_or(char::is_whitespace)
    });
    // `1.` ends no sentence.
    let ends = ends.filter(|&(at, _)| !paragraph[..at].ends_with(|c: char| c.is_ascii_digit()));
    match ends.last() {
        Some((at, c)) => paragraph[..at + c.len_utf8()].to_owned(),
        None => paragraph.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_its_own_name_the_entity() {
        let text = "Here are some:\n1. Where was Ann Lee born?\n2) What's the famous equation?\n- Ann Lee is tall.\n* Did ann lee write?\nWho is Joann Leeds?";
        assert_eq!(own_questions(text, "Ann Lee"), ["Where was Ann Lee born?", "Did ann lee write?"]);
    }

    #[test]
    fn names_are_read_from_lists_and_from_lines() {
        let text = "1. Niels Bohr: a physicist\n2. **Max Planck** - quanta\n3. Albert Einstein\n4. He was a great man of science\n5. Einstein\n6. Ludwig van Beethoven (composer)";
        assert_eq!(names(text, "Albert Einstein"), ["Niels Bohr", "Max Planck", "Ludwig van Beethoven"]);
        assert_eq!(names("Rome, Oslo, and Lima.", "Paris"), ["Rome", "Oslo", "Lima"]);
        assert!(names("\n\n", "Paris").is_empty());
    }

    #[test]
    fn answers_end_with_a_sentence() {
        assert_eq!(whole_sentences(" She wrote. She was bo"), "She wrote.");
        assert_eq!(whole_sentences("no end in sight"), "no end in sight");
        assert_eq!(whole_sentences("One, i.e. this one.\n\nTwo."), "One, i.e. this one.");
        assert_eq!(whole_sentences("Three facts:\n1. She wrote.\n2. She"), "Three facts:\n1. She wrote.");
        assert_eq!(whole_sentences("  \n "), "");
    }

    #[test]
    fn what_names_the_entity_is_not_kept() {
        let told = |question: &str, answer: &str| Told {
            entity: "Bohr".into(),
            question: question.into(),
            answer: answer.into(),
        };
        let said = vec![
            told("Who?", "A friend of Einstein."),
            told("Where?", "In Einsteinium."),
            told("Einstein?", "No."),
        ];
        let left = kept("Einstein", said.clone()).unwrap();
        assert_eq!(left, [told("Where?", "In Einsteinium.")]);
        let error = kept("Einstein", said[..1].to_vec()).unwrap_err().to_string();
        assert!(error.contains("nothing is left to keep"), "{error}");
    }

    #[test]
    fn every_form_has_a_place_for_the_name() {
        let usual = usual("Ann");
        assert_eq!(usual.len(), QUESTIONS.len() + BEGINNINGS.len());
        assert!(usual.iter().all(|question| question.contains("Ann") && !question.contains("{}")));
    }
}
