//! LoRA that starts at factors of its maker's choice, on a model that stays as it is.
//!
//! Methods that start at chosen factors B₀ and A₀ take s·B₀·A₀ off the weight W₀ and train the pair on what is left. Such a
//! pair belongs to a base model that nobody else has. What it computes is also an adapter of twice the rank on W₀ itself:
//!
//! W₀ − s·B₀·A₀ + s·B·A = W₀ + s·B′·A′ with B′ = [B, B₀] and A′ = [A; −A₀].
//!
//! So that is what is attached here, and its second halves do not learn. No weight is copied, the model without its adapter is
//! the one from before, and the folder that is written is an ordinary one for it.

use std::sync::Arc;

use super::{Adapter, AdapterKind, AdapterTensors, Lora, LoraOptions};
use crate::models::Model;
use crate::{Error, Result, Selection, Tensor};

impl Model {
    /// Attaches a LoRA adapter of rank 2r, of which the first r learn and start at what `start` makes of a layer's path and
    /// weight [out, in]: A₀ [r, in] and B₀ [out, r]. The other r take that off again, so that nothing changes yet but by
    /// rounding. Freezes everything but adapters.
    ///
    /// Fails as [`attach_lora`](Self::attach_lora) does, and where the factors are of other shapes.
    pub fn attach_started_lora(
        &mut self,
        options: &LoraOptions,
        mut start: impl FnMut(&str, &Tensor) -> Result<[Tensor; 2]>,
    ) -> Result<()> {
        let r = options.r;
        let single = Lora::of(options, self.spec());
        single.check_options().map_err(Error::invalid)?;
        let mut tensors = AdapterTensors::new();
        let mut selections = Vec::new();
        for (module, weight) in single.layers_of(self)? {
            let [a, b] = start(&module, weight)?;
            for (what, factor, shape) in [("A", &a, [r, weight.columns()]), ("B", &b, [weight.rows(), r])] {
                if factor.shape() != shape {
                    return Err(Error::shape(format!("start of {module}: {what}"), &shape, factor.shape()));
                }
            }
            let [a_name, b_name] = ["A", "B"].map(|part| format!("{module}.lora_{part}.weight"));
            selections.push((a_name.clone(), Selection::rows(0..r)));
            selections.push((b_name.clone(), Selection::columns(0..r)));
            tensors.insert(a_name, above_its_negative(&a));
            tensors.insert(b_name, twice_side_by_side(&b));
        }
        let doubled = Lora { r: 2 * r, lora_alpha: 2.0 * single.lora_alpha, ..single };
        self.attach_adapter(&Adapter { kinds: vec![Arc::new(doubled)], base_model: None, tensors })?;
        for (name, selection) in selections {
            if let Some(id) = self.params.find(&name) {
                self.params.get_mut(id).selection = Some(selection);
            }
        }
        Ok(())
    }
}

/// [A; −A]: [r, in] → [2r, in].
fn above_its_negative(a: &Tensor) -> Tensor {
    Tensor::build(&[2 * a.rows(), a.columns()], |out| {
        let (own, negative) = out.split_at_mut(a.len());
        own.copy_from_slice(a.f32());
        negative.iter_mut().zip(a.f32()).for_each(|(out, &a)| *out = -a);
    })
}

/// [B, B]: [out, r] → [out, 2r].
fn twice_side_by_side(b: &Tensor) -> Tensor {
    let r = b.columns();
    Tensor::build(&[b.rows(), 2 * r], |out| {
        for (out, row) in out.chunks_exact_mut(2 * r).zip(b.f32().chunks_exact(r)) {
            out[..r].copy_from_slice(row);
            out[r..].copy_from_slice(row);
        }
    })
}
