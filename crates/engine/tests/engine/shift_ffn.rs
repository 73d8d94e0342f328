//! Shift-FFN: feed-forwards that read an edited token, into which the one before it flows.

use std::fs;
use std::path::Path;

use crate::small_models::{config, models};
use amend_engine::checkpoint::{SafetensorsFile, write_tensors};
use amend_engine::generate::{GenerateOptions, Session, SessionOptions};
use amend_engine::kernels::{Compute, Storage};
use amend_engine::models::{Adapter, EditPoint, Gate, KvCache, LoraOptions, ShiftFfn, Spec};
use amend_engine::optim::{AdamW, AdamWOptions};
use amend_engine::tape::Layout;
use amend_engine::taps::BlockSite;
use amend_engine::{Batch, Example, Graph, Model, Precision, Site, Taps, Tensor};
use serde_json::{Value, json};

const GATES: [Gate; 3] = [Gate::Relu, Gate::Sigmoid, Gate::Silu];
const POINTS: [EditPoint; 2] = [EditPoint::PostNorm, EditPoint::PreNorm];

fn sequence(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 7 + seed * 13 + i * i * 3) % 61).collect()
}

fn options(gate: Gate, point: EditPoint) -> ShiftFfn {
    ShiftFfn { r: 3, alpha: 6.0, gate, point }
}

/// The model with editors that do something.
fn edited(model: &Model, options: &ShiftFfn) -> Model {
    let mut model = model.clone();
    model.attach_shift_ffn(options, 1).unwrap();
    stir(&mut model, ".editor.output.");
    model
}

/// Gives every parameter of this name values that are no zeros.
fn stir(model: &mut Model, name: &str) {
    for (_, param) in model.params.iter_mut().filter(|(_, param)| param.name.contains(name)) {
        param.tensor.f32_mut().iter_mut().enumerate().for_each(|(i, w)| *w = 0.3 * (i as f32 + 0.5).sin());
    }
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.f32().iter().map(|x| x.to_bits()).collect()
}

/// Hidden states of sequences read in one pass.
fn hidden(model: &Model, sequences: &[&[u32]]) -> Tensor {
    let layout = Layout::packed(sequences.iter().map(|ids| ids.len()));
    let (ids, taps) = (sequences.concat(), Taps::none());
    let mut g = Graph::inference(&model.params);
    model.hidden_of(&mut g, (&ids).into(), &layout, &taps).unwrap().value().clone()
}

/// Reads on with sequences of which the caches hold the beginning.
fn continued(model: &Model, pieces: &[&[u32]], caches: &mut [KvCache]) -> amend_engine::Result<Tensor> {
    let layout = Layout::continued(caches.iter().map(KvCache::len).zip(pieces.iter().map(|ids| ids.len())));
    let (ids, taps) = (pieces.concat(), Taps::none());
    let mut g = Graph::inference(&model.params);
    Ok(model.continue_hidden(&mut g, &ids, &layout, caches, &taps)?.value().clone())
}

#[test]
fn a_fresh_editor_changes_no_bit_and_has_its_parameters_alone_to_learn() {
    let ids = sequence(1, 20);
    for model in models() {
        let plain = bits(&hidden(&model, &[&ids]));
        for (gate, point) in GATES.into_iter().flat_map(|gate| POINTS.map(|point| (gate, point))) {
            let mut adapted = model.clone();
            adapted.attach_shift_ffn(&options(gate, point), 1).unwrap();
            assert_eq!(bits(&hidden(&adapted, &[&ids])), plain);
            let Spec { hidden: d, layers, .. } = *adapted.spec();
            assert_eq!(adapted.params.count().1, layers * 4 * d * 3);
            assert!(adapted.params.iter().all(|(_, p)| p.trainable == p.name.contains(".editor.")));
            stir(&mut adapted, ".editor.output.");
            assert_ne!(bits(&hidden(&adapted, &[&ids])), plain);
            assert_eq!(bits(&hidden(&adapted.without_adapter(), &[&ids])), plain);
        }
    }
}

