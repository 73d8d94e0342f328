//! Attention heads one by one: what each adds at a token, in which directions, and the model without them.
//!
//! Attention's output is the sum of what its query heads make, W_O^h·z_h, where z_h is the head's mix of values and W_O^h its
//! columns of the output projection; heads that share keys and values have columns of their own all the same. Written as
//! W_O^h = U·Σ·Vᵀ, what a head adds is U·λ with λ = Σ·Vᵀ·z_h: directions that the weights alone determine, and how far this
//! text goes along each.

use std::collections::BTreeSet;
use std::ops::Range;

use amend_engine::kernels::linalg::{Matrix, Svd, svd};
use amend_engine::taps::BlockSite;
use amend_engine::{Action, Graph, Model, Result, Selector, Site, Taps, Tensor, Var};

use crate::lens::lens;

/// A query head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Its layer, counted from 0.
    pub layer: usize,
    /// Its number within the layer, counted from 0.
    pub head: usize,
}

impl Head {
    /// Its columns of every head's mix of values.
    pub fn columns(self, model: &Model) -> Range<usize> {
        let width = model.spec().head_dim;
        self.head * width..(self.head + 1) * width
    }
}

/// What a head writes by, taken apart: W_O^h = Σᵢ σᵢ·uᵢ·vᵢᵀ.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadVectors {
    /// The head.
    pub head: Head,
    svd: Svd,
}

impl HeadVectors {
    /// The singular vectors of a head's columns of the output projection.
    ///
    /// # Errors
    /// Where there is no such head, where an adapter is on the projection, or a weight is no finite number.
    pub fn of(model: &Model, head: Head) -> Result<Self> {
        Ok(HeadVectors { head, svd: svd(&output_matrix(model, head)?)? })
    }

    /// How many there are: the head's width, or the model's where that is less.
    pub fn count(&self) -> usize {
        self.svd.values.len()
    }

    /// λ = Σ·Vᵀ·z_h: how far the head goes along each left vector, given its mix of values z_h.
    pub fn coefficients(&self, mix: &[f32]) -> Vec<f64> {
        let along = |i: usize| {
            let dot: f64 = self.svd.right.row(i).iter().zip(mix).map(|(v, &z)| v * f64::from(z)).sum();
            self.svd.values[i] * dot
        };
        (0..self.count()).map(along).collect()
    }

    /// U·λ: what the head adds with these coefficients, `[d]`.
    pub fn output(&self, coefficients: &[f64]) -> Vec<f32> {
        let mut sum = vec![0.0; self.svd.left.columns()];
        for (i, coefficient) in coefficients.iter().enumerate() {
            sum.iter_mut().zip(self.svd.left.row(i)).for_each(|(sum, u)| *sum += coefficient * u);
        }
        sum.into_iter().map(|x| x as f32).collect()
    }

    /// U·λ of some of the vectors alone: `[d]`.
    pub fn output_of(&self, coefficients: &[f64], kept: &[usize]) -> Vec<f32> {
        let alone: Vec<f64> =
            (0..self.count()).map(|i| if kept.contains(&i) { coefficients[i] } else { 0.0 }).collect();
        self.output(&alone)
    }

    /// The vectors by what they do for a token: first the one without which it loses most of its probability under the lens,
    /// given the head's mix of values.
    ///
    /// # Errors
    /// Where the mix has another width.
    pub fn ranked(&self, model: &Model, mix: &[f32], token: u32) -> Result<Vec<usize>> {
        let coefficients = self.coefficients(mix);
        let without = |left_out: usize| {
            let rest: Vec<f64> =
                (0..self.count()).map(|i| if i == left_out { 0.0 } else { coefficients[i] }).collect();
            self.output(&rest)
        };
        let outputs: Vec<Vec<f32>> = (0..self.count()).map(without).collect();
        let left = lens(model, &added(model, self.head.layer, &outputs)?, token)?;
        let mut order: Vec<usize> = (0..self.count()).collect();
        order.sort_by(|&i, &j| left[i].total_cmp(&left[j]));
        Ok(order)
    }

