//! Taps while sequences are generated, finish, and move about in the batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::small_models::models;
use amend_engine::generate::{
    Event, GenerateOptions, Generated, Request, RequestId, Sampling, Session, SessionOptions,
};
use amend_engine::taps::{BlockSite, Modality, TowerSite};
use amend_engine::tokenizer::train_bpe;
use amend_engine::{
    Action, Batch, DType, Error, Example, Graph, Model, Origin, Selector, Site, Taps, Tensor, Var,
};

const SITE: Site = Site::Block(1, BlockSite::ResidPost);

fn prompt(i: u32) -> Vec<u32> {
    (0..3 + 2 * i).map(|j| (j * 5 + i * 11 + j * j) % 61).collect()
}

/// Every request ends at another time.
fn request(i: u32, taps: Option<&Arc<Taps>>) -> Request {
    let options = GenerateOptions {
        max_new_tokens: 3 + (5 * i as usize) % 13,
        sampling: Sampling { temperature: 0.8, ..Default::default() },
        taps: taps.cloned(),
        ..Default::default()
    };
    Request { tap_key: 100 + u64::from(i), ..Request::new(prompt(i), options) }
}

/// Small enough that prompts are read in pieces and wait for each other.
const TIGHT: SessionOptions = SessionOptions { batch_size: 5, rows: 11, cache_tokens: 200 };

fn run(
    model: &Model,
    requests: impl IntoIterator<Item = Request>,
    bounds: &SessionOptions,
) -> Vec<Generated> {
    let mut session = Session::new(model, bounds.clone());
    for request in requests {
        session.submit(request).unwrap();
    }
    session.run(|_| ()).unwrap().into_iter().flatten().collect()
}

fn direction(model: &Model) -> Tensor {
    let d = model.spec().hidden;
    Tensor::from_f32(&(0..d).map(|i| ((i * 7) % 5) as f32 - 2.0).collect::<Vec<_>>(), &[d]).unwrap()
}

fn steering(model: &Model, sequences: Option<BTreeSet<u64>>) -> Arc<Taps> {
    let mut taps = Taps::none();
    taps.add(SITE, Selector { sequences, ..Default::default() }, Action::Add(direction(model)));
    Arc::new(taps)
}

/// Rows of a pass were selected by their place in the batch, which is another sequence's as soon as one ends.
#[test]
fn one_of_eight_is_steered_while_others_finish() {
    for model in models() {
        let plain = run(&model, (0..8).map(|i| request(i, None)), &SessionOptions::default());
        let alone = run(&model, [request(5, Some(&steering(&model, None)))], &SessionOptions::default());
        assert_ne!(alone[0].logprobs, plain[5].logprobs);
        for bounds in [SessionOptions::default(), TIGHT] {
            // One set of taps that all share and that selects; and taps that one request brings.
            let shared = steering(&model, Some([105].into()));
            let own = steering(&model, None);
            for of in [&|_| Some(&shared), &|i| (i == 5).then_some(&own)] as [&dyn Fn(u32) -> _; 2] {
                let steered = run(&model, (0..8).map(|i| request(i, of(i))), &bounds);
                for (i, (steered, plain)) in steered.iter().zip(&plain).enumerate() {
                    assert_eq!(steered, if i == 5 { &alone[0] } else { plain }, "sequence {i}");
                }
            }
        }
    }
}

/// Every row of a site under the token it stands for, each met once.
fn by_origin(taps: &Taps, site: Site) -> BTreeMap<(u64, u32), Vec<u32>> {
    let mut rows = BTreeMap::new();
    for reading in taps.take(site) {
        let width = reading.tensor.columns();
        assert_eq!(reading.origins.len(), reading.tensor.rows());
        for (Origin { sequence, position }, row) in
            reading.origins.iter().zip(reading.tensor.f32().chunks_exact(width))
        {
            let bits = row.iter().map(|x| x.to_bits()).collect();
            assert!(rows.insert((*sequence, *position), bits).is_none(), "{sequence} {position} twice");
        }
    }
    rows
}