/// What the first block's feed-forward reads is what the paper's formula gives.
#[test]
fn the_edit_is_that_of_the_formula() {
    let model = Model::random(config("llama", json!({})), 3).unwrap();
    let ids = sequence(2, 9);
    for gate in GATES {
        let adapted = edited(&model, &options(gate, EditPoint::PostNorm));
        let mut taps = Taps::none();
        // The gain of a fresh norm is one, so the quotient is all of it.
        let sites = [BlockSite::Ln2Normalized, BlockSite::MlpPre].map(|site| Site::Block(0, site));
        for site in sites {
            taps.read(site);
        }
        let batch = Batch::new(&[Example::text(ids.clone())]).unwrap();
        adapted.hidden(&mut Graph::inference(&adapted.params), &batch, &taps).unwrap();
        let [x, read] = sites.map(|site| taps.take(site).swap_remove(0).tensor);
        let tensors = adapted.adapter("base").unwrap().tensors;
        let matrix = |part: &str| &tensors[&format!("model.layers.0.mlp.editor.{part}.weight")];
        let times = |w: &Tensor, x: &[f64]| -> Vec<f64> {
            let rows = w.f32().chunks_exact(w.columns());
            rows.map(|row| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum()).collect()
        };
        let id = adapted.params.find("model.layers.0.mlp.gate_proj.weight").unwrap();
        let projection = &adapted.params.get(id).tensor;
        let mut before = vec![0.0; 32];
        for (x, read) in x.f32().chunks_exact(32).zip(read.f32().chunks_exact(44)) {
            let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let information = times(matrix("a"), &before);
            let through = times(matrix("b"), &[before, x.clone()].concat()).into_iter().zip(information);
            let through: Vec<f64> = through
                .map(|(g, a)| match gate {
                    Gate::Relu => g.max(0.0) * a,
                    Gate::Sigmoid => a / (1.0 + (-g).exp()),
                    Gate::Silu => g * a / (1.0 + (-g).exp()),
                })
                .collect();
            let edit = times(matrix("c"), &through);
            let edited: Vec<f64> = x.iter().zip(edit).map(|(x, e)| x + 2.0 * e).collect();
            for (ours, exact) in read.iter().zip(times(projection, &edited)) {
                assert!((f64::from(*ours) - exact).abs() < 1e-4 * (1.0 + exact.abs()), "{ours} {exact}");
            }
            before = x;
        }
    }
}

#[test]
fn no_token_is_changed_by_what_comes_after_it() {
    let ids = sequence(1, 16);
    for (i, model) in models().iter().enumerate() {
        let adapted = edited(model, &options(GATES[i % 3], POINTS[i % 2]));
        let d = adapted.spec().hidden;
        let before = bits(&hidden(&adapted, &[&ids]));
        for place in [1, 8, 15] {
            let mut other = ids.clone();
            other[place] = (other[place] + 1) % 61;
            let after = bits(&hidden(&adapted, &[&other]));
            assert_eq!(after[..place * d], before[..place * d]);
            assert_ne!(after[place * d..], before[place * d..]);
        }
    }
}

#[test]
fn sequences_of_a_batch_do_not_see_each_other() {
    let sequences = [sequence(1, 9), sequence(4, 1), sequence(2, 17)];
    let all: Vec<_> = sequences.iter().map(Vec::as_slice).collect();
    for (i, model) in models().iter().enumerate() {
        let adapted = edited(model, &options(GATES[i % 3], POINTS[i % 2]));
        let alone: Vec<_> = all.iter().flat_map(|ids| bits(&hidden(&adapted, &[ids]))).collect();
        assert_eq!(bits(&hidden(&adapted, &all)), alone);
    }
}

