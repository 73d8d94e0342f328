//! What is asked about a rewrite, and what the answers are worth.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use amend_learn::{Error, Result};
use amend_run::records::{ReadOptions, Row, Rows};
use amend_run::{Content, Figure};

use super::{Rewrite, completion};
use crate::item::{Item, Items, Sample, Scores};
use crate::request::{Answer, Generation, Likelihood, Request, Written};
use crate::stats::harmonic_of_means;
use crate::summary::Summary;
use crate::task::Task;

/// The three things that an edit is judged by, with what each is called among the scores.
const ASPECTS: [&str; 3] = ["efficacy", "generalisation", "locality"];

/// Rewrites as a task: every task and every area that asks about them asks so.
///
/// `efficacy`, `generalisation` and `locality` are what a model does when it runs free, greedily: it begins with the new
/// target, also where the prompt is in other words, and writes of others what the unedited model writes. With
/// `forced_` in front they compare likelihoods of whole targets that are put into its mouth: new above true, and of others
/// true above new. With `token_` they are shares of a target's tokens that are its first choice. `score` is the harmonic
/// mean of three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrites {
    /// Most tokens that it writes to a prompt; with 0 it is not asked to.
    pub max_new_tokens: usize,
}

/// One prompt with what may follow it.
struct Probe<'r> {
    aspect: usize,
    prompt: &'r str,
    /// What an edit wants to follow.
    new: &'r str,
    /// What followed by rights.
    by_rights: Option<&'r str>,
}

/// What a model made of a probe.
struct Probed<'a> {
    new: &'a Likelihood,
    by_rights: Option<&'a Likelihood>,
    written: Option<&'a Written>,
}

impl Rewrite {
    fn probes(&self) -> Vec<Probe<'_>> {
        let of_subject = |aspect, prompt| Probe {
            aspect,
            prompt,
            new: &self.target_new,
            by_rights: self.target_true.as_deref(),
        };
        let neighbours = self.neighbours.iter().map(|neighbour| Probe {
            aspect: 2,
            prompt: &neighbour.prompt,
            new: &self.target_new,
            by_rights: neighbour.answer.as_deref(),
        });
        std::iter::once(of_subject(0, &self.prompt))
            .chain(self.paraphrases.iter().map(|prompt| of_subject(1, prompt)))
            .chain(neighbours)
            .collect()
    }
}

impl Probe<'_> {
    fn content(&self, target: &str) -> Content {
        Content::PromptCompletion { prompt: self.prompt.to_owned(), completion: completion(target) }
    }

    /// What goes by the name of its answer: of others what followed by rights.
    fn wanted(&self) -> Option<&str> {
        if self.aspect == 2 { self.by_rights } else { Some(self.new) }
    }

    /// Whether likelihoods are on the right side; nothing where only one of the targets is known.
    fn prefers(&self, probed: &Probed<'_>) -> Option<bool> {
        let (new, by_rights) = (probed.new.logprob(), probed.by_rights?.logprob());
        Some(if self.aspect == 2 { by_rights > new } else { new > by_rights })
    }

    /// Share of its answer's tokens that are the model's first choice.
    fn tokens(&self, probed: &Probed<'_>) -> Option<f64> {
        let answer = if self.aspect == 2 { probed.by_rights? } else { probed.new };
        let hits = answer.greedy.iter().filter(|&&first| first).count();
        (!answer.greedy.is_empty()).then(|| hits as f64 / answer.greedy.len() as f64)
    }

    /// Whether what was written begins with its answer, as whole words.
    fn says(&self, probed: &Probed<'_>) -> Option<bool> {
        let (wanted, text) = (self.wanted()?.trim(), probed.written?.text.as_deref()?);
        let rest = text.trim_start().strip_prefix(wanted);
        Some(rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric)))
    }
}

impl Rewrites {
    /// The rewrite of an item.
    ///
    /// # Errors
    /// A row that is none; names the item.
    pub fn rewrite(item: &Item) -> Result<Rewrite> {
        Rewrite::of(&item.row).map_err(|reason| Error::invalid(format!("edit {}: {reason}", item.id)))
    }

