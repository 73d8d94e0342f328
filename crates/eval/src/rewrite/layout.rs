//! Rows of files as rewrites.

use amend_run::records::{Row, text_of, texts_of};
use serde_json::Value;

use super::{Neighbour, Rewrite};

/// What zsRE's locality questions begin with.
const NATURAL_QUESTIONS: &str = "nq question: ";

impl Rewrite {
    /// The rewrite that a row asks for, told by its columns: `requested_rewrite` is CounterFact as published, `src` and
    /// `alt` are zsRE; everything else has `subject`, `prompt`, `target_new`, and what it knows of `target_true`,
    /// `paraphrases`, `neighbours` under these names or those of the flat CounterFact (`ground_truth`, `rephrase_prompt`,
    /// `locality_prompt` with `locality_ground_truth`).
    ///
    /// # Errors
    /// A column that is missing or no text; a subject that does not occur in the prompt, or in a paraphrase. In one
    /// sentence.
    pub fn of(row: &Row) -> Result<Self, String> {
        let rewrite = match (row.get("requested_rewrite"), row.contains_key("src")) {
            (Some(Value::Object(request)), _) => Self::nested(request, row),
            (Some(_), _) => Err("`requested_rewrite` must be an object".into()),
            (None, true) => Self::zsre(row),
            (None, false) => Self::flat(row),
        }?;
        let Rewrite { subject, paraphrases, .. } = &rewrite;
        match paraphrases.iter().find(|paraphrase| !paraphrase.contains(subject.as_str())) {
            None => Ok(rewrite),
            Some(lacking) => Err(format!(
                "the subject {subject:?} does not occur in the paraphrase {lacking:?}; a prompt in other words names it \
                 all the same"
            )),
        }
    }

    fn nested(request: &Row, row: &Row) -> Result<Self, String> {
        let spelled = |column: &str| match request.get(column) {
            Some(Value::Object(target)) => needed(target, "str"),
            _ => needed(request, column),
        };
        let (prompt, place) = Self::placed(needed(request, "prompt")?, needed(request, "subject")?)?;
        let target_true = spelled("target_true")?;
        let neighbour = |prompt: &str| Neighbour {
            prompt: prompt.trim_end().to_owned(),
            answer: Some(target_true.to_owned()),
        };
        Ok(Rewrite {
            subject: needed(request, "subject")?.to_owned(),
            prompt,
            place,
            target_new: spelled("target_new")?.to_owned(),
            target_true: Some(target_true.to_owned()),
            paraphrases: trimmed(texts_of(row, "paraphrase_prompts")),
            neighbours: texts_of(row, "neighborhood_prompts").into_iter().map(neighbour).collect(),
        })
    }

    /// Questions are asked as such, so that a base model knows that an answer is due.
    fn zsre(row: &Row) -> Result<Self, String> {
        let asked = |question: &str| format!("Question: {question}\nAnswer:");
        let subject = needed(row, "subject")?;
        let (prompt, place) = Self::placed(&asked(needed(row, "src")?), subject)?;
        let neighbour = text_of(row, "loc").map(|question| {
            let question = question.strip_prefix(NATURAL_QUESTIONS).unwrap_or(question).trim();
            let mark = if question.ends_with('?') { "" } else { "?" };
            Neighbour {
                prompt: asked(&format!("{question}{mark}")),
                answer: text_of(row, "loc_ans").map(str::to_owned),
            }
        });
        Ok(Rewrite {
            subject: subject.to_owned(),
            prompt,
            place,
            target_new: needed(row, "alt")?.to_owned(),
            target_true: texts_of(row, "answers").first().map(|answer| (*answer).to_owned()),
            paraphrases: texts_of(row, "rephrase").into_iter().map(asked).collect(),
            neighbours: neighbour.into_iter().collect(),
        })
    }

    fn flat(row: &Row) -> Result<Self, String> {
        let (prompt, place) = Self::placed(needed(row, "prompt")?, needed(row, "subject")?)?;
        let either = |names: [&str; 2]| {
            let own = texts_of(row, names[0]);
            trimmed(if own.is_empty() { texts_of(row, names[1]) } else { own })
        };
        let neighbours = match row.get("neighbours") {
            Some(Value::Array(items)) => items.iter().map(neighbour).collect::<Result<_, _>>()?,
            _ => {
                let answer = text_of(row, "locality_ground_truth").map(str::to_owned);
                let of = |prompt| Neighbour { prompt, answer: answer.clone() };
                trimmed(texts_of(row, "locality_prompt")).into_iter().map(of).collect()
            }
        };
        Ok(Rewrite {
            subject: needed(row, "subject")?.to_owned(),
            prompt,
            place,
            target_new: needed(row, "target_new")?.to_owned(),
            target_true: either(["target_true", "ground_truth"]).into_iter().next(),
            paraphrases: either(["paraphrases", "rephrase_prompt"]),
            neighbours,
        })
    }
}

