//! Models between two others.

use super::Model;
use crate::{Error, Result, Tensor};

impl Model {
    /// The model that lies between this one and `other`, every weight the same share of the way: W + share · (W' − W). At 0
    /// it has the bits of this model, at 1 those of the other. Tensors belong together by name.
    ///
    /// Fails where tensors differ in shape, or the other model lacks one.
    pub fn towards(&self, other: &Model, share: f32) -> Result<Model> {
        let mut between = self.clone();
        for (_, param) in between.params.iter_mut() {
            let found = other.params.find(&param.name).map(|id| &other.params.get(id).tensor);
            let theirs: &Tensor = found
                .ok_or_else(|| Error::invalid(format!("the other model has no tensor {}", param.name)))?;
            if theirs.shape() != param.tensor.shape() {
                return Err(Error::shape(&param.name, param.tensor.shape(), theirs.shape()));
            }
            // Said apart, for a + (b − a) is not b to the last bit.
            if share == 1.0 {
                param.tensor = theirs.clone();
            } else if share != 0.0 {
                param.tensor = param.tensor.zip_map(theirs, |a, b| a + share * (b - a));
            }
        }
        Ok(between)
    }
}
