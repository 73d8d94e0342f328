//! The same bits alone or in a batch, in one pass or token by token, opened or closed.

use std::sync::Arc;

use crate::small_models::{config, models};
use amend_engine::generate::{GenerateOptions, Generated, Sampling, Session, SessionOptions};
use amend_engine::models::{InnerNames, Positions};
use amend_engine::taps::BlockSite;
use amend_engine::{Action, Batch, Example, Graph, Model, Selector, Site, Taps};
use proptest::prelude::*;
use serde_json::json;

fn sequence(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 7 + seed * 13 + i * i * 3) % 61).collect()
}

/// What a session of these bounds makes of the prompts.
fn generated(
    model: &Model,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    bounds: SessionOptions,
) -> Vec<Vec<Generated>> {
    let mut session = Session::new(model, bounds);
    session.submit_all(prompts, options.clone()).unwrap();
    session.run(|_| ()).unwrap()
}

/// What one pass over the logits in chunks says is what the whole logits say.
#[test]
fn scored_tokens_have_the_log_probability_and_the_choice_of_their_logits() {
    let texts = [Example::text(sequence(1, 40)), Example::answer(&sequence(2, 5), &sequence(3, 9))];
    for model in models() {
        let prompt = sequence(2, 5);
        let options = GenerateOptions { max_new_tokens: 6, ..Default::default() };
        let written = model.generate(std::slice::from_ref(&prompt), &options).unwrap();
        let greedy = Example::answer(&prompt, &written[0][0].ids);
        let examples = [&texts[..], &[greedy]].concat();
        let scored = model.scored(&examples, 4096).unwrap();
        assert!(scored[2].is_greedy() && !scored[0].is_greedy());
        assert_eq!(
            scored.iter().map(|s| s.logprobs.clone()).collect::<Vec<_>>(),
            model.score(&examples, 1).unwrap()
        );
        for (example, scored) in examples.iter().zip(&scored) {
            let (batch, taps) = (Batch::new([example]).unwrap(), Taps::none());
            let mut g = Graph::inference(&model.params);
            let hidden = model.hidden(&mut g, &batch, &taps).unwrap();
            let logits = model.logits(&mut g, &hidden, &batch.layout, &batch.rows, &taps).unwrap();
            let rows = logits.value().f32().chunks_exact(model.spec().vocabulary);
            let chosen: Vec<bool> = rows
                .zip(&batch.targets)
                .map(|(row, &t)| amend_engine::kernels::argmax(row) == t as usize)
                .collect();
            assert_eq!(scored.greedy, chosen);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..Default::default() })]

    #[test]
    fn scoring_does_not_depend_on_the_batch(
        lengths in prop::collection::vec(2usize..70, 1..9),
        tokens in 1usize..300,
    ) {
        let examples: Vec<_> =
            lengths.iter().enumerate().map(|(i, &n)| Example::text(sequence(i as u32, n))).collect();
        for model in models() {
            let together = model.score(&examples, tokens).unwrap();
            for (example, row) in examples.iter().zip(&together) {
                prop_assert_eq!(&model.score(std::slice::from_ref(example), 1).unwrap()[0], row);
            }
        }
    }

    #[test]
    fn generation_does_not_depend_on_the_batch(
        lengths in prop::collection::vec(1usize..40, 1..7),
        batch_size in 1usize..5,
        rows in 1usize..50,
        cache_tokens in 52usize..200,
        temperature in prop_oneof![Just(0.0f32), Just(0.8)],
    ) {
        let prompts: Vec<_> = lengths.iter().enumerate().map(|(i, &n)| sequence(i as u32, n)).collect();
        let options = GenerateOptions {
            max_new_tokens: 12,
            samples: 2,
            sampling: Sampling { temperature, ..Default::default() },
            ..Default::default()
        };
        for model in models() {
            let bounds = SessionOptions { batch_size, rows, cache_tokens };
            prop_assert_eq!(
                generated(&model, &prompts, &options, bounds),
                model.generate(&prompts, &options).unwrap()
            );
        }
    }
}

#[test]
fn decoding_scores_as_scoring_does() {
    for model in models() {
        let prompt = sequence(1, 20);
        let options = GenerateOptions { max_new_tokens: 30, ..Default::default() };
        let out = &model.generate(std::slice::from_ref(&prompt), &options).unwrap()[0][0];
        let scored = model.score(&[Example::answer(&prompt, &out.ids)], 4096).unwrap();
        assert_eq!(scored[0], out.logprobs);
    }
}

