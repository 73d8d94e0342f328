//! What every area shares: its way in ([`area`]), records as token sequences, seeded batches, the loop, and how a run computes
//! (a recipe's section `[engine]`).
//!
//! The loop is [`train`]. What it trains is a [`Learner`]: it takes the steps, and says what its state is. Around
//! the steps the loop puts rows, checkpoints, decisions from outside, and resumption.
//!
//! It sits between the engine and the run folder, which know nothing of each other, and below the areas,
//! which never import each other.

pub mod area;
mod computing;
mod conversation;
mod encode;
mod error;
mod fine_tuning;
mod optimizer;
mod pretrain;
mod sampler;
mod save_type;
mod state;
mod trainer;
pub mod work;

pub use computing::{Computing, Dtype};
pub use conversation::Conversation;
pub use encode::{RecordEncoder, Template};
pub use error::Error;
pub use fine_tuning::FineTuning;
pub use optimizer::{Descended, Descent, Optimizer, ScheduleName};
pub use pretrain::{Pretrain, pretrain};
pub use sampler::{epoch_batches, partner};
pub use save_type::SaveType;
pub use state::{StateReader, StateWriter};
pub use trainer::{Learner, Step, train};

/// Result of everything that trains within a run.
pub type Result<T, E = Error> = std::result::Result<T, E>;
