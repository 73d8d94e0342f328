//! Encoders: models that read a whole text or image at once and give a vector for it.
//!
//! ```no_run
//! use amend_engine::models::{Encoder, ENCODING_TOKENS};
//! let encoder = Encoder::open("models/all-minilm-l6-v2")?;
//! let embeddings = encoder.embed(&[vec![101, 7592, 102]], ENCODING_TOKENS)?;
//! # Ok::<(), amend_engine::Error>(())
//! ```
//!
//! BERT, ViT and CLIP share the decoders' blocks and one frame around them ([`tower`]); a family is a file
//! that reads a config and names the tensors. Batches are packed without padding, so what a sequence gives does
//! not depend on its neighbours. Every site of the blocks can be tapped, and everything is on the tape.

mod bert;
mod clip;
mod embed;
mod entry;
mod heads;
mod input;
mod open;
mod pooling;
mod read;
mod sentence;
mod source;
mod tower;
mod vit;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::builder::Builder;
use super::config::Config;
use super::tower_sites::{self, TowerSites};
use heads::Heads;
use input::Content;
use tower::Tower;

use crate::params::{ParamId, Params};
use crate::tape::{Graph, Var};
use crate::taps::{Taps, TowerSite};
use crate::{DType, Error, Result, Tensor};

pub use embed::ENCODING_TOKENS;
pub use entry::Grid;
pub use input::Input;
pub use pooling::Pooling;
pub use sentence::Pipeline;

/// A family of encoders: the `model_type` of its configs, and how it is put together.
pub(super) struct Family {
    model_type: &'static str,
    build: fn(&Config<'_>, &mut Builder<'_>) -> Result<Parts>,
}

/// Every family of encoders.
const FAMILIES: &[Family] =
    &[bert::FAMILY, bert::ROBERTA, bert::XLM_ROBERTA, vit::FAMILY, clip::FAMILY, clip::TEXT, clip::VISION];

/// Names of the encoder families, as `model_type` spells them.
pub fn encoder_families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|f| f.model_type)
}

/// What a family puts together.
#[derive(Debug, Clone, Default)]
struct Parts {
    text: Option<Tower>,
    vision: Option<Tower>,
    heads: Heads,
    /// ln of the factor between cosines and logits.
    logit_scale: Option<ParamId>,
    /// Whether the towers' features are meant to be compared as directions.
    shared_space: bool,
}

/// A text encoder, an image encoder, or both. Cloning shares every tensor until one side changes it.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// Named parameters.
    pub params: Params,
    /// How hidden states become embeddings.
    pub pipeline: Pipeline,
    parts: Parts,
    config: Map<String, Value>,
    dtype: DType,
    /// Where weights and tokenizer came from.
    folder: Option<PathBuf>,
    /// Shapes that checkpoints store some parameters in.
    stored_shapes: HashMap<ParamId, Vec<usize>>,
    /// Keep only every block's input during training and recompute the rest.
    pub recompute: bool,
}

impl Encoder {
    /// The `config.json` it came with.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// The folder that holds weights and tokenizer: within that of sentence-transformers where it says so.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Number type the model is written in, but for tensors that were read in another one.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Vocabulary size and longest sequence in tokens; `None` for a model of images alone.
    pub fn text_limits(&self) -> Option<(usize, usize)> {
        match &self.parts.text.as_ref()?.entry {
            entry::Entry::Tokens(entry) => Some((entry.vocabulary, entry.context)),
            entry::Entry::Patches(_) => None,
        }
    }

    /// Sizes of the images it reads; `None` for a model of texts alone.
    pub fn image_grid(&self) -> Option<&Grid> {
        match &self.parts.vision.as_ref()?.entry {
            entry::Entry::Patches(entry) => Some(&entry.grid),
            entry::Entry::Tokens(_) => None,
        }
    }

    /// Normalised pixel values [n, channels, height, width] as input. Another image size than the model's is
    /// refused unless its position embedding may be interpolated (bicubic, as the reference does on request).
    pub fn images(&self, pixels: Tensor, interpolate: bool) -> Result<Input> {
        let grid = self.image_grid().ok_or_else(|| Error::invalid("the model reads texts, not images"))?;
        grid.input(pixels, interpolate)
    }

