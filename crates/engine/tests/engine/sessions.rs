//! Requests that come and go, stop, wait and share, each answered as if it were alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;

use crate::small_models::{config, models};
use amend_engine::generate::{
    Event, Finish, GenerateOptions, Generated, Request, RequestId, Sampling, Session, SessionOptions,
};
use amend_engine::tokenizer::{Tokenizer, train_bpe};
use amend_engine::{Example, Model, Rng};
use proptest::prelude::*;
use serde_json::json;

fn prompt(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 5 + seed * 11 + i * i) % 61).collect()
}

fn hot(max_new_tokens: usize) -> GenerateOptions {
    let sampling = Sampling { temperature: 1.0, seed: 4, ..Default::default() };
    GenerateOptions { max_new_tokens, sampling, ..Default::default() }
}

fn alone(model: &Model, request: Request) -> Vec<Generated> {
    let mut session = Session::new(model, SessionOptions::default());
    session.submit(request).unwrap();
    session.run(|_| ()).unwrap().remove(0)
}

/// What one step brought.
struct Step {
    /// The request of every new token.
    tokens: Vec<RequestId>,
    /// The request of every sequence that had begun and not ended when it was over.
    running: Vec<RequestId>,
}

/// Steps until nothing is left; what has ended, and every step.
fn rest(session: &mut Session<'_>) -> (BTreeMap<RequestId, Vec<Generated>>, Vec<Step>) {
    let (mut ended, mut steps) = (BTreeMap::<_, Vec<_>>::new(), Vec::new());
    let mut running = BTreeSet::new();
    while !session.is_idle() {
        let mut tokens = Vec::new();
        for event in session.step().unwrap() {
            match event {
                Event::Token { request, sample, .. } => {
                    tokens.push(request);
                    running.insert((request, sample));
                }
                Event::Finished { request, generated } => {
                    running.remove(&(request, generated.sample));
                    ended.entry(request).or_default().push(generated);
                }
                Event::Failed { error, .. } => panic!("{error}"),
            }
        }
        steps.push(Step { tokens, running: running.iter().map(|(request, _)| *request).collect() });
    }
    ended.values_mut().for_each(|samples| samples.sort_by_key(|g| g.sample));
    (ended, steps)
}

