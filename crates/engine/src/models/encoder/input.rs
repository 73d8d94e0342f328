//! What an encoder reads: token sequences or images, packed without padding.

use crate::tape::Layout;
use crate::{Error, Result, Tensor};

/// Several token sequences, or several images of one size.
#[derive(Debug, Clone)]
pub struct Input {
    pub(super) layout: Layout,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Ids of all sequences, and the segment of each token.
    Tokens { ids: Vec<u32>, types: Vec<u32> },
    /// Normalised pixel values: [images, channels, height, width].
    Pixels(Tensor),
}

impl Input {
    /// Token sequences that are one segment each (token type 0). An empty sequence is refused.
    pub fn tokens<S: AsRef<[u32]>>(sequences: &[S]) -> Result<Self> {
        let types: Vec<_> = sequences.iter().map(|s| vec![0; s.as_ref().len()]).collect();
        Self::typed_tokens(sequences, &types)
    }

    /// Token sequences with the type of every token, as of sentence pairs.
    pub fn typed_tokens<S: AsRef<[u32]>, T: AsRef<[u32]>>(sequences: &[S], types: &[T]) -> Result<Self> {
        if types.len() != sequences.len() {
            return Err(Error::shape("token types", &[sequences.len()], &[types.len()]));
        }
        let (mut all, mut all_types) = (Vec::new(), Vec::new());
        for (i, (ids, types)) in sequences.iter().zip(types).enumerate() {
            let (ids, types) = (ids.as_ref(), types.as_ref());
            if ids.is_empty() {
                return Err(Error::invalid(format!("sequence {i} has no tokens")));
            }
            if types.len() != ids.len() {
                return Err(Error::shape(
                    format!("token types of sequence {i}"),
                    &[ids.len()],
                    &[types.len()],
                ));
            }
            all.extend_from_slice(ids);
            all_types.extend_from_slice(types);
        }
        let layout = Layout::packed(sequences.iter().map(|s| s.as_ref().len()));
        Ok(Input { layout, content: Content::Tokens { ids: all, types: all_types } })
    }

    /// Images whose every patch and class token is a row: `rows` per image.
    pub(super) fn pixels(pixels: Tensor, images: usize, rows: usize) -> Self {
        Input { layout: Layout::packed(vec![rows; images]), content: Content::Pixels(pixels) }
    }

    /// Where each sequence's or image's rows lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}
