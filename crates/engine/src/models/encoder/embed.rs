//! Embeddings of many texts or images.

use super::Encoder;
use super::input::Input;
use super::sentence::Step;
use crate::batch::split_by_tokens;
use crate::images::Preparation;
use crate::tape::{Graph, Var};
use crate::taps::Taps;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result, Tensor};

/// Tokens (or patches) per forward pass unless asked otherwise. Has no influence on results.
pub const ENCODING_TOKENS: usize = 4096;

impl Encoder {
    /// One embedding per sequence or image: [n, width], with a gradient where the graph records.
    pub fn embedding<'m>(&'m self, g: &mut Graph<'m>, input: &Input, taps: &'m Taps) -> Result<Var> {
        let hidden = self.hidden(g, input, taps)?;
        let tower = self.tower(input)?;
        let mut pooled = Vec::with_capacity(self.pipeline.pooling.len());
        for pooling in &self.pipeline.pooling {
            pooled.push(pooling.forward(g, &hidden, tower, input)?);
        }
        let mut x = beside(g, &pooled)?;
        for step in &self.pipeline.steps {
            x = match step {
                Step::Dense(dense) => dense.forward(g, &x)?,
                Step::Normalize => g.unit_rows(&x)?,
            };
        }
        Ok(x)
    }

    /// Embeddings of token sequences, in batches of about `tokens` tokens. The same bits whatever that
    /// number is.
    pub fn embed<S: AsRef<[u32]>>(&self, sequences: &[S], tokens: usize) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<_> = sequences.iter().map(|s| s.as_ref().len()).collect();
        let mut out = Vec::with_capacity(sequences.len());
        for piece in split_by_tokens(&lengths, tokens)? {
            self.embed_batch(&Input::tokens(&sequences[piece])?, &mut out)?;
        }
        Ok(out)
    }

    /// Embeddings of images, each [channels, height, width] of normalised pixel values.
    pub fn embed_images(&self, images: &[Tensor], tokens: usize) -> Result<Vec<Vec<f32>>> {
        let grid = *self.image_grid().ok_or_else(|| Error::invalid("the model reads texts, not images"))?;
        let [rows, columns] = grid.patches(grid.image);
        let mut out = Vec::with_capacity(images.len());
        for batch in images.chunks((tokens / (rows * columns + 1)).max(1)) {
            let shape = [batch.len(), grid.channels, grid.image[0], grid.image[1]];
            if let Some(odd) = batch.iter().find(|image| image.shape() != &shape[1..]) {
                return Err(Error::shape("image", &shape[1..], odd.shape()));
            }
            let values: Vec<f32> = batch.iter().flat_map(|image| image.f32().iter().copied()).collect();
            self.embed_batch(&self.images(Tensor::from_f32(&values, &shape)?, false)?, &mut out)?;
        }
        Ok(out)
    }

    /// How pictures are prepared for this encoder: as its folder says, otherwise as its family does.
    pub fn preparation(&self) -> Result<Preparation> {
        let grid = self.image_grid().ok_or_else(|| Error::invalid("the model reads texts, not images"))?;
        let clip =
            self.config().get("model_type").and_then(|t| t.as_str()).is_some_and(|t| t.starts_with("clip"));
        let own =
            if clip { Preparation::clip(grid.image) } else { Preparation::vit(grid.image, grid.channels) };
        match self.folder() {
            Some(folder) => Preparation::read(folder, own),
            None => Ok(own),
        }
    }

    fn embed_batch(&self, input: &Input, out: &mut Vec<Vec<f32>>) -> Result<()> {
        let taps = Taps::none();
        let mut g = Graph::inference(&self.params);
        let embeddings = self.embedding(&mut g, input, &taps)?;
        out.extend(embeddings.value().f32().chunks_exact(embeddings.value().columns()).map(<[f32]>::to_vec));
        Ok(())
    }

    /// Tokens read of a text at most, special ones included.
    pub fn longest_text(&self) -> Option<usize> {
        let (_, context) = self.text_limits()?;
        Some(self.pipeline.max_tokens.map_or(context, |limit| limit.min(context)))
    }

    /// Token ids of a text as this encoder is to see it, after the prompt called `prompt`, and whether the
    /// text was cut. What is cut is the end of the text, never the special tokens around it.
    pub fn tokens_of(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        prompt: Option<&str>,
    ) -> Result<(Vec<u32>, bool)> {
        let limit = self.longest_text().ok_or_else(|| Error::invalid("the model reads images, not texts"))?;
        tokenizer.encode_within(&self.pipeline.prepare(text, prompt)?, limit)
    }
}

/// Matrices of equally many rows, side by side.
fn beside<'m>(g: &mut Graph<'m>, parts: &[Var]) -> Result<Var> {
    if let [single] = parts {
        return Ok(single.clone());
    }
    let rows = parts.first().map_or(0, |part| part.value().rows());
    let mut columns = 0;
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        blocks.push((part.clone(), 0, columns));
        columns += part.value().columns();
    }
    g.assemble([rows, columns], &blocks)
}
