//! Adapters that start at chosen factors, and what linear layers give.

use crate::small_models::{config, models};
use amend_engine::models::{Adapter, LoraOptions};
use amend_engine::optim::{AdamW, AdamWOptions};
use amend_engine::{Batch, Error, Example, Gradients, Graph, Model, Result, Rng, Taps, Tensor};
use serde_json::{Value, json};

const R: usize = 3;

fn options(targets: &[&str]) -> LoraOptions {
    LoraOptions { r: R, alpha: 6.0, targets: targets.iter().map(|&target| target.to_owned()).collect() }
}

fn drawn(shape: &[usize], purpose: &str) -> Tensor {
    let mut rng = Rng::named(5, purpose);
    Tensor::build(shape, |out| out.iter_mut().for_each(|x| *x = 0.3 * rng.normal() as f32))
}

/// Factors of a layer: A [r, in] and B [out, r].
fn factors(layer: &str, weight: &Tensor) -> Result<[Tensor; 2]> {
    let (out, inner) = (weight.rows(), weight.columns());
    Ok([drawn(&[R, inner], &format!("{layer} A")), drawn(&[out, R], &format!("{layer} B"))])
}

fn started(base: &Model) -> Model {
    let mut model = base.clone();
    model.attach_started_lora(&options(&[]), factors).unwrap();
    model
}

fn examples() -> Vec<Example> {
    vec![Example::text(vec![3, 9, 4, 1, 17, 2]), Example::text(vec![7, 2, 40])]
}

