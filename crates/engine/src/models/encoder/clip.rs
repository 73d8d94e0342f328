//! CLIP (Radford et al., arXiv 2103.00020): a tower of texts and a tower of images that meet in one space.

use super::entry::{Entry, PatchEntry, TokenEntry};
use super::heads::{Classifier, Heads, Over};
use super::read::{architecture, attention, block, classes, grid, patch_projection};
use super::tower::{Summary, SummaryRow, Tower, TowerPaths};
use super::{Family, Parts};
use crate::Result;
use crate::models::activation;
use crate::models::builder::Builder;
use crate::models::config::Config;
use crate::models::norm::NormKind;
use crate::models::spec::{BlockNames, BlockSpec, InnerNames, LLAMA_BLOCK, QkvNames};
use crate::models::stack::Stack;
use crate::tape::Visibility;

pub(super) const FAMILY: Family = Family { model_type: "clip", build: both };
pub(super) const TEXT: Family = Family { model_type: "clip_text_model", build: text_alone };
pub(super) const VISION: Family = Family { model_type: "clip_vision_model", build: vision_alone };

const BLOCK: BlockNames = BlockNames {
    blocks: "encoder.layers",
    before_attention: Some("layer_norm1"),
    before_mlp: Some("layer_norm2"),
    output: "self_attn.out_proj",
    qkv: QkvNames::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    inner: InnerNames::Plain("mlp.fc1"),
    down: "mlp.fc2",
    ..LLAMA_BLOCK
};

const WORDS: &str = "embeddings.token_embedding.weight";
const CLASS: &str = "embeddings.class_embedding";
/// The end token's id in configs written before it was right: the largest id of a text was taken instead.
const LEGACY_END: u32 = 2;

fn both(config: &Config<'_>, b: &mut Builder<'_>) -> Result<Parts> {
    let width = config.size_or("projection_dim", 512)?;
    // Of old configs that have both, the second is the one that counts.
    let part = |new: &str, old: &str| match config.object(old)? {
        Some(part) => Ok(Some(part)),
        None => config.object(new),
    };
    let empty = serde_json::Map::new();
    let (text, vision) =
        (part("text_config", "text_config_dict")?, part("vision_config", "vision_config_dict")?);
    let text = text.unwrap_or(Config::new(&empty, "text_config"));
    let vision = vision.unwrap_or(Config::new(&empty, "vision_config"));
    b.choose_prefix(&["vision_model."], CLASS);
    let mut vision_tower = vision_tower(&vision, b)?;
    if architecture(config)?.ends_with("ForImageClassification") {
        let classes = classes(config)?;
        let classifier = Classifier::read(
            b.without_prefix(),
            "classifier",
            Over::PatchMean,
            classes,
            vision_tower.hidden,
        )?;
        let heads = Heads { classifier: Some(classifier), ..Default::default() };
        return Ok(Parts { vision: Some(vision_tower), heads, ..Default::default() });
    }
    b.choose_prefix(&["text_model."], WORDS);
    let mut text_tower = text_tower(&text, b)?;
    let b = b.without_prefix();
    let images = b.linear("visual_projection", [width, vision_tower.hidden], false)?;
    let texts = b.linear("text_projection", [width, text_tower.hidden], false)?;
    vision_tower.projection = Some(images);
    text_tower.projection = Some(texts);
    let logit_scale = Some(b.tensor("logit_scale", &[])?);
    Ok(Parts {
        text: Some(text_tower),
        vision: Some(vision_tower),
        heads: Heads::default(),
        logit_scale,
        shared_space: true,
    })
}

fn text_alone(config: &Config<'_>, b: &mut Builder<'_>) -> Result<Parts> {
    b.choose_prefix(&["text_model.", ""], WORDS);
    let mut tower = text_tower(config, b)?;
    tower.projection = projection(config, b.without_prefix(), "text_projection", tower.hidden)?;
    let shared_space = tower.projection.is_some();
    Ok(Parts { text: Some(tower), shared_space, ..Default::default() })
}

