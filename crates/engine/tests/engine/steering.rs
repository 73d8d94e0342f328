//! Taps while sequences are generated, finish, and move about in the batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::small_models::models;
use amend_engine::generate::{Event, GenerateOptions, Generated, Request, Sampling, Session, SessionOptions};
use amend_engine::taps::BlockSite;
use amend_engine::{Action, Batch, Example, Graph, Model, Origin, Selector, Site, Taps, Tensor};

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

fn steering(model: &Model, sequences: Option<Vec<u64>>) -> Arc<Taps> {
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
            let shared = steering(&model, Some(vec![105]));
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
            sequences: Some(vec![100 + u64::from(i)]),
            positions: Some(vec![position]),
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

#[test]
fn broken_taps_break_their_own_request_alone() {
    let model = &models()[0];
    let taps = |action| {
        let mut taps = Taps::none();
        taps.add(SITE, Selector::default(), action);
        Arc::new(taps)
    };
    let mut session = Session::new(model, TIGHT);
    let nan = taps(Action::Scale(f32::NAN));
    let ids: Vec<_> = (0..4).map(|i| session.submit(request(i, (i == 2).then_some(&nan))).unwrap()).collect();
    let (mut failed, mut finished) = (Vec::new(), Vec::new());
    while !session.is_idle() {
        for event in session.step().unwrap() {
            match event {
                Event::Token { .. } => {}
                Event::Finished { request, generated } => finished.push((request, generated)),
                Event::Failed { request, error } => failed.push((request, error.to_string())),
            }
        }
    }
    assert!(failed.len() == 1 && failed[0].0 == ids[2] && failed[0].1.contains("prompt 2"), "{failed:?}");
    finished.sort_by_key(|(id, _)| *id);
    let plain = run(model, [0, 1, 3].map(|i| request(i, None)), &TIGHT);
    assert!(finished.into_iter().map(|(_, g)| g).eq(plain.clone()));
    // A pass that fails ends all requests, and the session is as good as new.
    session.submit(request(0, None)).unwrap();
    let misshapen = taps(Action::Replace(Tensor::from_f32(&[1.0; 3], &[3]).unwrap()));
    session.submit(request(1, Some(&misshapen))).unwrap();
    assert!(session.step().unwrap_err().to_string().contains("hook_resid_post"));
    assert!(session.is_idle());
    let again = session.submit(request(0, None)).unwrap();
    assert_eq!(session.run(|_| ()).unwrap().swap_remove(6), [plain[0].clone()], "{again}");
}
