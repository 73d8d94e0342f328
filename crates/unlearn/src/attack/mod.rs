//! Slot `attack`: what an unlearned model has to withstand.

mod relearn;

pub use relearn::{Curve, Relearn, relearn};