    /// Rows as items, under the names that they have (`case_id`) or their numbers.
    ///
    /// # Errors
    /// A row that is no rewrite; names `place` and its number.
    pub fn items_of(rows: Vec<Row>, place: &str) -> Result<Vec<Item>> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let item = |(index, row): (usize, Row)| {
            let number = index + 1;
            Rewrite::of(&row)
                .map_err(|reason| Error::invalid(format!("{place}: record {number}: {reason}")))?;
            let named = row.get("case_id").map(|id| id.to_string().trim_matches('"').to_owned());
            let id = named.unwrap_or_else(|| index.to_string());
            // A case may come again with other probes.
            let times = seen.entry(id.clone()).and_modify(|times| *times += 1).or_insert(1);
            let id = if *times == 1 { id } else { format!("{id}-{times}") };
            Ok(Item { set: String::new(), id, row })
        };
        rows.into_iter().enumerate().map(item).collect()
    }

    /// The probes of a rewrite with what was answered to them, in the order of the requests.
    fn probed<'a>(&self, probes: &[Probe<'_>], answers: &'a [Answer]) -> Result<Vec<Probed<'a>>> {
        let mut rest = answers.iter();
        let foreign = || Error::invalid("the answers are not those to the prompts of this edit");
        let mut all = Vec::with_capacity(probes.len());
        for probe in probes {
            let mut likelihood = || rest.next().and_then(Answer::likelihood).ok_or_else(foreign);
            let new = likelihood()?;
            let by_rights = probe.by_rights.map(|_| likelihood()).transpose()?;
            let written = match self.max_new_tokens {
                0 => None,
                _ => Some(rest.next().and_then(Answer::written).ok_or_else(foreign)?),
            };
            all.push(Probed { new, by_rights, written });
        }
        if rest.next().is_some() { Err(foreign()) } else { Ok(all) }
    }

    /// For every item the share of its prompts about others to which the two models write the same; nothing for one without
    /// such prompts.
    fn unchanged(&self, sample: &Sample, before: &Sample) -> Option<f64> {
        let rewrite = Rewrite::of(&sample.item.row).ok()?;
        let probes = rewrite.probes();
        let (after, before) =
            (self.probed(&probes, &sample.answers).ok()?, self.probed(&probes, &before.answers).ok()?);
        let same = probes.iter().zip(after.iter().zip(&before)).filter(|(probe, _)| probe.aspect == 2);
        let same: Vec<bool> =
            same.filter_map(|(_, (a, b))| Some(a.written?.text == b.written?.text)).collect();
        share(&same)
    }
}

impl Task for Rewrites {
    fn items(&self, data: &Path) -> Result<Items> {
        let read = Rows::read(&[data], &ReadOptions::default())?;
        let name = data.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sha256 = BTreeMap::from([(name, read.sha256())]);
        Ok(Items { items: Self::items_of(read.rows, &data.display().to_string())?, sha256 })
    }

    fn requests(&self, item: &Item) -> Result<Vec<Request>> {
        let rewrite = Self::rewrite(item)?;
        let mut requests = Vec::new();
        for probe in rewrite.probes() {
            requests.push(Request::Beginning(probe.content(probe.new)));
            requests.extend(probe.by_rights.map(|answer| Request::Beginning(probe.content(answer))));
            if self.max_new_tokens > 0 {
                let content = probe.content(probe.wanted().unwrap_or(probe.new));
                let max_new_tokens = self.max_new_tokens;
                requests.push(Request::Generation(Generation { content, max_new_tokens }));
            }
        }
        Ok(requests)
    }

    fn score(&self, item: &Item, answers: &[Answer]) -> Result<Scores> {
        let rewrite = Self::rewrite(item)?;
        let probes = rewrite.probes();
        let probed = self.probed(&probes, answers)?;
        let mut scores = Scores::new();
        for (aspect, name) in ASPECTS.into_iter().enumerate() {
            let own = || probes.iter().zip(&probed).filter(move |(probe, _)| probe.aspect == aspect);
            let says: Vec<bool> = own().filter_map(|(probe, probed)| probe.says(probed)).collect();
            let prefers: Vec<bool> = own().filter_map(|(probe, probed)| probe.prefers(probed)).collect();
            let tokens: Vec<f64> = own().filter_map(|(probe, probed)| probe.tokens(probed)).collect();
            // Whether others stayed as they were is not known from one model alone.
            let free = if aspect == 2 { "neighbours_right".to_owned() } else { name.to_owned() };
            scores.extend(share(&says).map(|share| (free, share)));
            scores.extend(share(&prefers).map(|share| (format!("forced_{name}"), share)));
            let mean = (!tokens.is_empty()).then(|| tokens.iter().sum::<f64>() / tokens.len() as f64);
            scores.extend(mean.map(|mean| (format!("token_{name}"), mean)));
        }
        scores.insert("logprob_new".to_owned(), probed[0].new.logprob());
        scores.extend(probed[0].by_rights.map(|answer| ("logprob_true".to_owned(), answer.logprob())));
        Ok(scores)
    }

