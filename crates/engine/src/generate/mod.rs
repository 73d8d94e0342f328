//! Generation: cached, batched, reproducible.
//!
//! A [`Session`] takes requests at any time and works on all of them together; [`Model::generate`] is a
//! session that gets all its prompts at once. Sequences join the running batch as soon as others end
//! (continuous batching), and equal prompts are read once. What a request is answered depends on the
//! request alone: no row's arithmetic depends on its neighbours, and every draw is named by the request's
//! seed and key, the sample and the token, never by a place in a batch or a call.

pub mod constraint;
mod event;
mod queue;
mod request;
mod sampling;
mod sequence;
mod session;
mod step_batch;
mod unfolding;

pub use constraint::{Constraint, Grammar};
pub use event::{Event, Finish, Generated, Token};
pub use request::{GenerateOptions, Request, RequestId};
pub use sampling::Sampling;
pub use session::{Session, SessionOptions};

use crate::Result;
use crate::models::Model;

impl Model {
    /// Continues every prompt; for each its samples, in order.
    ///
    /// Fails before anything is generated where a prompt is empty or too long, or a constraint has no
    /// answer that fits.
    pub fn generate(&self, prompts: &[Vec<u32>], options: &GenerateOptions) -> Result<Vec<Vec<Generated>>> {
        let mut session = Session::new(self, SessionOptions::default());
        session.submit_all(prompts, options.clone())?;
        session.run(|_| ())
    }
}
