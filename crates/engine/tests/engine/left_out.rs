//! Models with blocks left out, and models between two others.

use amend_engine::models::LoraOptions;
use amend_engine::taps::BlockSite;
use amend_engine::{Batch, Example, Graph, Model, Site, Taps};

use crate::small_models::models;

fn states(model: &Model, layer: usize) -> [Vec<u32>; 2] {
    let sites = [BlockSite::ResidPre, BlockSite::ResidPost].map(|site| Site::Block(layer, site));
    let mut taps = Taps::none();
    for site in sites {
        taps.read(site);
    }
    let batch = Batch::new(&[Example::text(vec![3, 1, 4, 1, 5, 9, 2, 6])]).unwrap();
    model.hidden(&mut Graph::inference(&model.params), &batch, &taps).unwrap();
    sites.map(|site| taps.take(site)[0].tensor.f32().iter().map(|x| x.to_bits()).collect())
}

#[test]
fn a_block_that_is_left_out_adds_nothing() {
    for mut model in models() {
        let family = model.config()["model_type"].clone();
        let [before, after] = states(&model, 1);
        assert_ne!(before, after, "{family}");
        let whole = model.clone();
        model.silence_block(1).unwrap();
        let [before, after] = states(&model, 1);
        assert_eq!(before, after, "{family}");
        assert_ne!(states(&model, 2)[0], states(&model, 2)[1], "{family}: another block is silent");
        assert_eq!(states(&model, 0), states(&whole, 0), "{family}: an earlier block changed");
        assert!(model.silence_block(3).unwrap_err().to_string().contains("no block 3"));
    }
    let mut adapted = models().remove(0);
    adapted.attach_lora(&LoraOptions { r: 2, alpha: 2.0, targets: Vec::new() }, 0).unwrap();
    assert!(adapted.silence_block(0).unwrap_err().to_string().contains("merge the adapter"));
}

#[test]
fn models_between_two_others_end_at_them_to_the_bit() {
    for start in models() {
        let mut end = start.clone();
        for (_, param) in end.params.iter_mut() {
            param.tensor.f32_mut().iter_mut().for_each(|w| *w = 1.7 * *w + 0.3);
        }
        let differs =
            |a: &Model, b: &Model| a.changes_since(b).unwrap().iter().any(|change| change.bytes > 0);
        let at = |share: f32| start.towards(&end, share).unwrap();
        assert!(!differs(&at(0.0), &start) && !differs(&at(1.0), &end));
        let half = at(0.5);
        for (_, param) in half.params.iter() {
            let of = |model: &Model| model.params.get(model.params.find(&param.name).unwrap()).tensor.clone();
            let (a, b) = (of(&start), of(&end));
            for ((w, a), b) in param.tensor.f32().iter().zip(a.f32()).zip(b.f32()) {
                assert!((w - 0.5 * (a + b)).abs() <= 1e-6 * (1.0 + a.abs()), "{w} of {a} and {b}");
            }
        }
    }
    let models = models();
    assert!(models[2].towards(&models[0], 0.5).is_err(), "one lacks the other's tensors");
}
