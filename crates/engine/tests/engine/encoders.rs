//! Encoders of every family: the same bits in any batch, honest gradients, folders that read back.

use amend_engine::checkpoint::write_tensors;
use amend_engine::models::{Input, Pooling};
use amend_engine::taps::BlockSite;
use amend_engine::{Action, Encoder, Graph, Rng, Selector, Site, Taps, Tensor, Var};
use serde_json::{Value, json};

fn random(config: Value) -> Encoder {
    let mut encoder = Encoder::random(config.as_object().unwrap().clone(), 5).unwrap();
    // Gains of one and shifts of zero would hide that they are used.
    for (_, param) in encoder.params.iter_mut() {
        if param.tensor.shape().len() < 2 {
            let mut rng = Rng::named(1, &param.name);
            param.tensor.f32_mut().iter_mut().for_each(|w| *w += (0.2 * rng.normal()) as f32);
        }
    }
    encoder
}

fn sizes() -> Value {
    json!({
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
        "initializer_range": 0.3,
    })
}

fn with(extra: Value) -> Value {
    let mut config = sizes();
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    config
}

fn bert(architecture: &str) -> Encoder {
    random(with(json!({
        "model_type": "bert", "architectures": [architecture], "vocab_size": 61, "num_labels": 4,
        "max_position_embeddings": 80, "hidden_act": "gelu", "type_vocab_size": 2,
    })))
}

fn clip() -> Encoder {
    let text = with(json!({"vocab_size": 61, "max_position_embeddings": 80, "eos_token_id": 60}));
    let vision = with(json!({"image_size": 12, "patch_size": 4}));
    random(json!({
        "model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 10,
        "text_config": text, "vision_config": vision, "initializer_range": 0.3,
    }))
}

fn vit() -> Encoder {
    random(with(json!({
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "image_size": [12, 8],
        "patch_size": 4, "hidden_act": "gelu_new", "id2label": {"0": "a", "1": "b", "2": "c"},
    })))
}

fn roberta() -> Encoder {
    let mut roberta = with(json!({
        "model_type": "roberta", "architectures": ["RobertaForMaskedLM"], "vocab_size": 61,
        "max_position_embeddings": 82, "pad_token_id": 1, "type_vocab_size": 1, "hidden_act": "relu",
    }));
    roberta["layer_norm_eps"] = 1e-5.into();
    random(roberta)
}

fn readers_of_texts() -> Vec<Encoder> {
    vec![bert("BertModel"), roberta(), clip()]
}

fn sequence(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 7 + seed * 13 + i * i * 3) % 60).chain([60]).collect()
}

fn pixels(images: usize, height: usize, width: usize) -> Tensor {
    let mut rng = Rng::at(&[7]);
    let values: Vec<f32> = (0..images * 3 * height * width).map(|_| rng.normal() as f32).collect();
    Tensor::from_f32(&values, &[images, 3, height, width]).unwrap()
}

const POOLINGS: [Pooling; 7] = [
    Pooling::Cls,
    Pooling::Max,
    Pooling::Mean,
    Pooling::MeanSqrtLength,
    Pooling::WeightedMean,
    Pooling::Last,
    Pooling::Pooler,
];

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn an_embedding_depends_on_neither_batch_nor_threads() {
    let texts: Vec<_> =
        [1, 30, 2, 79, 17, 64, 5].iter().enumerate().map(|(i, &n)| sequence(i as u32, n)).collect();
    for mut encoder in readers_of_texts() {
        encoder.pipeline.pooling = POOLINGS.to_vec();
        let together = on_threads(1, || encoder.embed(&texts, 4096).unwrap());
        for tokens in [1, 90] {
            assert_eq!(on_threads(3, || encoder.embed(&texts, tokens).unwrap()), together);
        }
    }
    for encoder in [vit(), clip()] {
        let grid = *encoder.image_grid().unwrap();
        let images: Vec<_> = (0..5)
            .map(|i| {
                let all = pixels(5, grid.image[0], grid.image[1]);
                let one = all.len() / 5;
                let shape = [3, grid.image[0], grid.image[1]];
                Tensor::from_f32(&all.f32()[i * one..(i + 1) * one], &shape).unwrap()
            })
            .collect();
        let together = on_threads(1, || encoder.embed_images(&images, 4096).unwrap());
        assert_eq!(on_threads(3, || encoder.embed_images(&images, 1).unwrap()), together);
    }
}