#[test]
fn readings_say_whose_they_are() {
    for model in models() {
        let mut taps = Taps::none();
        taps.read(SITE).read(Site::Logits);
        let taps = Arc::new(taps);
        let out = run(&model, (0..8).map(|i| request(i, Some(&taps))), &TIGHT);
        let (hidden, logits) = (by_origin(&taps, SITE), by_origin(&taps, Site::Logits));
        let mut expected = BTreeMap::new();
        for (i, g) in (0..).zip(&out) {
            // The last token is never fed.
            let ids = [&prompt(i), &g.ids[..g.ids.len() - 1]].concat();
            let mut batch = Batch::new(&[Example::text(ids)]).unwrap();
            batch.layout.keys = vec![100 + u64::from(i)];
            let mut whole = Taps::none();
            whole.read(SITE);
            model.hidden(&mut Graph::inference(&model.params), &batch, &whole).unwrap();
            expected.append(&mut by_origin(&whole, SITE));
            let first = prompt(i).len() as u32 - 1;
            let own = logits.range((100 + u64::from(i), 0)..(101 + u64::from(i), 0));
            assert!(own.map(|((_, position), _)| *position).eq(first..first + g.ids.len() as u32));
        }
        assert!(hidden == expected, "{} rows of {}", hidden.len(), expected.len());
    }
}

#[test]
fn positions_are_those_of_the_sequence() {
    let model = &models()[1];
    let touch = |i: u32, position: u32| {
        let mut taps = Taps::none();
        let selector = Selector {
            sequences: Some([100 + u64::from(i)].into()),
            positions: Some([position].into()),
            ..Default::default()
        };
        taps.add(SITE, selector, Action::Add(direction(model)));
        let taps = Arc::new(taps);
        run(model, (0..8).map(|i| request(i, Some(&taps))), &TIGHT)
    };
    let plain = run(model, (0..8).map(|i| request(i, None)), &TIGHT);
    for i in [2, 6] {
        let (read, new) = (prompt(i).len(), plain[i as usize].ids.len());
        // The prompt's last token and the third of the new ones: what comes before is as it was.
        for (position, same) in [(read - 1, 0), (read + 2, 3)] {
            let touched = touch(i, position as u32);
            for (j, (touched, plain)) in (0..).zip(touched.iter().zip(&plain)) {
                assert_eq!(touched == plain, i != j, "{i} {position} {j}");
            }
            let (touched, plain) = (&touched[i as usize], &plain[i as usize]);
            assert_eq!(touched.logprobs[..same], plain.logprobs[..same]);
            assert_ne!(touched.logprobs[same], plain.logprobs[same]);
        }
        // Nobody is at a position that no sequence reaches.
        assert_eq!(touch(i, (read + new) as u32), plain);
    }
}

#[test]
fn every_request_brings_its_own_taps() {
    let model = &models()[0];
    let reading = |site| {
        let mut taps = Taps::none();
        taps.read(site);
        Arc::new(taps)
    };
    let taps = [steering(model, None), reading(SITE), reading(Site::Block(0, BlockSite::Pattern))];
    let requests = |i: u32| request(i, taps.get(i as usize));
    let together = run(model, (0..5).map(requests), &TIGHT);
    let [read, pattern] = [(1, SITE), (2, Site::Block(0, BlockSite::Pattern))].map(|(i, site): (u32, _)| {
        let mut origins: Vec<_> = taps[i as usize].take(site).into_iter().flat_map(|r| r.origins).collect();
        origins.dedup();
        assert!(origins.iter().all(|o| o.sequence == 100 + u64::from(i)));
        origins.len()
    });
    assert_eq!([read, pattern], [1, 2].map(|i| prompt(i).len() + together[i as usize].ids.len() - 1));
    for i in 0..5 {
        assert_eq!(run(model, [requests(i)], &SessionOptions::default()), [together[i as usize].clone()]);
    }
}

/// What has ended and what has failed.
type Outcome = (BTreeMap<RequestId, Generated>, BTreeMap<RequestId, String>);

/// Works until nothing is left.
fn finish(session: &mut Session<'_>) -> Outcome {
    let (mut finished, mut failed) = (BTreeMap::new(), BTreeMap::new());
    while !session.is_idle() {
        for event in session.step().unwrap() {
            match event {
                Event::Token { request, .. } => assert!(!failed.contains_key(&request)),
                Event::Finished { request, generated } => drop(finished.insert(request, generated)),
                Event::Failed { request, error } => {
                    assert!(failed.insert(request, error.to_string()).is_none(), "{request} failed twice");
                }
            }
        }
    }
    (finished, failed)
}

