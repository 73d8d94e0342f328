//! Heads and their vectors.

use amend_engine::taps::BlockSite;
use amend_engine::{Action, Batch, Example, Graph, Model, Result, Selector, Site, Taps};
use amend_interpret::heads::{added, head_outputs};
use amend_interpret::{
    Head, HeadVectors, attribution, held, lens, probabilities, ranks, without_heads, without_vectors,
};

use crate::support::{gemma2, llama, models, qwen3};

const IDS: [u32; 6] = [3, 17, 8, 41, 22, 9];

fn close(a: &[f32], b: &[f32]) -> bool {
    let scale = b.iter().fold(1e-3_f32, |most, x| most.max(x.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5 * scale)
}

fn sum(rows: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; rows[0].len()];
    rows.iter().for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
    sum
}

/// What is read at a site at the text's last token.
fn last_at(model: &Model, site: BlockSite, layer: usize) -> Result<Vec<f32>> {
    let mut taps = Taps::none();
    let last = Selector { positions: Some([5].into()), ..Selector::default() };
    taps.add(Site::Block(layer, site), last, Action::Read);
    let batch = Batch::new([&Example::text(IDS.to_vec())])?;
    model.hidden(&mut Graph::inference(&model.params), &batch, &taps)?;
    Ok(taps.take(Site::Block(layer, site)).remove(0).tensor.f32().to_vec())
}

#[test]
fn heads_add_up_to_attention() -> Result<()> {
    for model in models() {
        let mixes = held(&model, &IDS, &[5])?.remove(0).mixes;
        for (layer, mixes) in mixes.iter().enumerate() {
            let mut whole = sum(&head_outputs(&model, layer, mixes)?);
            let bias = model.params.iter().find(|(_, param)| {
                param.name.contains(&format!(".{layer}.")) && param.name.ends_with("attn.c_proj.bias")
            });
            if let Some((_, bias)) = bias {
                whole.iter_mut().zip(bias.tensor.f32()).for_each(|(x, bias)| *x += bias);
            }
            // Behind the norm, where there is one.
            let whole = added(&model, layer, &[whole])?.remove(0);
            let family = &model.config()["model_type"];
            assert!(close(&whole, &last_at(&model, BlockSite::AttnOut, layer)?), "{family}, layer {layer}");
        }
    }
    Ok(())
}

#[test]
fn vectors_and_coefficients_give_what_a_head_adds() -> Result<()> {
    for model in models() {
        let mixes = held(&model, &IDS, &[5])?.remove(0).mixes;
        for head in [Head { layer: 0, head: 2 }, Head { layer: 1, head: 0 }] {
            let vectors = HeadVectors::of(&model, head)?;
            assert_eq!(vectors.count(), model.spec().head_dim);
            let coefficients = vectors.coefficients(&mixes[head.layer][head.columns(&model)]);
            let output = &head_outputs(&model, head.layer, &mixes[head.layer])?[head.head];
            assert!(close(&vectors.output(&coefficients), output));
            let (some, others): (Vec<usize>, Vec<usize>) = (0..vectors.count()).partition(|i| i % 3 == 0);
            let parts = [some, others].map(|kept| vectors.output_of(&coefficients, &kept));
            assert!(close(&sum(&parts), output), "parts add up");
        }
    }
    Ok(())
}

/// All coefficients zero at a token is the head taken out there, and taking a head out is subtracting what it adds.
#[test]
fn a_head_without_its_vectors_is_no_head() -> Result<()> {
    for model in models() {
        let head = Head { layer: 1, head: 1 };
        let example = [Example::answer(&IDS, &[11])];
        let vectors = HeadVectors::of(&model, head)?;
        let all: Vec<usize> = (0..vectors.count()).collect();
        let p = |taps: &Taps| Ok::<f64, amend_engine::Error>(probabilities(&model, &example, taps)?[0]);
        let mut bare = Taps::none();
        without_vectors(&mut bare, &model, &vectors, &all, 5);
        let mut zero = Taps::none();
        let there = Selector {
            positions: Some([5].into()),
            columns: Some(head.columns(&model)),
            ..Selector::default()
        };
        zero.add(Site::Block(1, BlockSite::Z), there, Action::Zero);
        let (bare, zero, plain) = (p(&bare)?, p(&zero)?, p(&Taps::none())?);
        assert!((bare / zero - 1.0).abs() < 1e-4, "{bare} {zero}");
        assert!((zero / plain - 1.0).abs() > 1e-3, "{zero} {plain}");

        let mut none = Taps::none();
        without_vectors(&mut none, &model, &vectors, &[], 5);
        assert_eq!(p(&none)?, plain, "none left out");

        // At every token, by what the head adds instead of by what it mixes.
        let (mut taken, mut subtracted) = (Taps::none(), Taps::none());
        without_heads(&mut taken, &model, &[head]);
        let width = model.spec().hidden;
        let share = Selector { columns: Some(width..2 * width), ..Selector::default() };
        subtracted.add(Site::Block(1, BlockSite::HeadResult), share, Action::Zero);
        let (taken, subtracted) = (p(&taken)?, p(&subtracted)?);
        assert!((taken / subtracted - 1.0).abs() < 1e-4, "{taken} {subtracted}");
        assert_ne!(taken, plain);
    }
    Ok(())
}