fn inputs(encoder: &Encoder) -> Vec<Input> {
    let texts = encoder.text_limits().map(|_| Input::tokens(&[sequence(1, 13), sequence(4, 6)]).unwrap());
    let images = encoder
        .image_grid()
        .map(|grid| encoder.images(pixels(2, grid.image[0], grid.image[1]), false).unwrap());
    texts.into_iter().chain(images).collect()
}

#[test]
fn looking_changes_no_bit() {
    use BlockSite::*;
    let sites = [
        ResidPre,
        ResidMid,
        ResidPost,
        AttnOut,
        MlpOut,
        Q,
        K,
        V,
        Scores,
        Pattern,
        Z,
        HeadResult,
        MlpPre,
        MlpPost,
        Ln1Scale,
        Ln1Normalized,
        Ln2Scale,
        Ln2Normalized,
    ];
    for encoder in [bert("BertModel"), vit(), clip()] {
        for input in inputs(&encoder) {
            let run = |taps: &Taps| {
                let mut g = Graph::inference(&encoder.params);
                encoder.hidden(&mut g, &input, taps).unwrap().value().f32().to_vec()
            };
            let plain = run(&Taps::none());
            for site in sites.map(|s| Site::Block(1, s)).into_iter().chain([Site::PosEmbed, Site::Embed]) {
                let mut read = Taps::none();
                read.read(site);
                assert_eq!(run(&read), plain, "reading {site}");
                assert!(!read.take(site).is_empty(), "{site} was never reached");
                let mut silence = Taps::none();
                silence.add(site, Selector::default(), Action::Scale(1.5));
                assert_ne!(run(&silence), plain, "changing {site}");
            }
        }
    }
}

