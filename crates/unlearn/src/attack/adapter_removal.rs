//! Adapter removal: what does a model say once its adapter is taken away?

use amend_learn::{Error, Result};
use amend_run::Run;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::{ask_all, findings};
use super::{Attacker, Curve, Findings, Target};
use crate::context::Context;
use crate::data::Sets;
use crate::recipe::UnlearnRecipe;
use crate::rehearsal::of_asking;
use amend_learn::work::Work;

/// # What it does
/// Scales the adapter in which a model unlearnt down, in the end to nothing, and measures the forget set at every scale.
/// Only for places that leave an adapter (`where = "lora"`); others are refused.
///
/// # When to use it
/// Before an adapter is published beside its model: whoever has both may switch it off. It also shows how much of the
/// adapter the forgetting needs.
///
/// # What it logs
/// The largest of every figure over the scales, and accuracy and probability over the scale as curves.
///
/// # Source
/// Scaling a low-rank update: Hu et al., "LoRA", arXiv 2106.09685.
///
/// # Inferred parts
/// The scales. A merged model at scale s has the weights W₀ + s·ΔW, which is the adapter at s times its alpha. The gold model
/// has no adapter and stays what it is.
///
/// # Expected result
/// At 0 everything is back, whatever the method: an adapter hides and does not remove. The higher the scale at which it comes
/// back, the less an attacker has to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterRemoval {
    /// What the adapter is multiplied by, one scale after the other.
    #[schemars(length(min = 1), inner(range(min = 0.0, max = 1.0)))]
    pub scales: Vec<f32>,
}

impl Default for AdapterRemoval {
    fn default() -> Self {
        AdapterRemoval { scales: vec![0.75, 0.5, 0.25, 0.0] }
    }
}

impl Attacker for AdapterRemoval {
    fn check(&self, _sets: &Sets, recipe: &UnlearnRecipe) -> Result<()> {
        if self.scales.is_empty() {
            return Err(Error::conflict_at(
                "unlearn.attack",
                "attack = \"adapter-removal\": `scales` names none; give at least one, 0 for no adapter at all",
            ));
        }
        let why = recipe.arms().into_iter().find_map(|arm| match &arm.model {
            Some(_) => Some(format!("`{}` is opened as it is", arm.name)),
            None if arm.slots.r#where.filler().leaves_adapter() => None,
            None => Some(format!(
                "`{}` changes the model's own weights (`where = \"{}\"`)",
                arm.name,
                arm.slots.r#where.name()
            )),
        });
        why.map_or(Ok(()), |why| {
            Err(Error::conflict_at("unlearn.attack", format!(
                "attack = \"adapter-removal\" takes an adapter away, and {why}: there is none; use `where = \"lora\"`, or leave \
                 the attack out"
            )))
        })
    }

    fn work(&self, context: &Context<'_>) -> Result<Work> {
        let once = of_asking(context, context.measured_forget(), context.evaluation.max_new_tokens)?;
        Ok(once.times(self.scales.len() + 1))
    }

    fn attack(&self, run: &mut Run<'_>, target: Target<'_>, context: &Context<'_>) -> Result<Findings> {
        // What has no adapter stays what it is.
        let scales = if target.adapter.is_some() { &self.scales[..] } else { &[1.0][..] };
        let names: Vec<String> = scales.iter().map(|scale| format!("adapter at {scale}")).collect();
        let scaled = |index: usize| Ok(context.reference.towards(target.model, scales[index])?);
        let max_new_tokens = context.evaluation.max_new_tokens;
        let as_it_is = |_: usize| Ok(target.model.clone());
        let make: &dyn Fn(usize) -> Result<_> = if target.adapter.is_some() { &scaled } else { &as_it_is };
        let forms = ask_all(run, (target.model, "adapter at 1"), &names, make, context, max_new_tokens)?;
        let reading = "The adapter of each model is scaled down, and the forget set is measured at every scale; the figures are \
                       the largest of these, what is said is said where most is given away. The gold model has no adapter. \
                       What lies above it is one multiplication away.";
        let mut found = findings(reading.to_owned(), &forms);
        let curve = |figure: &'static str| Curve {
            title: format!("The adapter scaled down: {figure}"),
            x: "scale of the adapter".into(),
            y: figure.into(),
            points: std::iter::once(&1.0)
                .chain(scales)
                .zip(&forms)
                .filter_map(|(scale, form)| Some((f64::from(*scale), form.figure(figure)?.value)))
                .filter(|point| point.1.is_finite())
                .collect(),
        };
        if target.adapter.is_some() {
            found.curves = ["accuracy", "probability"].map(curve).into();
        }
        Ok(found)
    }
}