/// One coefficient becomes zero, and the others stay as they were.
#[test]
fn a_vector_is_taken_out_alone() -> Result<()> {
    let model = qwen3();
    let head = Head { layer: 0, head: 3 };
    let vectors = HeadVectors::of(&model, head)?;
    let mut taps = Taps::none();
    without_vectors(&mut taps, &model, &vectors, &[2], 5);
    taps.read(Site::Block(0, BlockSite::Z));
    let batch = Batch::new([&Example::text(IDS.to_vec())])?;
    model.hidden(&mut Graph::inference(&model.params), &batch, &taps)?;
    let read = taps.take(Site::Block(0, BlockSite::Z)).remove(0).tensor;
    let row = |token: usize| &read.f32()[token * read.columns()..][head.columns(&model)];
    let before = held(&model, &IDS, &[4, 5])?;
    assert_eq!(row(4), &before[0].mixes[0][head.columns(&model)], "at that token alone");
    let [was, is] = [&before[1].mixes[0][head.columns(&model)], row(5)].map(|mix| vectors.coefficients(mix));
    assert!(is[2].abs() < 1e-5 && was[2].abs() > 1e-3);
    let same = (0..vectors.count()).filter(|&i| i != 2).all(|i| (was[i] - is[i]).abs() < 1e-5);
    assert!(same, "{was:?} {is:?}");
    Ok(())
}

#[test]
fn the_lens_at_the_end_is_the_model() -> Result<()> {
    for model in models() {
        let last = held(&model, &IDS, &[5])?.remove(0);
        let wanted = model.score(&[Example::answer(&IDS, &[11])], 64)?[0][0];
        let found = lens(&model, &last.after[model.spec().layers - 1..], 11)?[0];
        assert!((found - f64::from(wanted)).abs() < 1e-6, "{found} {wanted}");
        let of_all: f64 = (0..50)
            .map(|token| Ok(lens(&model, &last.between[..1], token)?[0].exp()))
            .sum::<Result<f64>>()?;
        assert!((of_all - 1.0).abs() < 1e-5, "{of_all}");
        // The first choice has no token before it.
        let best = (0..50).max_by(|&a, &b| {
            let p = |token| lens(&model, &last.after[..1], token).unwrap()[0];
            p(a).total_cmp(&p(b))
        });
        assert_eq!(ranks(&model, &last.after[..1], best.unwrap())?, [0]);
    }
    Ok(())
}

/// A state of a block is what the one before it left, and what attention and feed-forward add to it.
#[test]
fn what_is_held_is_read_where_it_is_said_to_be() -> Result<()> {
    let model = llama();
    let both = held(&model, &IDS, &[5, 2])?;
    assert_eq!(both[1], held(&model, &IDS, &[2])?[0], "in the order asked for");
    let last = &both[0];
    assert_eq!(last.before[1..], last.after[..2]);
    let attention = last_at(&model, BlockSite::AttnOut, 1)?;
    assert!(close(&sum(&[last.before[1].clone(), attention]), &last.between[1]));
    Ok(())
}

/// Attribution is the lens on each head alone; a head of which nothing is left says what the model says of nothing.
#[test]
fn attribution_is_the_lens_on_heads() -> Result<()> {
    for model in models() {
        let mixes = held(&model, &IDS, &[5])?.remove(0).mixes;
        let found = attribution(&model, &mixes, 30)?;
        let spec = model.spec();
        assert_eq!((found.len(), found[0].len()), (spec.layers, spec.heads));
        let outputs = added(&model, 1, &head_outputs(&model, 1, &mixes[1])?)?;
        let alone = lens(&model, &outputs[2..3], 30)?[0].exp();
        assert_eq!(found[1][2], alone);
        assert!(found.iter().flatten().all(|p| (0.0..=1.0).contains(p)));
    }
    Ok(())
}

#[test]
fn vectors_are_ranked_by_what_is_lost_without_them() -> Result<()> {
    let model = gemma2();
    let head = Head { layer: 1, head: 2 };
    let vectors = HeadVectors::of(&model, head)?;
    let mix = held(&model, &IDS, &[5])?.remove(0).mixes[1][head.columns(&model)].to_vec();
    let order = vectors.ranked(&model, &mix, 30)?;
    let coefficients = vectors.coefficients(&mix);
    let left = |without: usize| {
        let kept: Vec<usize> = (0..vectors.count()).filter(|&i| i != without).collect();
        let output = vectors.output_of(&coefficients, &kept);
        Ok::<f64, amend_engine::Error>(lens(&model, &added(&model, 1, &[output])?, 30)?[0])
    };
    let lost: Vec<f64> = order.iter().map(|&i| left(i)).collect::<Result<_>>()?;
    assert!(lost.is_sorted(), "{lost:?}");
    let mut all = order.clone();
    all.sort_unstable();
    assert_eq!(all, (0..vectors.count()).collect::<Vec<_>>());
    Ok(())
}
