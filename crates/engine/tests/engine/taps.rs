//! Taps reach what they select and nothing else, and gradients flow through what they put in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::small_models::{config, models};
use amend_engine::taps::BlockSite;
use amend_engine::{Action, Batch, Example, Graph, LeafId, Model, Origin, Selector, Site, Taps, Tensor, Var};
use serde_json::json;

fn sequence(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 7 + seed * 13 + i * i * 3) % 61).collect()
}

fn llama() -> Model {
    Model::random(config("llama", json!({})), 3).unwrap()
}

fn recomputing(model: &Model, recompute: bool) -> Model {
    let mut model = model.clone();
    model.recompute = recompute;
    model
}

/// Three sequences under keys that are no indices.
const KEYS: [u64; 3] = [70, 5, 31];
const LENGTHS: [usize; 3] = [11, 6, 9];

fn batch() -> Batch {
    let examples: Vec<_> = (0..).zip(LENGTHS).map(|(i, n)| Example::text(sequence(i, n))).collect();
    let mut batch = Batch::new(&examples).unwrap();
    batch.layout.keys = KEYS.to_vec();
    batch
}

fn logits(model: &Model, batch: &Batch, taps: &Taps) -> Vec<f32> {
    let mut g = Graph::inference(&model.params);
    let hidden = model.hidden(&mut g, batch, taps).unwrap();
    let rows: Vec<_> = (0..batch.ids.len()).collect();
    model.logits(&mut g, &hidden, &batch.layout, &rows, taps).unwrap().value().f32().to_vec()
}

/// Every site of every shape: per token, per token and head, per sequence, outside the blocks.
const SITES: [Site; 13] = [
    Site::Embed,
    Site::Block(1, BlockSite::ResidPre),
    Site::Block(1, BlockSite::Ln1Scale),
    Site::Block(1, BlockSite::Ln1Normalized),
    Site::Block(1, BlockSite::V),
    Site::Block(1, BlockSite::Scores),
    Site::Block(1, BlockSite::Pattern),
    Site::Block(1, BlockSite::Z),
    Site::Block(1, BlockSite::HeadResult),
    Site::Block(1, BlockSite::MlpOut),
    Site::FinalScale,
    Site::FinalNormalized,
    Site::Logits,
];

#[test]
fn what_was_there_has_no_influence() {
    let model = llama();
    let batch = batch();
    let broken = || Action::Add(Tensor::from_f32(&[f32::NAN], &[1]).unwrap());
    for site in SITES {
        let columns = Selector { columns: Some(0..1), ..Default::default() };
        let quarter: fn() -> Action = || Action::Replace(Tensor::from_f32(&[0.25], &[1]).unwrap());
        // One over a scale of zero is no number in any case.
        let is_scale = matches!(site, Site::FinalScale | Site::Block(_, BlockSite::Ln1Scale));
        for action in [quarter, if is_scale { quarter } else { || Action::Zero }] {
            let (mut clean, mut twice) = (Taps::none(), Taps::none());
            clean.add(site, columns.clone(), action());
            twice.add(site, columns.clone(), broken()).add(site, columns.clone(), action());
            let clean = logits(&model, &batch, &clean);
            assert!(clean.iter().all(|x| x.is_finite()), "{site}");
            assert_eq!(logits(&model, &batch, &twice), clean, "{site}");
        }
    }
    // Scores are −∞ wherever a query must not look.
    let scores = Site::Block(0, BlockSite::Scores);
    let mut taps = Taps::none();
    taps.add(scores, Selector::default(), Action::Zero).read(scores);
    logits(&model, &batch, &taps);
    assert!(taps.take(scores).iter().all(|reading| reading.tensor.f32().iter().all(|&x| x == 0.0)));
}

