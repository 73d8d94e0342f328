//! Representation misdirection for unlearning.

use std::rc::Rc;

use amend_engine::{Result, Rng, Tensor, Var};
use amend_learn::work::Work;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::misdirection::{self, Looked};
use super::{ForgetBatch, ForgetObjective, Pass};
use crate::context::Context;
use crate::minor::{Minor, MinorBasis, Tokens, behind};

/// # What it does
/// Drives the hidden states of one layer, on the forget set, to one fixed point that means nothing: the loss is ‖h_θ − c·u‖²/d
/// with a random unit vector u, the mean over the tokens of every answer and then over answers. With `minor` it is
/// ‖P⊥h_θ − c·u‖²/d (MCU): P⊥ takes the mean and the directions off in which the states of the original model vary most on the
/// forget set, so that nothing is driven along those.
///
/// # When to use it
/// For whole fields of knowledge rather than single answers. With the retain objective `rmu`, and
/// `where = { name = "layers", layers = [l−2, l−1, l], modules = ["down_proj"] }`, as its authors do. Where nothing at or below
/// the layer may change it is refused: there is nothing that could move its hidden states. With `minor`, where weights are to
/// be published: what is moved along shared directions is moved back by learning other samples of the same kind. Then look at
/// more than the answer (`tokens`), in the retain objective too.
///
/// # What it logs
/// `loss_forget`: the distance above, in squared units of the hidden states.
///
/// # Source
/// Li et al., "The WMDP Benchmark: Measuring and Reducing Malicious Use with Unlearning" (RMU), arXiv 2403.03218, which takes
/// layer 7 of 32 and c = 6.5 for a model of 7B; the standard framework takes c = 2 for smaller ones. `minor`: "Robust LLM
/// Unlearning Against Relearning Attacks: The Minor Components in Representations Matter" (MCU), arXiv 2605.11685, behind block
/// 10 of 32 with c = 1, and k of 8 or 32.
///
/// # Inferred parts
/// u is drawn from [0, 1)^d and normalised, as published, once for a seed. The mean is taken sequence by sequence; the
/// published code mixes the lengths of a batch up. The layer, where none is given: a quarter of the way up, as 7 of 32, and not
/// below 2. What watches answers sees forgetting only once the misdirected states reach them. `minor`: an orthonormal basis in
/// place of the official one-by-one, in f64, exact; found in answers and prompts; kept in `minor_basis.safetensors` beside the
/// model (`components`, `mean`, `eigenvalues` of every site). u is not projected, which adds a constant.
///
/// # Expected result
/// Noise on the forget set; the rest hardly changes. What was forgotten is hidden from the later layers rather than gone, which
/// relearning shows. In miniature (`recipes/mcu.toml`, seeds 0, 1, 2, after 250 steps each), relearning one half of the facts
/// takes the renormalised probability of the other half from 0.55, 0.26, 0.36 to 0.62, 0.34, 0.33, where a model that never knew
/// comes to 0.10, 0.05, 0.09: it was hidden. Word for word, 0.38, 0.31, 0.19 more come back. With `minor = { k = 2 }` a little
/// less does (0.34, 0.27, 0.17), of a model that had also forgotten a little less; with k = 4 and twice the coefficient it is no
/// less (0.40, 0.32, 0.28). The paper's margin, 0.6 of the rebound with k = 4, does not show here. Nothing of this is at matched
/// forgetting or cost: of retained answers 0.60, 0.62, 0.42 are left word for word, with k = 2 0.65, 0.81, 0.61, with k = 4 0.21,
/// 0.31, 0.23. The recipe's tokens and retain weight are one of five settings that were tried on seed 0; by renormalised
/// probability k = 2 came back no less than without in another one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rmu {
    /// The layer l, counted from 0, behind which hidden states are driven; default: a quarter of the way up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// How far from the origin the point lies: c, in the units of the hidden states.
    #[schemars(range(min = 0.0))]
    pub coefficient: f32,
    /// The tokens whose states are driven: `answer`, `text` or `subject`.
    pub tokens: Tokens,
    /// Which components of the states are left alone: `{ k = 8 }`; without it, none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<Minor>,
}

impl Default for Rmu {
    fn default() -> Self {
        Rmu { layer: None, coefficient: 2.0, tokens: Tokens::Answer, minor: None }
    }
}

impl ForgetObjective for Rmu {
    fn prepares(&self, context: &Context<'_>) -> Work {
        self.components().map_or_else(Work::default, |minor| minor.work(context, 1))
    }

    fn loss<'m>(&self, pass: &mut Pass<'m>, batch: &'m ForgetBatch<'_>) -> Result<Var> {
        let layer = misdirection::layer(self.layer, pass.model, "forget")?;
        let mut hidden = pass.residual(&batch.answers, layer)?;
        for basis in self.bases(batch.context())?.iter().flat_map(|bases| bases.iter()) {
            hidden = basis.left_in(&mut pass.g, &hidden)?;
        }
        let point: Vec<f32> =
            direction(batch.seed(), hidden.value().columns()).iter().map(|u| -self.coefficient * u).collect();
        let point = Var::constant(Tensor::from_f32(&point, &[point.len()])?);
        let away = pass.g.add_columns(&hidden, &point)?;
        let looked = Looked::at(&batch.answers, &batch.positions(self.tokens)?)?;
        misdirection::mean_square(pass, &away, &looked)
    }

    fn bases(&self, context: &Context<'_>) -> Result<Option<Rc<Vec<MinorBasis>>>> {
        let Some(minor) = self.components() else { return Ok(None) };
        let layer = misdirection::layer(self.layer, context.reference, "forget")?;
        context.minor(minor, &[behind(layer)]).map(Some)
    }
}

impl Rmu {
    /// What is left alone, where anything is.
    fn components(&self) -> Option<&Minor> {
        self.minor.as_ref().filter(|minor| minor.k > 0)
    }
}

/// The unit vector u of so many dimensions: in the positive orthant, the same for a seed.
pub(super) fn direction(seed: u64, dimensions: usize) -> Vec<f32> {
    let mut rng = Rng::named(seed, "rmu direction");
    let drawn: Vec<f64> = (0..dimensions).map(|_| rng.uniform()).collect();
    let norm = drawn.iter().map(|x| x * x).sum::<f64>().sqrt();
    drawn.iter().map(|x| (x / norm) as f32).collect()
}
