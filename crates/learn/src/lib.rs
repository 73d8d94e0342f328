//! What every area's training shares: records as token sequences, seeded batches, the loop with its
//! checkpoints, and how a run computes (a recipe's section `[engine]`).
//!
//! It sits between the engine and the run folder, which know nothing of each other, and below the areas,
//! which never import each other.

mod computing;
mod encode;
mod error;
mod pretrain;
mod sampler;
mod stage;

pub use computing::{Computing, Dtype};
pub use encode::{Encoder, Template};
pub use error::Error;
pub use pretrain::{Pretrain, pretrain};
pub use sampler::{epoch_batches, partner};
pub use stage::{Flow, Optimizer, ScheduleName, Step, train_stage};

/// Result of everything that trains within a run.
pub type Result<T, E = Error> = std::result::Result<T, E>;
