//! Parts of a model that change by themselves: tensors, rows, columns, heads, experts.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::small_models::{config, models};
use amend_engine::checkpoint::Checkpoint;
use amend_engine::models::{Part, QkNorm};
use amend_engine::optim::{AdamW, AdamWOptions, DecayOn, clip_factor};
use amend_engine::taps::BlockSite;
use amend_engine::{Action, Batch, Example, Gradients, Graph, Model, Rng, Selector, Site, Taps, Tensor};
use serde_json::json;

fn batch() -> Batch {
    let sequence = |seed: u32, n: u32| (0..n).map(|i| (i * 7 + seed * 13 + i * i * 3) % 61).collect();
    Batch::new(&[Example::text(sequence(1, 23)), Example::text(sequence(4, 9))]).unwrap()
}

fn mixtral() -> Model {
    Model::random(config("mixtral", json!({"num_local_experts": 4})), 3).unwrap()
}

/// Two heads, an expert, rows and columns that overlap, and a norm.
fn parts() -> Vec<Part> {
    let parts = [
        "head 1 of layer 0",
        "head 3 of layer 0",
        "head 0 of layer 2",
        "expert 2 of layer 1",
        "rows 3..5 of model.layers.1.self_attn.k_proj.weight",
        "columns 30..32 of model.layers.1.self_attn.k_proj.weight",
        "rows 4..6 of model.layers.1.self_attn.k_proj.weight",
        "columns 2..4 of model.norm.weight",
        "model.layers.0.input_layernorm.weight",
    ];
    parts.iter().map(|part| part.parse().unwrap()).collect()
}

/// Whether an entry is in [`parts`], worked out by hand: 4 heads of 8 columns share 2 heads of keys.
fn is_selected(name: &str, row: usize, column: usize) -> bool {
    match name {
        "model.layers.0.self_attn.q_proj.weight" => (8..16).contains(&row) || (24..32).contains(&row),
        "model.layers.0.self_attn.o_proj.weight" => (8..16).contains(&column) || (24..32).contains(&column),
        "model.layers.2.self_attn.q_proj.weight" => row < 8,
        "model.layers.2.self_attn.o_proj.weight" => column < 8,
        "model.layers.1.self_attn.k_proj.weight" => (3..6).contains(&row) || (30..32).contains(&column),
        "model.norm.weight" => (2..4).contains(&column),
        "model.layers.0.input_layernorm.weight" => true,
        _ => name.starts_with("model.layers.1.block_sparse_moe.experts.2."),
    }
}

/// Calls `visit(name, index, whether selected)` for every entry of the model.
fn for_each_entry(model: &Model, mut visit: impl FnMut(&str, usize, bool)) {
    for (_, param) in model.params.iter() {
        let columns = param.tensor.columns();
        for i in 0..param.tensor.len() {
            visit(&param.name, i, is_selected(&param.name, i / columns, i % columns));
        }
    }
}

fn options() -> AdamWOptions {
    AdamWOptions { weight_decay: 0.5, decay_on: DecayOn::Everything, ..Default::default() }
}

/// One step with clipping at `max_norm`; returns the norm before.
fn step(model: &mut Model, adamw: &mut AdamW, max_norm: f64) -> f64 {
    let (_, gradients) = model.loss_and_gradients(&batch(), &Taps::none()).unwrap();
    let norm = gradients.norm();
    adamw.step(&mut model.params, &gradients, 1e-2, clip_factor(norm, max_norm)).unwrap();
    norm
}