fn vision_alone(config: &Config<'_>, b: &mut Builder<'_>) -> Result<Parts> {
    b.choose_prefix(&["vision_model.", ""], CLASS);
    let mut tower = vision_tower(config, b)?;
    tower.projection = projection(config, b.without_prefix(), "visual_projection", tower.hidden)?;
    let shared_space = tower.projection.is_some();
    Ok(Parts { vision: Some(tower), shared_space, ..Default::default() })
}

/// A projection that a tower on its own may have.
fn projection(
    config: &Config<'_>,
    b: &mut Builder<'_>,
    name: &str,
    d: usize,
) -> Result<Option<crate::tape::Linear>> {
    if !b.has(&format!("{name}.weight")) {
        return Ok(None);
    }
    b.linear(name, [config.size_or("projection_dim", 512)?, d], false).map(Some)
}

fn text_tower(config: &Config<'_>, b: &mut Builder<'_>) -> Result<Tower> {
    let d = config.size_or("hidden_size", 512)?;
    let (vocabulary, context) =
        (config.size_or("vocab_size", 49408)?, config.size_or("max_position_embeddings", 77)?);
    let words = b.tensor(WORDS, &[vocabulary, d])?;
    let positions = b.tensor("embeddings.position_embedding.weight", &[context, d])?;
    let (block, stack) = stack(config, b, d, [8, 2048])?;
    let final_norm = b.norm("final_layer_norm", d, NormKind::Layer, eps(config)?)?;
    let row = match config.count("eos_token_id")?.unwrap_or(49407) as u32 {
        LEGACY_END => SummaryRow::LargestId,
        end => SummaryRow::FirstOf(end),
    };
    let entry = TokenEntry { words, types: None, positions, padding: None, context, vocabulary };
    Ok(Tower {
        hidden: d,
        entry: Entry::Tokens(entry),
        entry_norm: None,
        stack,
        paths: paths(b, "embeddings", block),
        visibility: Visibility::Causal,
        final_norm: Some(final_norm),
        summary: Summary { row, norm: None, dense: None },
        projection: None,
    })
}

fn vision_tower(config: &Config<'_>, b: &mut Builder<'_>) -> Result<Tower> {
    let (d, eps) = (config.size_or("hidden_size", 768)?, eps(config)?);
    let grid = grid(config, 32)?;
    let [rows, columns] = grid.patches(grid.image);
    let class = b.tensor(CLASS, &[d])?;
    let projection = patch_projection(b, "embeddings.patch_embedding", &grid, d, false)?;
    let positions = b.tensor("embeddings.position_embedding.weight", &[rows * columns + 1, d])?;
    // The misspelling is the checkpoints' own.
    let entry_norm = b.norm("pre_layrnorm", d, NormKind::Layer, eps)?;
    let (block, stack) = stack(config, b, d, [12, 3072])?;
    let norm = b.norm("post_layernorm", d, NormKind::Layer, eps)?;
    Ok(Tower {
        hidden: d,
        entry: Entry::Patches(PatchEntry { class, projection, positions, grid }),
        entry_norm: Some(entry_norm),
        stack,
        paths: paths(b, "pre_layrnorm", block),
        visibility: Visibility::BothWays,
        final_norm: None,
        summary: Summary { row: SummaryRow::First, norm: Some(norm), dense: None },
        projection: None,
    })
}

fn eps(config: &Config<'_>) -> Result<f32> {
    Ok(config.float("layer_norm_eps")?.unwrap_or(1e-5) as f32)
}

fn stack(
    config: &Config<'_>,
    b: &mut Builder<'_>,
    d: usize,
    [heads, intermediate]: [usize; 2],
) -> Result<(BlockSpec<'static>, Stack)> {
    let intermediate = config.size_or("intermediate_size", intermediate)?;
    let activation = activation(config, "hidden_act", "quick_gelu")?;
    let spec = block(&BLOCK, [d, intermediate], attention(config, d, heads)?, activation, eps(config)?);
    let stack = Stack::build(b, vec![spec; config.size_or("num_hidden_layers", 12)?], &[])?;
    Ok((spec, stack))
}

fn paths(b: &Builder<'_>, embed: &'static str, block: BlockSpec<'static>) -> TowerPaths {
    TowerPaths { prefix: b.prefix().to_owned(), embed, positions: "embeddings.position_embedding", block }
}
