//! Where a model's tensors come from: a checkpoint, or random numbers.

use crate::{DType, Result, Rng, Tensor};

/// One named tensor that a model asks for.
pub(super) struct Wanted<'a> {
    /// The name the checkpoint uses.
    pub(super) name: &'a str,
    /// The shape it has in memory.
    pub(super) shape: &'a [usize],
    /// Whether checkpoints hold its transpose.
    pub(super) transposed: bool,
    /// What it starts from where there is no checkpoint.
    pub(super) start: Start,
}

/// First values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Start {
    /// Normally distributed.
    Random,
    /// The same number everywhere.
    Constant(f32),
}

/// What a source gives.
pub(super) struct Taken {
    /// The values in f32.
    pub(super) tensor: Tensor,
    /// The number type to write them in again, where they have one of their own.
    pub(super) stored: Option<DType>,
}

/// Where tensors come from.
pub(super) trait Source {
    /// Whether there is a tensor of this name.
    fn has(&self, name: &str) -> bool;
    /// The named tensor. Fails unless it has the wanted shape.
    fn take(&mut self, wanted: &Wanted<'_>) -> Result<Taken>;
}

/// Tensors made up; what a model may have or not, it has not. A draw depends on seed and name alone.
pub(super) struct Drawn {
    /// Standard deviation of matrices.
    pub(super) deviation: f64,
    pub(super) seed: u64,
}

impl Source for Drawn {
    fn has(&self, _: &str) -> bool {
        false
    }

    fn take(&mut self, wanted: &Wanted<'_>) -> Result<Taken> {
        let tensor = Tensor::build(wanted.shape, |out| match wanted.start {
            Start::Constant(value) => out.fill(value),
            Start::Random => {
                let mut rng = Rng::named(self.seed, wanted.name);
                out.iter_mut().for_each(|w| *w = (rng.normal() * self.deviation) as f32);
            }
        });
        Ok(Taken { tensor, stored: None })
    }
}