    /// I − Σ vᵢ·vᵢᵀ over these vectors: a mix of values times this has λᵢ = 0 for each of them, and its other coefficients.
    fn without(&self, vectors: &[usize]) -> Tensor {
        let width = self.svd.right.columns();
        let mut projection = Matrix::identity(width, width);
        for &i in vectors {
            let v = self.svd.right.row(i);
            for (row, &x) in v.iter().enumerate() {
                projection.row_mut(row).iter_mut().zip(v).for_each(|(p, y)| *p -= x * y);
            }
        }
        projection.to_tensor()
    }
}

/// A head's columns of the output projection, W_O^h: [d, head_dim].
fn output_matrix(model: &Model, head: Head) -> Result<Matrix> {
    let weight = &model.params.get(model.output_projection(head.layer)?).tensor;
    let columns = head.columns(model);
    let values = weight.f32().chunks_exact(weight.columns()).flat_map(|row| &row[columns.clone()]);
    Ok(Matrix::new(weight.rows(), columns.len(), values.map(|&x| f64::from(x)).collect())?)
}

/// What every head of a layer makes of its mix of values: W_O^h·z_h, `[d]` each. Together with the projection's bias, where it has
/// one, their sum is attention's output. `mixes` is what [`Held`](crate::lens::Held) has of the layer.
///
/// # Errors
/// Where there is no such layer, or an adapter is on the projection.
pub fn head_outputs(model: &Model, layer: usize, mixes: &[f32]) -> Result<Vec<Vec<f32>>> {
    let weight = &model.params.get(model.output_projection(layer)?).tensor;
    let of = |head: usize| {
        let columns = Head { layer, head }.columns(model);
        let dot = |row: &[f32]| -> f64 {
            let pairs = row[columns.clone()].iter().zip(&mixes[columns.clone()]);
            pairs.map(|(&w, &z)| f64::from(w) * f64::from(z)).sum()
        };
        weight.f32().chunks_exact(weight.columns()).map(|row| dot(row) as f32).collect()
    };
    Ok((0..model.spec().heads).map(of).collect())
}

/// Outputs of a layer's heads as the lens reads them. Where a family has a norm behind attention, a head's share goes
/// through that norm by itself: the length that it has then is not its share's, and the last norm takes it off again.
///
/// # Errors
/// Where there is no such layer, or an output has another width.
pub fn added(model: &Model, layer: usize, outputs: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
    let (rows, width) = (outputs.len(), model.spec().hidden);
    let mut g = Graph::inference(&model.params);
    let x = Var::constant(Tensor::from_f32(&outputs.concat(), &[rows, width])?);
    let x = model.behind_attention(&mut g, layer, &x)?;
    Ok(x.value().f32().chunks_exact(width).map(<[f32]>::to_vec).collect())
}

/// Of every head the probability that a token has where the lens reads what the head alone adds: `[layer][head]`. `mixes` is what
/// [`Held`](crate::lens::Held) has of all layers.
///
/// # Errors
/// As [`head_outputs`].
pub fn attribution(model: &Model, mixes: &[Vec<f32>], token: u32) -> Result<Vec<Vec<f64>>> {
    let of_layer = |(layer, mixes): (usize, &Vec<f32>)| {
        let outputs = added(model, layer, &head_outputs(model, layer, mixes)?)?;
        Ok(lens(model, &outputs, token)?.into_iter().map(f64::exp).collect())
    };
    mixes.iter().enumerate().map(of_layer).collect()
}

/// Takes heads out of a model, at every token: what they add is subtracted.
pub fn without_heads(taps: &mut Taps, model: &Model, heads: &[Head]) {
    for head in heads {
        let own = Selector { columns: Some(head.columns(model)), ..Selector::default() };
        taps.add(Site::Block(head.layer, BlockSite::Z), own, Action::Zero);
    }
}

/// Takes vectors out of a head at one token: their coefficients become zero there, whatever the head's mix of values is.
pub fn without_vectors(
    taps: &mut Taps,
    model: &Model,
    vectors: &HeadVectors,
    left_out: &[usize],
    position: usize,
) {
    let own = Selector {
        columns: Some(vectors.head.columns(model)),
        positions: Some(BTreeSet::from([position as u32])),
        ..Selector::default()
    };
    let projection = vectors.without(left_out);
    let action = Action::function(move |g, mix, _| g.matmul(mix, &Var::constant(projection.clone())));
    taps.add(Site::Block(vectors.head.layer, BlockSite::Z), own, action);
}