    /// The site of a name: `blocks.3.hook_resid_post` (`vision.blocks.3.…` in one tower of two), or the path that
    /// a checkpoint has for a module, such as `encoder.layer.3.attention.self.query`, for that module's output;
    /// with `.input` behind it, its input.
    /// What stands before the paths of a model's only tower may be left out.
    ///
    /// Fails for a site that no tower has that the name allows, with the nearest that there is.
    pub fn site(&self, name: &str) -> Result<TowerSite> {
        tower_sites::find(&self.tower_sites(), name)
    }

    fn tower_sites(&self) -> Vec<TowerSites<'_>> {
        self.parts.text.iter().chain(&self.parts.vision).map(Tower::sites).collect()
    }

    /// Fails where taps reach for a site that no tower has, or all of them pass by the tower that runs. One set may be
    /// for passes of both.
    fn check_taps(&self, running: &Tower, taps: &Taps) -> Result<()> {
        if taps.is_empty() {
            return Ok(());
        }
        tower_sites::check_taps(&self.tower_sites(), taps)?;
        tower_sites::check_reach(&running.sites(), taps)
    }

    /// The tower that reads this input.
    fn tower(&self, input: &Input) -> Result<&Tower> {
        let (tower, message) = match &input.content {
            Content::Tokens { .. } => (&self.parts.text, "the model reads images, not texts"),
            Content::Pixels(_) => (&self.parts.vision, "the model reads texts, not images"),
        };
        tower.as_ref().ok_or_else(|| Error::invalid(message))
    }

    /// Last hidden states of all rows: [T, d]. Between blocks they can be read with taps, which are refused at a site
    /// that the model has not, and where all of them are for the other tower.
    pub fn hidden<'m>(&'m self, g: &mut Graph<'m>, input: &Input, taps: &'m Taps) -> Result<Var> {
        let tower = self.tower(input)?;
        self.check_taps(tower, taps)?;
        let recompute = self.recompute && g.is_recording();
        tower.forward(g, input, taps, recompute)
    }

    /// The model's own summary of every sequence, [n, width]: the pooler's output; for CLIP the end of the
    /// text or the class token after its norm, before projection.
    pub fn summary<'m>(&'m self, g: &mut Graph<'m>, hidden: &Var, input: &Input) -> Result<Var> {
        self.tower(input)?.summarise(g, hidden, input)
    }

    /// The summary after the projection into the space that texts and images share, where there is one.
    pub fn features<'m>(&'m self, g: &mut Graph<'m>, hidden: &Var, input: &Input) -> Result<Var> {
        self.tower(input)?.features(g, hidden, input)
    }

    /// Classification logits: [n, classes], or one row per token where those are classified.
    pub fn class_logits<'m>(&'m self, g: &mut Graph<'m>, hidden: &Var, input: &Input) -> Result<Var> {
        let Some(head) = &self.parts.heads.classifier else {
            return Err(Error::invalid("the checkpoint has no classifier"));
        };
        head.forward(g, hidden, self.tower(input)?, input)
    }

    /// Logits of the words at the given rows: [rows.len(), V].
    pub fn word_logits<'m>(&'m self, g: &mut Graph<'m>, hidden: &Var, rows: &[usize]) -> Result<Var> {
        let Some(head) = &self.parts.heads.words else {
            return Err(Error::invalid("the checkpoint has no head that guesses masked words"));
        };
        let x = g.gather_rows(hidden, rows)?;
        head.forward(g, &x)
    }

    /// Logits of "the second segment follows the first" and "it does not": [n, 2].
    pub fn relation_logits<'m>(&'m self, g: &mut Graph<'m>, hidden: &Var, input: &Input) -> Result<Var> {
        let Some(head) = &self.parts.heads.relation else {
            return Err(Error::invalid("the checkpoint has no head for how two segments relate"));
        };
        let x = self.summary(g, hidden, input)?;
        g.linear(&x, head)
    }

    /// Mean of −ln p of `words[i]` at row `rows[i]`: the loss of guessing masked words.
    pub fn word_loss<'m>(
        &'m self,
        g: &mut Graph<'m>,
        input: &Input,
        rows: &[usize],
        words: &[usize],
        taps: &'m Taps,
    ) -> Result<Var> {
        let hidden = self.hidden(g, input, taps)?;
        let logits = self.word_logits(g, &hidden, rows)?;
        mean_loss(g, &logits, words)
    }

    /// Mean of −ln p of the right class of every row of [`Encoder::class_logits`].
    pub fn class_loss<'m>(
        &'m self,
        g: &mut Graph<'m>,
        input: &Input,
        classes: &[usize],
        taps: &'m Taps,
    ) -> Result<Var> {
        let hidden = self.hidden(g, input, taps)?;
        let logits = self.class_logits(g, &hidden, input)?;
        mean_loss(g, &logits, classes)
    }

    /// How well images and texts fit, from their features: exp(logit scale) · cosine, [images, texts].
    pub fn similarity<'m>(&'m self, g: &mut Graph<'m>, images: &Var, texts: &Var) -> Result<Var> {
        let Some(scale) = self.parts.logit_scale else {
            return Err(Error::invalid("only a model of texts and images has a scale for their similarity"));
        };
        let (images, texts) = (g.unit_rows(images)?, g.unit_rows(texts)?);
        let texts = g.transpose(&texts)?;
        let cosines = g.matmul(&images, &texts)?;
        let scale = g.parameter(scale);
        let scale = g.exp(&scale)?;
        let ones = Tensor::build(&[cosines.value().columns(), 1], |out| out.fill(1.0));
        let factors = g.matmul(&Var::constant(ones), &scale)?;
        g.mul_columns(&cosines, &factors)
    }

    /// CLIP's loss of a batch in which image i belongs to text i: the mean over both directions.
    pub fn contrastive_loss<'m>(&'m self, g: &mut Graph<'m>, images: &Var, texts: &Var) -> Result<Var> {
        let logits = self.similarity(g, images, texts)?;
        let pairs: Vec<_> = (0..logits.value().rows()).collect();
        let of_images = mean_loss(g, &logits, &pairs)?;
        let turned = g.transpose(&logits)?;
        let of_texts = mean_loss(g, &turned, &pairs)?;
        let both = g.add(&of_images, &of_texts)?;
        g.scale(&both, 0.5)
    }
}