#[test]
fn only_selected_parts_change_byte_for_byte() {
    let before = mixtral();
    let mut model = before.clone();
    model.select(&parts()).unwrap();
    let mut selected = 0;
    for_each_entry(&model, |_, _, own| selected += usize::from(own));
    assert_eq!(model.params.count().1, selected);
    let mut adamw = AdamW::new(&model.params, options());
    for _ in 0..3 {
        step(&mut model, &mut adamw, 0.1);
    }
    for_each_entry(&model, |name, i, own| {
        let entry =
            |model: &Model| model.params.get(model.params.find(name).unwrap()).tensor.f32()[i].to_bits();
        assert_eq!(entry(&model) != entry(&before), own, "{name} entry {i}");
    });
    // The report finds the same, to the byte.
    let changes = model.changes_since(&before).unwrap();
    let changed = changes.iter().map(|c| c.changed * before_len(&before, &c.name) as f64).sum::<f64>();
    assert_eq!(changed.round() as usize, selected);
    let k = changes.iter().find(|c| c.name == "model.layers.1.self_attn.k_proj.weight").unwrap();
    assert_eq!([&k.rows, &k.columns], [&one(0..16), &one(0..32)]);
    let o = changes.iter().find(|c| c.name == "model.layers.0.self_attn.o_proj.weight").unwrap();
    assert_eq!([&o.rows, &o.columns], [&one(0..32), &vec![8..16, 24..32]]);
    assert!(o.largest > 0.0 && o.bytes >= 32 * 16 && o.bytes <= 4 * 32 * 16);
    let of_model: Vec<_> = model.parts_changed_since(&before).unwrap();
    let wanted: Vec<Part> = parts().into_iter().filter(is_head_or_expert).collect();
    let text = |parts: &[Part]| parts.iter().map(Part::to_string).collect::<BTreeSet<_>>();
    assert_eq!(text(&of_model), text(&wanted));
}

fn one(range: Range<usize>) -> Vec<Range<usize>> {
    std::iter::once(range).collect()
}

fn before_len(model: &Model, name: &str) -> usize {
    model.params.get(model.params.find(name).unwrap()).tensor.len()
}

fn is_head_or_expert(part: &Part) -> bool {
    matches!(part, Part::Head { .. } | Part::Expert { .. })
}

/// Norm, clipping and moments are those of a model that has no other entries.
#[test]
fn clipping_and_moments_see_selected_entries_alone() {
    let mut model = mixtral();
    let (_, all) = model.loss_and_gradients(&batch(), &Taps::none()).unwrap();
    model.select(&parts()).unwrap();
    let mut square = 0.0;
    let mut reference: Vec<(String, usize, f64, f64)> = Vec::new();
    for_each_entry(&model, |name, i, own| {
        let id = model.params.find(name).unwrap();
        if let Some(gradient) = all.get(id).filter(|_| own) {
            square += f64::from(gradient.f32()[i]).powi(2);
            let weight = model.params.get(id).tensor.f32()[i];
            reference.push((name.to_owned(), i, f64::from(weight), f64::from(gradient.f32()[i])));
        }
    });
    let mut adamw = AdamW::new(&model.params, options());
    let norm = step(&mut model, &mut adamw, 0.1);
    assert!((norm - square.sqrt()).abs() < 1e-5 * norm, "{norm} {}", square.sqrt());
    assert!(norm > 0.2, "clipping must matter: {norm}");
    for (name, i, weight, gradient) in reference {
        let gradient = gradient * f64::from(clip_factor(norm, 0.1));
        // The first step of AdamW: decay, then the gradient over its own size.
        let expected = weight * (1.0 - 1e-2 * 0.5) - 1e-2 * gradient / (gradient.abs() + 1e-8);
        let found = f64::from(model.params.get(model.params.find(&name).unwrap()).tensor.f32()[i]);
        assert!((found - expected).abs() < 2e-5, "{name} {i}: {found} {expected}");
    }
    let held: usize = adamw.state(&model.params).iter().map(|(_, moment)| moment.len()).sum();
    assert_eq!(held, 2 * model.params.count().1, "no state for what may not change");
}

#[test]
fn a_checkpoint_of_selected_entries_goes_on_to_the_same_bits() {
    let mut model = mixtral();
    model.select(&parts()).unwrap();
    let mut adamw = AdamW::new(&model.params, options());
    step(&mut model, &mut adamw, 1.0);
    let (values, state): (Vec<Tensor>, _) =
        (model.params.iter().map(|(_, p)| p.selected()).collect(), adamw.state(&model.params));
    let steps = adamw.steps();
    step(&mut model, &mut adamw, 1.0);
    let mut again = mixtral();
    again.select(&parts()).unwrap();
    for ((_, param), values) in again.params.iter_mut().zip(values).filter(|((_, p), _)| p.trainable) {
        param.set_selected(values).unwrap();
    }
    let find = |name: &str| Ok(state.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone()));
    let mut restored = AdamW::new(&again.params, options());
    restored.restore(&again.params, steps, find).unwrap();
    step(&mut again, &mut restored, 1.0);
    for ((_, a), (_, b)) in model.params.iter().zip(again.params.iter()) {
        assert_eq!(a.tensor.bytes(), b.tensor.bytes(), "{}", a.name);
    }
    // Another selection's state is refused, by name.
    again.select(&parts()[..1]).unwrap();
    let error =
        AdamW::new(&again.params, options()).restore(&again.params, steps, find).unwrap_err().to_string();
    assert!(error.contains("layers.0.self_attn.q_proj.weight.m"), "{error}");
}

