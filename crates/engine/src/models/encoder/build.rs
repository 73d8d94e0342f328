//! Putting an encoder together from named tensors: where they come from, and what they are called.

use std::collections::HashMap;

use super::block::Block;
use crate::models::parts::{Norm, Start};
use crate::models::spec::NormKind;
use crate::params::{ParamId, Params};
use crate::tape::Linear;
use crate::{Result, Tensor};

/// Where tensors come from: a checkpoint, or random numbers.
pub(super) trait Source {
    /// Whether there is a tensor of this name.
    fn has(&self, name: &str) -> bool;
    /// The named tensor in f32. Fails unless it has this shape.
    fn take(&mut self, name: &str, shape: &[usize], start: Start) -> Result<Tensor>;
}

/// Takes tensors from a source into parameters, under the names the source has for them.
pub(super) struct Builder<'a> {
    pub(super) params: &'a mut Params,
    source: &'a mut dyn Source,
    /// Put before every name: `bert.` where the checkpoint has a head over the model.
    prefix: String,
    /// The stored shape of parameters that are held in another one.
    pub(super) stored_shapes: HashMap<ParamId, Vec<usize>>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(params: &'a mut Params, source: &'a mut dyn Source) -> Self {
        Builder { params, source, prefix: String::new(), stored_shapes: HashMap::new() }
    }

    /// Puts the first of `prefixes` under which there is a tensor `name` before all names from here on.
    /// With none of them the last is taken, whose absence is then reported by the name people know.
    pub(super) fn choose_prefix(&mut self, prefixes: &[&str], name: &str) {
        let found = prefixes.iter().find(|prefix| self.source.has(&format!("{prefix}{name}")));
        self.prefix = found.or(prefixes.last()).map_or(String::new(), |prefix| (*prefix).to_owned());
    }

    /// Names are as they are given from here on.
    pub(super) fn without_prefix(&mut self) -> &mut Self {
        self.prefix.clear();
        self
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.source.has(&format!("{}{name}", self.prefix))
    }

    /// A tensor that begins as random numbers.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<ParamId> {
        self.started(name, shape, Start::Random)
    }

    fn started(&mut self, name: &str, shape: &[usize], start: Start) -> Result<ParamId> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.source.take(&name, shape, start)?;
        self.params.add(name, tensor)
    }

    /// A tensor stored in one shape and held in another with as many elements.
    pub(super) fn reshaped(&mut self, name: &str, stored: &[usize], held: &[usize]) -> Result<ParamId> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.source.take(&name, stored, Start::Random)?.reshape(held)?;
        let id = self.params.add(name, tensor)?;
        self.stored_shapes.insert(id, stored.to_vec());
        Ok(id)
    }

    /// A bias under its full name.
    pub(super) fn bias(&mut self, name: &str, width: usize) -> Result<ParamId> {
        self.started(name, &[width], Start::Constant(0.0))
    }

    /// `NAME.weight` [out, in] and, where wanted, `NAME.bias` [out].
    pub(super) fn linear(&mut self, name: &str, [out, inner]: [usize; 2], bias: bool) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[out, inner])?;
        let bias = bias.then(|| self.bias(&format!("{name}.bias"), out)).transpose()?;
        Ok(Linear { weight, bias, low_rank: None })
    }

    /// Gain and shift of a layer norm. The first BERT checkpoints call them `gamma` and `beta`.
    pub(super) fn norm(&mut self, name: &str, width: usize, eps: f32) -> Result<Norm> {
        let old = self.has(&format!("{name}.gamma"));
        let [gain, shift] = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let weight = self.started(&format!("{name}.{gain}"), &[width], Start::Constant(1.0))?;
        let bias = self.started(&format!("{name}.{shift}"), &[width], Start::Constant(0.0))?;
        Ok(Norm { kind: NormKind::Layer, weight, bias: Some(bias), eps })
    }

    /// Block `l`, whose parts have the family's names.
    pub(super) fn block(&mut self, l: usize, names: &BlockNames, size: &BlockSize) -> Result<Block> {
        let at = |part: &str| format!("{}.{l}.{part}", names.blocks);
        let (d, f, inner) = (size.hidden, size.intermediate, size.attention);
        Ok(Block {
            query: self.linear(&at(names.query), [inner, d], size.qkv_bias)?,
            key: self.linear(&at(names.key), [inner, d], size.qkv_bias)?,
            value: self.linear(&at(names.value), [inner, d], size.qkv_bias)?,
            output: self.linear(&at(names.output), [d, inner], true)?,
            norm1: self.norm(&at(names.norm1), d, size.eps)?,
            up: self.linear(&at(names.up), [f, d], true)?,
            down: self.linear(&at(names.down), [d, f], true)?,
            norm2: self.norm(&at(names.norm2), d, size.eps)?,
        })
    }
}

/// What a family calls the parts of its blocks.
pub(super) struct BlockNames {
    /// Path of the list of blocks.
    pub(super) blocks: &'static str,
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    /// Attention's output projection.
    pub(super) output: &'static str,
    /// The norm before or after attention.
    pub(super) norm1: &'static str,
    /// The feed-forward's first layer.
    pub(super) up: &'static str,
    /// The feed-forward's second layer.
    pub(super) down: &'static str,
    /// The norm before or after the feed-forward.
    pub(super) norm2: &'static str,
}

/// The extents of a block.
pub(super) struct BlockSize {
    /// Residual width d.
    pub(super) hidden: usize,
    /// heads · head_dim.
    pub(super) attention: usize,
    /// Feed-forward width f.
    pub(super) intermediate: usize,
    /// Whether query, key and value projections have biases.
    pub(super) qkv_bias: bool,
    /// Epsilon of the norms.
    pub(super) eps: f32,
}
