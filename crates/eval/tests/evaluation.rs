//! Items, requests, answers, scores and figures, with a small model and with answers made up.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

#[path = "../../../tests/data.rs"]
mod data;

use std::cell::Cell;
use std::path::Path;

use amend_engine::tokenizer::{Tokenizer, train_bpe};
use amend_engine::{Example, Model};
use amend_eval::rewrite::{Neighbour, Rewrite, Rewrites};
use amend_eval::task::{Tofu, WikiText};
use amend_eval::world::{Split, World, WorldConfig, jsonl};
use amend_eval::{
    Answer, Answerer, Benchmark, Generation, Item, Items, Likelihood, Request, Sample, SampleLog, Scores,
    Subject, Summary, Task, Written, evaluate, questions, recorded,
};
use amend_learn::{Error, RecordEncoder, Result, Template};
use amend_run::records::Row;
use amend_run::{Content, Figure, Record, Silent, Stop};
use serde_json::{Map, json};

/// A model of random weights, and the words it knows.
struct Asked {
    model: Model,
    tokenizer: Tokenizer,
}

impl Asked {
    fn new() -> Self {
        Self::reading(96)
    }

    /// One that reads so many tokens.
    fn reading(context: usize) -> Self {
        let words = "Question: Answer: was is born in the of work as a writer What Where Who";
        let tokenizer = train_bpe([words].into_iter(), 300, &[]).unwrap();
        let config = json!({
            "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 24, "vocab_size": tokenizer.vocab_size(),
            "max_position_embeddings": context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
        });
        let mut model = Model::random(config.as_object().unwrap().clone(), 3).unwrap();
        model.set_special_tokens(tokenizer.bos(), tokenizer.eos(), tokenizer.pad());
        Asked { model, tokenizer }
    }

    fn ask<T>(&self, act: impl FnOnce(&Subject<'_>) -> T) -> T {
        let encoder = RecordEncoder::new(&self.tokenizer, Template::default(), self.model.spec().context);
        act(&Subject::new(&self.model, &self.tokenizer, &encoder))
    }
}

/// TOFU's files with the world's people in them.
fn tofu_files(dir: &Path) -> Tofu {
    let world = World::generate(WorldConfig { people: 30, ..WorldConfig::default() }).unwrap();
    let sets = [Split::Forget, Split::Retain, Split::Holdout, Split::Holdout];
    let files = ["forget01", "retain", "real_authors", "world_facts"];
    for (split, file) in sets.into_iter().zip(files) {
        let text = jsonl(&world.records(split)).unwrap();
        std::fs::write(dir.join(format!("{file}_perturbed.json")), text).unwrap();
    }
    Tofu { split: "forget01".into(), limit: 9, max_new_tokens: 2 }
}

fn made_with(what: &str) -> Map<String, serde_json::Value> {
    Map::from_iter([("task".to_owned(), json!("tofu")), ("model".to_owned(), json!(what))])
}

fn all(
    task: &dyn Task,
    items: &[Item],
    answerer: &dyn Answerer,
    log: Option<&mut SampleLog>,
) -> Result<Vec<Sample>> {
    evaluate(task, items, answerer, log, &Silent, &Stop::default())
}

/// Fails at a given call, as a model does that runs out of memory or a machine that is switched off.
struct Failing<'a> {
    inner: &'a dyn Answerer,
    calls: Cell<usize>,
}

impl Answerer for Failing<'_> {
    fn answer(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        match self.calls.get().checked_sub(1) {
            Some(left) => self.calls.set(left),
            None => return Err(Error::invalid("switched off")),
        }
        self.inner.answer(requests)
    }
}