/// In pieces of any length, in changing company, from copies, and after a way back.
#[test]
fn cached_decoding_has_the_bits_of_one_pass() {
    let (one, two) = (sequence(1, 14), sequence(5, 9));
    for (i, model) in models().iter().enumerate() {
        let adapted = edited(model, &options(GATES[i % 3], POINTS[i % 2]));
        let d = adapted.spec().hidden;
        let [whole_one, whole_two] = [&one, &two].map(|ids| bits(&hidden(&adapted, &[ids])));
        let rows = |whole: &[u32], from: usize, to: usize| whole[from * d..to * d].to_vec();
        let mut first = [adapted.new_cache()];
        let read = continued(&adapted, &[&one[..5]], &mut first).unwrap();
        assert_eq!(bits(&read), rows(&whole_one, 0, 5));
        let [first] = first;
        let mut both = [adapted.new_cache(), first.clone()];
        let read = continued(&adapted, &[&two[..3], &one[5..6]], &mut both).unwrap();
        assert_eq!(bits(&read), [rows(&whole_two, 0, 3), rows(&whole_one, 5, 6)].concat());
        both.swap(0, 1);
        let read = continued(&adapted, &[&one[6..14], &two[3..9]], &mut both).unwrap();
        assert_eq!(bits(&read), [rows(&whole_one, 6, 14), rows(&whole_two, 3, 9)].concat());
        // What was read in between is forgotten; the copy has not seen it.
        both[0].truncate(4);
        let mut back = [both[0].clone(), first];
        let read = continued(&adapted, &[&one[4..8], &one[5..7]], &mut back).unwrap();
        assert_eq!(bits(&read), [rows(&whole_one, 4, 8), rows(&whole_one, 5, 7)].concat());
        back[0].truncate(0);
        let read = continued(&adapted, &[&two[..2]], &mut back[..1]).unwrap();
        assert_eq!(bits(&read), rows(&whole_two, 0, 2));
    }
}

#[test]
fn a_cache_that_was_filled_without_the_editor_is_refused() {
    let model = Model::random(config("llama", json!({})), 3).unwrap();
    let adapted = edited(&model, &ShiftFfn::default());
    let mut caches = [model.new_cache()];
    continued(&model, &[&[1, 2, 3]], &mut caches).unwrap();
    let error = continued(&adapted, &[&[4]], &mut caches).unwrap_err().to_string();
    assert!(error.contains("holds 3 tokens") && error.contains("empty cache"), "{error}");
}

/// Sessions that read prompts in pieces and sample several at a time say what full passes say, token by token.
#[test]
fn sessions_decode_what_whole_passes_say() {
    let prompts = [sequence(1, 11), sequence(2, 3), sequence(3, 1), sequence(1, 11)];
    let greedy = GenerateOptions { max_new_tokens: 8, samples: 2, ..Default::default() };
    for (i, model) in models().iter().enumerate() {
        let adapted = edited(model, &options(GATES[i % 3], POINTS[i % 2]));
        for bounds in [
            SessionOptions { batch_size: 3, rows: 4, ..Default::default() },
            SessionOptions { batch_size: 64, rows: 2048, cache_tokens: 50 },
        ] {
            let mut session = Session::new(&adapted, bounds);
            session.submit_all(&prompts, greedy.clone()).unwrap();
            for (prompt, samples) in prompts.iter().zip(session.run(|_| ()).unwrap()) {
                let mut ids = prompt.clone();
                for _ in 0..8 {
                    let (layout, taps) = (Layout::packed([ids.len()]), Taps::none());
                    let mut g = Graph::inference(&adapted.params);
                    let all = adapted.hidden_of(&mut g, (&ids).into(), &layout, &taps).unwrap();
                    let last = adapted.logits(&mut g, &all, &layout, &[ids.len() - 1], &taps).unwrap();
                    ids.push(amend_engine::kernels::argmax(last.value().f32()) as u32);
                }
                assert!(samples.iter().all(|sample| sample.ids == ids[prompt.len()..]));
            }
        }
    }
}

fn batch() -> Batch {
    Batch::new(&[Example::text(sequence(1, 13)), Example::text(sequence(4, 9))]).unwrap()
}

#[test]
fn gradients_agree_with_differences() {
    let batch = batch();
    for family in ["llama", "gpt2", "gpt_neox"] {
        let model = Model::random(config(family, json!({})), 3).unwrap();
        for (gate, point) in GATES.into_iter().flat_map(|gate| POINTS.map(|point| (gate, point))) {
            let mut adapted = edited(&model, &options(gate, point));
            adapted.params.set_trainable(|name| name.contains("editor") || name.contains("layers.0.mlp"));
            let (_, gradients) = adapted.loss_and_gradients(&batch, &Taps::none()).unwrap();
            let mut checked = 0;
            for (id, gradient) in gradients.iter() {
                let norm = gradient.dot(gradient).sqrt();
                let loss_at = |step: f64| {
                    let mut moved = adapted.clone();
                    let weights = moved.params.get_mut(id).tensor.f32_mut();
                    let scale = (step / norm) as f32;
                    weights.iter_mut().zip(gradient.f32()).for_each(|(w, g)| *w += scale * g);
                    f64::from(moved.loss_and_gradients(&batch, &Taps::none()).unwrap().0)
                };
                let step = 4e-3 / norm.max(1.0);
                let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
                let name = &adapted.params.get(id).name;
                assert!((slope - norm).abs() < 0.03 * norm + 3e-3, "{name}: slope {slope}, gradient {norm}");
                checked += usize::from(name.contains("editor"));
            }
            assert_eq!(checked, 3 * 3, "every matrix of every editor");
        }
    }
}