#[test]
fn patterns_look_both_ways_but_for_clips_texts() {
    for (encoder, both) in [(bert("BertModel"), true), (clip(), false)] {
        let input = Input::tokens(&[sequence(2, 5)]).unwrap();
        let mut taps = Taps::none();
        let site = Site::Block(0, BlockSite::Pattern);
        taps.read(site);
        encoder.hidden(&mut Graph::inference(&encoder.params), &input, &taps).unwrap();
        let pattern = taps.take(site).swap_remove(0).tensor;
        // Row 0 is the first token under the first head.
        assert_eq!(pattern.f32()[1] > 0.0, both);
        assert!(pattern.f32().chunks(6).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    }
}

/// A loss that every parameter in use has a part in.
type Loss = for<'m> fn(&'m Encoder, &mut Graph<'m>, &'m [Input], &'m Taps) -> Var;

fn check_gradients(encoder: &mut Encoder, inputs: &[Input], loss: Loss) {
    let taps = Taps::none();
    let value = |encoder: &Encoder| {
        f64::from(loss(encoder, &mut Graph::inference(&encoder.params), inputs, &taps).scalar())
    };
    let mut g = Graph::recording(&encoder.params);
    let l = loss(encoder, &mut g, inputs, &taps);
    let gradients = g.backward(&l).unwrap();
    encoder.recompute = true;
    let mut g = Graph::recording(&encoder.params);
    let l = loss(encoder, &mut g, inputs, &taps);
    let again = g.backward(&l).unwrap();
    encoder.recompute = false;
    let reached: Vec<_> = gradients.iter().map(|(id, tensor)| (id, tensor.clone())).collect();
    assert!(reached.len() > 30);
    for (id, gradient) in reached {
        assert_eq!(again.get(id).unwrap().f32(), gradient.f32());
        let norm = gradient.f32().iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let name = encoder.params.get(id).name.clone();
        if norm < 1e-4 {
            // A key's bias shifts all scores of a query alike, which softmax does not see.
            assert!(name.contains("key.bias") || name.contains("k_proj.bias"), "{name}: {norm}");
            continue;
        }
        // Along its own direction the loss must rise as steeply as the gradient is long.
        let original = encoder.params.get(id).tensor.clone();
        let mut moved = |step: f64| {
            let tensor = &mut encoder.params.get_mut(id).tensor;
            let entries = tensor.f32_mut().iter_mut().zip(original.f32()).zip(gradient.f32());
            entries.for_each(|((w, &from), &g)| *w = from + (step * f64::from(g) / norm) as f32);
            value(encoder)
        };
        let step = 4e-3;
        let slope =
            (8.0 * (moved(step) - moved(-step)) - (moved(2.0 * step) - moved(-2.0 * step))) / (12.0 * step);
        encoder.params.get_mut(id).tensor = original;
        assert!((slope - norm).abs() <= 0.01 * norm + 2e-4, "{name}: {slope} instead of {norm}");
    }
}

#[test]
fn gradients_of_guessing_words() {
    let mut encoder = bert("BertForMaskedLM");
    let inputs = [Input::typed_tokens(&[sequence(1, 9)], &[vec![0, 0, 0, 0, 1, 1, 1, 1, 1, 1]]).unwrap()];
    check_gradients(&mut encoder, &inputs, |encoder, g, inputs, taps| {
        encoder.word_loss(g, &inputs[0], &[2, 5, 8], &[4, 33, 17], taps).unwrap()
    });
}

#[test]
fn gradients_of_classes() {
    let mut encoder = bert("BertForSequenceClassification");
    let inputs = [Input::tokens(&[sequence(1, 9), sequence(3, 4)]).unwrap()];
    check_gradients(&mut encoder, &inputs, |encoder, g, inputs, taps| {
        encoder.class_loss(g, &inputs[0], &[3, 1], taps).unwrap()
    });
    let mut encoder = vit();
    let inputs = inputs_of_pictures(&encoder);
    check_gradients(&mut encoder, &inputs, |encoder, g, inputs, taps| {
        encoder.class_loss(g, &inputs[0], &[2, 0], taps).unwrap()
    });
}

/// A picture of the model's size, and one whose positions are interpolated.
fn inputs_of_pictures(encoder: &Encoder) -> Vec<Input> {
    vec![encoder.images(pixels(2, 12, 8), false).unwrap(), encoder.images(pixels(2, 16, 12), true).unwrap()]
}

#[test]
fn gradients_of_interpolated_positions() {
    let mut encoder = vit();
    let inputs = inputs_of_pictures(&encoder);
    check_gradients(&mut encoder, &inputs, |encoder, g, inputs, taps| {
        encoder.class_loss(g, &inputs[1], &[2, 0], taps).unwrap()
    });
    assert!(encoder.images(pixels(1, 16, 12), false).unwrap_err().to_string().contains("12×8"));
}

#[test]
fn gradients_of_contrast() {
    let mut encoder = clip();
    let inputs = inputs(&encoder);
    check_gradients(&mut encoder, &inputs, |encoder, g, inputs, taps| {
        let texts = encoder.embedding(g, &inputs[0], taps).unwrap();
        let images = encoder.embedding(g, &inputs[1], taps).unwrap();
        encoder.contrastive_loss(g, &images, &texts).unwrap()
    });
}

#[test]
fn gradients_of_every_pooling() {
    let mut encoder = bert("BertModel");
    encoder.pipeline.pooling = POOLINGS.to_vec();
    encoder.pipeline.normalize();
    let inputs = [Input::tokens(&[sequence(1, 9), sequence(3, 4)]).unwrap()];
    check_gradients(&mut encoder, &inputs, |encoder, g, inputs, taps| {
        let x = encoder.embedding(g, &inputs[0], taps).unwrap();
        let weights: Vec<f32> = (0..x.value().len()).map(|i| ((i * 29) % 17) as f32 * 0.4 - 3.0).collect();
        g.weighted_sum(&x, &weights).unwrap()
    });
}

#[test]
fn folders_read_back() {
    let scratch = tempfile::tempdir().unwrap();
    let heads = ["BertForMaskedLM", "BertForPreTraining", "BertForTokenClassification", "BertModel"];
    let encoders = heads.map(bert).into_iter().chain([vit(), clip()]).chain(readers_of_texts());
    for (i, encoder) in encoders.enumerate() {
        let dir = scratch.path().join(i.to_string());
        encoder.save(&dir, None, None).unwrap();
        let again = Encoder::open(&dir).unwrap();
        assert_eq!(again.params.len(), encoder.params.len());
        for (id, param) in encoder.params.iter() {
            let other = again.params.get(id);
            assert_eq!((&other.name, other.tensor.f32()), (&param.name, param.tensor.f32()));
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let encoder = bert("BertModel");
    let taps = Taps::none();
    let fails = |input: &Input, part: &str| {
        let result = encoder.hidden(&mut Graph::inference(&encoder.params), input, &taps);
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    fails(&Input::tokens(&[vec![61]]).unwrap(), "token id 61");
    fails(&Input::tokens(&[vec![1; 81]]).unwrap(), "context of 80");
    fails(&Input::typed_tokens(&[vec![1, 2]], &[vec![0, 2]]).unwrap(), "token type 2");
    assert!(Input::tokens(&[vec![1], vec![]]).unwrap_err().to_string().contains("sequence 1"));
    assert!(encoder.images(pixels(1, 4, 4), false).is_err());
    let input = Input::tokens(&[vec![1]]).unwrap();
    let mut g = Graph::inference(&encoder.params);
    let hidden = encoder.hidden(&mut g, &input, &taps).unwrap();
    assert!(encoder.class_logits(&mut g, &hidden, &input).unwrap_err().to_string().contains("classifier"));
    for (config, part) in [
        (json!({"model_type": "llama"}), "encoder"),
        (with(json!({"model_type": "bert", "num_attention_heads": 5})), "5 attention heads"),
        (with(json!({"model_type": "bert", "hidden_act": "mish"})), "mish"),
        (with(json!({"model_type": "bert", "position_embedding_type": "relative_key"})), "relative_key"),
        (with(json!({"model_type": "vit", "image_size": 8, "patch_size": 16})), "patch"),
        (with(json!({"model_type": "vit", "image_size": "big"})), "image_size"),
    ] {
        let message = Encoder::random(config.as_object().unwrap().clone(), 1).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

/// RoBERTa's padding token takes no place among the others.
#[test]
fn padding_within_a_text_moves_no_position() {
    let positions = |ids: &[u32]| {
        let encoder = roberta();
        let input = Input::tokens(&[[9, 8].as_slice(), ids]).unwrap();
        let mut taps = Taps::none();
        taps.read(Site::PosEmbed);
        encoder.hidden(&mut Graph::inference(&encoder.params), &input, &taps).unwrap();
        let rows = taps.take(Site::PosEmbed).remove(0).tensor;
        let row_of = |row: &[f32]| {
            let table = encoder.params.find("roberta.embeddings.position_embeddings.weight").unwrap();
            let table = &encoder.params.get(table).tensor;
            table.f32().chunks(table.columns()).position(|r| r == row).unwrap()
        };
        rows.f32().chunks(rows.columns()).skip(2).map(row_of).collect::<Vec<_>>()
    };
    assert_eq!(positions(&[5, 6, 7]), [2, 3, 4]);
    assert_eq!(positions(&[5, 1, 6, 1, 1, 7]), [2, 1, 3, 1, 1, 4]);
}

#[test]
fn quantised_weights_are_refused() {
    let config = with(json!({"model_type": "bert", "quantization_config": {"quant_method": "gptq"}}));
    let error = Encoder::random(config.as_object().unwrap().clone(), 1).unwrap_err().to_string();
    assert!(error.contains("the weights are quantised (gptq)"), "{error}");
}

#[test]
fn folders_of_sentence_transformers_are_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("sentences");
    let write = |name: &str, value: Value| {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), value.to_string()).unwrap();
    };
    let module = |path: &str, kind: &str| json!({"path": path, "type": format!("sentence_transformers.models.{kind}")});
    let modules = |list: &[Value]| write("modules.json", json!(list));
    let (transformer, pooling) = (module("0_Transformer", "Transformer"), module("1_Pooling", "Pooling"));
    let steps = [module("2_Dense", "Dense"), module("3_Normalize", "Normalize")];
    modules(&[vec![transformer.clone(), pooling.clone()], steps.to_vec()].concat());
    bert("BertModel").save(&dir.join("0_Transformer"), None, None).unwrap();
    write("0_Transformer/sentence_bert_config.json", json!({"max_seq_length": 11, "do_lower_case": true}));
    write("1_Pooling/config.json", json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}));
    write(
        "2_Dense/config.json",
        json!({"in_features": 48, "out_features": 7, "bias": true,
        "activation_function": "torch.nn.modules.activation.Tanh"}),
    );
    let mut rng = Rng::at(&[3]);
    let mut drawn = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
        Tensor::from_f32(&values, shape).unwrap()
    };
    let tensors = [("linear.weight".to_owned(), drawn(&[7, 48])), ("linear.bias".to_owned(), drawn(&[7]))];
    write_tensors(dir.join("2_Dense/model.safetensors"), &tensors, &Default::default()).unwrap();
    write(
        "config_sentence_transformers.json",
        json!({"prompts": {"query": "Ask: "}, "default_prompt_name": null}),
    );

    let encoder = Encoder::open(&dir).unwrap();
    assert_eq!(encoder.longest_text(), Some(11));
    assert_eq!(encoder.pipeline.prepare("Why", Some("query")).unwrap(), "ask: why");
    assert_eq!(encoder.pipeline.prepare("Why", None).unwrap(), "why");
    assert!(encoder.pipeline.prepare("Why", Some("answer")).unwrap_err().to_string().contains("query"));
    let texts = [sequence(1, 5), sequence(2, 9)];
    let embeddings = encoder.embed(&texts, 4096).unwrap();
    // By hand: class token and mean side by side, the layer, tanh, length one.
    let mut plain = encoder.clone();
    plain.pipeline = bert("BertModel").pipeline;
    plain.pipeline.pooling = vec![Pooling::Cls, Pooling::Mean];
    for (ours, x) in embeddings.iter().zip(plain.embed(&texts, 4096).unwrap()) {
        let row = |o: usize| tensors[0].1.f32()[o * 48..(o + 1) * 48].iter().zip(&x).map(|(w, x)| w * x);
        let y: Vec<f32> = (0..7).map(|o| (row(o).sum::<f32>() + tensors[1].1.f32()[o]).tanh()).collect();
        let length = y.iter().map(|y| y * y).sum::<f32>().sqrt();
        assert!(ours.iter().zip(&y).all(|(a, b)| (a - b / length).abs() < 1e-5));
    }
    let copy = scratch.path().join("copy");
    encoder.save(&copy, Some(dir.as_path()), None).unwrap();
    assert_eq!(Encoder::open(&copy).unwrap().embed(&texts, 4096).unwrap(), embeddings);

    modules(&[transformer, module("1_LSTM", "LSTM")]);
    assert!(Encoder::open(&dir).unwrap_err().to_string().contains("LSTM"));
    modules(&[pooling]);
    assert!(Encoder::open(&dir).unwrap_err().to_string().contains("modules.json"));
}

