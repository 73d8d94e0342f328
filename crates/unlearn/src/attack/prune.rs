//! Layer pruning: does a model without some of its blocks say what it was made to forget?

use amend_learn::Result;
use amend_run::Run;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::{Form, SAMPLES, ask_all, findings, most_telling};
use super::{Attacker, Curve, Findings, HIDDEN, Target};
use crate::context::Context;
use crate::measure::ask;
use crate::rehearsal::of_asking;
use amend_learn::work::Work;

/// # What it does
/// Leaves blocks out, each by itself and then the last ones together, and measures the forget set again. Nothing is
/// trained; a block that is left out adds nothing to the residual stream.
///
/// # When to use it
/// Beside other attacks: unlearning that teaches a late block to suppress an answer is undone where that block is missing.
///
/// # What it logs
/// The largest accuracy and probability over all the ways of leaving blocks out, and the probability of each as curves.
///
/// # Source
/// Pruning as a test of robustness: Lynch et al., "Eight Methods to Evaluate Robust Unlearning", arXiv 2402.16835. Leaving
/// out blocks: Gromov et al., "The Unreasonable Ineffectiveness of the Deeper Layers", arXiv 2403.17887.
///
/// # Inferred parts
/// Which blocks: every single one, then the last, the last two and so on. The model is not trained again afterwards.
///
/// # Expected result
/// Less is remembered with every block that is missing, of every model. Answers that come back stood behind one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prune {
    /// Most of the last blocks that are left out together; never all there are.
    #[schemars(range(min = 1))]
    pub last: usize,
}

impl Default for Prune {
    fn default() -> Self {
        Prune { last: 4 }
    }
}

impl Prune {
    /// The blocks that are left out of a model of so many, one way after the other.
    fn ways(&self, layers: usize) -> Vec<Vec<usize>> {
        let each = (0..layers).map(|layer| vec![layer]);
        // The last by itself is among them already.
        let last = (2..=self.last.min(layers.saturating_sub(1))).map(|k| (layers - k..layers).collect());
        each.chain(last).collect()
    }
}

fn name_of(blocks: &[usize]) -> String {
    match blocks {
        [only] => format!("without block {only}"),
        several => format!("without the last {}", several.len()),
    }
}

impl Attacker for Prune {
    fn work(&self, context: &Context<'_>) -> Result<Work> {
        let once = of_asking(context, context.measured_forget(), 0)?;
        Ok(once.times(self.ways(context.reference.spec().layers).len() + 1))
    }

    fn attack(&self, run: &mut Run<'_>, target: Target<'_>, context: &Context<'_>) -> Result<Findings> {
        let layers = target.model.spec().layers;
        let ways = self.ways(layers);
        let without = |index: usize| {
            let mut model = target.model.clone();
            for &layer in &ways[index] {
                model.silence_block(layer)?;
            }
            Ok(model)
        };
        let names: Vec<String> = ways.iter().map(|blocks| name_of(blocks)).collect();
        let forms = ask_all(run, (target.model, "as it is"), &names, &without, context, 0)?;
        let reading = format!(
            "Blocks are left out of each model, every single one and then the last ones together, and the forget set is \
                       measured again; the figures are the largest over all of these. {HIDDEN}"
        );
        let mut found = findings(reading, &forms);
        found.curves = curves(&forms, layers);
        if let Some(most) = most_telling(&forms).and_then(|form| form.checked_sub(1)) {
            found.samples = ask(&without(most)?, context, context.measured_forget(), SAMPLES)?;
        }
        Ok(found)
    }
}

/// The probability without each block, and without the last ones; `forms` begins with the model as it is.
fn curves(forms: &[Form], layers: usize) -> Vec<Curve> {
    let height = |index: usize| forms.get(index)?.figure("probability").map(|figure| figure.value);
    let curve = |title: &str, x: &str, points: Vec<(usize, usize)>| Curve {
        title: format!("{title}: probability"),
        x: x.into(),
        y: "probability".into(),
        points: points
            .into_iter()
            .filter_map(|(x, index)| Some((x as f64, height(index)?)))
            .filter(|point| point.1.is_finite())
            .collect(),
    };
    let each = (0..layers).map(|layer| (layer, layer + 1)).collect();
    // Nothing, the last block, and then what follows the single ones.
    let last = [(0, 0), (1, layers)].into_iter().chain((2..).zip(layers + 1..forms.len())).collect();
    vec![
        curve("Without one block", "block left out", each),
        curve("Without the last blocks", "blocks left out", last),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_left_out_once_and_never_all() {
        let ways = |last, layers| Prune { last }.ways(layers);
        assert_eq!(ways(9, 3), [vec![0], vec![1], vec![2], vec![1, 2]]);
        assert_eq!(ways(1, 3), [[0], [1], [2]]);
        assert_eq!(ways(4, 1), [[0]]);
        assert_eq!(
            (name_of(&[2]), name_of(&[1, 2])),
            ("without block 2".into(), "without the last 2".into())
        );
    }
}
