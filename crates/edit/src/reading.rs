//! What a model holds at a subject's last token: keys, values, states.

use std::collections::BTreeSet;

use amend_engine::taps::BlockSite;
use amend_engine::{Batch, Graph, Model, Result, Selector, Site, Taps};

use crate::request::Request;

/// Where the keys of a layer's last matrix are.
pub fn key_site(layer: usize) -> Site {
    Site::Block(layer, BlockSite::MlpPost)
}

/// The selector of the subject's last token in sequence `index` of a batch.
pub(crate) fn at_subject(index: usize, position: usize) -> Selector {
    Selector {
        sequences: Some(BTreeSet::from([index as u64])),
        positions: Some(BTreeSet::from([position as u32])),
        ..Selector::default()
    }
}

/// What is at a site at the subject's last token, as the mean over an edit's contexts: a vector for every request. It is
/// the mean everywhere: an update made for one key and applied at another fits neither (Gupta et al. 2024, arXiv
/// 2403.07175).
///
/// # Errors
/// Where the model cannot read a request.
pub fn means_at(model: &Model, site: Site, requests: &[&Request]) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::with_capacity(requests.len());
    for request in requests {
        let mut taps = Taps::none();
        for (index, placed) in request.contexts.iter().enumerate() {
            taps.add(site, at_subject(index, placed.subject), amend_engine::Action::Read);
        }
        let batch = Batch::new(request.contexts.iter().map(|placed| &placed.example))?;
        model.hidden(&mut Graph::inference(&model.params), &batch, &taps)?;
        let readings = taps.take(site);
        let width = readings.first().map_or(0, |reading| reading.tensor.columns());
        let mean = |column: usize| {
            let sum: f64 = readings.iter().map(|reading| f64::from(reading.tensor.f32()[column])).sum();
            (sum / readings.len() as f64) as f32
        };
        all.push((0..width).map(mean).collect());
    }
    Ok(all)
}
