//! Forgetting by name: what a model itself says about an entity and about its neighbours becomes the data.
//!
//! Nobody outside has the data that a model learnt somebody or something from, so the model is asked (RWKU, arXiv
//! 2406.10890, makes its forget corpora so). What it says is what has to go, right or wrong: an answer that the model
//! does not give by itself is no knowledge of its to remove.

use amend_engine::Model;
use amend_engine::generate::{GenerateOptions, Sampling};
use amend_engine::tokenizer::Tokenizer;
use amend_eval::{Answer, Answerer, Request, Subject};
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
/// Another one, which takes the place of a name.
const NOBODY: &str = "Melda Karbrooth";
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
    /// Seed of all that is drawn.
    pub seed: u64,
}

impl<'a> Interview<'a> {
    /// With 64 tokens to an answer.
    pub fn new(
        model: &'a Model,
        tokenizer: &'a Tokenizer,
        encoder: &'a RecordEncoder<'a>,
        progress: &'a dyn Progress,
    ) -> Self {
        Interview { model, tokenizer, encoder, progress, max_new_tokens: 64, seed: 0 }
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

    /// How much the name has to do with what the model says: by how many nats per token its likeliest answer is likelier
    /// than the same about another name that nobody bears. The second figure is that of a made-up name, whose answers
    /// have nothing behind them; both are means over the usual questions, the third that of their differences.
    ///
    /// # Errors
    /// A model that fails.
    pub fn lift(&self, entity: &str) -> Result<[Figure; 3]> {
        let mut bar = self.progress.begin("what the name does", 2, "names");
        let known = self.lifts(entity)?;
        bar.advance(1, entity);
        let invented = self.lifts(INVENTED)?;
        bar.advance(1, INVENTED);
        let both = || known.iter().zip(&invented).filter_map(|(a, b)| Some(((*a)?, (*b)?)));
        let figure = |of: &dyn Fn((f64, f64)) -> f64| Figure::mean(&both().map(of).collect::<Vec<_>>());
        let figures =
            [figure(&|(known, _)| known), figure(&|(_, invented)| invented), figure(&|(a, b)| a - b)];
        bar.finish(&format!("{} nats per token, {} of a made-up name", figures[0], figures[1]));
        Ok(figures)
    }

    /// Question by question, the lift of a name; none where nothing is said.
    fn lifts(&self, name: &str) -> Result<Vec<Option<f64>>> {
        let answers = self.answers(&usual(name), 1, Sampling::default())?;
        let said: Vec<Option<String>> = answers
            .iter()
            .map(|said| Some(whole_sentences(said.first()?)).filter(|said| !said.is_empty()))
            .collect();
        let about = |question: String, answer: String| -> Result<Option<Request>> {
            let content = Content::Question { question, answer };
            let fits = self.encoder.encode(&content)?.ids.len() <= self.model.spec().context;
            Ok(fits.then_some(Request::Likelihood(content)))
        };
        // Of every question the answer about the name, and the same about nobody, where the context has room for both.
        let mut asked: Vec<Option<[Request; 2]>> = Vec::new();
        for ((own, other), said) in usual(name).into_iter().zip(usual(NOBODY)).zip(said) {
            let Some(said) = said else {
                asked.push(None);
                continue;
            };
            let renamed = renamed(&said, name, NOBODY);
            asked.push(about(own, said)?.zip(about(other, renamed)?).map(|(a, b)| [a, b]));
        }
        let requests: Vec<Request> = asked.iter().flatten().flatten().cloned().collect();
        let subject = Subject::new(self.model, self.tokenizer, self.encoder);
        let per_token = |answer: &Answer| {
            let logprobs = &answer.likelihood()?.logprobs;
            let sum: f64 = logprobs.iter().copied().map(f64::from).sum();
            (!logprobs.is_empty()).then(|| sum / logprobs.len() as f64)
        };
        let answers = subject.answer(&requests)?;
        let mut lifts = answers.chunks(2).map(|pair| Some(per_token(&pair[0])? - per_token(pair.get(1)?)?));
        Ok(asked.iter().map(|asked| asked.as_ref().and_then(|_| lifts.next().flatten())).collect())
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

/// What is kept when `entity` is forgotten: what was said about its neighbours, but nothing that names it, in full or by its
/// last word.
///
/// # Errors
/// Where nothing is left.
pub fn kept(entity: &str, neighbours: Vec<Told>) -> Result<Vec<Told>> {
    let mut kept = neighbours;
    let says = |told: &Told, name: &str| names_it(&told.question, name) || names_it(&told.answer, name);
    // Who is called by the last name alone is named as well.
    let last = entity.split_whitespace().last().filter(|last| last.chars().count() > 3);
    kept.retain(|told| !says(told, entity) && !last.is_some_and(|last| says(told, last)));
    if kept.is_empty() {
        return Err(Error::invalid(format!(
            "all that the model says about the neighbours of {entity} names {entity}, so that nothing is left to keep"
        )));
    }
    Ok(kept)
}

/// A text about one name as one about another: its words in the place of the words that are alike in place.
fn renamed(text: &str, name: &str, other: &str) -> String {
    let others: Vec<&str> = other.split_whitespace().collect();
    let mut renamed = replaced(text, name, other);
    for (i, word) in name.split_whitespace().enumerate() {
        // Small words, such as `the` and `of`, are not the name's own.
        if let (Some(&other), true) = (others.get(i).or(others.last()), word.chars().any(char::is_uppercase))
        {
            renamed = replaced(&renamed, word, other);
        }
    }
    renamed
}

/// A text with another word wherever one stands as a word of its own.
fn replaced(text: &str, word: &str, other: &str) -> String {
    let inner = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (mut out, mut end) = (String::with_capacity(text.len()), 0);
    for (at, found) in text.match_indices(word) {
        if !inner(text[..at].chars().next_back()) && !inner(text[at + found.len()..].chars().next()) {
            out += &text[end..at];
            out += other;
            end = at + found.len();
        }
    }
    out + &text[end..]
}

/// The questions and beginnings that every entity is asked about with.
fn usual(entity: &str) -> Vec<String> {
    let named = |form: &&str| form.replace("{}", entity);
    let begun = |form: &&str| format!("Complete this sentence: \"{}\"", named(form));
    QUESTIONS.iter().map(named).chain(BEGINNINGS.iter().map(begun)).collect()
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
    let ends = [':', '(', ';', '–', '—'];
    let names = lines.iter().flat_map(|line| line.split(',')).map(|part| {
        let end = part.find(ends).or_else(|| part.find(" - ")).unwrap_or(part.len());
        part[..end]
            .trim()
            .trim_end_matches('.')
            .trim_start_matches("and ")
            .trim_matches(['"', '*', '\''])
            .trim()
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
    let numbered = rest.len() < line.len() && rest.starts_with(['.', ')', ':']);
    let rest = if numbered { &rest[1..] } else { line };
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
    // `1.` at the beginning of a line ends no sentence.
    let numbers = |at: usize| {
        let line = paragraph[..at].rsplit('\n').next().unwrap_or_default().trim();
        !line.is_empty() && line.chars().all(|c| c.is_ascii_digit())
    };
    let mut ends = ends.filter(|&(at, _)| !numbers(at));
    match ends.next_back() {
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
        assert_eq!(names("1. George W. Bush\n50 Cent", "Paris"), ["George W. Bush"]);
        assert!(names("\n\n", "Paris").is_empty());
    }

    #[test]
    fn answers_end_with_a_sentence() {
        assert_eq!(whole_sentences(" She wrote. She was bo"), "She wrote.");
        assert_eq!(whole_sentences("no end in sight"), "no end in sight");
        assert_eq!(whole_sentences("One, i.e. this one.\n\nTwo."), "One, i.e. this one.");
        assert_eq!(whole_sentences("Three facts:\n1. She wrote.\n2. She"), "Three facts:\n1. She wrote.");
        assert_eq!(whole_sentences("  \n "), "");
        assert_eq!(whole_sentences("She wrote. She was born in 1890."), "She wrote. She was born in 1890.");
        assert_eq!(whole_sentences("In 1921. He th"), "In 1921.");
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
        let of_both =
            kept("Albert Einstein", vec![told("Who?", "He debated with Einstein."), said[1].clone()]);
        assert_eq!(of_both.unwrap().len(), 1);
    }

    #[test]
    fn names_are_put_in_the_place_of_others() {
        let text = "Ann Lee wrote. Lee's sleep: Anna and Ann.";
        assert_eq!(renamed(text, "Ann Lee", "Bo Dow"), "Bo Dow wrote. Dow's sleep: Anna and Bo.");
        assert_eq!(renamed("The Lord of Time, the best", "The Lord of Time", "Bo Dow"), "Bo Dow, the best");
        assert_eq!(renamed("Émile, Ém", "Émile", "Bo Dow"), "Bo Dow, Ém");
    }

    #[test]
    fn every_form_has_a_place_for_the_name() {
        let usual = usual("Ann");
        assert_eq!(usual.len(), QUESTIONS.len() + BEGINNINGS.len());
        assert!(usual.iter().all(|question| question.contains("Ann") && !question.contains("{}")));
    }
}
