//! What a checkpoint has on top of its encoder: classifiers, and BERT's guess at masked words.

use super::input::Input;
use super::tower::{Dense, Tower};
use crate::Result;
use crate::kernels::Activation;
use crate::models::builder::Builder;
use crate::models::norm::Norm;
use crate::params::ParamId;
use crate::tape::{Graph, Linear, Var};

/// The heads a checkpoint holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Heads {
    /// Classes, spans or the relation of two segments.
    pub(super) classifier: Option<Classifier>,
    /// Words behind masks.
    pub(super) words: Option<WordHead>,
    /// Whether the second segment follows the first; beside the words in pretrained BERT.
    pub(super) relation: Option<Linear>,
}

/// A linear classifier over part of the hidden states.
#[derive(Debug, Clone)]
pub(super) struct Classifier {
    pub(super) over: Over,
    /// A layer between the row and the classes (RoBERTa).
    pub(super) dense: Option<Dense>,
    pub(super) linear: Linear,
}

/// What a classifier reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The model's own summary of the sequence.
    Summary,
    /// The first row.
    First,
    /// Every row by itself.
    Rows,
    /// The mean of all rows but the first: the patches of an image.
    PatchMean,
}

/// dense → activation → norm → vocabulary.
#[derive(Debug, Clone)]
pub(super) struct WordHead {
    pub(super) dense: Linear,
    pub(super) activation: Activation,
    pub(super) norm: Norm,
    pub(super) decoder: Linear,
}

impl WordHead {
    /// Hidden states [n, d] → logits [n, V].
    pub(super) fn forward<'m>(&'m self, g: &mut Graph<'m>, x: &Var) -> Result<Var> {
        let x = g.linear(x, &self.dense)?;
        let x = g.activate(self.activation, &x)?;
        let x = self.norm.forward(g, &x)?;
        g.linear(&x, &self.decoder)
    }
}

impl Classifier {
    /// A classifier called `name` with `classes` classes.
    pub(super) fn read(
        b: &mut Builder<'_>,
        name: &str,
        over: Over,
        classes: usize,
        d: usize,
    ) -> Result<Self> {
        Ok(Classifier { over, dense: None, linear: b.linear(name, [classes, d], true)? })
    }

    /// A layer `NAME.dense` with tanh, then `NAME.out_proj`, over the first row.
    pub(super) fn read_deep(b: &mut Builder<'_>, name: &str, classes: usize, d: usize) -> Result<Self> {
        let dense = b.linear(&format!("{name}.dense"), [d, d], true)?;
        Ok(Classifier {
            over: Over::First,
            dense: Some(Dense { linear: dense, activation: Some(Activation::Tanh) }),
            linear: b.linear(&format!("{name}.out_proj"), [classes, d], true)?,
        })
    }

    /// Hidden states [T, d] → logits, one row per sequence, or per token where those are classified.
    pub(super) fn forward<'m>(
        &'m self,
        g: &mut Graph<'m>,
        hidden: &Var,
        tower: &'m Tower,
        input: &Input,
    ) -> Result<Var> {
        let sequences = &input.layout.sequences;
        let mut x = match self.over {
            Over::Summary => tower.summarise(g, hidden, input)?,
            Over::First => g.gather_rows(hidden, &sequences.iter().map(|s| s.start).collect::<Vec<_>>())?,
            Over::Rows => hidden.clone(),
            Over::PatchMean => {
                let weight = |i, n: usize| if i == 0 { 0.0 } else { 1.0 / (n - 1) as f32 };
                let weights: Vec<f32> =
                    sequences.iter().flat_map(|s| (0..s.len()).map(|i| weight(i, s.len()))).collect();
                g.sum_rows(hidden, sequences, &weights)?
            }
        };
        if let Some(dense) = &self.dense {
            x = dense.forward(g, &x)?;
        }
        g.linear(&x, &self.linear)
    }
}

/// The vocabulary's logits. Tied, the weight is the embedding matrix and the bias the head's own, of which
/// some checkpoints hold a second copy as the decoder's; otherwise the decoder's own count.
pub(super) fn decoder(
    b: &mut Builder<'_>,
    words: ParamId,
    [weight, head_bias, decoder_bias]: [&str; 3],
    tied: bool,
    [vocabulary, d]: [usize; 2],
) -> Result<Linear> {
    let weight = if tied || !b.has(weight) { words } else { b.tensor(weight, &[vocabulary, d])? };
    let name = match tied && b.has(head_bias) {
        true => head_bias,
        false => [decoder_bias, head_bias].into_iter().find(|name| b.has(name)).unwrap_or(head_bias),
    };
    Ok(Linear { weight, bias: Some(b.bias(name, vocabulary)?), adapter: None })
}
