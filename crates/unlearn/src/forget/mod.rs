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
mod mlp_breaking;
mod npo;
mod pass;
mod pdu;
mod rmu;
mod satimp;
mod simnpo;
mod task_vector;
mod tnpo;
mod undial;
mod wga;
mod whp;

use std::rc::Rc;

use amend_engine::{Error, Model, Result, Taps, Var};
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
pub use mlp_breaking::MlpBreaking;
pub(crate) use mlp_breaking::layers as usual_layers;
pub use npo::Npo;
pub use pass::Pass;
pub use pdu::Pdu;
pub use rmu::Rmu;
pub use satimp::SatImp;
pub use simnpo::SimNpo;
pub use task_vector::TaskVector;
pub use tnpo::Tnpo;
pub use undial::Undial;
pub use wga::Wga;
pub use whp::Whp;

use crate::context::Context;
use crate::minor::MinorBasis;
use crate::objectives::LossAndGradients;
use crate::recipe::Slots;
use amend_learn::work::Work;

/// A loss whose descent makes the model forget.
pub trait ForgetObjective {
    /// Weight γ of the forget gradient that the method's authors use.
    fn default_weight(&self) -> f32 {
        1.0
    }

    /// How much there is to compute before the first step, for the forecast.
    fn prepares(&self, _context: &Context<'_>) -> Work {
        Work::default()
    }

    /// Whether it gives weights and no gradient. Then there is nothing to retain, combine or guard.
    fn gives_weights(&self) -> bool {
        false
    }

    /// The model after step number `step`, counted from 0, of an objective that gives weights.
    fn weights(&self, _model: &Model, _context: &Context<'_>, _step: u64) -> Result<Option<Moved>> {
        Ok(None)
    }

    /// What it does in a pass of `model`, beside reading what the pass ends with: sites whose values it holds.
    fn taps(&self, _model: &Model) -> Result<Taps> {
        Ok(Taps::none())
    }

    /// Dominant components that it leaves alone, kept with the run; `None` where it leaves none.
    fn bases(&self, _context: &Context<'_>) -> Result<Option<Rc<Vec<MinorBasis>>>> {
        Ok(None)
    }

    /// The loss of a batch, in nats, as a value of the pass's graph. The batch has what the objective compares with.
    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var>;
}

/// Where a step of an objective that gives weights has led to.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The model.
    pub model: Model,
    /// How far along it is.
    pub scale: f32,
    /// Whether there is nothing further.
    pub is_last: bool,
}

/// Refuses beside an objective that gives weights what would need its gradient.
pub fn check(slots: &Slots) -> Result<()> {
    let needed = [
        ("retain", slots.retain.name(), "none"),
        ("combine", slots.combine.name(), "sum"),
        ("guard", slots.guard.name(), "none"),
    ];
    let objective = &slots.forget;
    match needed.iter().find(|(_, name, only)| name != only) {
        Some((slot, _, only)) if objective.filler().gives_weights() => Err(Error::invalid(format!(
            "forget = \"{}\" gives weights and no gradient, so that there is nothing to retain, combine or guard; set \
             {slot} = \"{only}\"",
            objective.name()
        ))),
        _ => Ok(()),
    }
}

/// Loss and gradient of a forget batch.
pub fn gradients(
    objective: &dyn ForgetObjective,
    model: &Model,
    batch: &ForgetBatch<'_>,
) -> Result<LossAndGradients> {
    let taps = objective.taps(model)?;
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
        "mlp-breaking" => MlpBreaking,
        "pdu" => Pdu,
        "llmu" => Llmu,
        "altpo" => AltPo,
        "whp" => Whp,
        "task-vector" => TaskVector,
    }
}

#[cfg(test)]
mod tests;