#[test]
fn blocks_computed_a_second_time_give_the_same_gradients() {
    for (i, model) in models().iter().enumerate() {
        let mut adapted = edited(model, &options(GATES[i % 3], POINTS[i % 2]));
        let (loss, held) = adapted.loss_and_gradients(&batch(), &Taps::none()).unwrap();
        adapted.recompute = true;
        let (again, made) = adapted.loss_and_gradients(&batch(), &Taps::none()).unwrap();
        assert_eq!(loss, again);
        for ((id, held), (other, made)) in held.iter().zip(made.iter()) {
            assert_eq!((id, bits(held)), (other, bits(made)));
        }
    }
}

#[test]
fn an_editor_learns_beside_lora_and_both_survive_one_folder() {
    let lora = LoraOptions { r: 2, alpha: 4.0, targets: Vec::new() };
    let examples = [Example::text(sequence(1, 30))];
    for (i, model) in models().iter().enumerate() {
        let shift = options(GATES[i % 3], POINTS[i % 2]);
        let mut adapted = model.clone();
        adapted.attach_lora(&lora, 1).unwrap();
        let ranks = adapted.params.count().1;
        adapted.attach_shift_ffn(&shift, 1).unwrap();
        let Spec { hidden: d, layers, .. } = *adapted.spec();
        assert_eq!(adapted.params.count().1, ranks + layers * 4 * d * shift.r);
        let mut adamw = AdamW::new(&adapted.params, AdamWOptions::default());
        for _ in 0..2 {
            let (_, gradients) = adapted.loss_and_gradients(&batch(), &Taps::none()).unwrap();
            adamw.step(&mut adapted.params, &gradients, 1e-2, 1.0).unwrap();
        }
        let learnt = adapted.score(&examples, 4096).unwrap();
        assert_ne!(learnt, model.score(&examples, 4096).unwrap());
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("adapter");
        adapted.save_adapter(&dir, "base").unwrap();
        let adapter = Adapter::open(&dir).unwrap();
        assert_eq!((adapter.kinds.len(), adapter.base_model.as_deref()), (2, Some("base")));
        let mut again = model.clone();
        again.attach_adapter(&adapter).unwrap();
        assert_eq!(again.score(&examples, 4096).unwrap(), learnt);
        let error = again.attach_shift_ffn(&shift, 1).unwrap_err().to_string();
        assert!(error.contains("Shift-FFN already"), "{error}");
        assert_eq!(again.score(&examples, 4096).unwrap(), learnt, "what failed changed nothing");
    }
}

fn config_in(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("adapter_config.json")).unwrap()).unwrap()
}

#[test]
fn a_folder_names_the_feed_forward_as_the_family_does() {
    for (family, extra, module) in [
        ("llama", json!({}), "model.layers.1.mlp"),
        ("mixtral", json!({"num_local_experts": 4}), "model.layers.1.block_sparse_moe"),
        ("gpt2", json!({}), "transformer.h.1.mlp"),
        ("gpt_neox", json!({}), "gpt_neox.layers.1.mlp"),
        ("phi3", json!({}), "model.layers.1.mlp"),
    ] {
        let model = Model::random(config(family, extra), 3).unwrap();
        let adapted = edited(&model, &options(Gate::Silu, EditPoint::PreNorm));
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("adapter");
        adapted.save_adapter(&dir, "base").unwrap();
        let written = json!({"type": "shift_ffn", "r": 3, "alpha": 6.0, "gate": "silu", "point": "pre_norm"});
        assert_eq!(config_in(&dir), written);
        let file = SafetensorsFile::open(dir.join("adapter_model.safetensors")).unwrap();
        assert_eq!(file.names().count(), 9);
        for (part, shape) in [("a", [3, 32]), ("b", [3, 64]), ("c", [32, 3])] {
            let name = format!("base_model.model.{module}.editor.{part}.weight");
            assert_eq!(file.info(&name).unwrap().shape, shape, "{name}");
        }
        let mut again = model.clone();
        again.attach_adapter(&Adapter::open(&dir).unwrap()).unwrap();
        let ids = sequence(3, 12);
        assert_eq!(bits(&hidden(&again, &[&ids])), bits(&hidden(&adapted, &[&ids])));
    }
}

