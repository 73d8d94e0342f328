//! What becomes of every component of hidden states when a model forgets, and when it is made to learn again.

use amend_engine::kernels::linalg::Matrix;
use amend_engine::{Example, Model, Result, Site};
use amend_run::Figure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::basis::each_state;
use super::{Minor, Tokens, behind, check_layer, length};
use crate::context::Context;
use crate::forget::misdirection;

/// One component of hidden states: their mean, or a direction in which they vary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Which: 0 is the mean, i the i-th principal direction.
    pub index: usize,
    /// λ_i/Σλ, the share of the variance that lies along it; the mean has none.
    pub explained: Option<f64>,
    /// E|⟨h_u − h₀, v⟩| / E|⟨h₀ − μ, v⟩|: how far forgetting moved the states along it, by how far they are spread.
    pub change: Figure,
    /// 1 − E|⟨h_rel − h₀, v⟩| / E|⟨h_u − h₀, v⟩|: how much of that was undone.
    pub recovery: Figure,
}

/// Which components are compared, at which layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Compared {
    /// The layer, counted from 0, behind which states are compared; default: that of the forget objective `rmu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// How many, the mean counted as one; no more than states have.
    #[schemars(range(min = 1))]
    pub k: usize,
    /// The tokens at which: `text`, `answer` or `subject`.
    pub tokens: Tokens,
}

impl Default for Compared {
    fn default() -> Self {
        Compared { layer: None, k: 16, tokens: Tokens::Text }
    }
}

impl Compared {
    /// The site.
    ///
    /// # Errors
    /// Where the model has no such layer.
    pub(crate) fn site(&self, model: &Model) -> Result<Site> {
        let layer = self.layer.unwrap_or(misdirection::usual(model.spec().layers));
        check_layer(layer, model, &format!("attack: `components` names layer {layer}"))?;
        Ok(behind(layer))
    }
}

/// Compares the states of the original, the unlearned and the relearned model, component by component, while they read
/// `watched`: examples with the positions that are looked at. Components are those of the original model on the forget set.
pub(crate) fn compare(
    compared: &Compared,
    context: &Context<'_>,
    [unlearned, relearned]: [&Model; 2],
    watched: &[(&Example, Vec<usize>)],
) -> Result<Vec<Component>> {
    let site = compared.site(context.reference)?;
    let k = compared.k.min(context.reference.spec().hidden);
    let minor = Minor { k, tokens: compared.tokens, ..Minor::default() };
    let bases = context.minor(&minor, &[site])?;
    let Some(principal) = bases.first().map(|basis| &basis.principal) else { return Ok(Vec::new()) };
    let states = |model: &Model| -> Result<Matrix> {
        let mut rows = Vec::new();
        each_state(model, watched, &[site], |_, states| {
            rows.extend_from_slice(states.values());
            Ok(())
        })?;
        let width = context.reference.spec().hidden;
        Ok(Matrix::new(rows.len() / width, width, rows)?)
    };
    let [original, unlearned, relearned] =
        [states(context.reference)?, states(unlearned)?, states(relearned)?];
    let total: f64 = principal.variances.iter().sum();
    let norm = length(&principal.mean).max(f64::MIN_POSITIVE);
    let mean: Vec<f64> = principal.mean.iter().map(|x| x / norm).collect();
    let directions = (0..principal.directions.rows()).map(|i| principal.directions.row(i));
    let of_direction = |(index, direction): (usize, &[f64])| {
        let centre = dot(&principal.mean, direction);
        let explained = index.checked_sub(1).map(|i| principal.variances[i] / total);
        let [change, recovery] = moved(direction, centre, [&original, &unlearned, &relearned]);
        Component { index, explained, change, recovery }
    };
    Ok(std::iter::once(mean.as_slice()).chain(directions).enumerate().map(of_direction).collect())
}

/// Change and recovery along a direction of length one, of rows that belong together: under the original, the unlearned and
/// the relearned model. `centre` is where the mean of the original ones lies along it.
pub(super) fn moved(
    direction: &[f64],
    centre: f64,
    [original, unlearned, relearned]: [&Matrix; 3],
) -> [Figure; 2] {
    let along = |states: &Matrix, i: usize| dot(states.row(i), direction);
    let rows = 0..original.rows();
    let apart = |states: &Matrix| -> Vec<f64> {
        rows.clone().map(|i| (along(states, i) - along(original, i)).abs()).collect()
    };
    let spread: Vec<f64> = rows.clone().map(|i| (along(original, i) - centre).abs()).collect();
    let (unlearned, relearned) = (apart(unlearned), apart(relearned));
    let left = quotient(&relearned, &unlearned);
    [quotient(&unlearned, &spread), Figure { value: 1.0 - left.value, ..left }]
}

/// The quotient of two means over the same cases, with the standard error that its linear part has.
fn quotient(above: &[f64], below: &[f64]) -> Figure {
    let n = above.len() as f64;
    let [a, b] = [above, below].map(|values| values.iter().sum::<f64>() / n);
    if !(b > 0.0 && a.is_finite()) {
        return Figure::exact(f64::NAN, above.len());
    }
    let value = a / b;
    let residual = |(x, y): (&f64, &f64)| (x - value * y).powi(2);
    let squares: f64 = above.iter().zip(below).map(residual).sum();
    let stderr = (above.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt() / b);
    Figure { stderr, ..Figure::exact(value, above.len()) }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}
