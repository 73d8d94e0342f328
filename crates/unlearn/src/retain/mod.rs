//! Slot `retain`: what holds on to everything else.

mod kl;
mod nll;
mod none;

use amend_engine::{Example, Gradients, Model, Result};
use amend_run::slot;

pub use kl::Kl;
pub use nll::Nll;
pub use none::NoRetain;

/// A loss whose descent keeps the model what it was on the retain set.
pub trait RetainObjective {
    /// Loss of a retain batch and its gradient; `None` where the slot is left empty.
    fn gradients(
        &self,
        model: &Model,
        reference: &Model,
        batch: &[&Example],
    ) -> Result<Option<(f64, Gradients)>>;

    /// Whether there is a retain gradient at all.
    fn is_active(&self) -> bool {
        true
    }
}

slot! {
    /// What holds on to everything else.
    pub slot Retain("unlearn", "retain"): dyn RetainObjective, default Nll {
        "nll" => Nll,
        "kl" => Kl,
        "none" => NoRetain,
    }
}
