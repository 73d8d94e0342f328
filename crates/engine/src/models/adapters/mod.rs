//! Adapters: small additions to a frozen model, which learn in its place.
//!
//! A kind of adapter is one file and its line in `KINDS`. The file says what the kind is made with and how it is
//! stored ([`AdapterKind`]), and what it computes: on a linear layer as a [`LinearAdapter`], before a feed-forward
//! network as a [`FeedForwardAdapter`]. A model may have one adapter of every kind.

mod folder;
mod lora;
mod peft_config;
mod shift_ffn;
mod started;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::within::Within;
use super::{KvCache, Model};
use crate::params::{ParamId, Params};
use crate::tape::{Graph, Linear, LinearAdapter, Var};
use crate::{Error, Result, Tensor};

pub use folder::Adapter;
pub use lora::{Lora, LoraOptions};
pub use shift_ffn::{EditPoint, Gate, ShiftFfn};

/// An adapter's tensors by the names that files have for them.
pub type AdapterTensors = BTreeMap<String, Tensor>;

type Parse = fn(&Path, &Map<String, Value>) -> Result<Arc<dyn AdapterKind>>;

/// Every kind, by the `type` of its config. PEFT's LoRA has none there.
const KINDS: &[(Option<&str>, Parse)] = &[(None, lora::parse), (Some(shift_ffn::TYPE), shift_ffn::parse)];

/// A kind of adapter, with its options. What it puts on a model is made, written and read through its tensors, which
/// are called `MODULE.PART.weight`.
pub trait AdapterKind: fmt::Debug + Send + Sync {
    /// What it is called in errors.
    fn name(&self) -> &'static str;

    /// What its tensors are called within a module; no other kind has the same.
    fn parts(&self) -> &'static [&'static str];

    /// Fails for options with which an adapter would do nothing, or no number.
    fn check_options(&self) -> Result<(), String>;

    /// Fails unless its tensors are all there, in shapes that fit the options.
    fn check(&self, tensors: &AdapterTensors) -> Result<(), String>;

    /// What `adapter_config.json` says of it, whose tensors are among these.
    fn config(&self, base_model: Option<&str>, tensors: &AdapterTensors) -> Result<Value, String>;

    /// First values: the adapted model computes what it did before. A draw depends on seed and module alone.
    fn draw(&self, model: &Model, seed: u64) -> Result<AdapterTensors>;

    /// Puts an adapter of these tensors on the model, as its last parameters.
    ///
    /// Fails where the model has no such module, or one of another shape.
    fn put_on(&self, model: &mut Model, tensors: &AdapterTensors) -> Result<()>;

    /// The tensors of the adapter of this kind that is on the model.
    fn tensors_on(&self, model: &Model) -> Result<AdapterTensors>;
}

/// What edits the input of a feed-forward network.
pub(super) trait FeedForwardAdapter: fmt::Debug + Send + Sync {
    /// Where the input is edited.
    fn point(&self) -> EditPoint;

    /// What is read in the place of x [T, d]: [T, d]. With caches, one per sequence, rows continue what those hold.
    fn edit(
        &self,
        g: &mut Graph<'_>,
        x: &Var,
        within: Within<'_>,
        caches: Option<&mut [KvCache]>,
    ) -> Result<Var>;

    /// Its parameters.
    fn parameters(&self) -> Vec<ParamId>;

    /// Changes the weights of the network in `base` so that it does alone what it does with the adapter, whose own are
    /// in `params`. Fails where no weights can.
    fn merge(&self, params: &Params, base: &mut Params) -> Result<()>;
}

impl Model {
    /// Every linear layer of every block, under the path of its module.
    fn linears(&self) -> impl Iterator<Item = (String, &Linear)> {
        self.decoder.linears().map(|linear| (module_of(&self.params, linear).to_owned(), linear))
    }

    pub(super) fn linear_mut(&mut self, module: &str) -> Result<&mut Linear> {
        let weight = self.params.find(&format!("{module}.weight"));
        self.decoder
            .linears_mut()
            .find(|linear| Some(linear.weight) == weight)
            .ok_or_else(|| Error::invalid(format!("the model has no linear layer called {module}")))
    }

    /// Module path and adapter of every adapted linear layer.
    pub fn adapter_layers(&self) -> impl Iterator<Item = (String, &dyn LinearAdapter)> {
        self.linears().filter_map(|(module, linear)| Some((module, linear.adapter.as_deref()?)))
    }

    fn feed_forward_adapters(&self) -> impl Iterator<Item = &dyn FeedForwardAdapter> {
        let layers = 0..self.spec().layers;
        layers.filter_map(|l| self.decoder.block(l).feed_forward.adapter.as_deref())
    }

    /// Module path of the feed-forward of every layer.
    fn feed_forwards(&self) -> impl Iterator<Item = String> {
        let blocks = self.spec().names.block.blocks;
        (0..self.spec().layers)
            .filter_map(move |l| Some(format!("{blocks}.{l}.{}", self.spec().block(l).feed_forward()?)))
    }

    /// Whether there is an adapter on the model.
    pub fn is_adapted(&self) -> bool {
        !self.adapters.is_empty()
    }

    /// Every adapter's parameters, which are the model's last ones.
    fn adapter_parameters(&self) -> Vec<ParamId> {
        let of_layers = self.adapter_layers().flat_map(|(_, adapter)| adapter.parameters());
        of_layers.chain(self.feed_forward_adapters().flat_map(|adapter| adapter.parameters())).collect()
    }

    /// Attaches a fresh LoRA adapter (A Kaiming-uniform as PEFT draws it, B zero, so nothing changes yet)
    /// and freezes everything but adapters.
    ///
    /// Fails where no layer matches one of the targets, where rank or alpha is not above 0, and where the model has an
    /// adapter of this kind.
    pub fn attach_lora(&mut self, options: &LoraOptions, seed: u64) -> Result<()> {
        self.attach_fresh(Lora::of(options, self.spec()), seed)
    }

