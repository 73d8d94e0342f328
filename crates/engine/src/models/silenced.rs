//! Blocks that add nothing to the residual stream: a model with blocks left out.

use super::Model;
use crate::{DType, Error, Result, Tensor};

impl Model {
    /// Makes a block add nothing to the residual stream, as if it were left out: the projections by which its attention and
    /// its feed-forward write, experts included, become zero.
    ///
    /// Fails where there is no such block, and where an adapter is attached, which would write all the same.
    pub fn silence_block(&mut self, layer: usize) -> Result<()> {
        let layers = self.spec().layers;
        if layer >= layers {
            return Err(Error::invalid(format!(
                "the model has {layers} blocks, counted from 0, and no block {layer}"
            )));
        }
        if self.is_adapted() {
            return Err(Error::invalid("merge the adapter before leaving out blocks"));
        }
        let block = self.decoder.block(layer);
        let writing = std::iter::once(block.attention.output()).chain(block.feed_forward.outputs());
        let silenced: Vec<_> =
            writing.flat_map(|linear| [Some(linear.weight), linear.bias]).flatten().collect();
        for id in silenced {
            let tensor = &mut self.params.get_mut(id).tensor;
            *tensor = Tensor::zeros(tensor.shape(), DType::F32);
        }
        Ok(())
    }
}
