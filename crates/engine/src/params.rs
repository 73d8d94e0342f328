//! A model's named parameters, and which of them may change.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::kernels::{Compute, Mat, Packed, Storage};
use crate::selection::Selection;
use crate::{DType, Error, Result, Tensor};

/// Up to this many rows a product with a weight costs less than packing the weight for it, so
/// inference packs once and keeps the result.
const FEW_ROWS: usize = 64;

/// Handle of one parameter within its [`Params`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub(crate) usize);

/// One named tensor of a model.
#[derive(Debug, Clone)]
pub struct Param {
    /// The name the checkpoint uses.
    pub name: String,
    /// The value. Shape of a linear weight: [out, in].
    pub tensor: Tensor,
    /// Whether a gradient is computed for it. Frozen parameters cost none.
    pub trainable: bool,
    /// Which entries may change, where not all of them.
    pub selection: Option<Selection>,
    /// The number type that it was read in, and is written in again; `None` where that is the model's.
    pub stored: Option<DType>,
    packed: OnceLock<Arc<Packed>>,
    /// Set by the first product that would have used the packed form.
    used: OnceLock<()>,
}

/// How products with a model's weights are computed, and how weights that only compute are kept.
///
/// The parameters themselves stay f32: they are the master weights that training updates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Precision {
    /// Number type of the operands of products with weights, in training and inference.
    pub compute: Compute,
    /// Form of the weights in inference. Where products are computed in bf16 and this is not int8,
    /// weights are kept in bf16 whatever it says; so are weights that lose nothing by it.
    pub storage: Storage,
}

/// All parameters of a model. Cloning shares every tensor until one side changes it.
#[derive(Debug, Clone, Default)]
pub struct Params {
    list: Vec<Param>,
    by_name: HashMap<String, ParamId>,
    precision: Precision,
    interrupt: Option<Arc<AtomicBool>>,
}