#[test]
fn samples_and_equal_prompts_share_what_was_read() {
    for model in models() {
        let prompts = [sequence(1, 20), sequence(2, 1), sequence(1, 20)];
        let options = GenerateOptions {
            max_new_tokens: 9,
            sampling: Sampling { temperature: 1.0, ..Default::default() },
            samples: 5,
            ..Default::default()
        };
        let out = model.generate(&prompts, &options).unwrap();
        for samples in &out {
            assert!(samples.iter().map(|g| g.sample).eq(0..5));
        }
        for batch_size in [1, 3] {
            let bounds = SessionOptions { batch_size, ..Default::default() };
            assert_eq!(generated(&model, &prompts, &options, bounds), out);
        }
        // What is read once is what every sequence would have read by itself.
        for (prompt, g) in
            prompts.iter().zip(&out).flat_map(|(p, samples)| samples.iter().map(move |g| (p, g)))
        {
            let scored = model.score(&[Example::answer(prompt, &g.ids)], 4096).unwrap();
            assert_eq!(scored[0], g.logprobs);
        }
        assert_ne!(out[0][0].ids, out[0][1].ids);
    }
}

#[test]
fn prompts_read_in_pieces_are_the_same() {
    let model =
        Model::random(config("mistral", json!({"sliding_window": 7, "max_position_embeddings": 6000})), 3)
            .unwrap();
    let prompts = [sequence(1, 30), sequence(2, 5000), sequence(3, 2047), sequence(4, 2049)];
    let options = GenerateOptions { max_new_tokens: 4, ..Default::default() };
    for (i, out) in model.generate(&prompts, &options).unwrap().iter().enumerate() {
        let scored = model.score(&[Example::answer(&prompts[i], &out[0].ids)], 4096).unwrap();
        assert_eq!(scored[0], out[0].logprobs, "prompt {i}");
    }
}

#[test]
fn threads_change_no_bit() {
    let examples: Vec<_> = (0..6).map(|i| Example::text(sequence(i, 60))).collect();
    for model in models() {
        let run = |threads| {
            let pool = rayon_pool(threads);
            pool.install(|| {
                let batch = Batch::new(&examples).unwrap();
                let (loss, gradients) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
                let flat: Vec<f32> = gradients.iter().flat_map(|(_, t)| t.f32().to_vec()).collect();
                (loss.to_bits(), flat, model.score(&examples, 4096).unwrap())
            })
        };
        assert_eq!(run(1), run(3));
    }
}

fn rayon_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn recomputing_changes_no_gradient() {
    for mut model in models() {
        let batch = Batch::new(&[Example::text(sequence(2, 40)), Example::text(sequence(3, 11))]).unwrap();
        let (_, kept) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
        model.recompute = true;
        let (_, recomputed) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
        for (id, gradient) in kept.iter() {
            assert_eq!(gradient.f32(), recomputed.get(id).unwrap().f32(), "{}", model.params.get(id).name);
        }
    }
}

pub(crate) const BLOCK_SITES: [BlockSite; 21] = [
    BlockSite::ResidPre,
    BlockSite::ResidMid,
    BlockSite::ResidPost,
    BlockSite::AttnOut,
    BlockSite::MlpOut,
    BlockSite::Q,
    BlockSite::K,
    BlockSite::V,
    BlockSite::RotQ,
    BlockSite::RotK,
    BlockSite::Scores,
    BlockSite::Pattern,
    BlockSite::Z,
    BlockSite::HeadResult,
    BlockSite::MlpPre,
    BlockSite::MlpPreLinear,
    BlockSite::MlpPost,
    BlockSite::Ln1Scale,
    BlockSite::Ln1Normalized,
    BlockSite::Ln2Scale,
    BlockSite::Ln2Normalized,
];

pub(crate) const ROUTER_SITES: [BlockSite; 3] =
    [BlockSite::RouterLogits, BlockSite::RouterIndices, BlockSite::RouterWeights];

/// The sites that a model's forward pass comes by.
fn block_sites(model: &Model) -> impl Iterator<Item = BlockSite> {
    let gated = !matches!(model.spec().names.block.inner, InnerNames::Plain(_));
    let routers = if model.spec().experts.is_some() { &ROUTER_SITES[..] } else { &[] };
    let sites = BLOCK_SITES.iter().chain(routers).copied();
    sites.filter(move |&site| gated || site != BlockSite::MlpPreLinear)
}

/// Where what enters the first block comes from.
fn embeddings(model: &Model) -> Vec<Site> {
    match model.spec().positions {
        Positions::Rotary(_) => vec![Site::Embed],
        Positions::Learned(_) => vec![Site::Embed, Site::PosEmbed],
    }
}

fn logits(model: &Model, batch: &Batch, taps: &Taps) -> Vec<f32> {
    let mut g = Graph::inference(&model.params);
    let hidden = model.hidden(&mut g, batch, taps).unwrap();
    let rows: Vec<_> = (0..batch.ids.len()).collect();
    model.logits(&mut g, &hidden, &batch.layout, &rows, taps).unwrap().value().f32().to_vec()
}

