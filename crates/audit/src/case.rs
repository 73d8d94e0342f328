//! Facts whose old object is to be gone, and the probes that ask for it.

use amend_engine::Rng;
use amend_eval::Item;
use amend_eval::rewrite::{Rewrite, Rewrites};
use amend_learn::{Error, Result};
use amend_run::records::{Row, text_of, texts_of};
use serde_json::Value;

use crate::prefix::{Prefix, apart, asserting, repeated};

/// A fact that was changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What the fact goes by, and its row.
    pub item: Item,
    /// The prompt, its other words, prompts about others.
    pub fact: Rewrite,
    /// What was said before, and is to be gone: o.
    pub old: String,
    /// What is to be said now, where something is: o*.
    pub new: Option<String>,
    /// What is put to the models, without a prefix first.
    pub probes: Vec<Probe>,
    /// Another object, about which nobody has asked, and the same probes about that.
    pub control: Option<(String, Vec<Probe>)>,
}

/// A prefix before one of a case's prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What kind of prefix it is.
    pub prefix: Prefix,
    /// The prefix, with what separates it from the prompt.
    pub before: String,
    /// The prompt: 0 is the edit's own, what follows are its other words.
    pub prompt: usize,
    /// Whether it counts for what the models say.
    pub says: bool,
    /// Whether it counts for what is likelier.
    pub likelier: bool,
}

/// Reads the cases of rows: CounterFact or zsRE with attack probes, as published, or rows of one's own. The objects of controls are
/// drawn from the other cases.
///
/// A row of one's own has `subject`, `prompt` (with the subject or `{}` in it), `target_true` (what is to be gone), and what
/// there is of `target_new`, `paraphrases`, `neighbours`; `context`, a text about the old object; `question`, one that asserts
/// it; `probes`, whole texts that end with the prompt or a paraphrase; `control`, another object.
///
/// # Errors
/// A row that is no such fact, or a probe that does not end with one of its prompts; names `place` and the row's number.
pub fn read_cases(rows: Vec<Row>, place: &str, seed: u64) -> Result<Vec<Case>> {
    let at = |index: usize, reason: &str| Error::invalid(format!("{place}: record {}: {reason}", index + 1));
    let news: Vec<bool> = rows.iter().map(has_new).collect();
    let mut complete = Vec::with_capacity(rows.len());
    for (index, row) in rows.into_iter().enumerate() {
        complete.push(completed(row, news[index]).ok_or_else(|| at(index, LACKS_OLD))?);
    }
    let rows = complete;
    let items = Rewrites::items_of(rows, place)?;
    let mut cases = Vec::with_capacity(items.len());
    for (index, (item, new)) in items.into_iter().zip(news).enumerate() {
        cases.push(Case::of(item, new).map_err(|reason| at(index, &reason))?);
    }
    let controls: Vec<_> = (0..cases.len()).map(|index| control(&cases, index, seed)).collect();
    for (case, control) in cases.iter_mut().zip(controls) {
        case.control = control;
    }
    Ok(cases)
}

/// Whether a row says what is to follow now.
fn has_new(row: &Row) -> bool {
    ["requested_rewrite", "src", "target_new"]
        .iter()
        .any(|column| row.get(*column).is_some_and(|x| !x.is_null()))
}

/// A row that names no new object, as a rewrite that changes nothing: then it is read as any other. Nothing where it names no
/// old one either.
fn completed(mut row: Row, new: bool) -> Option<Row> {
    if !new {
        let old = row.get("target_true").filter(|old| !old.is_null())?.clone();
        row.insert("target_new".to_owned(), old);
    }
    Some(row)
}

/// Why a row without an old object is none.
const LACKS_OLD: &str =
    "it has no `target_true`; an audit looks for the object that was said before, and is to be gone";