    fn aggregate(&self, samples: &[Sample], reference: Option<&[Sample]>) -> Summary {
        figures(self, samples, reference)
    }

    fn uses_reference(&self) -> bool {
        true
    }
}

/// The figures over all edits, the strictest first. `before` are the samples of the unedited model.
pub fn figures(task: &Rewrites, samples: &[Sample], before: Option<&[Sample]>) -> Summary {
    let unedited: Option<HashMap<&str, &Sample>> =
        before.map(|before| before.iter().map(|sample| (sample.item.id.as_str(), sample)).collect());
    let locality = |sample: &Sample| {
        let before = unedited.as_ref()?.get(sample.item.id.as_str())?;
        task.unchanged(sample, before)
    };
    let of = |name: &str| -> Vec<Option<f64>> {
        let score = |sample: &Sample| match name {
            "locality" => locality(sample),
            name => sample.scores.get(name).copied().filter(|score| !score.is_nan()),
        };
        samples.iter().map(score).collect()
    };
    let mut summary = Summary::default();
    for kind in ["", "forced_", "token_"] {
        let names = ASPECTS.map(|aspect| format!("{kind}{aspect}"));
        let values: Vec<Vec<Option<f64>>> = names.iter().map(|name| of(name)).collect();
        for (name, values) in names.iter().zip(&values) {
            let there: Vec<f64> = values.iter().copied().flatten().collect();
            let reason = || missing(task, name, before.is_some());
            summary.add(name, (!there.is_empty()).then(|| Figure::mean(&there)).ok_or_else(reason));
        }
        // Of token shares nobody takes it.
        if kind != "token_" {
            let all =
                harmonic_of_means(&values).ok_or_else(|| "one of its three figures is missing".to_owned());
            summary.add(format!("{kind}score"), all);
        }
    }
    let right: Vec<f64> = of("neighbours_right").into_iter().flatten().collect();
    if !right.is_empty() {
        summary.add("neighbours_right", Ok(Figure::mean(&right)));
    }
    summary
}

fn missing(task: &Rewrites, name: &str, has_before: bool) -> String {
    match name {
        "efficacy" | "generalisation" | "locality" if task.max_new_tokens == 0 => {
            "the model was not asked to write (`max_new_tokens` is 0)".into()
        }
        "locality" if !has_before => {
            "what the unedited model writes is not known (--reference-log tells it)".into()
        }
        name if name.starts_with("forced_") => "no edit has such prompts with a right answer".into(),
        _ => "no edit has such prompts".into(),
    }
}