#[test]
fn looking_changes_no_bit() {
    for model in models() {
        let batch = Batch::new(&[Example::text(sequence(1, 23)), Example::text(sequence(4, 9))]).unwrap();
        let plain = logits(&model, &batch, &Taps::none());
        let outer =
            [Site::FinalScale, Site::FinalNormalized, Site::Logits].into_iter().chain(embeddings(&model));
        for site in block_sites(&model).map(|s| Site::Block(1, s)).chain(outer) {
            let mut read = Taps::none();
            read.read(site);
            assert_eq!(logits(&model, &batch, &read), plain, "reading {site}");
            assert!(!read.take(site).is_empty(), "{site} was never reached");
            let mut scale = Taps::none();
            scale.add(site, Selector::default(), Action::Scale(1.0));
            assert_eq!(logits(&model, &batch, &scale), plain, "scaling {site} by 1");
        }
    }
}

#[test]
fn looking_while_decoding_changes_no_bit() {
    let options = GenerateOptions { max_new_tokens: 8, ..Default::default() };
    for model in models() {
        let plain = model.generate(&[sequence(1, 9)], &options).unwrap();
        for site in block_sites(&model) {
            let mut taps = Taps::none();
            taps.read(Site::Block(1, site));
            let options = GenerateOptions { taps: Some(Arc::new(taps)), ..options.clone() };
            assert_eq!(model.generate(&[sequence(1, 9)], &options).unwrap(), plain, "{site:?}");
        }
    }
}

#[test]
fn silenced_blocks_leave_the_embedding() {
    for model in models() {
        let batch = Batch::new(&[Example::text(sequence(1, 12))]).unwrap();
        let last = model.spec().layers - 1;
        let mut taps = Taps::none();
        taps.read(Site::Block(0, BlockSite::ResidPre)).read(Site::Block(last, BlockSite::ResidPost));
        for l in 0..=last {
            for site in [BlockSite::AttnOut, BlockSite::MlpOut] {
                taps.add(Site::Block(l, site), Selector::default(), Action::Zero);
            }
        }
        logits(&model, &batch, &taps);
        let pre = taps.take(Site::Block(0, BlockSite::ResidPre));
        let post = taps.take(Site::Block(last, BlockSite::ResidPost));
        assert_eq!(pre[0].tensor.f32(), post[0].tensor.f32());
    }
}

#[test]
fn components_sum_to_the_residual_and_heads_to_the_attention_output() {
    for model in models() {
        let batch = Batch::new(&[Example::text(sequence(1, 12))]).unwrap();
        let last = model.spec().layers - 1;
        let mut taps = Taps::none();
        taps.read(Site::Block(last, BlockSite::ResidPost));
        for site in embeddings(&model) {
            taps.read(site);
        }
        for l in 0..=last {
            for site in [BlockSite::AttnOut, BlockSite::MlpOut, BlockSite::HeadResult] {
                taps.read(Site::Block(l, site));
            }
        }
        logits(&model, &batch, &taps);
        let take = |site| taps.take(site)[0].tensor.f32().to_vec();
        let close = |a: &[f32], b: &[f32]| {
            let scale = b.iter().map(|x| x.abs()).fold(1e-3, f32::max);
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * scale));
        };
        let d = model.spec().hidden;
        let mut sum = vec![0.0; 12 * d];
        let mut add = |part: &[f32]| sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        embeddings(&model).into_iter().for_each(|site| add(&take(site)));
        for l in 0..=last {
            let attention = take(Site::Block(l, BlockSite::AttnOut));
            let heads = take(Site::Block(l, BlockSite::HeadResult));
            let of_heads: Vec<f32> = heads
                .chunks(d * model.spec().heads)
                .flat_map(|row| (0..d).map(move |i| row.iter().skip(i).step_by(d).sum::<f32>()))
                .collect();
            // A norm after attention is no sum over heads. Biases are zero in a fresh model.
            if model.spec().names.block.after_attention.is_none() {
                close(&of_heads, &attention);
            }
            add(&attention);
            add(&take(Site::Block(l, BlockSite::MlpOut)));
        }
        close(&sum, &take(Site::Block(last, BlockSite::ResidPost)));
    }
}

#[test]
fn a_tapped_site_is_a_differentiable_leaf() {
    let model = &models()[0];
    let batch = Batch::new(&[Example::text(sequence(1, 12))]).unwrap();
    let site = Site::Block(1, BlockSite::ResidMid);
    let mut taps = Taps::none();
    let leaf = taps.leaf(site);
    let (loss, gradients) = model.loss_and_gradients(&batch, &taps).unwrap();
    let gradient = gradients.leaves(leaf).next().unwrap();
    // A small step against the gradient lowers the loss as the gradient says.
    let step = 1e-3f32;
    let mut delta = gradient.clone();
    delta.f32_mut().iter_mut().for_each(|g| *g *= -step);
    let mut shifted = Taps::none();
    shifted.add(site, Selector::default(), Action::Add(delta));
    let (after, _) = model.loss_and_gradients(&batch, &shifted).unwrap();
    let expected: f32 = gradient.f32().iter().map(|g| g * g).sum::<f32>() * step;
    assert!(((loss - after) - expected).abs() < 0.1 * expected, "{} {expected}", loss - after);
}
