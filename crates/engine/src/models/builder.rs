//! Putting a model together from named tensors, taken from a source.

use std::collections::HashMap;

use super::norm::{Norm, NormKind};
use super::source::{Source, Start, Taken, Wanted};
use super::spec::BlockSpec;
use crate::Result;
use crate::params::{ParamId, Params};
use crate::tape::Linear;

/// Adds a model's parameters one by one, under the names that the source has for them.
pub(super) struct Builder<'a> {
    params: &'a mut Params,
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

    /// What is put before every name.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.source.has(&format!("{}{name}", self.prefix))
    }

    fn add(&mut self, name: &str, shape: &[usize], transposed: bool, start: Start) -> Result<ParamId> {
        let name = format!("{}{name}", self.prefix);
        let taken = self.source.take(&Wanted { name: &name, shape, transposed, start })?;
        self.put(name, taken)
    }

    fn put(&mut self, name: String, Taken { tensor, stored }: Taken) -> Result<ParamId> {
        let id = self.params.add(name, tensor)?;
        self.params.get_mut(id).stored = stored;
        Ok(id)
    }

    /// A tensor under its full name that begins as random numbers.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<ParamId> {
        self.add(name, shape, false, Start::Random)
    }

    /// A tensor stored in one shape and held in another with as many elements.
    pub(super) fn reshaped(&mut self, name: &str, stored: &[usize], held: &[usize]) -> Result<ParamId> {
        let name = format!("{}{name}", self.prefix);
        let wanted = Wanted { name: &name, shape: stored, transposed: false, start: Start::Random };
        let Taken { tensor, stored: dtype } = self.source.take(&wanted)?;
        let id = self.put(name, Taken { tensor: tensor.reshape(held)?, stored: dtype })?;
        self.stored_shapes.insert(id, stored.to_vec());
        Ok(id)
    }

    /// A bias under its full name.
    pub(super) fn bias(&mut self, name: &str, width: usize) -> Result<ParamId> {
        self.add(name, &[width], false, Start::Constant(0.0))
    }

    /// `MODULE.weight` [out, in] and, where wanted, `MODULE.bias` [out].
    pub(super) fn linear(&mut self, module: &str, shape: [usize; 2], bias: bool) -> Result<Linear> {
        self.stored_linear(module, shape, bias, false)
    }

    /// The same of a checkpoint that may hold the transpose of the weight.
    fn stored_linear(
        &mut self,
        module: &str,
        [out, inner]: [usize; 2],
        bias: bool,
        transposed: bool,
    ) -> Result<Linear> {
        let weight = self.add(&format!("{module}.weight"), &[out, inner], transposed, Start::Random)?;
        let bias = bias.then(|| self.bias(&format!("{module}.bias"), out)).transpose()?;
        Ok(Linear { weight, bias, adapter: None })
    }

    /// A norm over `width` elements. The first BERT checkpoints call gain and shift `gamma` and `beta`.
    pub(super) fn norm(&mut self, module: &str, width: usize, kind: NormKind, eps: f32) -> Result<Norm> {
        let old = self.has(&format!("{module}.gamma"));
        let [gain, shift] = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let start = Start::Constant(if kind == NormKind::RmsFromOne { 0.0 } else { 1.0 });
        let weight = self.add(&format!("{module}.{gain}"), &[width], false, start)?;
        let bias = match kind {
            NormKind::Layer => Some(self.bias(&format!("{module}.{shift}"), width)?),
            NormKind::Rms | NormKind::RmsFromOne => None,
        };
        Ok(Norm { kind, weight, bias, eps })
    }
}

/// Builds the parts of one block: their names are within it.
pub(super) struct BlockBuilder<'b, 'a> {
    builder: &'b mut Builder<'a>,
    /// What the block is made of.
    pub(super) spec: BlockSpec<'b>,
    /// Path of the block.
    path: String,
}

impl<'b, 'a> BlockBuilder<'b, 'a> {
    /// For block `l`.
    pub(super) fn new(builder: &'b mut Builder<'a>, spec: BlockSpec<'b>, l: usize) -> Self {
        BlockBuilder { builder, spec, path: format!("{}.{l}", spec.names.blocks) }
    }

    /// A linear layer: [out, in], and its bias.
    pub(super) fn linear(&mut self, part: &str, shape: [usize; 2], bias: bool) -> Result<Linear> {
        let module = format!("{}.{part}", self.path);
        self.builder.stored_linear(&module, shape, bias, self.spec.names.transposed)
    }

    /// A norm over `width` elements, of the block's kind.
    pub(super) fn norm(&mut self, part: &str, width: usize) -> Result<Norm> {
        self.builder.norm(&format!("{}.{part}", self.path), width, self.spec.norm, self.spec.eps)
    }

    /// A norm of the residual width, where the family has it.
    pub(super) fn norm_if_any(&mut self, part: Option<&str>) -> Result<Option<Norm>> {
        part.map(|part| self.norm(part, self.spec.hidden)).transpose()
    }
}
