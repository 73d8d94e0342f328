//! Attaching adapters and taking them off, and what is refused.

use crate::small_models::{config, models};
use amend_engine::checkpoint::Checkpoint;
use amend_engine::models::{LoraOptions, ShiftFfn};
use amend_engine::taps::BlockSite;
use amend_engine::{Action, Batch, Example, Graph, Model, Selector, Site, Taps};
use serde_json::json;

fn llama() -> Model {
    Model::random(config("llama", json!({})), 3).unwrap()
}

fn lora(targets: &[&str]) -> LoraOptions {
    LoraOptions { r: 2, alpha: 4.0, targets: targets.iter().map(|&target| target.to_owned()).collect() }
}

/// Gives every parameter of an adapter values that are no zeros.
fn stir(model: &mut Model) {
    for (_, param) in model.params.iter_mut().filter(|(_, param)| param.name.contains(".lora_")) {
        param.tensor.f32_mut().iter_mut().enumerate().for_each(|(i, w)| *w = 0.3 * (i as f32 + 0.5).sin());
    }
}

/// The parameters stayed: attaching again found them "defined twice", and they were written.
#[test]
fn a_model_without_its_adapters_is_the_one_from_before() {
    let scratch = tempfile::tempdir().unwrap();
    let base = llama();
    let mut adapted = base.clone();
    adapted.attach_lora(&lora(&[]), 1).unwrap();
    adapted.attach_shift_ffn(&ShiftFfn::default(), 1).unwrap();
    let mut without = adapted.without_adapter();
    assert_eq!(without.params.count().0, base.params.count().0);
    let dir = scratch.path().join("without");
    without.save(&dir, None, None).unwrap();
    let names: Vec<_> = base.params.iter().map(|(_, param)| param.name.as_str()).collect();
    assert_eq!(Checkpoint::open(&dir).unwrap().names().count(), names.len());
    without.attach_lora(&lora(&["q_proj"]), 1).unwrap();
    without.attach_shift_ffn(&ShiftFfn::default(), 1).unwrap();
    assert!(without.params.count().0 > base.params.count().0);
}

/// A folder with such options would not open, and the adapter would have learnt nothing.
#[test]
fn options_that_reading_refuses_are_refused_when_attaching() {
    for (r, alpha, said) in
        [(2, 0.0, "alpha is 0"), (2, -1.0, "alpha is -1"), (2, f32::NAN, "alpha is NaN"), (0, 4.0, "r is 0")]
    {
        let error = llama().attach_lora(&LoraOptions { r, alpha, targets: Vec::new() }, 1).unwrap_err();
        assert!(error.to_string().contains(&format!("{said}, but must be above 0")), "{error}");
        let options = ShiftFfn { r, alpha: f64::from(alpha), ..Default::default() };
        let error = llama().attach_shift_ffn(&options, 1).unwrap_err();
        assert!(error.to_string().contains(&format!("{said}, but must be above 0")), "{error}");
    }
}

/// The others of the list would learn, and half of what was asked for would not.
#[test]
fn one_misspelt_target_among_several_is_refused_with_the_nearest() {
    for (targets, wrong, nearest) in [
        (["down_proj", "upproj"], "upproj", "up_proj"),
        (["self_attn.qproj", "v_proj"], "self_attn.qproj", "self_attn.q_proj"),
    ] {
        let error = llama().attach_lora(&lora(&targets), 1).unwrap_err().to_string();
        assert!(
            error.contains(&format!("target \"{wrong}\"; the nearest is {nearest}; a block has")),
            "{error}"
        );
    }
    assert!(llama().attach_lora(&lora(&["mlp.down_proj", "up_proj"]), 1).is_ok());
}

/// What heads share in includes the adapter: the shares add up to the output, and without one of them it is the output
/// without that head.
#[test]
fn shares_of_heads_are_those_of_the_adapted_output() {
    let batch = Batch::new(&[Example::text(vec![3, 9, 4, 1]), Example::text(vec![7, 2])]).unwrap();
    for mut model in models() {
        let spec = model.spec().clone();
        model.attach_lora(&lora(&[spec.names.block.output]), 1).unwrap();
        stir(&mut model);
        let hidden = |taps: &Taps| {
            let mut g = Graph::inference(&model.params);
            model.hidden(&mut g, &batch, taps).unwrap().value().f32().to_vec()
        };
        let [shares, output] = [BlockSite::HeadResult, BlockSite::AttnOut].map(|site| Site::Block(1, site));
        let mut taps = Taps::none();
        taps.read(shares).read(output);
        assert_eq!(hidden(&taps), hidden(&Taps::none()), "looking changes no bit");
        let close = |a: &[f32], b: &[f32]| {
            let scale = b.iter().map(|x| x.abs()).fold(1.0, f32::max);
            assert!(
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 2e-4 * scale),
                "{}",
                model.config()["model_type"]
            );
        };
        if spec.names.block.after_attention.is_none() {
            let rows = taps.take(shares)[0].tensor.f32().to_vec();
            let rows = rows.chunks(spec.hidden * spec.heads);
            let sums: Vec<f32> = rows
                .flat_map(|row| {
                    (0..spec.hidden).map(|i| row.iter().skip(i).step_by(spec.hidden).sum::<f32>())
                })
                .collect();
            close(&sums, taps.take(output)[0].tensor.f32());
        }
        let without_head = |site: BlockSite, width: usize| {
            let columns = Selector { columns: Some(width..2 * width), ..Default::default() };
            let mut taps = Taps::none();
            taps.add(Site::Block(1, site), columns, Action::Zero);
            hidden(&taps)
        };
        let ablated = without_head(BlockSite::HeadResult, spec.hidden);
        close(&ablated, &without_head(BlockSite::Z, spec.head_dim));
        assert_ne!(ablated, hidden(&Taps::none()));
    }
}