#[test]
fn a_sequence_is_reached_by_its_key_and_no_other_changes() {
    for model in models() {
        let batch = batch();
        let plain = logits(&model, &batch, &Taps::none());
        for site in SITES {
            // Scores of a token that sees only itself make no difference, so a later token is changed.
            let selector =
                Selector { sequences: Some([5].into()), positions: Some([4].into()), columns: Some(0..1) };
            let mut taps = Taps::none();
            taps.add(site, selector, Action::Add(Tensor::from_f32(&[1.5], &[1]).unwrap()));
            let steered = logits(&model, &batch, &taps);
            let width = plain.len() / batch.ids.len();
            for (row, (a, b)) in plain.chunks(width).zip(steered.chunks(width)).enumerate() {
                let own = batch.layout.sequences[1].clone();
                let changed = own.contains(&row) && row - own.start >= 4;
                let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                if !changed {
                    assert_eq!(bits(a), bits(b), "{site}: row {row}");
                } else if row == own.start + 4 {
                    assert_ne!(a, b, "{site}: row {row}");
                }
            }
        }
    }
}

#[test]
fn readings_say_where_their_rows_come_from() {
    let model = llama();
    let batch = batch();
    for site in SITES {
        let mut taps = Taps::none();
        taps.read(site);
        logits(&model, &batch, &taps);
        let readings = taps.take(site);
        let origins: Vec<Origin> = readings.iter().flat_map(|r| r.origins.clone()).collect();
        let rows: usize = readings.iter().map(|r| r.tensor.rows()).sum();
        assert_eq!(origins.len(), rows, "{site}");
        let repeats = rows / batch.ids.len();
        let expected: Vec<Origin> = KEYS
            .into_iter()
            .zip(LENGTHS)
            .flat_map(|(sequence, length)| {
                (0..length * repeats).map(move |i| Origin { sequence, position: (i / repeats) as u32 })
            })
            .collect();
        assert_eq!(origins, expected, "{site}");
    }
    let mut some = Taps::none();
    let wanted =
        Selector { sequences: Some([31, 70].into()), positions: Some([2, 8].into()), columns: Some(3..5) };
    some.add(Site::Embed, wanted, Action::Read);
    logits(&model, &batch, &some);
    let reading = some.take(Site::Embed).remove(0);
    assert_eq!(reading.tensor.shape(), [4, 2]);
    let expected = [(70, 2), (70, 8), (31, 2), (31, 8)];
    assert_eq!(reading.origins, expected.map(|(sequence, position)| Origin { sequence, position }));
}

#[test]
fn a_function_is_as_good_as_the_action_it_imitates() {
    let model = llama();
    let batch = batch();
    let run = |taps: &Taps| {
        let (loss, gradients) = model.loss_and_gradients(&batch, taps).unwrap();
        (loss, gradients.iter().map(|(_, t)| t.f32().to_vec()).collect::<Vec<_>>())
    };
    let plain = run(&Taps::none());
    for site in SITES.into_iter().filter(|site| *site != Site::Logits) {
        let selector = Selector { sequences: Some([5, 70].into()), positions: None, columns: Some(0..1) };
        let mut same = Taps::none();
        same.add(site, selector.clone(), Action::function(|_, x, _| Ok(x.clone())));
        let opened = run(&same);
        assert_eq!(opened.0, plain.0, "{site}");
        let (mut twice, mut scaled) = (Taps::none(), Taps::none());
        twice.add(site, selector.clone(), Action::function(|g, x, _| g.add(x, x)));
        scaled.add(site, selector, Action::Scale(2.0));
        let (twice, scaled) = (run(&twice), run(&scaled));
        assert_eq!(twice, scaled, "{site}");
        assert_ne!(twice.0, plain.0, "{site}");
    }
    let mut wrong = Taps::none();
    wrong.add(Site::Embed, Selector::default(), Action::function(|g, x, _| g.transpose(x)));
    let error = model.loss_and_gradients(&batch, &wrong).unwrap_err().to_string();
    assert!(error.contains("hook_embed") && error.contains("function"), "{error}");
}