fn mean_loss<'m>(g: &mut Graph<'m>, logits: &Var, choices: &[usize]) -> Result<Var> {
    let logprobs = g.chosen_logprobs(logits, choices)?;
    let mean = g.mean(&logprobs)?;
    g.scale(&mean, -1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taps::{BlockSite, Site};

    /// Taps at other sites are refused; nothing that could be tapped is lost by that.
    #[test]
    fn a_tower_comes_by_no_site_that_is_refused() {
        for name in ["bert", "vit", "clip"] {
            let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
            let encoder = Encoder::open(fixture).unwrap();
            let text = encoder.text_limits().map(|_| Input::tokens(&[vec![5, 9, 60]]).unwrap());
            let image = encoder.image_grid().map(|grid| {
                let pixels = Tensor::zeros(&[1, grid.channels, grid.image[0], grid.image[1]], DType::F32);
                encoder.images(pixels, false).unwrap()
            });
            for input in text.iter().chain(&image) {
                let tower = encoder.tower(input).unwrap();
                let sites = || {
                    let blocks = (0..tower.stack.len())
                        .flat_map(|l| BlockSite::all().map(move |inner| Site::Block(l, inner)));
                    blocks.chain([Site::Embed, Site::PosEmbed, Site::FinalScale, Site::FinalNormalized])
                };
                let mut taps = Taps::none();
                for site in sites() {
                    taps.read(site);
                }
                tower.forward(&mut Graph::inference(&encoder.params), input, &taps, false).unwrap();
                for site in sites() {
                    assert_eq!(!taps.take(site).is_empty(), tower.sites().has(site), "{name} {site}");
                }
            }
        }
    }
}
