//! How tokens and images become the rows that the first block reads.

use super::input::{Content, Input};
use crate::params::ParamId;
use crate::tape::{Graph, Linear, Var};
use crate::taps::{Modality, Site, Taps};
use crate::{Error, Result, Tensor};

/// What a tower reads, and how.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Tokens(TokenEntry),
    Patches(PatchEntry),
}

/// Sum of the embeddings of token, type and position.
#[derive(Debug, Clone)]
pub(super) struct TokenEntry {
    pub(super) words: ParamId,
    /// Embedding of token types, and how many there are.
    pub(super) types: Option<(ParamId, usize)>,
    pub(super) positions: ParamId,
    /// RoBERTa's padding token: it stands on the position of its own number wherever it is, and the other
    /// tokens are counted from behind that. Without one, all are counted from 0.
    pub(super) padding: Option<u32>,
    /// Longest sequence, in tokens.
    pub(super) context: usize,
    /// Vocabulary size V.
    pub(super) vocabulary: usize,
}

/// A class token, then one row per patch; positions added to all.
#[derive(Debug, Clone)]
pub(super) struct PatchEntry {
    pub(super) class: ParamId,
    /// [d, channels·height·width of a patch]: the convolution as a product.
    pub(super) projection: Linear,
    pub(super) positions: ParamId,
    pub(super) grid: Grid,
}

/// Image and patch sizes in pixels: [height, width].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Colour channels.
    pub channels: usize,
    /// The image size the position embedding is for.
    pub image: [usize; 2],
    /// Size of a patch.
    pub patch: [usize; 2],
}

impl Grid {
    /// Rows and columns of patches in an image of this size. What does not fill a patch is left out.
    pub fn patches(&self, image: [usize; 2]) -> [usize; 2] {
        [image[0] / self.patch[0], image[1] / self.patch[1]]
    }

    /// Values of one patch.
    pub(super) fn patch_len(&self) -> usize {
        self.channels * self.patch[0] * self.patch[1]
    }

    /// Packs pixel values [n, channels, height, width]. Another size than the model was made for is
    /// refused unless its position embedding may be interpolated.
    pub(super) fn input(&self, pixels: Tensor, interpolate: bool) -> Result<Input> {
        let &[images, channels, height, width] = pixels.shape() else {
            return Err(Error::invalid(format!(
                "pixel values have shape {:?}; [images, channels, height, width] is needed",
                pixels.shape()
            )));
        };
        let [rows, columns] = self.patches([height, width]);
        let fits = [height, width] == self.image || (interpolate && rows * columns > 0);
        if channels != self.channels || !fits {
            return Err(Error::invalid(format!(
                "images of {channels} channels and {height}×{width} pixels do not fit the model; it reads \
                 {} channels and {}×{} pixels",
                self.channels, self.image[0], self.image[1]
            )));
        }
        Ok(Input::pixels(pixels, images, rows * columns + 1))
    }

    /// Pixels in the order of the convolution's weights, one row per patch:
    /// [n, C, H, W] → [n·patches, C·patch height·patch width].
    fn unfold(&self, pixels: &Tensor) -> Tensor {
        let &[images, channels, height, width] = pixels.shape() else { unreachable!("checked when packed") };
        let ([rows, columns], [ph, pw]) = (self.patches([height, width]), self.patch);
        let source = pixels.f32();
        Tensor::build(&[images * rows * columns, self.patch_len()], |out| {
            let mut places = out.chunks_exact_mut(pw);
            for image in 0..images {
                for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                    for (channel, y) in (0..channels).flat_map(|c| (0..ph).map(move |y| (c, y))) {
                        let line = (image * channels + channel) * height + row * ph + y;
                        let start = line * width + column * pw;
                        if let Some(place) = places.next() {
                            place.copy_from_slice(&source[start..start + pw]);
                        }
                    }
                }
            }
        })
    }

    /// The weight of every stored position in every position of an image of another size:
    /// [1 + patches, 1 + stored patches]. Bicubic with a = −0.75, edges repeated, as PyTorch's `interpolate`
    /// (not aligned at the corners); the class token keeps its own.
    fn interpolation(&self, image: [usize; 2]) -> Tensor {
        let ([rows, columns], [old_rows, old_columns]) = (self.patches(image), self.patches(self.image));
        let (vertical, horizontal) = (cubic_weights(old_rows, rows), cubic_weights(old_columns, columns));
        let width = old_rows * old_columns + 1;
        let mut weights = Tensor::zeros(&[rows * columns + 1, width], crate::DType::F32);
        let out = weights.f32_mut();
        out[0] = 1.0;
        for (r, v) in vertical.iter().enumerate() {
            for (c, h) in horizontal.iter().enumerate() {
                let row = (1 + r * columns + c) * width;
                for (&(y, wy), &(x, wx)) in v.iter().flat_map(|v| h.iter().map(move |h| (v, h))) {
                    out[row + 1 + y * old_columns + x] += wy * wx;
                }
            }
        }
        weights
    }
}