/// What a function adds learns: a vector of its own, and a matrix of the model's.
#[test]
fn gradients_flow_through_functions() {
    let model = llama();
    let batch = batch();
    let id = LeafId::fresh();
    let embedding = model.params.find("model.embed_tokens.weight").unwrap();
    let loss_at = |vector: &[f32], recompute: bool| {
        let vector = Tensor::from_f32(vector, &[32]).unwrap();
        let mut taps = Taps::none();
        let steer = Action::function(move |g, x, origins| {
            assert!(origins.iter().all(|o| o.sequence == 31 && o.position >= 2));
            let vector = g.leaf(&Var::constant(vector.clone()), id);
            let table = g.parameter(embedding);
            let row = g.gather_rows(&table, &[7])?;
            let pushed = g.add_columns(x, &vector)?;
            let product = g.mul_columns(&pushed, &row)?;
            g.add(x, &product)
        });
        let selector =
            Selector { sequences: Some([31].into()), positions: Some((2..9).collect()), columns: None };
        taps.add(Site::Block(1, BlockSite::ResidMid), selector, steer);
        let model = recomputing(&model, recompute);
        let (loss, gradients) = model.loss_and_gradients(&batch, &taps).unwrap();
        (f64::from(loss), gradients.leaves(id).cloned().collect::<Vec<_>>())
    };
    let start: Vec<f32> = (0..32).map(|i| 0.1 * (i as f32).sin()).collect();
    let (_, gradients) = loss_at(&start, false);
    assert_eq!(gradients.len(), 1);
    let gradient = gradients[0].f32();
    let (_, recomputed) = loss_at(&start, true);
    assert_eq!(recomputed[0].f32(), gradient);
    let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    let moved = |step: f64| {
        let along = |(&x, &g): (&f32, &f32)| x + (step * f64::from(g) / norm) as f32;
        loss_at(&start.iter().zip(gradient).map(along).collect::<Vec<_>>(), false).0
    };
    let slope = (moved(0.02) - moved(-0.02)) / 0.04;
    assert!(norm > 1e-3 && (slope - norm).abs() < 0.02 * norm, "{slope} {norm}");
}

#[test]
fn leaves_come_in_the_order_of_the_passes_and_as_selected() {
    let model = llama();
    let (first, second) = (batch(), Batch::new(&[Example::text(sequence(9, 4))]).unwrap());
    let mut taps = Taps::none();
    let site = Site::Block(2, BlockSite::ResidPre);
    let whole = taps.leaf(site);
    let part = LeafId::fresh();
    let selector = Selector { sequences: None, positions: Some([3].into()), columns: Some(4..9) };
    taps.add(site, selector, Action::Leaf(part));
    for recompute in [false, true] {
        let model = recomputing(&model, recompute);
        let mut g = Graph::recording(&model.params);
        let a = model.token_logprobs(&mut g, &first, &taps).unwrap();
        let b = model.token_logprobs(&mut g, &second, &taps).unwrap();
        let (a, b) = (g.sum(&a).unwrap(), g.sum(&b).unwrap());
        let loss = g.add(&a, &b).unwrap();
        let gradients = g.backward(&loss).unwrap();
        let shapes = |id| gradients.leaves(id).map(|t| t.shape().to_vec()).collect::<Vec<_>>();
        assert_eq!(shapes(whole), [[26, 32], [4, 32]]);
        assert_eq!(shapes(part), [[3, 5], [1, 5]]);
        // The part's own gradient is that of the whole, where it was taken.
        let (all, own) = (gradients.leaves(whole).next().unwrap(), gradients.leaves(part).next().unwrap());
        for (i, sequence) in first.layout.sequences.iter().enumerate() {
            let row = (sequence.start + 3) * 32;
            assert_eq!(own.f32()[i * 5..(i + 1) * 5], all.f32()[row + 4..row + 9]);
        }
    }
}

/// A leaf that is asked for is there, at scales of norms too, and changes no bit of what is computed.
#[test]
fn every_site_can_be_a_leaf() {
    for model in [llama(), Model::random(config("gpt2", json!({})), 3).unwrap()] {
        let batch = batch();
        let (plain, _) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
        for site in SITES.into_iter().filter(|site| *site != Site::Logits) {
            let mut taps = Taps::none();
            let leaf = taps.leaf(site);
            let (loss, gradients) = model.loss_and_gradients(&batch, &taps).unwrap();
            assert_eq!(loss.to_bits(), plain.to_bits(), "{site}");
            let found: Vec<&Tensor> = gradients.leaves(leaf).collect();
            assert!(!found.is_empty(), "{site}");
            assert!(found.iter().any(|t| t.f32().iter().any(|&g| g != 0.0)), "{site}");
        }
    }
}

