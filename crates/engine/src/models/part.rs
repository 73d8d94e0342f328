//! Parts of a model that may change by themselves: tensors, rows, columns, heads, experts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::Model;
use super::block::Block;
use crate::params::{Param, ParamId};
use crate::tape::Linear;
use crate::{Error, Result, Selection};

/// A part of a model, by name. As text: `model.norm.weight`, `rows 3..5 of model.norm.weight`,
/// `columns 0..8 of …`, `head 3 of layer 2`, `expert 1 of layer 0`; all are counted from 0.
///
/// Rows and columns are those of the tensor in memory, where a linear weight is [out, in] in every family: a row is what
/// makes one output, a column what one input goes to. GPT-2's files hold the matrices of its blocks (`c_attn`, `c_proj`,
/// `c_fc`) the other way round, [in, out]; a row here is a column of such a file's tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A whole tensor, under the checkpoint's name.
    Tensor(String),
    /// Rows of a tensor.
    Rows {
        /// The tensor's name.
        tensor: String,
        /// The rows.
        rows: Range<usize>,
    },
    /// Columns of a tensor; a vector is one row.
    Columns {
        /// The tensor's name.
        tensor: String,
        /// The columns.
        columns: Range<usize>,
    },
    /// What a query head has to itself: rows of the query projection and columns of the output projection;
    /// where no other head shares its keys and values, rows of their projections, too.
    Head {
        /// The layer.
        layer: usize,
        /// The head.
        head: usize,
    },
    /// An expert: its gate, up and down projection.
    Expert {
        /// The layer.
        layer: usize,
        /// The expert.
        expert: usize,
    },
}

/// The entries of one parameter that belong to a part; `None` means all of them.
type Entries = (ParamId, Option<Selection>);

impl Model {
    /// The matrix [d, f] that a layer's feed-forward ends with: its keys are the values at
    /// [`MlpPost`](crate::taps::BlockSite::MlpPost).
    ///
    /// Fails where there is no such layer, where it is a mixture of experts, and where an adapter is on the matrix.
    pub fn down_projection(&self, layer: usize) -> Result<ParamId> {
        self.check_layer(layer)?;
        let down = self.decoder.block(layer).feed_forward.down().ok_or_else(|| {
            Error::invalid(format!(
                "layer {layer} is a mixture of experts; it has no single matrix that its feed-forward ends with"
            ))
        })?;
        unadapted(down, layer)
    }

    /// The matrix [d, heads·head_dim] by which a layer's attention writes: of head h the columns `h·w..(h + 1)·w`, of what is
    /// at [`Z`](crate::taps::BlockSite::Z).
    ///
    /// Fails where there is no such layer, and where an adapter is on the matrix.
    pub fn output_projection(&self, layer: usize) -> Result<ParamId> {
        self.check_layer(layer)?;
        unadapted(self.decoder.block(layer).attention.output(), layer)
    }

    /// The parameters whose rows are what a layer's feed-forward gives: weight [d, f] and bias `[d]` of its down projection, or of
    /// every expert's, and the factor B [d, r] of a LoRA adapter on it. None where there is no such layer.
    pub fn feed_forward_outputs(&self, layer: usize) -> Vec<ParamId> {
        let mut all = Vec::new();
        for linear in self.block_of(layer).into_iter().flat_map(|block| block.feed_forward.outputs()) {
            all.extend([Some(linear.weight), linear.bias, self.lora_factor(linear)].into_iter().flatten());
        }
        all
    }

    /// Weights and biases of a layer's feed-forward, of all its experts where it has some. None where there is no such layer.
    pub fn feed_forward_parameters(&self, layer: usize) -> Vec<ParamId> {
        let linears = self.block_of(layer).into_iter().flat_map(|block| block.feed_forward.linears());
        linears.flat_map(|linear| [Some(linear.weight), linear.bias].into_iter().flatten()).collect()
    }

    fn block_of(&self, layer: usize) -> Option<&Block> {
        (layer < self.spec().layers).then(|| self.decoder.block(layer))
    }

    /// B of the LoRA adapter on a layer.
    fn lora_factor(&self, linear: &Linear) -> Option<ParamId> {
        let module = self.params.get(linear.weight).name.strip_suffix(".weight")?;
        self.params.find(&format!("{module}.lora_B.weight"))
    }

    /// Fails where the model has no layer of this number.
    pub fn check_layer(&self, layer: usize) -> Result<()> {
        match self.spec().layers {
            layers if layer < layers => Ok(()),
            layers => Err(Error::invalid(format!(
                "the model has no layer {layer}; it has {layers}, counted from 0"
            ))),
        }
    }

    /// Makes exactly these parts trainable. They may overlap.
    ///
    /// Fails where the model has no such part.
    pub fn select(&mut self, parts: &[Part]) -> Result<()> {
        let mut chosen: BTreeMap<ParamId, Option<Selection>> = BTreeMap::new();
        for part in parts {
            for (id, own) in self.entries(part)? {
                let all = match (chosen.remove(&id), own) {
                    (None, own) => own,
                    (Some(Some(earlier)), Some(own)) => Some(earlier.union(&own)),
                    // Whole with anything is whole.
                    (Some(_), _) => None,
                };
                chosen.insert(id, all);
            }
        }
        self.params.set_trainable(|_| false);
        for (id, selection) in chosen {
            let param = self.params.get_mut(id);
            (param.trainable, param.selection) = (true, selection);
        }
        Ok(())
    }