#[test]
fn an_interrupted_evaluation_ends_with_the_bytes_of_one_that_was_not() {
    let [data, whole, cut] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let task = tofu_files(data.path());
    let data = task.items(data.path()).unwrap();
    let items = &data.items;
    assert_eq!(items.len(), 36);
    let bytes = |dir: &Path| std::fs::read(dir.join("samples.jsonl")).unwrap();
    let asked = Asked::new();
    asked.ask(|subject| {
        let mut log = SampleLog::open(whole.path(), &made_with("a"), &data).unwrap();
        let samples = all(&task, items, subject, Some(&mut log)).unwrap();
        drop(log);
        let expected = bytes(whole.path());

        // Stopped by an error between two pieces.
        let failing = Failing { inner: subject, calls: Cell::new(1) };
        let mut log = SampleLog::open(cut.path(), &made_with("a"), &data).unwrap();
        assert!(all(&task, items, &failing, Some(&mut log)).is_err());
        drop(log);
        let first = bytes(cut.path());
        assert!(!first.is_empty() && first.len() < expected.len() && expected.starts_with(&first));
        let mut log = SampleLog::open(cut.path(), &made_with("a"), &data).unwrap();
        assert!(!log.is_empty() && log.len() < items.len());
        assert_eq!(all(&task, items, subject, Some(&mut log)).unwrap(), samples);
        drop(log);
        assert_eq!(bytes(cut.path()), expected);

        // Killed while a line was written: anywhere in the file, at its ends too.
        for length in
            (0..expected.len()).step_by(expected.len() / 3).chain([expected.len() - 1, expected.len()])
        {
            std::fs::write(cut.path().join("samples.jsonl"), &expected[..length]).unwrap();
            let mut log = SampleLog::open(cut.path(), &made_with("a"), &data).unwrap();
            let whole_lines = expected[..length].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(log.len(), whole_lines);
            assert_eq!(all(&task, items, subject, Some(&mut log)).unwrap(), samples);
            assert_eq!(bytes(cut.path()), expected, "cut at byte {length}");
        }
        // A finished one asks nothing.
        let nobody = Failing { inner: subject, calls: Cell::new(0) };
        let mut log = SampleLog::open(whole.path(), &made_with("a"), &data).unwrap();
        assert_eq!(all(&task, items, &nobody, Some(&mut log)).unwrap(), samples);
    });
}

#[test]
fn samples_of_something_else_are_refused() {
    let [folder, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let task = tofu_files(folder.path());
    let read = || {
        let mut data = task.items(folder.path()).unwrap();
        data.items.truncate(2);
        data
    };
    let mut data = read();
    let path = out.path().join("samples.jsonl");
    Asked::new().ask(|subject| {
        let open = |what: &str, data: &Items| SampleLog::open(out.path(), &made_with(what), data);
        let refused = |what: &str, data: &Items| open(what, data).unwrap_err().to_string();
        let mut log = open("a", &data).unwrap();
        all(&task, &data.items, subject, Some(&mut log)).unwrap();
        drop(log);
        let error = refused("b", &data);
        assert!(error.contains("another model: \"a\" and not \"b\""), "{error}");
        data.items[1].row.insert("answer".into(), json!("something else"));
        let mut log = open("a", &data).unwrap();
        let error = all(&task, &data.items, subject, Some(&mut log)).unwrap_err().to_string();
        drop(log);
        assert!(error.contains("item 1 of set \"retain\""), "{error}");
        data.items[1] = data.items[0].clone();
        let error = all(&task, &data.items, subject, None).unwrap_err().to_string();
        assert!(error.contains("two items of set retain are called 0"), "{error}");

        // The same items from a file with another byte in it.
        let file = folder.path().join("retain_perturbed.json");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}\n")).unwrap();
        let error = refused("a", &read());
        assert!(error.contains("another data.retain_perturbed.json: \""), "{error}");
        std::fs::write(&file, text).unwrap();

        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{{}}\n{whole}")).unwrap();
        let error = refused("a", &read());
        assert!(error.contains("samples.jsonl:1: this is no sample"), "{error}");
        std::fs::write(&path, whole).unwrap();
        std::fs::remove_file(out.path().join("evaluation.json")).unwrap();
        let error = refused("a", &read());
        assert!(error.contains("samples of another evaluation"), "{error}");
    });
}