fn taps_at(site: Site, action: Action) -> Arc<Taps> {
    let mut taps = Taps::none();
    taps.add(site, Selector::default(), action);
    Arc::new(taps)
}

#[test]
fn numbers_that_are_none_break_their_own_request_alone() {
    let model = &models()[0];
    let mut session = Session::new(model, TIGHT);
    let nan = taps_at(SITE, Action::Scale(f32::NAN));
    let ids: Vec<_> = (0..4).map(|i| session.submit(request(i, (i == 2).then_some(&nan))).unwrap()).collect();
    let (finished, failed) = finish(&mut session);
    assert!(failed.keys().eq([&ids[2]]) && failed[&ids[2]].contains("prompt 2"), "{failed:?}");
    assert!(finished.into_values().eq(run(model, [0, 1, 3].map(|i| request(i, None)), &TIGHT)));
}

/// A tap that failed ended all requests of a session.
#[test]
fn a_tap_that_fails_ends_its_own_request_alone() {
    let tokenizer = train_bpe(["a"].into_iter(), 260, &[]).unwrap();
    for model in models() {
        // The row of the second new token is that of the third.
        let last = prompt(2).len() as u32 + 1;
        let failing =
            Action::function(move |_, x, origins| match origins.iter().any(|o| o.position == last) {
                true => Err(Error::invalid("not this token")),
                false => Ok(x.clone()),
            });
        let failing = taps_at(SITE, failing);
        let steered = steering(&model, None);
        let taps = [None, Some(&steered), Some(&failing), None];
        let requests = |i: u32| {
            let request = request(i, taps[i as usize]);
            let options = GenerateOptions { max_new_tokens: 9, ..(*request.options).clone() };
            Request { options: options.into(), ..request }
        };
        for bounds in [SessionOptions::default(), TIGHT] {
            let mut session = Session::new(&model, bounds).with_tokenizer(&tokenizer);
            let ids: Vec<_> = (0..4).map(|i| session.submit(requests(i)).unwrap()).collect();
            let mut told = 0;
            let (mut finished, mut failed) = (BTreeMap::new(), Vec::new());
            while !session.is_idle() {
                for event in session.step().unwrap() {
                    match event {
                        Event::Token { request, .. } => told += usize::from(request == ids[2]),
                        Event::Finished { request, generated } => drop(finished.insert(request, generated)),
                        Event::Failed { request, error } => failed.push((request, error.to_string())),
                    }
                }
            }
            assert_eq!((told, failed), (2, vec![(ids[2], "not this token".to_owned())]));
            for i in [0, 1, 3] {
                let mut session = Session::new(&model, SessionOptions::default()).with_tokenizer(&tokenizer);
                session.submit(requests(i)).unwrap();
                let alone = session.run(|_| ()).unwrap().remove(0).remove(0);
                assert!(alone.text.is_some() && alone.ids.len() == 9);
                assert_eq!(finished[&ids[i as usize]], alone);
            }
        }
    }
}

/// While a prompt is read, at any kind of site, by a wrong shape or type, and by a choice of experts that are not there.
#[test]
fn whatever_fails_inside_a_pass_is_its_own_requests() {
    let all = models();
    let (dense, mixture) = (&all[0], &all[4]);
    let scores = Site::Block(0, BlockSite::Scores);
    let experts = Site::Block(1, BlockSite::RouterIndices);
    let three = |x: f32| Tensor::from_f32(&[x; 3], &[3]).unwrap();
    let wide = Selector { columns: Some(3..1000), ..Default::default() };
    let wrong_type = Action::function(|_, x, _| Ok(Var::constant(x.value().to_dtype(DType::BF16))));
    let mut selecting = Taps::none();
    selecting.add(Site::Embed, wide, Action::Zero);
    for (model, taps, says) in [
        (dense, taps_at(SITE, Action::Replace(three(1.0))), "hook_resid_post"),
        (dense, taps_at(scores, Action::Add(three(1.0))), "hook_attn_scores"),
        (dense, taps_at(Site::Logits, Action::Add(three(1.0))), "unembed"),
        (dense, taps_at(SITE, Action::function(|g, x, _| g.transpose(x))), "what a function gave"),
        (dense, taps_at(SITE, wrong_type), "bf16"),
        (dense, Arc::new(selecting), "hook_embed: columns 3..1000"),
        (mixture, taps_at(experts, Action::Scale(50.0)), "is no expert"),
    ] {
        let plain = run(model, [0, 1, 3].map(|i| request(i, None)), &TIGHT);
        let mut session = Session::new(model, TIGHT);
        let ids: Vec<_> =
            (0..4).map(|i| session.submit(request(i, (i == 2).then_some(&taps))).unwrap()).collect();
        let (finished, failed) = finish(&mut session);
        assert!(failed.keys().eq([&ids[2]]) && failed[&ids[2]].contains(says), "{failed:?}");
        assert!(finished.into_values().eq(plain), "{says}");
    }
    // Values of another type than f32 are taken for what they are.
    let halves = taps_at(SITE, Action::Add(direction(dense).to_dtype(DType::BF16)));
    let steered = run(dense, [request(1, Some(&steering(dense, None)))], &TIGHT);
    assert_eq!(run(dense, [request(1, Some(&halves))], &TIGHT), steered);
}