    /// The heads and experts in which anything differs between `before` and this model. Tensors belong together by
    /// name, so the two may have been read separately; what `before` lacks counts as changed.
    ///
    /// Fails where tensors of one name have different shapes.
    pub fn parts_changed_since(&self, before: &Model) -> Result<Vec<Part>> {
        let mut changed = Vec::new();
        for layer in 0..self.spec().layers {
            let heads = (0..self.spec().heads).map(|head| Part::Head { layer, head });
            let experts = self.spec().experts.as_ref().filter(|experts| experts.layers[layer]);
            let count = experts.map_or(0, |experts| experts.count);
            let experts = (0..count).map(|expert| Part::Expert { layer, expert });
            for part in heads.chain(experts) {
                let entries = self.entries(&part)?;
                let differ = entries.iter().map(|entries| self.differs_from(before, entries));
                if differ.collect::<Result<Vec<_>>>()?.contains(&true) {
                    changed.push(part);
                }
            }
        }
        Ok(changed)
    }

    fn differs_from(&self, before: &Model, (id, selection): &Entries) -> Result<bool> {
        let Param { name, tensor: new, .. } = self.params.get(*id);
        let Some(old) = before.params.find(name) else { return Ok(true) };
        let old = &before.params.get(old).tensor;
        if new.shape() != old.shape() {
            return Err(Error::shape(name, old.shape(), new.shape()));
        }
        let own = selection.clone().unwrap_or_else(Selection::all);
        Ok(!new.shares_storage(old) && own.gather(new).bytes() != own.gather(old).bytes())
    }

    fn entries(&self, part: &Part) -> Result<Vec<Entries>> {
        match part {
            Part::Tensor(tensor) => Ok(vec![(self.tensor(tensor)?, None)]),
            Part::Rows { tensor, rows } => {
                let id = self.tensor(tensor)?;
                within(tensor, "rows", rows, self.params.get(id).tensor.rows())?;
                Ok(vec![(id, Some(Selection::rows(rows.clone())))])
            }
            Part::Columns { tensor, columns } => {
                let id = self.tensor(tensor)?;
                within(tensor, "columns", columns, self.params.get(id).tensor.columns())?;
                Ok(vec![(id, Some(Selection::columns(columns.clone())))])
            }
            Part::Head { layer, head } => {
                let (layers, heads) = (self.spec().layers, self.spec().heads);
                if *layer >= layers || *head >= heads {
                    return Err(Error::invalid(format!(
                        "the model has no {part}; its {layers} layers have {heads} heads each, counted from 0"
                    )));
                }
                let own = self.decoder.block(*layer).attention.head(*head);
                Ok(own.into_iter().map(|(id, selection)| (id, Some(selection))).collect())
            }
            Part::Expert { layer, expert } => {
                let weights = (*layer < self.spec().layers)
                    .then(|| self.decoder.block(*layer).feed_forward.expert(*expert))
                    .flatten()
                    .ok_or_else(|| Error::invalid(format!("the model has no {part}")))?;
                Ok(weights.map(|id| (id, None)).into())
            }
        }
    }

    fn tensor(&self, name: &str) -> Result<ParamId> {
        self.params.find(name).ok_or_else(|| Error::invalid(format!("the model has no tensor {name}")))
    }
}

/// The weight of a layer that carries no adapter.
fn unadapted(linear: &Linear, layer: usize) -> Result<ParamId> {
    match linear.adapter {
        None => Ok(linear.weight),
        Some(_) => {
            Err(Error::invalid(format!("layer {layer} carries an adapter; merge it into the weights first")))
        }
    }
}

fn within(tensor: &str, what: &str, range: &Range<usize>, count: usize) -> Result<()> {
    if range.is_empty() || range.end > count {
        return Err(Error::invalid(format!("{tensor}: {what} {range:?} selected of {count}")));
    }
    Ok(())
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Tensor(tensor) => f.write_str(tensor),
            Part::Rows { tensor, rows } => write!(f, "rows {rows:?} of {tensor}"),
            Part::Columns { tensor, columns } => write!(f, "columns {columns:?} of {tensor}"),
            Part::Head { layer, head } => write!(f, "head {head} of layer {layer}"),
            Part::Expert { layer, expert } => write!(f, "expert {expert} of layer {layer}"),
        }
    }
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::invalid(format!(
                "{text:?} names no part of a model; parts are called \"head 3 of layer 2\", \"expert 1 of layer \
                 0\", \"rows 3..5 of NAME\", \"columns 0..8 of NAME\", or NAME alone for a whole tensor"
            ))
        };
        let number = |text: &str| text.parse().map_err(|_| unknown());
        let range = |text: &str| -> Result<Range<usize>> {
            let (start, end) = text.split_once("..").ok_or_else(unknown)?;
            Ok(number(start)?..number(end)?)
        };
        let words: Vec<_> = text.split_whitespace().collect();
        Ok(match words[..] {
            [name] => Part::Tensor(name.to_owned()),
            ["rows", rows, "of", name] => Part::Rows { tensor: name.to_owned(), rows: range(rows)? },
            ["columns", columns, "of", name] => {
                Part::Columns { tensor: name.to_owned(), columns: range(columns)? }
            }
            ["head", head, "of", "layer", layer] => Part::Head { layer: number(layer)?, head: number(head)? },
            ["expert", expert, "of", "layer", layer] => {
                Part::Expert { layer: number(layer)?, expert: number(expert)? }
            }
            _ => return Err(unknown()),
        })
    }
}
