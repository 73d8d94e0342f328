//! What a backward pass keeps of its operands: the value itself, or the way to make it again.
//!
//! A norm's or an activation's output costs little to compute and as much as anything else to hold
//! between the passes, while its inputs are held anyway. So it is dropped after the forward pass and
//! made a second time when the product that used it asks; the bits are the same.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::Var;
use crate::Tensor;

/// A value that can be computed again, and is, at most once.
pub(super) struct Again {
    make: Box<dyn Fn() -> Tensor + Send + Sync>,
    made: OnceLock<Tensor>,
}

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Again")
    }
}

/// An operand kept for the backward pass.
pub(super) enum Saved {
    Held(Tensor),
    Again(Arc<Again>),
}

impl Saved {
    /// The value; made here where it was dropped, and shared by everybody who kept the same one.
    pub(super) fn value(&self) -> &Tensor {
        match self {
            Saved::Held(value) => value,
            Saved::Again(again) => again.made.get_or_init(|| (again.make)()),
        }
    }
}

impl Var {
    /// The same value, with a cheap way to make it from what the tape holds in any case.
    pub(super) fn made_by(mut self, make: impl Fn() -> Tensor + Send + Sync + 'static) -> Self {
        if self.needs_gradient() {
            self.again = Some(Arc::new(Again { make: Box::new(make), made: OnceLock::new() }));
        }
        self
    }

    /// What a backward pass that needs the value keeps of it.
    pub(super) fn saved(&self) -> Saved {
        match &self.again {
            Some(again) => Saved::Again(again.clone()),
            None => Saved::Held(self.value.clone()),
        }
    }
}