/// One set of taps that four requests share fails at one of them, in the midst of a pass.
#[test]
fn shared_taps_that_fail_at_one_request_go_on_for_the_others() {
    for model in models() {
        let mut taps = Taps::none();
        let fail = Action::function(|g, x, origins| match origins.iter().any(|o| o.sequence == 102) {
            true => Err(Error::invalid("not this sequence")),
            false => g.scale(x, 1.5),
        });
        taps.read(SITE).add(SITE, Selector::default(), fail).read(Site::Logits);
        let taps = Arc::new(taps);
        let mut session = Session::new(&model, TIGHT);
        let ids: Vec<_> = (0..4).map(|i| session.submit(request(i, Some(&taps))).unwrap()).collect();
        let (finished, failed) = finish(&mut session);
        assert!(failed.keys().eq([&ids[2]]), "{failed:?}");
        // Each is read once, though the pass had to find out whose fault it was.
        let read = by_origin(&taps, SITE);
        assert!(!by_origin(&taps, Site::Logits).is_empty());
        let scaled = taps_at(SITE, Action::Scale(1.5));
        for i in [0, 1, 3] {
            let alone = run(&model, [request(i, Some(&scaled))], &SessionOptions::default()).remove(0);
            assert_eq!(finished[&ids[i as usize]], alone);
            let key = 100 + u64::from(i);
            let rows = read.range((key, 0)..(key + 1, 0)).count();
            assert_eq!(rows, prompt(i).len() + alone.ids.len() - 1);
        }
    }
}

/// All samples of a request go with the one whose taps fail, and are spoken of once.
#[test]
fn a_request_fails_as_a_whole() {
    let model = &models()[0];
    let fail = Action::function(|_, x, origins| match origins.iter().any(|o| o.position > 8) {
        true => Err(Error::invalid("too far")),
        false => Ok(x.clone()),
    });
    let taps = taps_at(SITE, fail);
    let mut request = request(2, Some(&taps));
    request.options = GenerateOptions { samples: 4, ..(*request.options).clone() }.into();
    for bounds in [SessionOptions::default(), TIGHT] {
        let mut session = Session::new(model, bounds);
        let id = session.submit(request.clone()).unwrap();
        let (finished, failed) = finish(&mut session);
        assert!(finished.is_empty() && failed.keys().eq([&id]), "{failed:?}");
    }
}

/// Taps at a site that the model has not did nothing, and nobody was told.
#[test]
fn taps_at_a_site_that_is_not_there_are_refused_at_once() {
    let model = &models()[0];
    let mut session = Session::new(model, TIGHT);
    session.submit(request(0, None)).unwrap();
    for (site, says) in [
        (TowerSite::from(Site::Block(3, BlockSite::Q)), "block 3; the model has 0 to 2"),
        (Site::Block(1, BlockSite::RouterLogits).into(), "no site"),
        (Site::PosEmbed.into(), "hook_embed"),
        (Modality::Vision.at(SITE), "text.blocks.1.hook_resid_post"),
    ] {
        let mut taps = Taps::none();
        taps.read(site);
        let error = session.submit(request(1, Some(&Arc::new(taps)))).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(finish(&mut session).0.into_values().eq(run(model, [request(0, None)], &TIGHT)));
}