fn logits(model: &Model) -> Vec<f32> {
    let batch = Batch::new(&examples()).unwrap();
    let taps = Taps::none();
    let mut g = Graph::inference(&model.params);
    let hidden = model.hidden(&mut g, &batch, &taps).unwrap();
    model.logits(&mut g, &hidden, &batch.layout, &batch.rows, &taps).unwrap().value().f32().to_vec()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn attached_it_changes_nothing_and_taken_off_it_leaves_the_very_model() {
    for base in models() {
        let family = &base.config()["model_type"];
        let model = started(&base);
        let moved = largest_difference(&logits(&model), &logits(&base));
        assert!(moved <= 1e-3, "{family}: {moved}");
        // The reference of a run is the model without its adapter: no weight of that has moved.
        assert_eq!(logits(&model.without_adapter()), logits(&base), "{family}");
    }
}

/// One step of AdamW moves the first halves and decays them; the second halves stay what the first began with.
#[test]
fn only_the_first_halves_learn() {
    let base = Model::random(config("llama", json!({})), 3).unwrap();
    let mut model = started(&base);
    let before = model.clone();
    let batch = Batch::new(&examples()).unwrap();
    let (_, gradients) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
    let decaying = AdamWOptions { weight_decay: 0.1, ..AdamWOptions::default() };
    AdamW::new(&model.params, decaying).step(&mut model.params, &gradients, 1e-2, 1.0).unwrap();
    let mut seen = 0;
    for ((_, now), (_, then)) in model.params.iter().zip(before.params.iter()) {
        let columns = now.tensor.columns();
        let moved = |i: usize| now.tensor.f32()[i] != then.tensor.f32()[i];
        for i in 0..now.tensor.len() {
            let learns = match now.name.rsplit('.').nth(1) {
                Some("lora_A") => i / columns < R,
                Some("lora_B") => i % columns < R,
                _ => false,
            };
            assert_eq!(moved(i), learns, "{} at {i}", now.name);
        }
        seen += usize::from(now.name.contains("lora_"));
    }
    assert_eq!(seen, 2 * 7 * 3);
    assert_eq!(model.params.count().1, base.lora_weights(&options(&[])).unwrap());
}

/// W₀ + s·B′·A′ = W̃ + s·B·A with W̃ = W₀ − s·B₀·A₀, in what is merged and in what is written: a folder of PEFT's for the
/// untouched model, of twice the rank and the same scale.
#[test]
fn what_is_written_is_an_ordinary_adapter_of_the_untouched_model() {
    for base in models() {
        let family = base.config()["model_type"].clone();
        let mut model = started(&base);
        // As if it had learnt.
        let selected = model.params.iter_mut().filter(|(_, param)| param.selection.is_some());
        for (_, param) in selected {
            let values = param.selected();
            let moved = Tensor::build(values.shape(), |out| {
                out.iter_mut().zip(values.f32()).enumerate().for_each(|(i, (out, &x))| {
                    *out = 0.7 * x + 0.1 * (i as f32).sin();
                });
            });
            param.set_selected(moved).unwrap();
        }
        let merged = model.merged().unwrap();
        for layer in base.lora_layers(&options(&[])).unwrap() {
            let of = |model: &Model, name: &str| {
                let name = format!("{layer}.{name}");
                model.params.get(model.params.find(&name).unwrap()).tensor.clone()
            };
            let (w0, w) = (of(&base, "weight"), of(&merged, "weight"));
            let [a0, b0] = factors(&layer, &w0).unwrap();
            let (a, b) = (of(&model, "lora_A.weight"), of(&model, "lora_B.weight"));
            for i in 0..w0.rows() {
                for j in 0..w0.columns() {
                    let entry = |t: &Tensor, i: usize, j: usize| f64::from(t.f32()[i * t.columns() + j]);
                    let low_rank = |b: &Tensor, a: &Tensor| -> f64 {
                        (0..R).map(|k| entry(b, i, k) * entry(a, k, j)).sum()
                    };
                    let wanted = entry(&w0, i, j) - 2.0 * low_rank(&b0, &a0) + 2.0 * low_rank(&b, &a);
                    let found = entry(&w, i, j);
                    assert!((found - wanted).abs() < 1e-5, "{family} {layer} ({i}, {j}): {found} {wanted}");
                }
            }
        }
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("adapter");
        model.save_adapter(&dir, "models/base").unwrap();
        let config = std::fs::read_to_string(dir.join("adapter_config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["r"], 2 * R);
        assert_eq!(config["lora_alpha"].as_f64(), Some(12.0), "alpha / r stays 2");
        assert_eq!(config["peft_type"], "LORA");
        let mut read = base.clone();
        read.attach_adapter(&Adapter::open(&dir).unwrap()).unwrap();
        assert_eq!(logits(&read), logits(&model), "{family}");
    }
}

#[test]
fn factors_of_other_shapes_and_unknown_layers_are_refused() {
    let mut model = Model::random(config("llama", json!({})), 3).unwrap();
    let turned = |layer: &str, weight: &Tensor| factors(layer, weight).map(|[a, b]| [b, a]);
    let error = model.attach_started_lora(&options(&["up_proj"]), turned).unwrap_err();
    assert!(matches!(error, Error::Tensor(_)) && error.to_string().contains("mlp.up_proj: A"), "{error}");
    let error = model.attach_started_lora(&options(&["upproj"]), factors).unwrap_err().to_string();
    assert!(error.contains("nearest is up_proj"), "{error}");
    let none = LoraOptions { r: 0, ..options(&[]) };
    assert!(model.attach_started_lora(&none, factors).unwrap_err().to_string().contains("r is 0"));
    assert!(!model.is_adapted(), "what is refused leaves the model as it was");
}

/// Against the site of the output, where there is one.
#[test]
fn outputs_are_summed_over_the_tokens_of_each_sequence() {
    let base = Model::random(config("llama", json!({})), 3).unwrap();
    let all = examples();
    for (layer, site) in [
        ("model.layers.1.self_attn.q_proj", "blocks.1.attn.hook_q"),
        ("model.layers.0.mlp.down_proj", "blocks.0.hook_mlp_out"),
        ("model.layers.2.mlp.up_proj", "blocks.2.mlp.hook_pre_linear"),
    ] {
        let examples: Vec<&Example> = all.iter().collect();
        let sums = base.summed_outputs(&examples, &[layer.to_owned()]).unwrap();
        let site: amend_engine::Site = site.parse().unwrap();
        let mut taps = Taps::none();
        taps.read(site);
        // Packed together: a row does not depend on its neighbours.
        base.hidden(&mut Graph::inference(&base.params), &Batch::new(&all).unwrap(), &taps).unwrap();
        let reading = taps.take(site).remove(0);
        let columns = reading.tensor.columns();
        let mut wanted = vec![vec![0.0; columns]; all.len()];
        for (origin, row) in reading.origins.iter().zip(reading.tensor.f32().chunks(columns)) {
            let sum = &mut wanted[origin.sequence as usize];
            sum.iter_mut().zip(row).for_each(|(sum, &y)| *sum += f64::from(y));
        }
        assert_eq!(sums[layer].values(), wanted.concat(), "{layer}");
    }
    let error = base.summed_outputs(&[&all[0]], &["model.layers.9.mlp.up_proj".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("model.layers.9.mlp.up_proj"), "{error}");
}

/// Fused projections, experts and normalised queries have their outputs too; looking changes no bit, and of an adapted layer
/// the adapted output is seen.
#[test]
fn every_linear_layer_of_every_family_is_heard() {
    for base in models() {
        let family = &base.config()["model_type"];
        let layers = base.lora_layers(&options(&[])).unwrap();
        let all = examples();
        let examples: Vec<&Example> = all.iter().collect();
        let sums = base.summed_outputs(&examples, &layers).unwrap();
        assert_eq!(sums.len(), layers.len());
        for layer in &layers {
            let weight = base.params.find(&format!("{layer}.weight")).unwrap();
            let extent = (sums[layer].rows(), sums[layer].columns());
            assert_eq!(extent, (2, base.params.get(weight).tensor.rows()), "{family} {layer}");
            // An expert may be left out by so few tokens.
            let is_silent = sums[layer].values().iter().all(|&y| y == 0.0);
            assert!(!is_silent || layer.contains(".experts."), "{family} {layer}");
        }
        let mut adapted = started(&base);
        for (_, param) in adapted.params.iter_mut().filter(|(_, param)| param.selection.is_some()) {
            param.tensor.f32_mut().iter_mut().for_each(|x| *x += 0.05);
        }
        let first = &layers[..1];
        let [plain, changed] = [&base, &adapted].map(|m| m.summed_outputs(&examples, first).unwrap());
        assert_ne!(plain, changed, "{family}");
    }
}

/// So norms and angles of gradients are those of what learns.
#[test]
fn second_halves_have_no_gradient() {
    let model = started(&Model::random(config("llama", json!({})), 3).unwrap());
    let batch = Batch::new(&examples()).unwrap();
    let (_, mut gradients): (f32, Gradients) = model.loss_and_gradients(&batch, &Taps::none()).unwrap();
    let norm = gradients.norm();
    gradients.apply_selection(&model.params);
    assert!(norm > 0.0 && gradients.norm() == norm);
}

#[test]
fn what_is_heard_does_not_depend_on_threads() {
    let base = Model::random(config("llama", json!({})), 3).unwrap();
    let layers = base.lora_layers(&options(&[])).unwrap();
    let all = examples();
    let examples: Vec<&Example> = all.iter().collect();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| base.summed_outputs(&examples, &layers).unwrap())
    };
    assert_eq!(on(1), on(3));
}