/// Changing a head's own weights, whatever the family calls them, changes nothing but that head.
#[test]
fn a_head_is_all_of_itself_and_nothing_else() {
    for model in models() {
        if model.spec().qk_norm == Some(QkNorm::Whole) {
            // There one head's queries move the norm of all.
            continue;
        }
        let (w, heads) = (model.spec().head_dim, model.spec().heads);
        let own_keys = model.spec().kv_heads == heads;
        let mut moved = model.clone();
        moved.select(&[Part::Head { layer: 1, head: 2 }]).unwrap();
        let (d, bias) = (model.spec().hidden, usize::from(model.spec().qkv_bias));
        let expected = (2 + if own_keys { 2 } else { 0 }) * w * d + bias * w * if own_keys { 3 } else { 1 };
        assert_eq!(moved.params.count().1, expected, "{:?}", model.config()["model_type"]);
        let mut rng = Rng::named(1, "moved");
        for (_, param) in moved.params.iter_mut().filter(|(_, p)| p.trainable) {
            let count = param.selected_len();
            param.set_selected(Tensor::build(&[count], |out| out.fill_with(|| rng.normal() as f32))).unwrap();
        }
        let run = |model: &Model, silence: bool| {
            let mut taps = Taps::none();
            if silence {
                let columns = Selector { columns: Some(2 * w..3 * w), ..Default::default() };
                taps.add(Site::Block(1, BlockSite::Z), columns, Action::Zero);
            }
            let batch = batch();
            model.hidden(&mut Graph::inference(&model.params), &batch, &taps).unwrap().value().f32().to_vec()
        };
        assert_ne!(run(&model, false), run(&moved, false));
        assert_eq!(run(&model, true), run(&moved, true), "{:?}", model.config()["model_type"]);
        let changed = moved.parts_changed_since(&model).unwrap();
        assert_eq!(changed, [Part::Head { layer: 1, head: 2 }]);
    }
}

/// Tensors were compared by their numbers, which another model's need not share.
#[test]
fn changed_parts_are_found_in_models_that_were_read_apart() {
    let folder = tempfile::tempdir().unwrap();
    mixtral().save(folder.path(), None, None).unwrap();
    let [before, mut after] = [(); 2].map(|()| Model::open(folder.path()).unwrap());
    assert_eq!(after.parts_changed_since(&before).unwrap(), []);
    let moved = [Part::Head { layer: 2, head: 1 }, Part::Expert { layer: 1, expert: 3 }];
    after.select(&moved).unwrap();
    for (_, param) in after.params.iter_mut().filter(|(_, p)| p.trainable) {
        let halves = Tensor::build(param.selected().shape(), |out| out.fill(0.5));
        param.set_selected(halves).unwrap();
    }
    let found: BTreeSet<_> =
        after.parts_changed_since(&before).unwrap().iter().map(Part::to_string).collect();
    assert_eq!(found, moved.iter().map(Part::to_string).collect());
    // Biases between the weights: the same names, other numbers.
    let biased = Model::random(config("llama", json!({"attention_bias": true})), 5).unwrap();
    let mut plain = Model::random(config("llama", json!({})), 3).unwrap();
    for (_, param) in plain.params.iter_mut() {
        param.tensor = biased.params.get(biased.params.find(&param.name).unwrap()).tensor.clone();
    }
    assert_eq!(plain.parts_changed_since(&biased).unwrap(), []);
    assert_eq!(biased.parts_changed_since(&plain).unwrap().len(), 12);
    let wider = Model::random(config("llama", json!({"hidden_size": 40})), 3).unwrap();
    let error = wider.parts_changed_since(&plain).unwrap_err().to_string();
    assert!(error.contains("q_proj"), "{error}");
}