fn neighbour(item: &Value) -> Result<Neighbour, String> {
    let (prompt, answer) = match item {
        Value::String(prompt) => (prompt.as_str(), None),
        Value::Object(row) => (needed(row, "prompt")?, text_of(row, "answer")),
        _ => return Err("`neighbours` holds texts, or objects with `prompt` and `answer`".into()),
    };
    Ok(Neighbour { prompt: prompt.trim_end().to_owned(), answer: answer.map(str::to_owned) })
}

fn trimmed(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(|text| text.trim_end().to_owned()).collect()
}

/// A text that there must be.
fn needed<'r>(row: &'r Row, column: &str) -> Result<&'r str, String> {
    match row.get(column) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(format!("`{column}` is empty")),
        Some(_) => Err(format!("`{column}` must be a text")),
        None => Err(format!(
            "it has no `{column}`; an edit has `subject`, `prompt` and `target_new`, or is a row of CounterFact or zsRE"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_same_fact_in_three_layouts() {
        let nested = row(json!({
            "case_id": 4,
            "requested_rewrite": {
                "prompt": "{} plays", "subject": "Ann Lee",
                "target_new": { "str": "chess", "id": "Q1" }, "target_true": { "str": "golf", "id": "Q2" },
            },
            "paraphrase_prompts": ["It rains. Ann Lee likes to play "],
            "neighborhood_prompts": ["Bob plays"],
        }));
        let flat = row(json!({
            "prompt": "Ann Lee plays", "subject": "Ann Lee", "target_new": "chess", "ground_truth": "golf",
            "rephrase_prompt": "It rains. Ann Lee likes to play", "locality_prompt": "Bob plays",
            "locality_ground_truth": "golf",
        }));
        let own = row(json!({
            "prompt": "{} plays", "subject": "Ann Lee", "target_new": "chess", "target_true": "golf",
            "paraphrases": ["It rains. Ann Lee likes to play"], "neighbours": [{ "prompt": "Bob plays", "answer": "golf" }],
        }));
        let rewrite = Rewrite::of(&nested).unwrap();
        assert_eq!(rewrite.prompt, "Ann Lee plays");
        assert_eq!(&rewrite.prompt[rewrite.place.clone()], "Ann Lee");
        assert_eq!(Rewrite::statement(&rewrite.prompt, &rewrite.target_new), "Ann Lee plays chess");
        for other in [flat, own, Row::from(&rewrite)] {
            assert_eq!(Rewrite::of(&other).unwrap(), rewrite);
        }
    }

    #[test]
    fn zsre_is_asked_as_questions() {
        let row = row(json!({
            "subject": "Delta", "src": "Which river is Delta on?", "pred": "Nile", "rephrase": "Delta is on which river?",
            "alt": "Rhine", "answers": ["Nile", "the Nile"], "loc": "nq question: who sang it", "loc_ans": "Bob",
        }));
        let rewrite = Rewrite::of(&row).unwrap();
        assert_eq!(rewrite.prompt, "Question: Which river is Delta on?\nAnswer:");
        assert_eq!(&rewrite.prompt[rewrite.place.clone()], "Delta");
        assert_eq!((rewrite.target_new.as_str(), rewrite.target_true.as_deref()), ("Rhine", Some("Nile")));
        assert_eq!(rewrite.neighbours[0].prompt, "Question: who sang it?\nAnswer:");
        assert_eq!(rewrite.neighbours[0].answer.as_deref(), Some("Bob"));
    }

    #[test]
    fn the_last_occurrence_is_the_subject() {
        let row = row(json!({ "prompt": "Paris, like Paris in", "subject": "Paris", "target_new": "Rome" }));
        assert_eq!(Rewrite::of(&row).unwrap().place, 12..17);
    }

    #[test]
    fn what_cannot_be_asked_is_refused_in_a_sentence() {
        let refused = |value: Value| Rewrite::of(&row(value)).unwrap_err();
        let lacking = refused(json!({ "prompt": "It plays", "subject": "Ann", "target_new": "chess" }));
        assert!(lacking.contains("\"Ann\" does not occur in the prompt \"It plays\""), "{lacking}");
        let paraphrase =
            json!({ "prompt": "{} plays", "subject": "Ann", "target_new": "x", "paraphrases": "She plays" });
        assert!(refused(paraphrase).contains("does not occur in the paraphrase \"She plays\""));
        assert!(refused(json!({ "prompt": "{} plays", "subject": "Ann" })).contains("no `target_new`"));
        assert!(refused(json!({ "prompt": 3, "subject": "Ann" })).contains("`prompt` must be a text"));
        assert!(refused(json!({ "prompt": "{} is", "subject": "", "target_new": "x" })).contains("empty"));
        assert!(refused(json!({ "requested_rewrite": 1 })).contains("must be an object"));
    }
}
