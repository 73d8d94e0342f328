//! What choices of a subspace look at in the reference, computed once for all arms: what its linear layers give on the two
//! sets, and how much the rows of their weights matter there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use amend_engine::kernels::linalg::Matrix;
use amend_engine::optim::nll_gradients;
use amend_engine::{Error, Example, Result, Rng, SCORING_TOKENS, Site, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::{Context, Side};
use crate::minor::MinorBasis;

/// How the outputs at the tokens of a sequence become one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their sum: long sequences count more.
    #[default]
    Sum,
    /// Their mean.
    Mean,
}

/// Which sequences of which set, and which layers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sampled<'a> {
    /// The set.
    pub side: Side,
    /// Most sequences of it, drawn at random.
    pub sequences: usize,
    /// Paths of linear layers.
    pub layers: &'a [String],
}

/// The same, to be kept.
type Key = (Side, usize, Vec<String>);

/// A matrix for every layer: a row for every sequence, [sequences, out].
pub type LayerOutputs = BTreeMap<String, Matrix>;

/// For every layer, how much each row of its weight matters: `[out]`.
pub type RowImportance = BTreeMap<String, Vec<f64>>;

/// For every layer, the factors that an adapter begins at: A₀ [r, in] and B₀ [out, r].
pub type Starts = BTreeMap<String, [Tensor; 2]>;

/// Something of every site, by what was asked for, as JSON, and the sites.
type BySites<T> = BTreeMap<(String, Vec<Site>), Rc<Vec<T>>>;

/// What has been computed.
#[derive(Default)]
pub(crate) struct Features {
    outputs: RefCell<BTreeMap<(Key, Pooling), Rc<LayerOutputs>>>,
    importance: RefCell<BTreeMap<Key, Rc<RowImportance>>>,
    starts: RefCell<BTreeMap<String, Rc<Starts>>>,
    pub(crate) minor: RefCell<BySites<MinorBasis>>,
    pub(crate) minor_lengths: RefCell<BySites<f64>>,
}

impl Context<'_> {
    /// The outputs of the reference's layers, pooled over the tokens of every sequence. They take 8 bytes per sequence and
    /// output, for as long as the context lives.
    ///
    /// # Errors
    /// Where the set is empty, or there is no layer of such a path.
    pub fn outputs(&self, of: &Sampled<'_>, pooling: Pooling) -> Result<Rc<LayerOutputs>> {
        kept(&self.features.outputs, (of.key(), pooling), || {
            let examples = self.sampled(of)?;
            let mut outputs = self.reference.summed_outputs(&examples, of.layers)?;
            if pooling == Pooling::Mean {
                for matrix in outputs.values_mut() {
                    for (i, example) in examples.iter().enumerate() {
                        let tokens = example.ids.len() as f64;
                        matrix.row_mut(i).iter_mut().for_each(|sum| *sum /= tokens);
                    }
                }
            }
            Ok(outputs)
        })
    }

    /// The empirical Fisher information of the reference's weights, summed along each row: over the sequences, the mean
    /// of the squared gradient of a sequence's mean cross-entropy.
    ///
    /// # Errors
    /// Where the set is empty, or there is no layer of such a path.
    pub fn row_importance(&self, of: &Sampled<'_>) -> Result<Rc<RowImportance>> {
        kept(&self.features.importance, of.key(), || {
            let mut model = self.reference.clone();
            let weights: Vec<String> = of.layers.iter().map(|layer| format!("{layer}.weight")).collect();
            model.params.set_trainable(|name| weights.iter().any(|weight| weight == name));
            let examples = self.sampled(of)?;
            let mut all = Vec::new();
            for (layer, weight) in of.layers.iter().zip(&weights) {
                let id = model.params.find(weight);
                let id = id.ok_or_else(|| Error::invalid(format!("the model has no weight {weight}")))?;
                all.push((layer.clone(), id, vec![0.0; model.params.get(id).tensor.rows()]));
            }
            for &example in &examples {
                let (_, gradients) = nll_gradients(&model, &[example], SCORING_TOKENS)?;
                for (_, id, sums) in &mut all {
                    let Some(gradient) = gradients.get(*id) else { continue };
                    for (sum, row) in sums.iter_mut().zip(gradient.f32().chunks_exact(gradient.columns())) {
                        let squares = row.iter().map(|&g| f64::from(g) * f64::from(g));
                        *sum += squares.sum::<f64>() / examples.len() as f64;
                    }
                }
            }
            Ok(all.into_iter().map(|(layer, _, sums)| (layer, sums)).collect())
        })
    }

    /// Where the adapters of a filler begin in layers of the reference: what `make` makes of a layer's path and weight
    /// [out, in].
    ///
    /// # Errors
    /// As `make`, and where there is no layer of such a path.
    pub fn starts(
        &self,
        filler: &impl Serialize,
        layers: &[String],
        make: impl Fn(&str, &Tensor) -> Result<[Tensor; 2]>,
    ) -> Result<Rc<Starts>> {
        let key = serde_json::to_string(filler).map_err(|e| Error::invalid(e.to_string()))?;
        let params = &self.reference.params;
        let start = |layer: &String| {
            let weight = params.find(&format!("{layer}.weight"));
            let weight = weight.ok_or_else(|| Error::invalid(format!("the model has no layer {layer}")))?;
            Ok((layer.clone(), make(layer, &params.get(weight).tensor)?))
        };
        kept(&self.features.starts, key, || layers.iter().map(start).collect())
    }

    /// The sequences, in the order of their set.
    fn sampled(&self, of: &Sampled<'_>) -> Result<Vec<&Example>> {
        let (all, _) = self.set(of.side);
        Ok(self.sample(of)?.into_iter().map(|i| &all[i]).collect())
    }

    /// A set, and what it is called.
    fn set(&self, side: Side) -> (&[Example], &'static str) {
        match side {
            Side::Forget => (&self.forget, "forget"),
            Side::Retain => (&self.retain, "retain"),
        }
    }

    /// Which sequences of their set these are, ascending.
    pub(crate) fn sample(&self, of: &Sampled<'_>) -> Result<Vec<usize>> {
        let (all, name) = self.set(of.side);
        if all.is_empty() {
            return Err(Error::invalid(format!(
                "the {name} set is empty, so that no subspace can be found in it"
            )));
        }
        let mut chosen: Vec<usize> = (0..all.len()).collect();
        Rng::named(self.seed, &format!("features of the {name} set")).shuffle(&mut chosen);
        chosen.truncate(of.sequences);
        chosen.sort_unstable();
        Ok(chosen)
    }
}

impl Sampled<'_> {
    fn key(&self) -> Key {
        (self.side, self.sequences, self.layers.to_vec())
    }
}

/// What is kept under a key, made where there is nothing yet.
pub(crate) fn kept<K: Ord, T>(
    cache: &RefCell<BTreeMap<K, Rc<T>>>,
    key: K,
    make: impl FnOnce() -> Result<T>,
) -> Result<Rc<T>> {
    if let Some(known) = cache.borrow().get(&key) {
        return Ok(known.clone());
    }
    let made = Rc::new(make()?);
    cache.borrow_mut().insert(key, made.clone());
    Ok(made)
}

/// What was found out about a layer.
///
/// # Errors
/// Where nothing was: a substitute would be a method of another kind.
pub(crate) fn of_layer<'f, T>(all: &'f BTreeMap<String, T>, layer: &str) -> Result<&'f T> {
    all.get(layer).ok_or_else(|| {
        Error::invalid(format!("nothing is known of what {layer} gives; its subspace cannot be found"))
    })
}
