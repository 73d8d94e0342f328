//! The engine: a language model that runs, learns and can be opened.

pub mod checkpoint;
mod error;
pub mod kernels;
mod params;
mod rng;
pub mod tensor;
pub mod tokenizer;

pub use error::{Error, Result};
pub use params::{Param, ParamId, Params, Selection};
pub use rng::Rng;
pub use tensor::{DType, Device, Tensor};