impl Params {
    /// How products with the weights are computed.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Changes how products with the weights are computed from now on.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.list.iter_mut().for_each(|param| drop(param.packed.take()));
    }

    /// From now on a pass through the model, or the way back, fails with [`Error::Interrupted`] at its next block once the
    /// flag is set. Nothing of it can be gone on with.
    pub fn interrupt_by(&mut self, flag: Arc<AtomicBool>) {
        self.interrupt = Some(flag);
    }

    /// Fails where a stop was asked for.
    pub(crate) fn check_interrupted(&self) -> Result<()> {
        match &self.interrupt {
            Some(flag) if flag.load(Ordering::Relaxed) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    /// Adds a trainable parameter; a name must not occur twice.
    pub fn add(&mut self, name: impl Into<String>, tensor: Tensor) -> Result<ParamId> {
        let name = name.into();
        let id = ParamId(self.list.len());
        if self.by_name.insert(name.clone(), id).is_some() {
            return Err(Error::invalid(format!("parameter {name} is defined twice")));
        }
        self.list.push(Param {
            name,
            tensor,
            trainable: true,
            selection: None,
            stored: None,
            packed: OnceLock::new(),
            used: OnceLock::new(),
        });
        Ok(id)
    }

    /// The parameter behind a handle.
    pub fn get(&self, id: ParamId) -> &Param {
        &self.list[id.0]
    }

    /// The parameter behind a handle, for changing it.
    pub fn get_mut(&mut self, id: ParamId) -> &mut Param {
        let param = &mut self.list[id.0];
        param.packed.take();
        param
    }

    /// A linear weight laid out for products, made at the first call; `None` where packing costs more
    /// than it saves.
    ///
    /// A weight that is kept in another form than f32 always comes packed in inference, so that its
    /// values do not depend on the number of rows.
    pub(crate) fn packed(&self, id: ParamId, rows: usize, training: bool) -> Option<&Arc<Packed>> {
        let Precision { compute, storage } = self.precision;
        let rounded = storage != Storage::F32 && !(compute == Compute::Bf16 && storage == Storage::Bf16);
        if training || (rows > FEW_ROWS && !rounded) {
            return None;
        }
        let param = &self.list[id.0];
        // Packing costs as much as a few products: the first one goes without, for it may be the last.
        let plain = self.precision == Precision::default();
        if plain && param.packed.get().is_none() && param.used.set(()).is_ok() {
            return None;
        }
        let pack = || {
            let (out, inner) = (param.tensor.rows(), param.tensor.columns());
            let weight = Mat::new(param.tensor.f32(), out, inner).t();
            Arc::new(match (compute, storage) {
                (Compute::Bf16, Storage::F32 | Storage::Bf16) => Packed::pairs(weight),
                // A weight that came in bf16 takes half the bytes, which is what decoding waits for.
                (Compute::F32, Storage::F32) => Packed::lossless(weight),
                (_, storage) => Packed::stored(weight, storage),
            })
        };
        Some(param.packed.get_or_init(pack))
    }

    /// Handle of the parameter with this name.
    pub fn find(&self, name: &str) -> Option<ParamId> {
        self.by_name.get(name).copied()
    }

    /// All parameters in checkpoint order.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &Param)> {
        self.list.iter().enumerate().map(|(i, p)| (ParamId(i), p))
    }

    /// All parameters, for changing them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ParamId, &mut Param)> {
        self.list.iter_mut().enumerate().map(|(i, p)| {
            p.packed.take();
            (ParamId(i), p)
        })
    }

    /// Makes exactly those parameters trainable, whole, for which `rule` says so.
    pub fn set_trainable(&mut self, rule: impl Fn(&str) -> bool) {
        for param in &mut self.list {
            param.trainable = rule(&param.name);
            param.selection = None;
        }
    }

    /// The parameters that were added before this one: without adapters, where it is the first of theirs.
    pub(crate) fn before(&self, id: ParamId) -> Params {
        let kept = self.list[..id.0].to_vec();
        let by_name = kept.iter().enumerate().map(|(i, p)| (p.name.clone(), ParamId(i))).collect();
        Params { list: kept, by_name, precision: self.precision, interrupt: self.interrupt.clone() }
    }

    /// The number types in which parameters are written that have one of their own, by name.
    pub(crate) fn stored_types(&self) -> HashMap<String, DType> {
        self.list.iter().filter_map(|param| Some((param.name.clone(), param.stored?))).collect()
    }

    /// Number of parameter tensors.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Number of scalar parameters, and how many of them may change.
    pub fn count(&self) -> (usize, usize) {
        let total = self.list.iter().map(|p| p.tensor.len()).sum();
        let trainable = self.list.iter().filter(|p| p.trainable).map(Param::selected_len).sum();
        (total, trainable)
    }
}

impl Param {
    /// Number of scalars that may change when the parameter is trained.
    pub fn selected_len(&self) -> usize {
        self.selection.as_ref().map_or(self.tensor.len(), |selection| selection.count(&self.tensor))
    }

    /// The values that may change: the tensor itself, or of a selection its entries, one after the other.
    pub fn selected(&self) -> Tensor {
        self.selection
            .as_ref()
            .map_or_else(|| self.tensor.clone(), |selection| selection.gather(&self.tensor))
    }

    /// Sets the values that may change, as [`Param::selected`] gives them.
    ///
    /// Fails where there are more or fewer.
    pub fn set_selected(&mut self, values: Tensor) -> Result<()> {
        self.packed.take();
        match &self.selection {
            Some(selection) => selection.scatter(&values, &mut self.tensor),
            None if values.shape() == self.tensor.shape() => {
                self.tensor = values;
                Ok(())
            }
            None => Err(Error::shape(&self.name, self.tensor.shape(), values.shape())),
        }
    }

    /// Shape of [`Param::selected`].
    pub fn selected_shape(&self) -> Vec<usize> {
        self.selection.as_ref().map_or_else(|| self.tensor.shape().to_vec(), |_| vec![self.selected_len()])
    }
}