#[test]
fn requests_may_come_and_go_between_steps() {
    for model in models() {
        let requests: Vec<_> = (0..4)
            .map(|i| {
                let options = GenerateOptions { samples: 2, ..hot(6 + 3 * i as usize) };
                Request::new(prompt(i, 3 + 9 * i as usize), options)
            })
            .collect();
        let mut session =
            Session::new(&model, SessionOptions { batch_size: 5, rows: 12, ..Default::default() });
        let first = session.submit(requests[0].clone()).unwrap();
        let gone = session.submit(requests[1].clone()).unwrap();
        let mut tokens = Vec::new();
        for _ in 0..5 {
            for event in session.step().unwrap() {
                match event {
                    Event::Token { request, sample: 0, token } if request == gone => tokens.push(token.id),
                    Event::Token { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let third = session.submit(requests[2].clone()).unwrap();
        let cancelled = session.cancel(gone);
        let never = session.submit(requests[3].clone()).unwrap();
        assert!(session.cancel(never).iter().all(|g| g.ids.is_empty() && g.finish == Finish::Cancelled));
        assert!(session.cancel(gone).is_empty());
        let (ended, _) = rest(&mut session);
        assert!(ended.keys().eq([&first, &third]));
        assert_eq!(ended[&first], alone(&model, requests[0].clone()));
        assert_eq!(ended[&third], alone(&model, requests[2].clone()));
        let whole = alone(&model, requests[1].clone());
        assert_eq!((cancelled.len(), &cancelled[0].ids), (2, &tokens));
        assert!(!tokens.is_empty());
        for (part, whole) in cancelled.iter().zip(&whole) {
            assert_eq!((part.finish, part.ids.len()), (Finish::Cancelled, part.logprobs.len()));
            assert!(whole.ids.starts_with(&part.ids) && part.ids.len() < whole.ids.len());
        }
    }
}

#[test]
fn a_session_works_beside_the_thread_that_asks() {
    let model = &models()[0];
    let (ask, asked) = mpsc::channel::<Request>();
    let (answer, answers) = mpsc::channel();
    let request = |i: u32| Request { draw_key: Some(i.into()), ..Request::new(prompt(i, 7), hot(9)) };
    std::thread::scope(|scope| {
        let mut session = Session::new(model, SessionOptions::default());
        scope.spawn(move || {
            loop {
                // Waits only where there is nothing to do.
                let next = if session.is_idle() { asked.recv().ok() } else { asked.try_recv().ok() };
                match next {
                    Some(request) => {
                        session.submit(request).unwrap();
                    }
                    None if session.is_idle() => break,
                    None => {}
                }
                for event in session.step().unwrap() {
                    if let Event::Finished { request, generated } = event {
                        answer.send((request, generated)).unwrap();
                    }
                }
            }
        });
        (0..6).for_each(|i| ask.send(request(i)).unwrap());
        drop(ask);
    });
    let answers: BTreeMap<_, _> = answers.into_iter().collect();
    assert_eq!(answers.len(), 6);
    for (i, answer) in (0..).zip(answers.into_values()) {
        assert_eq!(vec![answer], alone(model, request(i)));
    }
}

/// Draws were named by a prompt's place in the call: leaving one prompt out changed what those after it were
/// answered.
#[test]
fn what_a_prompt_is_answered_hangs_on_no_other() {
    let model = &models()[1];
    let prompts: Vec<_> = (0..5).map(|i| prompt(i, 4 + i as usize)).collect();
    let options = GenerateOptions { samples: 3, ..hot(12) };
    let all = model.generate(&prompts, &options).unwrap();
    let turned: Vec<_> = prompts.iter().rev().cloned().collect();
    assert!(model.generate(&turned, &options).unwrap().iter().rev().eq(&all));
    for (prompt, samples) in prompts.iter().zip(&all) {
        assert_eq!(model.generate(std::slice::from_ref(prompt), &options).unwrap()[0], *samples);
    }
    // Otherwise equal draws would do.
    assert_ne!(all[0][0].ids, all[0][1].ids);
}

#[test]
fn a_prompt_given_twice_is_two_samples_of_it() {
    let model = &models()[0];
    let (one, other) = (prompt(1, 6), prompt(2, 6));
    let twice = model.generate(&[one.clone(), other, one.clone()], &hot(12)).unwrap();
    let samples = model.generate(&[one], &GenerateOptions { samples: 2, ..hot(12) }).unwrap();
    assert_eq!([&twice[0][0].ids, &twice[2][0].ids], [&samples[0][0].ids, &samples[0][1].ids]);
    assert_ne!(twice[0][0].ids, twice[2][0].ids);
}

#[test]
fn keys_and_numbers_name_the_draws() {
    let model = &models()[2];
    let request = |draw_key, first_sample, samples| {
        let options = GenerateOptions { samples, ..hot(12) };
        let request = Request { draw_key, first_sample, ..Request::new(prompt(3, 5), options) };
        alone(model, request).into_iter().map(|g| g.ids).collect::<Vec<_>>()
    };
    let four = request(Some(9), 0, 4);
    assert_eq!(request(Some(9), 2, 2), four[2..]);
    assert_eq!(request(Some(9), 0, 4), four);
    assert_ne!(request(Some(8), 0, 4), four);
    assert_ne!(request(None, 0, 4), four);
}

#[test]
fn rollouts_know_their_own_log_probabilities() {
    for model in models() {
        let prompts: Vec<_> = (0..4).map(|i| prompt(i, 2 + 5 * i as usize)).collect();
        let options = GenerateOptions { samples: 6, ..hot(14) };
        let groups = model.generate(&prompts, &options).unwrap();
        for (prompt, group) in prompts.iter().zip(&groups) {
            let texts: Vec<_> = group.iter().map(|g| Example::answer(prompt, &g.ids)).collect();
            let scored = model.score(&texts, 4096).unwrap();
            assert!(group.iter().map(|g| &g.logprobs).eq(&scored));
        }
        let different: BTreeSet<_> = groups[3].iter().map(|g| &g.ids).collect();
        assert_eq!(different.len(), 6);
    }
}

#[test]
fn alternatives_are_the_likeliest_tokens() {
    let model = &models()[0];
    for n in [1, 5, 61, 100] {
        let options = GenerateOptions { max_new_tokens: 6, alternatives: n, ..Default::default() };
        let g = &model.generate(&[prompt(1, 8)], &options).unwrap()[0][0];
        assert_eq!(g.alternatives.len(), 6);
        for ((id, logprob), alternatives) in g.ids.iter().zip(&g.logprobs).zip(&g.alternatives) {
            // Greedy decoding takes the likeliest.
            assert_eq!((alternatives.len(), alternatives[0]), (n.min(61), (*id, *logprob)));
            assert!(alternatives.is_sorted_by(|a, b| a.1 >= b.1));
            let sum: f64 = alternatives.iter().map(|a| f64::from(a.1).exp()).sum();
            assert!(if n < 61 { sum < 1.0 } else { (sum - 1.0).abs() < 1e-5 });
        }
    }
    let plain = model.generate(&[prompt(1, 8)], &GenerateOptions::default()).unwrap();
    assert!(plain[0][0].alternatives.is_empty());
}

/// A tokenizer of bytes and a few merges, and a model that speaks any of it.
fn speaking() -> (Tokenizer, Model) {
    let tokenizer = train_bpe(["the cat sat on the mat, größer 猫 — the end"].into_iter(), 290, &[]).unwrap();
    let vocabulary = json!({ "vocab_size": tokenizer.vocab_size() + 2, "initializer_range": 0.5 });
    let model = Model::random(config("llama", vocabulary), 5).unwrap();
    (tokenizer, model)
}

/// What is left of a text that ends before the first stop string that becomes complete, token by token.
fn cut(tokenizer: &Tokenizer, ids: &[u32], stops: &[String]) -> (String, usize) {
    for n in 1..=ids.len() {
        let text = tokenizer.decode(&ids[..n], true).unwrap();
        if let Some(end) = stops.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            return (text[..end].to_owned(), n);
        }
    }
    (tokenizer.decode(ids, true).unwrap(), ids.len())
}

#[test]
fn stop_strings_end_a_text_wherever_tokens_begin() {
    let (tokenizer, model) = speaking();
    let (mut stopped, mut spanning) = (0, 0);
    for seed in 0..40 {
        let options = GenerateOptions {
            samples: 3,
            sampling: Sampling { temperature: 0.9, seed, ..Default::default() },
            max_new_tokens: 40,
            ..Default::default()
        };
        let run = |options: &GenerateOptions| {
            let mut session = Session::new(&model, SessionOptions::default()).with_tokenizer(&tokenizer);
            session.submit_all(&[prompt(seed as u32, 5)], options.clone()).unwrap();
            let mut told = vec![String::new(); 3];
            let out = session.run(|event| {
                if let Event::Token { sample, token, .. } = event {
                    told[*sample].push_str(&token.text);
                }
            });
            (out.unwrap().remove(0), told)
        };
        let (whole, told) = run(&options);
        for (g, told) in whole.iter().zip(&told) {
            assert_eq!(g.text.as_ref(), Some(told));
            assert_eq!(*told, tokenizer.decode(&g.ids, true).unwrap());
        }
        // Stop strings out of the texts themselves, from the middle of one token to the middle of another.
        let mut rng = Rng::named(seed, "stops");
        let mut piece = |text: &str| {
            let characters: Vec<char> = text.chars().filter(|&c| c != char::REPLACEMENT_CHARACTER).collect();
            let start = rng.below(characters.len().saturating_sub(4).max(1));
            characters.iter().skip(start).take(1 + rng.below(4)).collect::<String>()
        };
        let stop_strings: Vec<_> =
            told.iter().map(|text| piece(text)).filter(|stop| !stop.is_empty()).collect();
        let (out, told) = run(&GenerateOptions { stop_strings: stop_strings.clone(), ..options });
        for ((g, told), whole) in out.iter().zip(&told).zip(&whole) {
            let (text, tokens) = cut(&tokenizer, &whole.ids, &stop_strings);
            assert_eq!((g.text.as_deref(), told), (Some(text.as_str()), &text), "{stop_strings:?}");
            assert_eq!(g.ids, whole.ids[..tokens]);
            assert_eq!(g.finish == Finish::StopString, tokens < whole.ids.len() || text != told_whole(whole));
            stopped += usize::from(g.finish == Finish::StopString);
            let last = tokenizer.decode(&g.ids[g.ids.len() - 1..], true).unwrap();
            let spans = stop_strings.iter().all(|stop| !last.contains(stop.as_str()));
            spanning += usize::from(g.finish == Finish::StopString && spans);
        }
    }
    assert!(stopped > 60 && spanning > 20, "{stopped} {spanning}");
}

fn told_whole(whole: &Generated) -> &str {
    whole.text.as_deref().unwrap_or_default()
}

#[test]
fn a_stop_id_is_no_part_of_the_text() {
    let (tokenizer, model) = speaking();
    let run = |options: GenerateOptions| {
        let mut session = Session::new(&model, SessionOptions::default()).with_tokenizer(&tokenizer);
        session.submit_all(&[prompt(2, 5)], options).unwrap();
        session.run(|_| ()).unwrap().remove(0).remove(0)
    };
    let whole = run(GenerateOptions { max_new_tokens: 20, ..Default::default() });
    let at = whole.ids.iter().position(|id| *id == whole.ids[9]).unwrap();
    let cut = run(GenerateOptions { stop_ids: vec![whole.ids[at]], ..Default::default() });
    assert_eq!((cut.finish, &cut.ids[..]), (Finish::Stop, &whole.ids[..=at]));
    assert_eq!(cut.text, Some(tokenizer.decode(&whole.ids[..at], true).unwrap()));
}

#[test]
fn caches_hold_no_more_than_they_may() {
    let model = &models()[0];
    let options = GenerateOptions { samples: 4, ..hot(10) };
    let prompts = [prompt(1, 20), prompt(2, 5), prompt(1, 20)];
    let free = model.generate(&prompts, &options).unwrap();
    // Room for one of the longest: they run one after the other, and the prompt is read for each.
    for (cache_tokens, most) in [(30, 2), (45, 2), (75, 4), (usize::MAX, 12)] {
        let mut session = Session::new(model, SessionOptions { cache_tokens, ..Default::default() });
        let ids = session.submit_all(&prompts, options.clone()).unwrap();
        let (ended, steps) = rest(&mut session);
        let widest = steps.iter().map(|step| step.running.len()).max();
        assert_eq!(widest, Some(most), "{cache_tokens}");
        let longest = |id: &RequestId| prompts[ids.iter().position(|i| i == id).unwrap()].len() + 10;
        for step in &steps {
            assert!(step.running.iter().map(longest).sum::<usize>() <= cache_tokens, "{cache_tokens}");
        }
        assert!(ids.iter().map(|id| &ended[id]).eq(&free), "{cache_tokens}");
    }
    let mut session = Session::new(model, SessionOptions { cache_tokens: 29, ..Default::default() });
    let error = session.submit(Request::new(prompt(1, 20), hot(10))).unwrap_err().to_string();
    assert!(error.contains("cache of 29 tokens"), "{error}");
}

#[test]
fn who_is_more_urgent_goes_first() {
    let model = &models()[0];
    let mut session = Session::new(model, SessionOptions { batch_size: 1, ..Default::default() });
    let mut submit = |seed: u32, priority: i64| {
        session.submit(Request { priority, ..Request::new(prompt(seed, 6), hot(3)) }).unwrap()
    };
    let ids = [submit(1, 0), submit(2, 0), submit(3, 5), submit(1, -1), submit(4, 5)];
    let order: Vec<_> = rest(&mut session).1.into_iter().flat_map(|step| step.tokens).step_by(3).collect();
    assert_eq!(order, [ids[2], ids[4], ids[0], ids[1], ids[3]]);
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    let model = &models()[0];
    let mut session = Session::new(model, SessionOptions { rows: 8, ..Default::default() });
    let long = session.submit(Request::new(prompt(1, 80), hot(2))).unwrap();
    let short = session.submit(Request::new(prompt(2, 9), hot(2))).unwrap();
    let (ended, steps) = rest(&mut session);
    let first = |id| steps.iter().position(|step| step.tokens.contains(&id)).unwrap();
    assert!(first(short) <= 2 && first(long) >= 80 / 8, "{} {}", first(short), first(long));
    assert_eq!(ended[&long], alone(model, Request::new(prompt(1, 80), hot(2))));
}

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    let (model, tokenizer) = (&models()[0], speaking().0);
    let refused = |prompt: Vec<u32>, options: GenerateOptions| {
        let mut session = Session::new(model, SessionOptions::default());
        let message = session.submit(Request::new(prompt, options)).unwrap_err().to_string();
        assert!(session.is_idle());
        message
    };
    let stops = |stop: &str| GenerateOptions { stop_strings: vec![stop.to_owned()], ..Default::default() };
    assert!(refused(vec![], hot(1)).contains("empty"));
    assert!(refused(prompt(1, 97), hot(1)).contains("97 tokens"));
    assert!(refused(vec![3, 61], hot(1)).contains("id 61"));
    assert!(refused(vec![3], stops("")).contains("stop string"));
    assert!(refused(vec![3], stops("x")).contains("tokenizer"));
    let error = model.generate(&[vec![3], vec![]], &hot(1)).unwrap_err().to_string();
    assert!(error.contains("prompt 1"), "{error}");
    let mut session = Session::new(model, SessionOptions::default()).with_tokenizer(&tokenizer);
    assert!(session.submit(Request::new(vec![3], stops("x"))).is_ok());
}

#[test]
fn nothing_asked_for_is_nothing_answered() {
    let model = &models()[0];
    let none = GenerateOptions { samples: 0, ..hot(4) };
    assert_eq!(model.generate(&[prompt(1, 3)], &none).unwrap(), [vec![]]);
    let empty = &model.generate(&[prompt(1, 3)], &GenerateOptions { samples: 2, ..hot(0) }).unwrap()[0];
    assert!(empty.len() == 2 && empty.iter().all(|g| g.ids.is_empty() && g.finish == Finish::Length));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..Default::default() })]

    /// Any mixture of requests, submitted and cancelled at any moment, within any bounds.
    #[test]
    fn every_request_is_answered_as_if_it_were_alone(
        requests in prop::collection::vec((0u32..4, 1usize..30, 1usize..4, 0usize..9, -1i64..2, 0usize..12), 1..8),
        batch_size in 1usize..6,
        rows in 1usize..40,
        cache_tokens in 40usize..120,
        cancelled in prop::collection::btree_map(0usize..8, 0usize..14, 0..3),
    ) {
        let model = &models()[1];
        let request = |&(seed, length, samples, new, priority, _): &(u32, usize, usize, usize, i64, usize)| {
            let options = GenerateOptions { samples, ..hot(new) };
            Request { priority, ..Request::new(prompt(seed, length), options) }
        };
        let mut session = Session::new(model, SessionOptions { batch_size, rows, cache_tokens });
        let (mut ids, mut ended) = (vec![None; requests.len()], BTreeMap::<_, Vec<_>>::new());
        for step in 0.. {
            for (i, asked) in requests.iter().enumerate().filter(|(_, asked)| asked.5 == step) {
                ids[i] = Some(session.submit(request(asked)).unwrap());
            }
            for (&i, &when) in &cancelled {
                if when == step && let Some(Some(id)) = ids.get(i) {
                    ended.entry(*id).or_default().extend(session.cancel(*id));
                }
            }
            if step > 12 && session.is_idle() {
                break;
            }
            for event in session.step().unwrap() {
                if let Event::Finished { request, generated } = event {
                    ended.entry(request).or_default().push(generated);
                }
            }
        }
        for (asked, id) in requests.iter().zip(ids) {
            let mut samples = ended.remove(&id.unwrap()).unwrap_or_default();
            samples.sort_by_key(|g| g.sample);
            let whole = alone(model, request(asked));
            prop_assert_eq!(samples.len(), whole.len());
            for (g, whole) in samples.iter().zip(&whole) {
                if g.finish == Finish::Cancelled {
                    prop_assert!(whole.ids.starts_with(&g.ids) && whole.logprobs.starts_with(&g.logprobs));
                } else {
                    prop_assert_eq!(g, whole);
                }
            }
        }
    }
}
