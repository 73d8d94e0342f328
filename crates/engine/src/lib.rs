//! The engine: a language model that runs, learns and can be opened.
//!
//! [`Model`] is a decoder, dense or a mixture of experts, from a Hugging Face folder or a GGUF file: it
//! scores, generates ([`generate`]), gives gradients as values ([`Gradients`]) and takes adapters.
//! [`Encoder`] turns texts and images into vectors. Both compute on the [`tape`], in the [`Precision`] that
//! is asked for, and show and change what they compute through [`Taps`]. The same input gives the same bits
//! alone or in a batch, on any number of threads.
//!
//! ```no_run
//! use amend_engine::{Batch, Example, Model, Taps};
//! let model = Model::open("models/qwen3-0.6b")?;
//! let batch = Batch::new(&[Example::text(vec![1, 2, 3])])?;
//! let (loss, gradients) = model.loss_and_gradients(&batch, &Taps::none())?;
//! println!("loss {loss}, gradient norm {}", gradients.norm());
//! # Ok::<(), amend_engine::Error>(())
//! ```

mod batch;
pub mod checkpoint;
mod error;
pub mod generate;
mod gradients;
pub mod images;
pub mod models;
pub mod optim;
mod params;
pub mod profile;
mod score;
mod selection;
pub mod tape;
pub mod taps;
pub mod tokenizer;

pub use amend_kernels::{self as kernels, DType, Device, Rng, Tensor, tensor};
pub use batch::{Batch, Example, split_by_tokens};
pub use error::{Error, Result};
pub use gradients::{Gradients, LeafId};
pub use models::{Encoder, Model};
pub use params::{Param, ParamId, Params, Precision};
pub use score::SCORING_TOKENS;
pub use selection::Selection;
pub use tape::{Graph, Var};
pub use taps::{Action, Origin, Reading, Selector, Site, Taps};