/// For each of `new` places along a line of `old`, the four it is mixed from and their weights.
fn cubic_weights(old: usize, new: usize) -> Vec<[(usize, f32); 4]> {
    const A: f64 = -0.75;
    let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let far = |t: f64| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
    let place = |i: usize| {
        let at = (i as f64 + 0.5) * old as f64 / new as f64 - 0.5;
        let (floor, t) = (at.floor(), at - at.floor());
        let index = |offset: f64| (floor + offset).clamp(0.0, old as f64 - 1.0) as usize;
        [
            (index(-1.0), far(t + 1.0) as f32),
            (index(0.0), near(t) as f32),
            (index(1.0), near(1.0 - t) as f32),
            (index(2.0), far(2.0 - t) as f32),
        ]
    };
    (0..new).map(place).collect()
}

impl Entry {
    /// What the sites of the tower go by.
    pub(super) fn modality(&self) -> Modality {
        match self {
            Entry::Tokens(_) => Modality::Text,
            Entry::Patches(_) => Modality::Vision,
        }
    }

    /// The rows of all sequences or images, positions added: [T, d].
    pub(super) fn forward<'m>(&'m self, g: &mut Graph<'m>, input: &Input, taps: &Taps) -> Result<Var> {
        let (x, positions) = match (self, &input.content) {
            (Entry::Tokens(entry), Content::Tokens { ids, types }) => entry.forward(g, ids, types, input),
            (Entry::Patches(entry), Content::Pixels(pixels)) => entry.forward(g, pixels, input),
            (Entry::Tokens(_), Content::Pixels(_)) => Err(Error::invalid("images for a model of texts")),
            (Entry::Patches(_), Content::Tokens { .. }) => Err(Error::invalid("texts for a model of images")),
        }?;
        let positions = taps.at(g, self.modality().at(Site::PosEmbed), positions, &input.layout)?;
        g.add(&x, &positions)
    }
}

impl TokenEntry {
    /// Rows without positions, and the positions.
    fn forward(&self, g: &mut Graph<'_>, ids: &[u32], types: &[u32], input: &Input) -> Result<(Var, Var)> {
        let longest = input.layout.sequences.iter().map(|s| s.len()).max().unwrap_or(0);
        if longest > self.context {
            return Err(Error::invalid(format!(
                "a sequence of {longest} tokens is longer than the model's context of {}",
                self.context
            )));
        }
        let mut x = g.embed(ids, self.words)?;
        match self.types {
            Some((table, known)) => {
                if let Some(unknown) = types.iter().find(|&&t| t as usize >= known) {
                    return Err(Error::invalid(format!("token type {unknown}; the model has {known}")));
                }
                let kind = g.embed(types, table)?;
                x = g.add(&x, &kind)?;
            }
            None if types.iter().any(|&t| t != 0) => {
                return Err(Error::invalid("token types other than 0; the model has none"));
            }
            None => {}
        }
        Ok((x, g.embed(&self.places(ids, input), self.positions)?))
    }

    /// The row of the position embedding of every token.
    fn places(&self, ids: &[u32], input: &Input) -> Vec<u32> {
        let Some(padding) = self.padding else { return input.layout.positions.to_vec() };
        let mut places = Vec::with_capacity(ids.len());
        for rows in &input.layout.sequences {
            let mut last = padding;
            places.extend(ids[rows.clone()].iter().map(|&id| {
                last += u32::from(id != padding);
                if id == padding { padding } else { last }
            }));
        }
        places
    }
}

impl PatchEntry {
    /// Rows without positions, and the positions.
    fn forward<'m>(&'m self, g: &mut Graph<'m>, pixels: &Tensor, input: &Input) -> Result<(Var, Var)> {
        let images = input.layout.sequences.len();
        let rows = input.layout.rows() / images.max(1);
        let patches = g.linear(&Var::constant(self.grid.unfold(pixels)), &self.projection)?;
        let class = g.embed(&vec![0; images], self.class)?;
        // All class tokens first, then every image's patches; the gather puts each image together.
        let width = patches.value().columns();
        let parts = g.assemble([images * rows, width], &[(class, 0, 0), (patches, images, 0)])?;
        let order: Vec<usize> = (0..images)
            .flat_map(|i| std::iter::once(i).chain(images + i * (rows - 1)..images + (i + 1) * (rows - 1)))
            .collect();
        let x = g.gather_rows(&parts, &order)?;
        let positions = self.positions(g, [pixels.shape()[2], pixels.shape()[3]], &input.layout.positions)?;
        Ok((x, positions))
    }

    fn positions<'m>(&self, g: &mut Graph<'m>, image: [usize; 2], places: &[u32]) -> Result<Var> {
        if image == self.grid.image {
            return g.embed(places, self.positions);
        }
        let stored = g.parameter(self.positions);
        let table = g.matmul(&Var::constant(self.grid.interpolation(image)), &stored)?;
        let places: Vec<usize> = places.iter().map(|&p| p as usize).collect();
        g.gather_rows(&table, &places)
    }
}