fn share(hits: &[bool]) -> Option<f64> {
    let count = hits.iter().filter(|&&hit| hit).count();
    (!hits.is_empty()).then(|| count as f64 / hits.len() as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TASK: Rewrites = Rewrites { max_new_tokens: 8 };

    fn item(id: &str) -> Item {
        let row = json!({
            "prompt": "{} plays", "subject": "Ann", "target_new": "chess", "target_true": "golf",
            "paraphrases": ["Now Ann plays", "Ann likes"], "neighbours": [{ "prompt": "Bob plays", "answer": "golf" }],
        });
        Item { set: String::new(), id: id.into(), row: row.as_object().unwrap().clone() }
    }

    fn likelihood(logprobs: &[f32]) -> Answer {
        let greedy = logprobs.iter().map(|&logprob| logprob > -0.6).collect();
        Answer::Likelihood(Likelihood { logprobs: logprobs.to_vec(), greedy })
    }

    fn written(text: &str) -> Answer {
        Answer::Written(Written { prompt: String::new(), text: Some(text.into()) })
    }

    /// Prompt, two paraphrases and a neighbour: likelihoods of both targets, and what is written.
    fn answers(said: [&str; 4]) -> Vec<Answer> {
        let [prompt, first, second, neighbour] = said;
        vec![
            likelihood(&[-0.1, -0.2]),
            likelihood(&[-0.2]),
            written(prompt),
            likelihood(&[-0.1, -0.1]),
            likelihood(&[-3.0]),
            written(first),
            likelihood(&[-5.0, -0.1]),
            likelihood(&[-1.0]),
            written(second),
            likelihood(&[-4.0, -0.1]),
            likelihood(&[-0.5]),
            written(neighbour),
        ]
    }

    fn sample(id: &str, said: [&str; 4]) -> Sample {
        let (item, answers) = (item(id), answers(said));
        let scores = TASK.score(&item, &answers).unwrap();
        Sample { item, answers, scores }
    }

    #[test]
    fn what_is_asked_is_answered_in_the_same_order() {
        let requests = TASK.requests(&item("a")).unwrap();
        assert_eq!(requests.len(), 12);
        let Request::Beginning(Content::PromptCompletion { prompt, completion }) = &requests[0] else {
            panic!()
        };
        assert_eq!((prompt.as_str(), completion.as_str()), ("Ann plays", " chess"));
        let Request::Generation(Generation { content, max_new_tokens: 8 }) = &requests[11] else { panic!() };
        assert_eq!(content.prompt(), "Bob plays");
        let silent = Rewrites { max_new_tokens: 0 };
        assert_eq!(silent.requests(&item("a")).unwrap().len(), 8);
        assert!(TASK.score(&item("a"), &answers(["", "", "", ""])[..11]).is_err());
        assert!(silent.score(&item("a"), &answers(["", "", "", ""])).is_err());
    }

    #[test]
    fn scores_of_known_answers() {
        let scores = sample("a", ["chess. Then", "chessboard", "chess", "golf"]).scores;
        let score = |name: &str| scores[name];
        assert_eq!((score("efficacy"), score("generalisation")), (1.0, 0.5), "chessboard is another word");
        // −0.3 of the whole new target is less than −0.2 of the true one.
        assert_eq!((score("forced_efficacy"), score("forced_generalisation")), (0.0, 0.5));
        assert_eq!((score("token_efficacy"), score("token_generalisation")), (1.0, 0.75));
        assert_eq!((score("forced_locality"), score("token_locality")), (1.0, 1.0));
        assert_eq!(score("neighbours_right"), 1.0);
        assert!(!scores.contains_key("locality"), "it takes two models to know");
        assert!((score("logprob_new") + 0.3).abs() < 1e-6 && (score("logprob_true") + 0.2).abs() < 1e-6);
    }

    #[test]
    fn others_stay_as_they_were() {
        let before = [sample("a", ["golf", "golf", "golf", "golf and"]), sample("b", ["golf"; 4])];
        let after =
            [sample("a", ["chess", "chess", "golf", "golf and"]), sample("b", ["chess", "x", "x", "chess"])];
        let summary = TASK.aggregate(&after, Some(&before));
        let value = |name: &str| summary.figure(name).unwrap().value;
        assert_eq!((value("efficacy"), value("generalisation"), value("locality")), (1.0, 0.25, 0.5));
        assert!((value("score") - 3.0 / (1.0 + 4.0 + 2.0)).abs() < 1e-12);
        assert_eq!(summary.figure("score").unwrap().n, 2);
        assert_eq!(value("neighbours_right"), 0.5);
        let alone = TASK.aggregate(&after, None);
        assert!(alone.figure("locality").is_none() && alone.figure("score").is_none());
        assert!(
            alone.missing.iter().any(|(name, why)| name == "locality" && why.contains("--reference-log"))
        );
        let same = TASK.aggregate(&before, Some(&before));
        assert_eq!(same.figure("locality").unwrap().value, 1.0, "a model agrees with itself");
        assert_eq!(same.figure("score").unwrap().value, 0.0, "and was not edited");
    }

    #[test]
    fn a_case_that_comes_again_has_a_name_of_its_own() {
        let row = |id: u32| {
            json!({ "case_id": id, "prompt": "{} is", "subject": "A", "target_new": "b" })
                .as_object()
                .unwrap()
                .clone()
        };
        let items = Rewrites::items_of(vec![row(7), row(8), row(7)], "f").unwrap();
        let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, ["7", "8", "7-2"]);
        let error = Rewrites::items_of(vec![row(7), Row::new()], "edits.json").unwrap_err().to_string();
        assert!(error.contains("edits.json: record 2: it has no `prompt`"), "{error}");
    }
}
