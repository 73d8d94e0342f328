//! ViT (Dosovitskiy et al., arXiv 2010.11929): patches of an image as tokens, norms before the branches.

use super::entry::{Entry, PatchEntry};
use super::heads::{Classifier, Heads, Over};
use super::read::{attention, block, classes, grid, patch_projection};
use super::tower::{Dense, Summary, SummaryRow, Tower, TowerPaths};
use super::{Family, Parts};
use crate::Result;
use crate::models::activation;
use crate::models::builder::Builder;
use crate::models::config::Config;
use crate::models::norm::NormKind;
use crate::models::spec::{BlockNames, BlockSpec, InnerNames, LLAMA_BLOCK, QkvNames};
use crate::models::stack::Stack;
use crate::tape::Visibility;

pub(super) const FAMILY: Family = Family { model_type: "vit", build };

const BLOCK: BlockNames = BlockNames {
    blocks: "encoder.layer",
    before_attention: Some("layernorm_before"),
    before_mlp: Some("layernorm_after"),
    qkv: QkvNames::Separate([
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
    ]),
    output: "attention.output.dense",
    inner: InnerNames::Plain("intermediate.dense"),
    down: "output.dense",
    ..LLAMA_BLOCK
};

/// What transformers 5 calls the same parts in memory, should it write them so.
const NEW_BLOCK: BlockNames = BlockNames {
    blocks: "layers",
    before_attention: Some("layernorm_before"),
    before_mlp: Some("layernorm_after"),
    qkv: QkvNames::Separate(["attention.q_proj", "attention.k_proj", "attention.v_proj"]),
    output: "attention.o_proj",
    inner: InnerNames::Plain("mlp.fc1"),
    down: "mlp.fc2",
    ..LLAMA_BLOCK
};

fn build(config: &Config<'_>, b: &mut Builder<'_>) -> Result<Parts> {
    b.choose_prefix(&["vit.", ""], "embeddings.cls_token");
    let d = config.size_or("hidden_size", 768)?;
    let eps = config.float("layer_norm_eps")?.unwrap_or(1e-12) as f32;
    let grid = grid(config, 16)?;
    let [rows, columns] = grid.patches(grid.image);
    let attention = attention(config, d, 12)?;
    let class = b.tensor("embeddings.cls_token", &[1, 1, d])?;
    let positions = b.tensor("embeddings.position_embeddings", &[1, rows * columns + 1, d])?;
    let projection = patch_projection(b, "embeddings.patch_embeddings.projection", &grid, d, true)?;
    let names = if b.has("layers.0.attention.q_proj.weight") { &NEW_BLOCK } else { &BLOCK };
    let intermediate = config.size_or("intermediate_size", 3072)?;
    let inner = activation(config, "hidden_act", "gelu")?;
    let spec = block(names, [d, intermediate], attention, inner, eps);
    let spec = BlockSpec { qkv_bias: config.flag("qkv_bias", true)?, ..spec };
    let layers = config.size_or("num_hidden_layers", 12)?;
    let stack = Stack::build(b, vec![spec; layers], &[])?;
    let final_norm = b.norm("layernorm", d, NormKind::Layer, eps)?;
    let dense = if b.has("pooler.dense.weight") {
        let width = config.count("pooler_output_size")?.filter(|&n| n > 0).unwrap_or(d);
        let linear = b.linear("pooler.dense", [width, d], true)?;
        Some(Dense { linear, activation: Some(activation(config, "pooler_act", "tanh")?) })
    } else {
        None
    };
    let paths = TowerPaths {
        prefix: b.prefix().to_owned(),
        embed: "embeddings",
        positions: "embeddings.position_embeddings",
        block: spec,
    };
    let b = b.without_prefix();
    let classified = b.has("classifier.weight");
    let classifier = classified.then(|| Classifier::read(b, "classifier", Over::First, classes(config)?, d));
    let tower = Tower {
        hidden: d,
        entry: Entry::Patches(PatchEntry { class, projection, positions, grid }),
        entry_norm: None,
        stack,
        paths,
        visibility: Visibility::BothWays,
        final_norm: Some(final_norm),
        summary: Summary { row: SummaryRow::First, norm: None, dense },
        projection: None,
    };
    let heads = Heads { classifier: classifier.transpose()?, ..Default::default() };
    Ok(Parts { vision: Some(tower), heads, ..Default::default() })
}
