//! ViT (Dosovitskiy et al., arXiv 2010.11929): patches of an image as tokens, norms before the branches.

use super::block::{Norms, Stack};
use super::build::{BlockNames, BlockSize, Builder};
use super::entry::{Entry, PatchEntry};
use super::heads::{Classifier, Heads, Over};
use super::read::{attention, classes, grid, patch_projection};
use super::tower::{Dense, Summary, SummaryRow, Tower};
use super::{Family, Parts};
use crate::Result;
use crate::models::activation;
use crate::models::config::Config;
use crate::tape::Visibility;

pub(super) const FAMILY: Family = Family { model_type: "vit", build };

const BLOCK: BlockNames = BlockNames {
    blocks: "encoder.layer",
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
    output: "attention.output.dense",
    norm1: "layernorm_before",
    up: "intermediate.dense",
    down: "output.dense",
    norm2: "layernorm_after",
};

/// What transformers 5 calls the same parts in memory, should it write them so.
const NEW_BLOCK: BlockNames = BlockNames {
    blocks: "layers",
    query: "attention.q_proj",
    key: "attention.k_proj",
    value: "attention.v_proj",
    output: "attention.o_proj",
    norm1: "layernorm_before",
    up: "mlp.fc1",
    down: "mlp.fc2",
    norm2: "layernorm_after",
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
    let size = BlockSize {
        hidden: d,
        attention: attention.heads * attention.head_dim,
        intermediate: config.size_or("intermediate_size", 3072)?,
        qkv_bias: config.flag("qkv_bias", true)?,
        eps,
    };
    let layers = config.size_or("num_hidden_layers", 12)?;
    let blocks = (0..layers).map(|l| b.block(l, names, &size)).collect::<Result<_>>()?;
    let final_norm = b.norm("layernorm", d, eps)?;
    let dense = if b.has("pooler.dense.weight") {
        let width = config.count("pooler_output_size")?.filter(|&n| n > 0).unwrap_or(d);
        let linear = b.linear("pooler.dense", [width, d], true)?;
        Some(Dense { linear, activation: Some(activation(config, "pooler_act", "tanh")?) })
    } else {
        None
    };
    let b = b.without_prefix();
    let classified = b.has("classifier.weight");
    let classifier = classified.then(|| Classifier::read(b, "classifier", Over::First, classes(config)?, d));
    let tower = Tower {
        hidden: d,
        entry: Entry::Patches(PatchEntry { class, projection, positions, grid }),
        entry_norm: None,
        stack: Stack {
            blocks,
            norms: Norms::Before,
            activation: activation(config, "hidden_act", "gelu")?,
            attention,
            visibility: Visibility::BothWays,
        },
        final_norm: Some(final_norm),
        summary: Summary { row: SummaryRow::First, norm: None, dense },
        projection: None,
    };
    let heads = Heads { classifier: classifier.transpose()?, ..Default::default() };
    Ok(Parts { vision: Some(tower), heads, ..Default::default() })
}