/// With weights of the last block alone trained, the blocks below are run once and no more.
#[test]
fn blocks_below_what_learns_are_not_run_again() {
    for (learns, expected) in
        [("layers.2.", [1, 1, 2]), ("layers.1.", [1, 2, 2]), ("embed_tokens", [2; 3]), ("model.norm", [1; 3])]
    {
        let mut model = llama();
        model.recompute = true;
        model.params.set_trainable(|name| name.contains(learns));
        let runs: Arc<[AtomicUsize; 3]> = Arc::default();
        let mut taps = Taps::none();
        for l in 0..3 {
            let runs = runs.clone();
            let count = Action::function(move |_, x, _| {
                runs[l].fetch_add(1, Ordering::Relaxed);
                Ok(x.clone())
            });
            taps.add(Site::Block(l, BlockSite::ResidPre), Selector::default(), count);
        }
        let (_, gradients) = model.loss_and_gradients(&batch(), &taps).unwrap();
        let runs: Vec<_> = runs.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        assert_eq!(runs, expected, "{learns}");
        let kept = recomputing(&model, false);
        let (_, plain) = kept.loss_and_gradients(&batch(), &Taps::none()).unwrap();
        assert!(gradients.iter().count() > 0);
        for (id, gradient) in plain.iter() {
            assert_eq!(gradients.get(id).unwrap().f32(), gradient.f32());
        }
    }
}

/// The residual stream behind a block is what is read there, in inference, while learning, and where blocks are run again;
/// what is behind it has no gradient.
#[test]
fn a_residual_is_what_its_site_reads_and_can_be_differentiated() {
    for model in models() {
        let name = model.config()["model_type"].to_string();
        let batch = batch();
        let site = Site::Block(0, BlockSite::ResidPost);
        let mut taps = Taps::none();
        taps.read(site);
        model.hidden(&mut Graph::inference(&model.params), &batch, &taps).unwrap();
        let read = taps.take(site).remove(0).tensor;
        let none = Taps::none();
        let gradients = [false, true].map(|recompute| {
            let model = recomputing(&model, recompute);
            let mut g = Graph::recording(&model.params);
            let residual = model.residual(&mut g, &batch, 0, &none).unwrap();
            assert_eq!(residual.value().f32(), read.f32(), "{name}");
            let squares = g.mul(&residual, &residual).unwrap();
            let loss = g.mean(&squares).unwrap();
            g.backward(&loss).unwrap()
        });
        let blocks = model.spec().names.block.blocks;
        for (id, param) in model.params.iter() {
            let of = |layer: usize| param.name.starts_with(&format!("{blocks}.{layer}."));
            let [kept, again] = [0, 1].map(|i| gradients[i].get(id).map(|g| g.f32().to_vec()));
            assert_eq!(kept, again, "{name}: {}", param.name);
            assert!(!(of(1) && kept.is_some()), "{name}: {}", param.name);
        }
        let beyond = model.residual(&mut Graph::inference(&model.params), &batch, model.spec().layers, &none);
        assert!(beyond.is_err());
    }
}

/// A loss of a value that is held is the loss of what a pass ends with there, whether blocks are run again or not.
#[test]
fn a_loss_of_a_held_value_has_its_gradient() {
    let batch = batch();
    let site = Site::Block(0, BlockSite::ResidPost);
    for recompute in [false, true] {
        let model = recomputing(&llama(), recompute);
        let loss = |g: &mut Graph<'_>, x: &Var| {
            let squares = g.mul(x, x).unwrap();
            g.sum(&squares).unwrap()
        };
        let none = Taps::none();
        let mut g = Graph::recording(&model.params);
        let last = model.residual(&mut g, &batch, 0, &none).unwrap();
        let wanted = loss(&mut g, &last);
        let gradients = g.backward(&wanted).unwrap();

        let mut taps = Taps::none();
        taps.hold(site);
        assert!(taps.held(site).is_none(), "no pass came there yet");
        let mut g = Graph::recording(&model.params);
        model.residual(&mut g, &batch, 1, &taps).unwrap();
        let found = loss(&mut g, &taps.held(site).unwrap());
        assert_eq!(found.scalar(), wanted.scalar());
        let held = g.backward(&found).unwrap();
        assert!(held.norm() > 0.0);
        for (id, gradient) in gradients.iter() {
            assert_eq!(held.get(id).unwrap().f32(), gradient.f32(), "{}", model.params.get(id).name);
        }
    }
}