#[test]
fn a_model_with_an_editor_is_neither_merged_nor_written_whole() {
    let mut model = Model::random(config("llama", json!({})), 3).unwrap();
    model.attach_lora(&LoraOptions { r: 2, alpha: 4.0, targets: Vec::new() }, 1).unwrap();
    assert!(model.merged().is_ok());
    model.attach_shift_ffn(&ShiftFfn::default(), 1).unwrap();
    let error = model.merged().unwrap_err().to_string();
    assert!(error.contains("Shift-FFN cannot be merged"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let error = model.save(&folder.path().join("m"), None, None).unwrap_err().to_string();
    assert!(error.contains("write the adapter apart"), "{error}");
    let error = model.without_adapter().save_adapter(&folder.path().join("a"), "base").unwrap_err();
    assert!(error.to_string().contains("no adapter"), "{error}");
}

#[test]
fn damaged_folders_and_such_that_do_not_fit_are_refused_with_the_reason() {
    let model = Model::random(config("llama", json!({})), 3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("adapter");
    edited(&model, &options(Gate::Relu, EditPoint::PostNorm)).save_adapter(&dir, "base").unwrap();
    let right = config_in(&dir);
    let error = || Adapter::open(&dir).map(|_| ()).unwrap_err().to_string();
    let write = |config: &Value| fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    for (key, value, expected) in [
        ("type", json!("dora"), "type is \"dora\"; supported: shift_ffn"),
        ("type", json!(3), "type is 3"),
        ("gate", json!("tanh"), "unknown variant `tanh`"),
        ("point", json!("middle"), "unknown variant `middle`"),
        ("r", json!(0), "must be above 0"),
        ("r", json!(2.5), "expected usize"),
        ("r", json!(u64::MAX), "rank 18446744073709551615 needs"),
        ("r", json!(4), "rank 4 needs [4, d]"),
        ("alpha", json!(-1.0), "must be above 0"),
        ("alpha", json!(null), "expected f64"),
        ("bias", json!(true), "unknown field `bias`"),
        ("adapters", json!([]), "must be a list"),
        ("adapters", json!([right, 1]), "must be a list"),
        ("adapters", json!([right, right]), "two adapters of the kind Shift-FFN"),
        ("adapters", json!([right, {"peft_type": "LORA"}]), "holds no LoRA tensors"),
    ] {
        let mut changed = right.clone();
        changed[key] = value;
        write(&changed);
        assert!(error().contains(expected), "{key}: {}", error());
    }
    for key in ["r", "alpha", "gate", "point"] {
        let mut without = right.clone();
        without.as_object_mut().unwrap().shift_remove(key);
        write(&without);
        assert!(error().contains(&format!("missing field `{key}`")), "{}", error());
    }
    write(&right);
    let matrix = |shape: &[usize]| Tensor::from_f32(&vec![0.5; shape.iter().product()], shape).unwrap();
    let all = [("a", vec![3, 32]), ("b", vec![3, 64]), ("c", vec![32, 3])];
    let weights = |module: &str, parts: &[(&str, Vec<usize>)]| {
        let name = |part: &str| format!("base_model.model.{module}.editor.{part}.weight");
        let tensors: Vec<_> = parts.iter().map(|(part, shape)| (name(part), matrix(shape))).collect();
        write_tensors(dir.join("adapter_model.safetensors"), &tensors, &Default::default()).unwrap();
    };
    let module = "model.layers.2.mlp";
    weights(module, &all[..2]);
    assert!(error().contains("model.layers.2.mlp has editor.a but no editor.c"), "{}", error());
    weights(module, &[("d", vec![3, 3])]);
    assert!(error().contains("editor.d.weight is not supported"), "{}", error());
    weights(module, &[]);
    assert!(error().contains("no tensors of Shift-FFN"), "{}", error());
    for (i, shape) in [(0, vec![3]), (0, vec![4, 32]), (1, vec![3, 32]), (1, vec![192]), (2, vec![3, 32])] {
        let mut wrong = all.clone();
        wrong[i].1 = shape;
        weights(module, &wrong);
        assert!(error().contains("rank 3 needs"), "{}", error());
    }
    let attach = || {
        let mut model = model.clone();
        let result = model.attach_adapter(&Adapter::open(&dir).unwrap());
        assert_eq!(result.is_err(), !model.is_adapted());
        result.map_err(|e| e.to_string())
    };
    weights(module, &all);
    attach().unwrap();
    weights("model.layers.3.mlp", &all);
    assert!(attach().unwrap_err().contains("no feed-forward called model.layers.3.mlp"));
    weights(module, &[("a", vec![3, 16]), ("b", vec![3, 32]), ("c", vec![16, 3])]);
    assert!(attach().unwrap_err().contains("editor of model.layers.2.mlp"));
    assert!(model.clone().attach_shift_ffn(&ShiftFfn { r: 0, ..Default::default() }, 1).is_err());
}

/// Parameters of LoRA on every linear layer of a dense model, per layer and rank.
fn lora_parameters(spec: &Spec) -> usize {
    let (d, f, head) = (spec.hidden, spec.intermediate, spec.head_dim);
    let (q, kv) = (spec.heads * head, spec.kv_heads * head);
    (d + q) + 2 * (d + kv) + (q + d) + 3 * (d + f)
}

/// The control of the paper's comparison: LoRA of rank 148 against rank 128 with an editor.
#[test]
fn ranks_of_equal_size_are_those_of_the_paper() {
    let mut small = Model::random(config("qwen2", json!({})), 1).unwrap();
    small.attach_lora(&LoraOptions { r: 5, alpha: 5.0, targets: Vec::new() }, 1).unwrap();
    assert_eq!(small.params.count().1, 3 * 5 * lora_parameters(small.spec()), "the formula");
    let qwen = Spec {
        hidden: 3584,
        intermediate: 18944,
        heads: 28,
        kv_heads: 4,
        head_dim: 128,
        ..small.spec().clone()
    };
    let with_editor = 128 * lora_parameters(&qwen) + 4 * qwen.hidden * 128;
    let ratio = (148 * lora_parameters(&qwen)) as f64 / with_editor as f64;
    assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
}

/// Weights that are kept in another form are the model's and the editor's alike; rows and caches do not matter to them.
#[test]
fn an_editor_goes_with_every_precision() {
    let (prompt, other) = (sequence(1, 20), sequence(4, 70));
    for family in ["llama", "gpt2"] {
        let model = Model::random(config(family, json!({})), 3).unwrap();
        for (point, (compute, storage)) in POINTS.into_iter().flat_map(|point| {
            let forms = [
                (Compute::F32, Storage::Bf16),
                (Compute::F32, Storage::Int8),
                (Compute::Bf16, Storage::F32),
                (Compute::Bf16, Storage::Int8),
            ];
            forms.map(|form| (point, form))
        }) {
            let with = |model: &Model| {
                let mut model = model.clone();
                model.params.set_precision(Precision { compute, storage });
                model
            };
            let exact = edited(&model, &options(Gate::Silu, point));
            let rounded = with(&exact);
            let alone = hidden(&rounded, &[&prompt]);
            // The edit is there, and what rounding moves is small beside it.
            let distance = |a: &Tensor, b: &Tensor| {
                a.f32().iter().zip(b.f32()).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
            };
            let moved = distance(&alone, &hidden(&exact, &[&prompt]));
            assert!(moved > 0.0 && moved < 0.3 * distance(&alone, &hidden(&with(&model), &[&prompt])));
            let together = hidden(&rounded, &[&prompt, &other]);
            assert_eq!(bits(&alone)[..], bits(&together)[..20 * 32], "{family} {compute:?} {storage:?}");
            let settings = GenerateOptions { max_new_tokens: 12, ..Default::default() };
            let out = &rounded.generate(std::slice::from_ref(&prompt), &settings).unwrap()[0][0];
            let scored = rounded.score(&[Example::answer(&prompt, &out.ids)], 4096).unwrap();
            assert_eq!(scored[0], out.logprobs, "{family} {compute:?} {storage:?}");
        }
    }
}