#[test]
fn an_empty_text_is_named_by_its_place_in_the_list() {
    let texts = [sequence(1, 5), sequence(2, 5), Vec::new()];
    for tokens in [1, 4096] {
        let said = bert("BertModel").embed(&texts, tokens).unwrap_err().to_string();
        assert!(said.contains("sequence 2 has no tokens"), "{said}");
    }
}

/// Beside the words of pretraining it is a head of its own, alone it is a classifier: of the same tensors.
#[test]
fn the_relation_of_two_segments_is_that_of_the_classifier_for_it() {
    let scratch = tempfile::tempdir().unwrap();
    let encoder = bert("BertForPreTraining");
    let dir = scratch.path().join("bert");
    encoder.save(&dir, None, None).unwrap();
    let mut config = encoder.config().clone();
    config.insert("architectures".into(), json!(["BertForNextSentencePrediction"]));
    std::fs::write(dir.join("config.json"), Value::Object(config).to_string()).unwrap();
    let classifier = Encoder::open(&dir).unwrap();
    let types = [vec![0, 0, 0, 1, 1], vec![0, 0, 1, 1]];
    let input = Input::typed_tokens(&[sequence(1, 4), sequence(2, 3)], &types).unwrap();
    let taps = Taps::none();
    let (mut g, mut own) = (Graph::inference(&encoder.params), Graph::inference(&classifier.params));
    let hidden = encoder.hidden(&mut g, &input, &taps).unwrap();
    let relation = encoder.relation_logits(&mut g, &hidden, &input).unwrap();
    let hidden = classifier.hidden(&mut own, &input, &taps).unwrap();
    let classes = classifier.class_logits(&mut own, &hidden, &input).unwrap();
    assert_eq!(relation.shape(), [2, 2]);
    assert_eq!(relation.value().f32(), classes.value().f32());
    let error = classifier.relation_logits(&mut own, &hidden, &input).unwrap_err().to_string();
    assert!(error.contains("how two segments relate"), "{error}");
}