#[test]
fn samples_left_over_from_another_evaluation_are_refused() {
    let [folder, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let task = tofu_files(folder.path());
    let mut data = task.items(folder.path()).unwrap();
    data.items.truncate(3);
    Asked::new().ask(|subject| {
        let open = |data: &Items| SampleLog::open(out.path(), &made_with("a"), data);
        all(&task, &data.items, subject, Some(&mut open(&data).unwrap())).unwrap();
        std::fs::remove_file(out.path().join("evaluation.json")).unwrap();
        let samples = std::fs::read(out.path().join("samples.jsonl")).unwrap();
        std::fs::remove_file(out.path().join("samples.jsonl")).unwrap();
        data.items.truncate(2);
        drop(open(&data).unwrap());
        std::fs::write(out.path().join("samples.jsonl"), samples).unwrap();
        let nobody = Failing { inner: subject, calls: Cell::new(0) };
        let error =
            all(&task, &data.items, &nobody, Some(&mut open(&data).unwrap())).unwrap_err().to_string();
        assert!(error.contains("samples.jsonl: item 2 of set \"retain\" is not in the data"), "{error}");
    });
}

/// The second appended the answers of the first once more, and cut the line that the first was writing.
#[test]
fn two_evaluations_do_not_write_to_one_folder() {
    let [folder, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let task = tofu_files(folder.path());
    let data = task.items(folder.path()).unwrap();
    let path = out.path().join("samples.jsonl");
    Asked::new().ask(|subject| {
        let open = || SampleLog::open(out.path(), &made_with("a"), &data);
        let mut log = open().unwrap();
        assert!(open().unwrap_err().to_string().contains("is in use by another process"));
        all(&task, &data.items, subject, Some(&mut log)).unwrap();
        drop(log);
        let once = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, once.clone() + once.lines().nth(1).unwrap() + "\n").unwrap();
        let twice = "samples.jsonl:37: item 1 of set retain is answered a second time";
        for error in [open().unwrap_err(), recorded(&task, &path).unwrap_err()] {
            assert!(error.to_string().contains(twice), "{error}");
        }
        std::fs::write(&path, once).unwrap();
        assert_eq!(open().unwrap().len(), 36);
    });
}

/// Figures of the items that happened to be answered before a stop once looked like those of all.
#[test]
fn an_evaluation_that_is_not_finished_has_no_figures() {
    let [folder, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let task = tofu_files(folder.path());
    let data = task.items(folder.path()).unwrap();
    let path = out.path().join("samples.jsonl");
    Asked::new().ask(|subject| {
        let open = || SampleLog::open(out.path(), &made_with("a"), &data).unwrap();
        drop(open());
        let error = || recorded(&task, &path).unwrap_err().to_string();
        assert!(error().contains("samples.jsonl: 0 of 36 items are answered; go on"), "{}", error());
        let failing = Failing { inner: subject, calls: Cell::new(1) };
        all(&task, &data.items, &failing, Some(&mut open())).unwrap_err();
        assert!(error().contains("samples.jsonl: 32 of 36 items are answered; go on"), "{}", error());
        let elsewhere = out.path().join("these.jsonl");
        std::fs::copy(&path, &elsewhere).unwrap();
        assert_eq!(recorded(&task, &elsewhere).unwrap().len(), 32);
        let samples = all(&task, &data.items, subject, Some(&mut open())).unwrap();
        assert_eq!(recorded(&task, &path).unwrap(), samples);
    });
}

#[test]
fn answers_do_not_depend_on_what_else_is_asked() {
    let data = tempfile::tempdir().unwrap();
    let task = tofu_files(data.path());
    let items = task.items(data.path()).unwrap().items;
    Asked::new().ask(|subject| {
        let together = all(&task, &items, subject, None).unwrap();
        for (item, sample) in items.iter().zip(&together).step_by(7) {
            assert_eq!(
                all(&task, std::slice::from_ref(item), subject, None).unwrap(),
                std::slice::from_ref(sample)
            );
        }
        let written = |sample: &Sample| sample.answers.last().unwrap().written().unwrap().clone();
        assert!(together.iter().all(|sample| written(sample).prompt.starts_with("Question: ")));
        assert!(together.iter().any(|sample| written(sample).text.is_some_and(|text| !text.is_empty())));
    });
}

/// A text was asked for that nobody wrote.
#[test]
fn of_documents_only_the_likelihood_is_asked() {
    let text = "the work of a writer";
    let rows = [json!({ "text": text }), json!({ "question": "What is the work?", "answer": "a writer" })];
    let records = rows.map(|row| Record::try_from(row.as_object().unwrap().clone()).unwrap());
    let document = Request::Likelihood(Content::Text(text.into()));
    assert_eq!(questions::requests(&records[0], 4), [document]);
    assert!(matches!(
        questions::requests(&records[1], 4)[..],
        [Request::Likelihood(_), Request::Generation(_)]
    ));
    Asked::new().ask(|subject| {
        let answered = questions::ask(&records, 4, subject).unwrap();
        let [document, question] = [0, 1].map(|i| &answered[i].measured);
        assert_eq!((document.prompt.as_str(), &document.generation), (text, &None));
        assert!(document.answer_loss.tokens > 2 && !answered[0].matches.is_empty());
        assert!(question.prompt.starts_with("Question: "));
    });
    let error = questions::answered(&records[0], &[]).unwrap_err().to_string();
    assert!(error.contains("has 0 answers, not the 1 that were asked for"), "{error}");
}

/// Answers of a model, answers that were kept, and the benchmark's own log come to the same figures.
#[test]
fn recorded_answers_and_official_logs_take_the_same_way() {
    let [data, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let task = tofu_files(data.path());
    let data = task.items(data.path()).unwrap();
    let mut log = SampleLog::open(out.path(), &made_with("a"), &data).unwrap();
    let samples = Asked::new().ask(|subject| all(&task, &data.items, subject, Some(&mut log)).unwrap());
    let summary = task.aggregate(&samples, Some(&samples));
    assert_eq!(summary.figure("model_utility").unwrap().n, 27);
    assert_eq!(summary.figure("forget_quality").unwrap().value, 1.0);
    assert_eq!(summary.figure("forget/probability").unwrap().n, 9);

    let kept = recorded(&task, &out.path().join("samples.jsonl")).unwrap();
    assert_eq!(kept, samples);
    let official = task.write_log(&samples, out.path()).unwrap().unwrap();
    let logged = recorded(&task, &official).unwrap();
    assert!(logged.iter().all(|sample| sample.answers.is_empty()));
    same_figures(&task.aggregate(&logged, Some(&logged)), &summary);
    // Without answers the scores count as they are.
    SampleLog::write(out.path(), &logged).unwrap();
    let logged = recorded(&task, &out.path().join("samples.jsonl")).unwrap();
    same_figures(&task.aggregate(&logged, Some(&logged)), &summary);
    let error = WikiText::default().read_log(&official).unwrap_err().to_string();
    assert!(error.contains("log.json") && error.contains("samples.jsonl"), "{error}");
}

/// An empty text that nobody asked for once gave a ROUGE and a model utility of 0.
#[test]
fn what_rests_on_text_is_missing_with_the_reason_where_none_was_asked_for() {
    let [data, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let task = Tofu { max_new_tokens: 0, ..tofu_files(data.path()) };
    let data = task.items(data.path()).unwrap();
    let mut log = SampleLog::open(out.path(), &made_with("a"), &data).unwrap();
    let samples = Asked::new().ask(|subject| all(&task, &data.items, subject, Some(&mut log)).unwrap());
    let kept = recorded(&task, &out.path().join("samples.jsonl")).unwrap();
    for samples in [&samples, &kept] {
        let summary = task.aggregate(samples, Some(samples));
        let reason = |name: &str| &summary.missing.iter().find(|(other, _)| other == name).unwrap().1;
        for name in ["model_utility", "retain/rouge_l_recall", "forget/rouge_l_recall"] {
            assert!(summary.figure(name).is_none() && reason(name).contains("max_new_tokens"), "{name}");
        }
        assert!(summary.figure("forget/rouge1_recall").is_none());
        assert_eq!(summary.figure("forget_quality").unwrap().value, 1.0);
        assert_eq!(summary.figure("forget/probability").unwrap().n, 9);
        assert_eq!(summary.figure("retain/truth_ratio").unwrap().n, 9);
    }
    assert_eq!(task.write_log(&samples, out.path()).unwrap(), None);
}

/// A question that left no room for its answer once had a perfect score.
#[test]
fn a_question_that_fills_the_context_is_refused_by_its_text() {
    let question = format!("Who was born in the work of {}", "a writer ".repeat(40));
    let content = Content::Question { question, answer: "a writer".into() };
    let ask = |request: Request| Asked::reading(24).ask(|subject| subject.answer(&[request]));
    let error = ask(Request::Likelihood(content.clone())).unwrap_err().to_string();
    assert!(error.contains("Who was born in the work") && error.contains("the model reads 24"), "{error}");
    // Nor can it be answered.
    let written = ask(Request::Generation(Generation { content, max_new_tokens: 4 })).unwrap();
    assert_eq!(written[0].written().unwrap().text, None);
}

/// To within what reading a decimal number may lose.
fn same_figures(ours: &Summary, theirs: &Summary) {
    assert_eq!((ours.figures.len(), &ours.missing), (theirs.figures.len(), &theirs.missing));
    for ((name, ours), (other, theirs)) in ours.figures.iter().zip(&theirs.figures) {
        assert_eq!((name, ours.n), (other, theirs.n));
        assert!((ours.value - theirs.value).abs() <= 1e-12, "{name}: {ours} {theirs}");
    }
}

/// A text longer than the context is scored in windows; every token counts once, as it would alone.
#[test]
fn long_texts_are_scored_in_windows() {
    let asked = Asked::new();
    let text = "the work of a writer was born in the work ".repeat(20);
    let ids = asked.tokenizer.encode(&text, false).unwrap();
    let context = asked.model.spec().context;
    assert!(ids.len() > 2 * context && !ids.len().is_multiple_of(context));
    let answers = asked.ask(|subject| subject.answer(&[Request::Rolling(text)]).unwrap());
    let rolling = answers[0].likelihood().unwrap();
    assert_eq!((rolling.logprobs.len(), rolling.greedy.len()), (ids.len(), ids.len()));
    let first: Vec<u32> =
        asked.tokenizer.bos().into_iter().chain(ids[..context - 1].iter().copied()).collect();
    let scored = asked.model.scored(&[Example::text(first)], 4096).unwrap().swap_remove(0);
    assert_eq!(rolling.logprobs[..context - 1], scored.logprobs[..]);
    let last = asked.model.scored(&[Example::text(ids[ids.len() - context - 1..].to_vec())], 4096).unwrap();
    let tail = ids.len() % context;
    assert_eq!(rolling.logprobs[ids.len() - tail..], last[0].logprobs[context - tail..]);
}

#[test]
fn continuations_are_split_and_cut_as_the_harness_does() {
    let asked = Asked::new();
    let context = asked.model.spec().context;
    let encode = |text: &str| asked.tokenizer.encode(text, false).unwrap();
    let ask = |context: &str, continuation: &str| {
        let request = Request::Continuation { context: context.into(), continuation: continuation.into() };
        asked.ask(|subject| subject.answer(&[request]))
    };
    let logprobs = |ids: Vec<u32>, scored: usize| {
        let scored = (0..ids.len()).map(|i| i >= ids.len() - scored).collect();
        asked.model.score(&[Example { ids, scored }], 4096).unwrap().swap_remove(0)
    };
    let answer = |context: &str, continuation: &str| {
        ask(context, continuation).unwrap()[0].likelihood().unwrap().logprobs.clone()
    };
    let whole = encode("the work of a writer");
    let expected = logprobs(whole.clone(), whole.len() - encode("the work").len());
    assert_eq!(answer("the work", " of a writer"), expected);
    assert_eq!(answer("the work ", "of a writer"), expected, "white space goes with the continuation");
    let alone: Vec<u32> = asked.tokenizer.bos().into_iter().chain(encode("of a writer")).collect();
    assert_eq!(answer("", "of a writer"), logprobs(alone.clone(), alone.len() - 1));
    let long = "the work of a writer ".repeat(40);
    let all = encode(&format!("{long}was born"));
    assert!(all.len() > 2 * context);
    let tail = all[all.len() - context - 1..].to_vec();
    assert_eq!(answer(&long, "was born"), logprobs(tail, all.len() - encode(long.trim_end()).len()));
    let error = ask("the work", &long).unwrap_err().to_string();
    assert!(error.contains(&format!("the model reads {context}")), "{error}");
    assert!(ask("the work", "").unwrap_err().to_string().contains("has 0 tokens"));
}

#[test]
fn wikitext_is_measured_per_word_and_byte() {
    let data = tempfile::tempdir().unwrap();
    let tokens = " = One = \n \n the work @-@ of a writer \n = Two = \n \n was born in the work \n";
    // Under the name that the data set has it.
    std::fs::write(data.path().join("wiki.test.tokens"), tokens).unwrap();
    let Benchmark::WikiText(task) = Benchmark::choose("wikitext", &[]).unwrap() else { panic!() };
    let items = task.items(data.path()).unwrap().items;
    assert_eq!(items.len(), 2);
    let summary =
        Asked::new().ask(|subject| task.aggregate(&all(&task, &items, subject, None).unwrap(), None));
    let value = |name: &str| summary.figure(name).unwrap().value;
    assert!(value("word_perplexity") > value("byte_perplexity") && value("byte_perplexity") > 1.0);
    assert!((value("byte_perplexity").log2() - value("bits_per_byte")).abs() < 1e-12);
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn truthfulqa_takes_its_official_file() {
    let data = data::test_data().join("tasks/truthfulqa");
    let sets = ["file=mc_task_even.json".to_owned(), "limit=2".to_owned()];
    let benchmark = Benchmark::choose("truthfulqa", &sets).unwrap();
    let task = benchmark.filler();
    let items = task.items(&data).unwrap().items;
    assert_eq!(items.len(), 2);
    let samples = Asked::reading(1024).ask(|subject| all(task, &items, subject, None).unwrap());
    let summary = task.aggregate(&samples, None);
    let share = summary.figure("mc2").unwrap();
    assert!(share.n == 2 && share.value > 0.0 && share.value < 1.0, "{share}");
    assert!(samples.iter().all(|sample| sample.score("mc1") == 0.0 || sample.score("mc1") == 1.0));
}

#[test]
fn tasks_and_options_are_chosen_by_name() {
    let chosen = Benchmark::choose("tofu", &["split=forget05".into(), "limit=7".into()]).unwrap();
    assert_eq!(chosen, Benchmark::Tofu(Tofu { split: "forget05".into(), limit: 7, ..Tofu::default() }));
    let error = format!("{:?}", Benchmark::choose("tofoo", &[]).unwrap_err());
    assert!(error.contains("tofu"), "{error}");
    let error = format!("{:?}", Benchmark::choose("tofu", &["splt=forget05".into()]).unwrap_err());
    assert!(error.contains("splt") && error.contains("split"), "{error}");
    for task in amend_eval::task::tasks() {
        assert_eq!(amend_run::missing_headings(&task.doc()), Vec::<&str>::new(), "{}", task.name());
    }
}

/// A judge that is asked again where the first answer holds no verdict, as pairwise protocols do.
struct Judged;

impl Task for Judged {
    fn items(&self, _data: &Path) -> Result<Items> {
        let item = |n: usize| Item {
            set: String::new(),
            id: n.to_string(),
            row: Row::from_iter([("n".into(), n.into())]),
        };
        Ok(Items { items: (0..70).map(item).collect(), ..Items::default() })
    }

    fn requests(&self, item: &Item) -> Result<Vec<Request>> {
        let ask = |order: &str| question(&format!("{}{order}", item.id));
        Ok(vec![ask("ab"), ask("ba")])
    }

    fn follow_up(&self, item: &Item, answers: &[Answer]) -> Result<Vec<Request>> {
        let undecided = answers
            .iter()
            .filter(|answer| answer.written().is_some_and(|w| w.text.as_deref() == Some("")))
            .count();
        let again = if answers.len() == 2 { undecided } else { 0 };
        Ok(vec![question(&format!("{} again", item.id)); again])
    }

    fn score(&self, _item: &Item, answers: &[Answer]) -> Result<Scores> {
        Ok(Scores::from([("asked".to_owned(), answers.len() as f64)]))
    }

    fn aggregate(&self, samples: &[Sample], _reference: Option<&[Sample]>) -> Summary {
        let mut summary = Summary::default();
        let asked: Vec<f64> = samples.iter().map(|sample| sample.score("asked")).collect();
        summary.add("asked", Ok(Figure::mean(&asked)));
        summary.add("agreement", Err("nobody was compared with".to_owned()));
        summary
    }
}

fn question(text: &str) -> Request {
    let content = Content::Question { question: text.to_owned(), answer: String::new() };
    Request::Generation(Generation { content, max_new_tokens: 1 })
}

/// Says nothing to questions whose number is divisible by three, until asked again.
struct Reluctant;

impl Answerer for Reluctant {
    fn answer(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        let answer = |request: &Request| {
            let Request::Generation(Generation { content: Content::Question { question, .. }, .. }) = request
            else {
                return Answer::Likelihood(Likelihood::default());
            };
            let number: usize = question.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
            let silent = number.is_multiple_of(3) && !question.contains("again");
            let text = if silent { String::new() } else { question.clone() };
            Answer::Written(Written { prompt: question.clone(), text: Some(text) })
        };
        Ok(requests.iter().map(answer).collect())
    }
}

#[test]
fn what_is_asked_next_follows_from_the_answers() {
    let items = Judged.items(Path::new("")).unwrap().items;
    let samples = all(&Judged, &items, &Reluctant, None).unwrap();
    for (n, sample) in samples.iter().enumerate() {
        let texts: Vec<&str> =
            sample.answers.iter().map(|a| a.written().unwrap().text.as_deref().unwrap()).collect();
        let again = format!("{n} again");
        let [first, second] = [format!("{n}ab"), format!("{n}ba")];
        assert_eq!(
            texts,
            if n % 3 == 0 {
                vec!["", "", again.as_str(), again.as_str()]
            } else {
                vec![first.as_str(), second.as_str()]
            }
        );
    }
    let summary = serde_json::Value::from(Judged.aggregate(&samples, None).to_json());
    assert_eq!(summary["figures"]["asked"]["n"], 70);
    assert_eq!(summary["missing"]["agreement"], "nobody was compared with");
}

/// CounterFact in its own nesting and flat, and zsRE, as others have put them into repositories.
#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn editing_benchmarks_are_read_whole() {
    let tasks = data::test_data().join("tasks");
    let probes = |file: &str| {
        let task = Rewrites { max_new_tokens: 4 };
        let items = task.items(&tasks.join(file)).unwrap().items;
        let rewrites: Vec<Rewrite> = items.iter().map(|item| Rewrites::rewrite(item).unwrap()).collect();
        for rewrite in &rewrites {
            assert_eq!(rewrite.prompt[rewrite.place.clone()], rewrite.subject);
            assert!(rewrite.target_true.is_some() && !rewrite.target_new.is_empty());
        }
        let first = &rewrites[0];
        (
            items.len(),
            first.paraphrases.len(),
            first.neighbours.len(),
            task.requests(&items[0]).unwrap().len(),
        )
    };
    assert_eq!(probes("editing/counterfact-edit-500.json"), (500, 1, 1, 9));
    assert_eq!(probes("editing/zsre-500.json"), (500, 1, 1, 9));
    assert_eq!(probes("superficial-editing/llama3-8b-it/counterfact_rep.json"), (202, 2, 10, 39));
}

/// What a model writes and how likely it finds it, of facts of the world.
#[test]
fn rewrites_of_the_world_are_asked_and_scored() {
    let world = World::generate(WorldConfig { people: 20, forget: 0.3, ..WorldConfig::default() }).unwrap();
    let rewrites = world.rewrites(Split::Forget, |prompt| format!("Question: {prompt}\nAnswer:"));
    assert_eq!(rewrites.len(), world.people_of(Split::Forget).count());
    for rewrite in &rewrites {
        assert_eq!(rewrite.prompt[rewrite.place.clone()], rewrite.subject);
        assert_ne!(Some(&rewrite.target_new), rewrite.target_true.as_ref());
        let apart = |other: &Neighbour| {
            !other.prompt.contains(&rewrite.subject) && other.answer.as_ref() != Some(&rewrite.target_new)
        };
        assert!(!rewrite.neighbours.is_empty() && rewrite.neighbours.iter().all(apart));
        assert_eq!(&Rewrite::of(&Row::from(rewrite)).unwrap(), rewrite);
    }
    let task = Rewrites { max_new_tokens: 3 };
    let items = Rewrites::items_of(rewrites.iter().take(4).map(Row::from).collect(), "world").unwrap();
    let asked = Asked::new();
    let samples =
        asked.ask(|subject| evaluate(&task, &items, subject, None, &Silent, &Stop::default())).unwrap();
    let summary = task.aggregate(&samples, Some(&samples));
    assert_eq!(summary.figure("locality").unwrap().value, 1.0);
    assert_eq!(summary.figure("efficacy").unwrap().value, 0.0);
    // The end of the answer is open: likelihoods are those of the target's own tokens.
    let target = asked.tokenizer.encode(&format!(" {}", rewrites[0].target_new), false).unwrap();
    assert_eq!(samples[0].answers[0].likelihood().unwrap().logprobs.len(), target.len());
}