/// A row of a matrix is what makes one output, whichever way round the family's files hold it.
#[test]
fn rows_are_those_in_memory_where_files_hold_matrices_turned() {
    let before = Model::random(config("gpt2", json!({})), 3).unwrap();
    let mut after = before.clone();
    let name = "transformer.h.1.mlp.c_fc.weight";
    after.select(&[format!("rows 5..7 of {name}").parse().unwrap()]).unwrap();
    let (_, param) = after.params.iter_mut().find(|(_, p)| p.trainable).unwrap();
    param.set_selected(Tensor::build(&[2 * 32], |out| out.fill(0.5))).unwrap();
    let changes = after.changes_since(&before).unwrap();
    assert_eq!(
        (&changes[0].name[..], &changes[0].rows, &changes[0].columns),
        (name, &one(5..7), &one(0..32))
    );
    let folder = tempfile::tempdir().unwrap();
    after.save(folder.path(), None, None).unwrap();
    let stored = Checkpoint::open(folder.path()).unwrap().tensor_f32(name, &[32, 44]).unwrap();
    let columns = stored.f32().chunks(44).map(|row| row.iter().map(|&x| x == 0.5).collect::<Vec<_>>());
    let expected: Vec<bool> = (0..44).map(|column| (5..7).contains(&column)).collect();
    assert!(columns.into_iter().all(|row| row == expected));
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let mut model = mixtral();
    for (part, says) in [
        ("head 4 of layer 0", "4 heads"),
        ("head 0 of layer 3", "3 layers"),
        ("expert 4 of layer 0", "expert 4 of layer 0"),
        ("model.norm", "no tensor model.norm"),
        ("rows 30..33 of model.layers.0.self_attn.q_proj.weight", "of 32"),
        ("columns 5..5 of model.norm.weight", "5..5"),
    ] {
        let part: Part = part.parse().unwrap();
        assert_eq!(part.to_string().parse::<Part>().unwrap(), part);
        let error = model.select(std::slice::from_ref(&part)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    for text in ["head of layer 2", "rows 3 of x", "head x of layer 1", ""] {
        assert!(text.parse::<Part>().is_err(), "{text}");
    }
}

/// What a combination of gradients writes beside a selection does not count.
#[test]
fn a_selection_can_be_taken_of_any_gradient() {
    let mut model = mixtral();
    model.select(&["rows 1..2 of model.layers.0.self_attn.q_proj.weight".parse().unwrap()]).unwrap();
    let (_, gradients) = model.loss_and_gradients(&batch(), &Taps::none()).unwrap();
    let mut shifted = gradients.zip_map(&Gradients::none(&model.params), |a, _| a + 1.0);
    shifted.apply_selection(&model.params);
    let (_, tensor) = shifted.iter().next().unwrap();
    assert!(tensor.f32().iter().enumerate().all(|(i, &x)| (x != 0.0) == (i / 32 == 1)));
}

/// Key and value of an edit: what goes into the last matrix of a feed-forward, and what comes out of it.
#[test]
fn a_feed_forward_ends_with_its_down_projection() {
    for model in models() {
        let family = model.config()["model_type"].clone();
        if model.spec().experts.is_some() {
            assert!(model.down_projection(1).unwrap_err().to_string().contains("mixture"), "{family}");
            continue;
        }
        let down = model.down_projection(1).unwrap();
        if model.spec().names.block.after_mlp.is_some() {
            continue;
        }
        let (key, value) = (Site::Block(1, BlockSite::MlpPost), Site::Block(1, BlockSite::MlpOut));
        let mut taps = Taps::none();
        taps.read(key).read(value);
        model.hidden(&mut Graph::inference(&model.params), &batch(), &taps).unwrap();
        let [keys, values] = [key, value].map(|site| taps.take(site).remove(0).tensor);
        let weight = &model.params.get(down).tensor;
        let bias = model.params.find(&model.params.get(down).name.replace(".weight", ".bias"));
        for row in [0, 30] {
            let k = &keys.f32()[row * keys.columns()..(row + 1) * keys.columns()];
            for out in 0..weight.rows() {
                let w = &weight.f32()[out * weight.columns()..(out + 1) * weight.columns()];
                let b = bias.map_or(0.0, |bias| model.params.get(bias).tensor.f32()[out]);
                let expected = k.iter().zip(w).map(|(k, w)| k * w).sum::<f32>() + b;
                let found = values.f32()[row * values.columns() + out];
                assert!((found - expected).abs() < 1e-4, "{family}: {found} {expected}");
            }
        }
        let error = model.down_projection(3).unwrap_err().to_string();
        assert!(error.contains("no layer 3; it has 3, counted from 0"), "{error}");
    }
}
