//! Slot `forget`: what lowers the model's grip on the forget set.

mod altpo;
mod batch;
mod ce_u;
mod flat;
mod gradient_ascent;
mod idk;
mod idk_dpo;
mod ihl;
mod llmu;
mod maximise_entropy;
pub(crate) mod misdirection;
mod npo;
mod pass;
mod pdu;
mod rmu;
mod satimp;
mod simnpo;
mod tnpo;
mod undial;
mod wga;

use amend_engine::{Model, Result, Taps, Var};
use amend_run::slot;

pub use altpo::AltPo;
pub use batch::ForgetBatch;
pub use ce_u::CeU;
pub use flat::Flat;
pub use gradient_ascent::GradientAscent;
pub use idk::Idk;
pub use idk_dpo::IdkDpo;
pub use ihl::Ihl;
pub use llmu::Llmu;
pub use maximise_entropy::MaximiseEntropy;
pub use npo::Npo;
pub use pass::Pass;
pub use pdu::Pdu;
pub use rmu::Rmu;
pub use satimp::SatImp;
pub use simnpo::SimNpo;
pub use tnpo::Tnpo;
pub use undial::Undial;
pub use wga::Wga;

use crate::objectives::LossAndGradients;

/// A loss whose descent makes the model forget.
pub trait ForgetObjective {
    /// Weight γ of the forget gradient that the method's authors use.
    fn default_weight(&self) -> f32 {
        1.0
    }

    /// The loss of a batch, in nats, as a value of the pass's graph. The batch has what the objective compares with.
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var>;
}

/// Loss and gradient of a forget batch.
pub fn gradients(
    objective: &dyn ForgetObjective,
    model: &Model,
    batch: &ForgetBatch<'_>,
) -> Result<LossAndGradients> {
    let taps = Taps::none();
    let mut pass = Pass::new(model, &taps);
    let loss = objective.loss(&mut pass, batch)?;
    Ok(LossAndGradients { loss: f64::from(loss.scalar()), gradients: pass.g.backward(&loss)? })
}

slot! {
    /// What lowers the model's grip on the forget set.
    pub slot Forget("unlearn", "forget"): dyn ForgetObjective, default GradientAscent {
        "ga" => GradientAscent,
        "npo" => Npo,
        "simnpo" => SimNpo,
        "idk" => Idk,
        "idk-dpo" => IdkDpo,
        "wga" => Wga,
        "satimp" => SatImp,
        "tnpo" => Tnpo,
        "undial" => Undial,
        "ce-u" => CeU,
        "ihl" => Ihl,
        "me" => MaximiseEntropy,
        "flat" => Flat,
        "rmu" => Rmu,
        "pdu" => Pdu,
        "llmu" => Llmu,
        "altpo" => AltPo,
    }
}

#[cfg(test)]
mod tests;
