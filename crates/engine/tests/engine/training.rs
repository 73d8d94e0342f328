//! Training: micro-batches, selections, adapters, steady memory, broken numbers.

use amend_engine::models::{Adapter, LoraOptions};
use amend_engine::optim::{AdamW, AdamWOptions, DecayOn, nll_gradients};
use amend_engine::{Batch, Error, Example, Gradients, Model, Selection, Taps};
use serde_json::json;

fn model() -> Model {
    let config = json!({
        "model_type": "qwen3", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48, "vocab_size": 64,
        "max_position_embeddings": 64, "initializer_range": 0.2,
    });
    Model::random(config.as_object().unwrap().clone(), 5).unwrap()
}

fn examples(n: u32) -> Vec<Example> {
    (0..n)
        .map(|i| Example::answer(&[1, i % 60], &(0..3 + i % 9).map(|j| (j * 5 + i) % 64).collect::<Vec<_>>()))
        .collect()
}

fn relative_difference(a: &Gradients, b: &Gradients) -> f64 {
    let mut difference = a.clone();
    difference.axpy(-1.0, b);
    difference.norm() / b.norm()
}

#[test]
fn splitting_a_batch_changes_only_rounding() {
    let model = model();
    let examples = examples(32);
    let all: Vec<_> = examples.iter().collect();
    let (loss, whole) = nll_gradients(&model, &all, usize::MAX).unwrap();
    for tokens in [1, 40, 90] {
        let (split_loss, split) = nll_gradients(&model, &all, tokens).unwrap();
        assert!((loss - split_loss).abs() < 1e-5);
        assert!(relative_difference(&split, &whole) < 1e-5);
    }
}

#[test]
fn only_selected_entries_change() {
    let mut model = model();
    model.params.set_trainable(|name| name.contains("layers.1.mlp.up_proj"));
    let id = model.params.find("model.layers.1.mlp.up_proj.weight").unwrap();
    model.params.get_mut(id).selection = Some(Selection::rows(3..5).union(&Selection::rows(40..41)));
    let before = model.clone();
    let options = AdamWOptions { weight_decay: 0.5, decay_on: DecayOn::Everything, ..Default::default() };
    let mut adamw = AdamW::new(&model.params, options);
    let batch = Batch::new(&examples(4)).unwrap();
    for _ in 0..3 {
        let (_, gradients) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
        assert_eq!(gradients.iter().count(), 1, "frozen parameters cost no gradient");
        adamw.step(&mut model.params, &gradients, 1e-2, 1.0).unwrap();
    }
    for (pid, param) in model.params.iter() {
        let old = before.params.get(pid).tensor.f32();
        let columns = param.tensor.columns();
        for (i, (new, old)) in param.tensor.f32().iter().zip(old).enumerate() {
            let selected = pid == id && [3, 4, 40].contains(&(i / columns));
            assert_eq!(new != old, selected, "{} entry {i}", param.name);
        }
    }
    assert_eq!(model.params.count().1, 3 * 32);
}

#[test]
fn a_fresh_adapter_changes_nothing_and_merging_keeps_what_it_learnt() {
    let base = model();
    let examples = examples(6);
    let plain = base.score(&examples, 4096).unwrap();
    let mut adapted = base.clone();
    adapted.attach_lora(&LoraOptions { r: 4, alpha: 8.0, targets: Vec::new() }, 1).unwrap();
    assert_eq!(adapted.score(&examples, 4096).unwrap(), plain);
    let mut adamw = AdamW::new(&adapted.params, AdamWOptions::default());
    let batch = Batch::new(&examples).unwrap();
    for _ in 0..5 {
        let (_, gradients) = adapted.loss_and_gradients(&batch, &Taps::none()).unwrap();
        assert!(gradients.iter().all(|(id, _)| adapted.params.get(id).name.contains("lora_")));
        adamw.step(&mut adapted.params, &gradients, 1e-2, 1.0).unwrap();
    }
    let learnt = adapted.score(&examples, 4096).unwrap();
    assert_ne!(learnt, plain);
    assert_eq!(adapted.without_adapter().score(&examples, 4096).unwrap(), plain, "the base is untouched");
    let merged = adapted.merged().unwrap().score(&examples, 4096).unwrap();
    for (a, b) in merged.iter().flatten().zip(learnt.iter().flatten()) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("adapter");
    adapted.save_adapter(&dir, "base").unwrap();
    let mut again = base.clone();
    again.attach_adapter(&Adapter::open(&dir).unwrap()).unwrap();
    assert_eq!(again.score(&examples, 4096).unwrap(), learnt);
}

#[test]
fn broken_weights_stop_a_step_with_a_reason() {
    let mut model = model();
    let id = model.params.find("model.norm.weight").unwrap();
    model.params.get_mut(id).tensor.f32_mut()[0] = f32::NAN;
    let batch = Batch::new(&examples(2)).unwrap();
    match model.loss_and_gradients(&batch, &Taps::none()) {
        Err(Error::NotFinite { what, .. }) => assert_eq!(what, "loss"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn too_long_a_sequence_is_refused_with_both_numbers() {
    let model = model();
    assert!(
        model.score(&[Example::text(vec![1; 65])], 4096).is_ok(),
        "the last token is predicted and not read"
    );
    let error = model.score(&[Example::text(vec![1; 66])], 4096).unwrap_err().to_string();
    assert!(error.contains("66") && error.contains("64"), "{error}");
}

#[test]
fn changes_are_reported_per_tensor() {
    let before = model();
    let mut after = before.clone();
    let id = after.params.find("model.layers.0.self_attn.q_proj.weight").unwrap();
    after.params.get_mut(id).tensor.f32_mut()[0] += 1.0;
    let changes = after.changes_since(&before).unwrap();
    assert_eq!(changes[0].name, "model.layers.0.self_attn.q_proj.weight");
    assert!((changes[0].change - 1.0).abs() < 1e-6);
    assert!(changes[1..].iter().all(|c| c.change == 0.0 && c.changed == 0.0));
}

/// Batches are split before they are packed; the place within a piece says nothing to whoever made the list.
#[test]
fn an_empty_sequence_is_named_by_its_place_in_the_list() {
    let model = model();
    let mut list = examples(8);
    list[5] = Example::text(Vec::new());
    let all: Vec<&Example> = list.iter().collect();
    for tokens in [1, 20, 4096] {
        let scored = model.scored(&list, tokens).unwrap_err().to_string();
        let learnt = nll_gradients(&model, &all, tokens).unwrap_err().to_string();
        for said in [scored, learnt] {
            assert!(said.contains("sequence 5 has no tokens"), "{said}");
        }
    }
}