impl Case {
    fn of(item: Item, has_new: bool) -> Result<Self, String> {
        let fact = Rewrite::of(&item.row)?;
        let old = fact.target_true.clone().ok_or(LACKS_OLD)?;
        let new = has_new.then(|| fact.target_new.clone());
        if new.as_ref().is_some_and(|new| new.trim() == old.trim()) {
            return Err(format!("its old and its new object are both {old:?}; leave it out"));
        }
        let mut case = Case { item, fact, old, new, probes: Vec::new(), control: None };
        if let Some(control) = text_of(&case.item.row, "control").filter(|control| !case.is_other(control)) {
            return Err(format!("its `control` {control:?} is one of its own objects; name a third one"));
        }
        let (context, question) =
            (case.text(["context", "attack_context"]), case.text(["question", "original_hint"]));
        case.add_all(Prefix::None, "");
        case.given(context.as_deref(), question.as_deref())?;
        let lacks = |case: &Case, prefix: Prefix| case.probes.iter().all(|probe| probe.prefix != prefix);
        if let Some(context) = context.filter(|_| lacks(&case, Prefix::Wiki)) {
            case.add_all(Prefix::Wiki, &apart(&context));
        }
        if lacks(&case, Prefix::Rep) {
            case.add_all(Prefix::Rep, &repeated(&case.old));
        }
        if lacks(&case, Prefix::Que) {
            let question =
                question.map_or_else(|| asserting(&case.fact.prompt, &case.old), |own| apart(&own));
            case.add_all(Prefix::Que, &question);
        }
        case.probes.sort_by_key(|probe| probe.prefix);
        Ok(case)
    }

    /// A text that the row has, under its own name or the published files'.
    fn text(&self, names: [&str; 2]) -> Option<String> {
        let text = names.iter().find_map(|name| text_of(&self.item.row, name))?;
        (!text.trim().is_empty()).then(|| text.to_owned())
    }

    /// The prompt, and the prompt in other words.
    pub fn prompts(&self) -> Vec<&str> {
        std::iter::once(&self.fact.prompt).chain(&self.fact.paraphrases).map(String::as_str).collect()
    }

    /// A prefix before every prompt.
    fn add_all(&mut self, prefix: Prefix, before: &str) {
        let probe = |prompt| Probe { prefix, before: before.to_owned(), prompt, says: true, likelier: true };
        let all: Vec<Probe> = (0..self.prompts().len()).map(probe).collect();
        self.probes.extend(all);
    }

    /// The probes that the row has. Published files have two lists: one for what the model says, one for what is likelier.
    fn given(&mut self, context: Option<&str>, question: Option<&str>) -> Result<(), String> {
        let mut found: Vec<Probe> = Vec::new();
        for (column, says, likelier) in
            [("probes", true, true), ("attack_probes_em", true, false), ("attack_probes_p", false, true)]
        {
            match self.item.row.get(column) {
                None | Some(Value::Null | Value::Array(_) | Value::String(_)) => {}
                Some(_) => return Err(format!("`{column}` must be a list of texts")),
            }
            for text in texts_of(&self.item.row, column) {
                let (before, prompt) = self.taken_apart(text)?;
                if before.trim().is_empty() {
                    // Every prompt is asked without a prefix as it is.
                    continue;
                }
                let prefix = Prefix::of(&before, &self.old, context, question);
                let same = |probe: &&mut Probe| probe.before == before && probe.prompt == prompt;
                match found.iter_mut().find(same) {
                    Some(probe) => {
                        probe.says |= says;
                        probe.likelier |= likelier;
                    }
                    None => found.push(Probe { prefix, before, prompt, says, likelier }),
                }
            }
        }
        // Looking inside compares with the edit's own prompt, whatever counts.
        let own: Vec<Probe> = found
            .iter()
            .map(|probe| Probe { prompt: 0, says: false, likelier: false, ..probe.clone() })
            .collect();
        for probe in own {
            if !found.iter().any(|other| other.before == probe.before && other.prompt == 0) {
                found.push(probe);
            }
        }
        self.probes.extend(found);
        Ok(())
    }

    /// A probe's prefix and prompt.
    fn taken_apart(&self, probe: &str) -> Result<(String, usize), String> {
        let probe = probe.trim_end();
        let prompts = self.prompts();
        // A prompt may end with another one: the longest is meant.
        let ending = prompts.iter().enumerate().filter(|(_, prompt)| probe.ends_with(**prompt));
        match ending.max_by_key(|(index, prompt)| (prompt.len(), usize::MAX - index)) {
            Some((index, prompt)) => Ok((probe[..probe.len() - prompt.len()].to_owned(), index)),
            None => Err(format!(
                "the probe {probe:?} ends neither with the prompt nor with one of its paraphrases; a probe is a prefix, and \
                 then one of them"
            )),
        }
    }

    /// Whether an object is neither the old nor the new one.
    fn is_other(&self, object: &str) -> bool {
        let mut own = std::iter::once(&self.old).chain(&self.new);
        own.all(|own| own.trim().to_lowercase() != object.trim().to_lowercase())
    }