    /// How many weights [`attach_lora`](Self::attach_lora) would add, without making any.
    ///
    /// Fails where no layer matches one of the targets.
    pub fn lora_weights(&self, options: &LoraOptions) -> Result<usize> {
        Lora::of(options, self.spec()).weights_on(self)
    }

    /// Paths of the layers that an adapter of these options is for, in the order of the model.
    ///
    /// Fails where no layer matches one of the targets.
    pub fn lora_layers(&self, options: &LoraOptions) -> Result<Vec<String>> {
        Ok(Lora::of(options, self.spec()).layers_of(self)?.map(|(module, _)| module).collect())
    }

    /// Attaches a fresh Shift-FFN editor to every feed-forward (W_c zero, so nothing changes yet) and freezes
    /// everything but adapters.
    ///
    /// Fails where rank or alpha is not above 0, and where the model has an adapter of this kind.
    pub fn attach_shift_ffn(&mut self, options: &ShiftFfn, seed: u64) -> Result<()> {
        self.attach_fresh(options.clone(), seed)
    }

    fn attach_fresh(&mut self, kind: impl AdapterKind + 'static, seed: u64) -> Result<()> {
        kind.check_options().map_err(Error::invalid)?;
        let tensors = kind.draw(self, seed)?;
        self.attach_adapter(&Adapter { kinds: vec![Arc::new(kind)], base_model: None, tensors })
    }

    /// Attaches an adapter that was read from a folder, and freezes everything but adapters.
    ///
    /// Fails where it does not fit the model, and where the model has an adapter of one of its kinds.
    pub fn attach_adapter(&mut self, adapter: &Adapter) -> Result<()> {
        adapter.check().map_err(Error::invalid)?;
        // Where a later module does not fit, this model stays as it is.
        let mut adapted = self.clone();
        for kind in &adapter.kinds {
            if adapted.adapters.iter().any(|other| other.parts() == kind.parts()) {
                return Err(Error::invalid(format!(
                    "the model has an adapter of the kind {} already; merge it first, or open the base model again",
                    kind.name()
                )));
            }
            kind.put_on(&mut adapted, &adapter.tensors)?;
            adapted.adapters.push(kind.clone());
        }
        adapted.params.set_trainable(|_| false);
        for id in adapted.adapter_parameters() {
            adapted.params.get_mut(id).trainable = true;
        }
        *self = adapted;
        Ok(())
    }

    /// This model without its adapters and their parameters, sharing all weights: the reference distribution.
    pub fn without_adapter(&self) -> Model {
        let mut base = self.clone();
        if let Some(first) = self.adapter_parameters().into_iter().min() {
            base.params = self.params.before(first);
        }
        base.decoder.linears_mut().for_each(|linear| linear.adapter = None);
        (0..base.spec().layers).for_each(|l| base.decoder.block_mut(l).feed_forward.adapter = None);
        base.adapters.clear();
        base
    }

    /// The attached adapter apart from the model, as it is written.
    ///
    /// Fails where there is none.
    pub fn adapter(&self, base_model: &str) -> Result<Adapter> {
        if !self.is_adapted() {
            return Err(Error::invalid("the model has no adapter"));
        }
        let mut tensors = AdapterTensors::new();
        for kind in &self.adapters {
            tensors.extend(kind.tensors_on(self)?);
        }
        Ok(Adapter { kinds: self.adapters.clone(), base_model: Some(base_model.to_owned()), tensors })
    }

    /// Writes the attached adapter as a folder; one of LoRA alone is PEFT's.
    pub fn save_adapter(&self, dir: &Path, base_model: &str) -> Result<()> {
        self.adapter(base_model)?.write(dir)
    }

    /// A model of the same shape as before adapters, whose weights do what they did with them.
    ///
    /// Fails where an adapter does what no weights can.
    pub fn merged(&self) -> Result<Model> {
        let mut merged = self.without_adapter();
        for adapter in self.feed_forward_adapters() {
            adapter.merge(&self.params, &mut merged.params)?;
        }
        for (module, adapter) in self.adapter_layers() {
            let weight = merged.linear_mut(&module)?.weight;
            adapter.merge(&self.params, &mut merged.params.get_mut(weight).tensor)?;
        }
        merged.params.set_trainable(|_| true);
        Ok(merged)
    }

    /// The value of a parameter that an adapter has under this name.
    fn adapter_tensor(&self, name: &str) -> Result<Tensor> {
        let id = self.params.find(name);
        let id = id.ok_or_else(|| Error::invalid(format!("the model has no parameter {name}")))?;
        Ok(self.params.get(id).tensor.clone())
    }
}

/// Path of a linear layer's module: its weight's name without the ending.
fn module_of<'p>(params: &'p Params, linear: &Linear) -> &'p str {
    let name = &params.get(linear.weight).name;
    name.strip_suffix(".weight").unwrap_or(name)
}

/// Fails unless an option is above 0, and a number.
fn check_positive(name: &str, value: f64) -> Result<(), String> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(format!("{name} is {value}, but must be above 0"))
}

/// Uniform within ±1/√fan_in: what Kaiming's rule comes to in PEFT and in PyTorch's linear layers.
fn kaiming(seed: u64, name: &str, shape: &[usize], fan_in: usize) -> Tensor {
    let bound = 1.0 / (fan_in as f64).sqrt();
    let mut rng = crate::Rng::named(seed, name);
    Tensor::build(shape, |values| {
        values.iter_mut().for_each(|v| *v = ((2.0 * rng.uniform() - 1.0) * bound) as f32);
    })
}