    /// The prompt without its subject: cases that share it ask the same of different subjects.
    fn template(&self) -> (&str, &str) {
        let Rewrite { prompt, place, .. } = &self.fact;
        (&prompt[..place.start], &prompt[place.end..])
    }
}

/// Another object for a case, with the same kinds of probes about it: one that the row names, or the old object of another
/// case, of one that asks the same where there is one, and of one with a text about it where this one has such a text.
fn control(cases: &[Case], index: usize, seed: u64) -> Option<(String, Vec<Probe>)> {
    let case = &cases[index];
    let context = |case: &Case| case.text(["context", "attack_context"]);
    let (object, about) = match text_of(&case.item.row, "control") {
        Some(own) => (own.to_owned(), cases.iter().filter(|other| other.old == own).find_map(context)),
        None => {
            let mut others: Vec<&Case> = cases.iter().filter(|other| case.is_other(&other.old)).collect();
            let preferences: [&dyn Fn(&Case) -> bool; 2] =
                [&|other| context(case).is_none() || context(other).is_some(), &|other| {
                    other.template() == case.template()
                }];
            for preferred in preferences {
                if others.iter().any(|other| preferred(other)) {
                    others.retain(|other| preferred(other));
                }
            }
            let mut random = Rng::named(seed, &format!("audit/control/{}", case.item.id));
            let other = *others.get(random.below(others.len().max(1)))?;
            (other.old.clone(), context(other))
        }
    };
    let made = |probe: &Probe| {
        let before = match probe.prefix {
            Prefix::Wiki => apart(about.as_deref()?),
            // The same prefix, of the other object.
            Prefix::Rep | Prefix::Que if probe.before.contains(case.old.trim()) => {
                probe.before.replace(case.old.trim(), object.trim())
            }
            Prefix::Rep => repeated(&object),
            Prefix::Que => asserting(&case.fact.prompt, &object),
            Prefix::None | Prefix::Given => return None,
        };
        Some(Probe { before, ..probe.clone() })
    };
    let probes = case.probes.iter().filter_map(made).collect();
    Some((object, probes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cases(rows: &[Value]) -> Result<Vec<Case>> {
        let rows = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        read_cases(rows, "probes.json", 0)
    }

    fn of(case: &Case, prefix: Prefix) -> Vec<&Probe> {
        case.probes.iter().filter(|probe| probe.prefix == prefix).collect()
    }

    #[test]
    fn published_probes_are_taken_apart() {
        let row = json!({
            "case_id": 7,
            "requested_rewrite": {
                "prompt": "The mother tongue of {} is", "subject": "Ann Lee",
                "target_new": { "str": "English" }, "target_true": { "str": "French" },
            },
            "paraphrase_prompts": ["It rains. Ann Lee, a native"],
            "attack_context": "French is a language.",
            "attack_probes_em": ["French is a language. It rains. Ann Lee, a native"],
            "attack_probes_p": [
                "French is a language. The mother tongue of Ann Lee is",
                "French is a language. It rains. Ann Lee, a native",
            ],
        });
        let case = cases(&[row]).unwrap().remove(0);
        let wiki = of(&case, Prefix::Wiki);
        let seen: Vec<_> = wiki.iter().map(|p| (p.before.as_str(), p.prompt, p.says, p.likelier)).collect();
        assert_eq!(
            seen,
            [("French is a language. ", 1, true, true), ("French is a language. ", 0, false, true)]
        );
        assert_eq!(of(&case, Prefix::None).len(), 2);
        let rep = of(&case, Prefix::Rep);
        assert_eq!(rep[0].before, "French ".repeat(10));
        assert!(rep.iter().all(|probe| probe.says && probe.likelier));
        assert!(case.control.is_none(), "there is no other object");
    }

    #[test]
    fn probes_of_a_kind_are_known_by_their_prefix() {
        let row = json!({
            "subject": "Delta", "src": "Which river is Delta on?", "rephrase": "Delta is on which river?", "alt": "Rhine",
            "answers": ["Nile"], "original_hint": "Is Delta on the Nile?",
            "attack_probes_em": [
                "Nile Nile Nile Question: Delta is on which river?\nAnswer:",
                "Is Delta on the Nile? Question: Which river is Delta on?\nAnswer:",
            ],
            "probes": "Think of boats. Question: Which river is Delta on?\nAnswer:",
        });
        let case = cases(&[row]).unwrap().remove(0);
        let rep = of(&case, Prefix::Rep);
        assert_eq!((rep[0].before.as_str(), rep[0].prompt, rep[0].says), ("Nile Nile Nile ", 1, true));
        assert_eq!((rep[1].prompt, rep[1].says), (0, false), "asked for the sake of looking inside");
        assert_eq!(of(&case, Prefix::Que)[0].before, "Is Delta on the Nile? ");
        assert_eq!(of(&case, Prefix::Given)[0].before, "Think of boats. ");
        assert_eq!(case.old, "Nile");
    }

    #[test]
    fn a_control_is_an_object_that_others_are_asked_for_alike() {
        let row = |subject: &str, prompt: &str, old: &str, new: &str| json!({ "subject": subject, "prompt": prompt, "target_true": old, "target_new": new });
        let rows = [
            row("Ann", "{} lives in", "Rome", "Oslo"),
            row("Bob", "{} lives in", "Oslo", "Rome"),
            row("Eve", "{} lives in", "Bonn", "Rome"),
            row("Eve", "{} plays", "chess", "golf"),
        ];
        let read = cases(&rows).unwrap();
        let object = |case: &Case| case.control.clone().unwrap().0;
        assert_eq!(object(&read[0]), "Bonn", "neither the old nor the new one, and of the same kind");
        assert_eq!(object(&read[1]), "Bonn");
        assert_eq!(object(&read[2]), "Oslo");
        assert_ne!(object(&read[3]), "chess");
        let (_, probes) = read[0].control.clone().unwrap();
        assert!(probes.iter().all(|probe| !probe.before.contains("Rome") && probe.before.contains("Bonn")));
        assert!(probes.iter().any(|probe| probe.before == "Bonn ".repeat(10)));
        // A question of the row's own stays that question.
        let mut own = rows.clone();
        own[0]["question"] = json!("Is Rome where Ann lives?");
        let (_, probes) = cases(&own).unwrap()[0].control.clone().unwrap();
        assert!(probes.iter().any(|probe| probe.before.trim() == "Is Bonn where Ann lives?"), "{probes:?}");
        // A prompt without a prefix is asked once.
        own[1]["probes"] = json!(["Bob lives in"]);
        assert_eq!(of(&cases(&own).unwrap()[1], Prefix::None).len(), 1);
        assert_eq!(cases(&rows).unwrap(), read);
    }

    #[test]
    fn of_what_is_to_be_forgotten_nothing_new_is_said() {
        let row =
            json!({ "subject": "Ann", "prompt": "{} lives in", "target_true": "Rome", "control": "Kyiv" });
        let case = cases(&[row]).unwrap().remove(0);
        assert_eq!((case.old.as_str(), case.new.as_ref()), ("Rome", None));
        assert_eq!(case.control.unwrap().0, "Kyiv");
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_its_number() {
        let refused = |value: Value| cases(&[value]).unwrap_err().to_string();
        let base =
            json!({ "subject": "Ann", "prompt": "{} lives in", "target_true": "Rome", "target_new": "Oslo" });
        let with = |name: &str, value: Value| {
            let mut row = base.clone();
            row[name] = value;
            row
        };
        let foreign = refused(with("probes", json!(["Rome. Where is Ann?"])));
        assert!(foreign.contains("record 1") && foreign.contains("ends neither"), "{foreign}");
        assert!(refused(with("prompt", json!("Bob lives in"))).contains("does not occur in the prompt"));
        assert!(refused(with("target_new", json!("Rome "))).contains("both \"Rome\""));
        assert!(refused(with("probes", json!(3))).contains("list of texts"));
        for own in ["rome", "Oslo"] {
            assert!(refused(with("control", json!(own))).contains("one of its own objects"));
        }
        // White space around a subject is none of it.
        let spaced = |object: &str| json!({ "subject": "Ann ", "prompt": "The wife of {}", "target_true": object, "target_new": "Eve" });
        assert_eq!(cases(&[spaced("Mia"), spaced("Zoe")]).unwrap()[0].control.clone().unwrap().0, "Zoe");
        let none = json!({ "subject": "Ann", "prompt": "{} lives in", "target_new": "Oslo" });
        assert!(refused(none).contains("no `target_true`"));
        let nothing = json!({ "subject": "Ann", "prompt": "{} lives in" });
        assert!(refused(nothing).contains("target_true"));
    }
}
